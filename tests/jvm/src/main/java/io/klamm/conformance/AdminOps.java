package io.klamm.conformance;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.AlterConfigsOptions;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.ConsumerGroupDescription;
import org.apache.kafka.clients.admin.CreatePartitionsOptions;
import org.apache.kafka.clients.admin.CreateTopicsOptions;
import org.apache.kafka.clients.admin.DescribeConfigsOptions;
import org.apache.kafka.clients.admin.GroupListing;
import org.apache.kafka.clients.admin.ListTopicsOptions;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.admin.TopicDescription;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.KafkaFuture;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;

/** The operations that the Java client's Admin carries out. */
final class AdminOps implements AutoCloseable {
    private final Admin admin;

    AdminOps(String bootstrap) {
        admin = Admin.create(Driver.properties(bootstrap, "request.timeout.ms", 15000, "default.api.timeout.ms", 20000));
    }

    @Override
    public void close() {
        admin.close();
    }

    private static <T> T get(KafkaFuture<T> f) throws Exception {
        return f.get(Driver.LIMIT.toSeconds(), TimeUnit.SECONDS);
    }

    ObjectNode run(JsonNode op) throws Exception {
        ObjectNode r = Driver.JSON.createObjectNode();
        String topic = op.path("topic").asText();
        String group = op.path("group").asText();
        TopicPartition tp = new TopicPartition(topic, op.get("partition").asInt());
        boolean validate = op.get("validateOnly").asBoolean();
        switch (op.get("op").asText()) {
            case "create_topic": {
                int partitions = op.get("partitions").asInt();
                int replicas = op.get("replicas").asInt();
                Map<String, String> configs = new HashMap<>();
                for (JsonNode c : op.path("configs")) {
                    configs.put(c.get("name").asText(), c.get("value").asText());
                }
                NewTopic t = new NewTopic(topic, partitions == -1 ? Optional.empty() : Optional.of(partitions),
                        replicas == -1 ? Optional.empty() : Optional.of((short) replicas)).configs(configs);
                get(admin.createTopics(List.of(t), new CreateTopicsOptions().validateOnly(validate)).all());
                return r;
            }
            case "delete_topic":
                get(admin.deleteTopics(List.of(topic)).all());
                return r;
            case "describe_topic": {
                TopicDescription d = get(admin.describeTopics(List.of(topic)).allTopicNames()).get(topic);
                return r.put("partitions", d.partitions().size()).put("replicas", d.partitions().get(0).replicas().size());
            }
            case "list_topics":
                for (String name : get(admin.listTopics(new ListTopicsOptions().listInternal(true)).names())) {
                    r.withArray("names").add(name);
                }
                return r;
            case "create_partitions":
                get(admin.createPartitions(Map.of(topic, NewPartitions.increaseTo(op.get("partitions").asInt())), new CreatePartitionsOptions().validateOnly(validate)).all());
                return r;
            case "delete_records":
                return r.put("offset", get(admin.deleteRecords(Map.of(tp, RecordsToDelete.beforeOffset(op.get("offset").asLong()))).lowWatermarks().get(tp)).lowWatermark());
            case "list_offsets":
                return r.put("offset", get(admin.listOffsets(Map.of(tp, spec(op.get("timestamp").asLong()))).partitionResult(tp)).offset());
            case "describe_configs":
                return describeConfigs(op, r);
            case "alter_configs":
                get(admin.incrementalAlterConfigs(Map.of(resource(op), changes(op)), new AlterConfigsOptions().validateOnly(validate)).all());
                return r;
            case "list_groups":
                for (GroupListing g : get(admin.listGroups().all())) {
                    r.withArray("names").add(g.groupId());
                }
                return r;
            case "describe_group": {
                ConsumerGroupDescription d = get(admin.describeConsumerGroups(List.of(group)).describedGroups().get(group));
                return r.put("state", d.groupState().toString()).put("members", d.members().size());
            }
            case "delete_group":
                get(admin.deleteConsumerGroups(List.of(group)).all());
                return r;
            case "group_offsets":
                get(admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata()).forEach((p, o) -> {
                    if (o != null) {
                        r.withArray("offsets").add(p.topic() + "/" + p.partition() + "=" + o.offset());
                    }
                });
                return r;
            case "set_offset":
                get(admin.alterConsumerGroupOffsets(group, Map.of(tp, new OffsetAndMetadata(op.get("offset").asLong()))).all());
                return r;
            case "delete_offset":
                get(admin.deleteConsumerGroupOffsets(group, Set.of(tp)).all());
                return r;
            default:
                return r.put("error", "client: no operation " + op.get("op").asText());
        }
    }

    private static OffsetSpec spec(long timestamp) {
        if (timestamp == -1) {
            return OffsetSpec.latest();
        } else if (timestamp == -2) {
            return OffsetSpec.earliest();
        } else if (timestamp == -3) {
            return OffsetSpec.maxTimestamp();
        }
        return OffsetSpec.forTimestamp(timestamp);
    }

    private static ConfigResource resource(JsonNode op) {
        return new ConfigResource(op.get("resource").asText().equals("topic") ? ConfigResource.Type.TOPIC : ConfigResource.Type.BROKER, op.get("name").asText());
    }

    private static Collection<AlterConfigOp> changes(JsonNode op) {
        List<AlterConfigOp> out = new ArrayList<>();
        for (JsonNode c : op.get("configs")) {
            String value = c.get("value").isNull() ? null : c.get("value").asText();
            out.add(new AlterConfigOp(new ConfigEntry(c.get("name").asText(), value), AlterConfigOp.OpType.valueOf(c.get("op").asText().toUpperCase())));
        }
        return out;
    }

    private ObjectNode describeConfigs(JsonNode op, ObjectNode r) throws Exception {
        ConfigResource resource = resource(op);
        List<String> names = new ArrayList<>();
        for (JsonNode c : op.path("configs")) {
            names.add(c.get("name").asText());
        }
        for (ConfigEntry e : get(admin.describeConfigs(List.of(resource), new DescribeConfigsOptions().includeSynonyms(true)).all()).get(resource).entries()) {
            if (!names.isEmpty() && !names.contains(e.name())) {
                continue;
            }
            ObjectNode c = r.withArray("configs").addObject().put("name", e.name()).put("value", e.value()).put("source", e.source().name());
            for (ConfigEntry.ConfigSynonym s : e.synonyms()) {
                c.withArray("synonyms").add(s.source().name() + ":" + s.name() + "=" + s.value());
            }
        }
        return r;
    }
}
