package io.klamm.conformance;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetOutOfRangeException;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.protocol.Errors;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * Drives the Java client over stdin and stdout: each line of stdin is one
 * operation in JSON, each is answered by one line of stdout. The Go package
 * driver says what the fields mean.
 */
public final class Driver {
    static final Duration LIMIT = Duration.ofSeconds(30);
    static final ObjectMapper JSON = new ObjectMapper();

    private final String bootstrap;
    private final AdminOps admin;
    private final Map<String, Member> members = new HashMap<>();

    private Driver(String bootstrap) {
        this.bootstrap = bootstrap;
        this.admin = new AdminOps(bootstrap);
    }

    public static void main(String[] args) throws Exception {
        Driver driver = new Driver(args[0]);
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8), 1 << 20);
        PrintStream out = new PrintStream(System.out, false, StandardCharsets.UTF_8);
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            out.println(JSON.writeValueAsString(driver.answer(JSON.readTree(line))));
            out.flush();
        }
        driver.close();
    }

    private void close() throws Exception {
        for (Member m : members.values()) {
            m.leave();
        }
        admin.close();
    }

    private ObjectNode answer(JsonNode op) {
        try {
            return run(op);
        } catch (Throwable e) { // the suite shows it; the driver goes on
            return failed(e);
        }
    }

    private ObjectNode run(JsonNode op) throws Exception {
        String member = op.path("member").asText();
        switch (op.get("op").asText()) {
            case "hello": {
                ObjectNode r = JSON.createObjectNode();
                r.putObject("lacks").put("no_auto_create", "the Java producer always lets the broker create a topic");
                return r;
            }
            case "produce":
                return produce(op);
            case "consume":
                return consume(op);
            case "join":
                members.put(member, new Member(bootstrap, op));
                return JSON.createObjectNode();
            case "poll":
                return members.get(member).poll(op.get("count").asInt());
            case "assignment":
                return members.get(member).assignment(op.get("count").asInt());
            case "commit":
                return members.get(member).commit();
            case "leave":
                return members.remove(member).leave();
            default:
                return admin.run(op);
        }
    }

    /** The result of an operation that failed, by the name of the broker's error if it is one. */
    static ObjectNode failed(Throwable e) {
        while (e instanceof ExecutionException && e.getCause() != null) {
            e = e.getCause();
        }
        ObjectNode r = JSON.createObjectNode();
        Errors error = e instanceof OffsetOutOfRangeException ? Errors.OFFSET_OUT_OF_RANGE : Errors.forException(e);
        if (error == Errors.UNKNOWN_SERVER_ERROR) {
            return r.put("error", "client: " + e).put("message", String.valueOf(e.getMessage()));
        }
        return r.put("error", error.name()).put("message", String.valueOf(e.getMessage()));
    }

    static Properties properties(String bootstrap, Object... pairs) {
        Properties p = new Properties();
        p.put("bootstrap.servers", bootstrap);
        for (int i = 0; i < pairs.length; i += 2) {
            p.put(pairs[i], pairs[i + 1]);
        }
        return p;
    }

    private ObjectNode produce(JsonNode op) throws Exception {
        Properties p = properties(bootstrap, "compression.type", op.get("codec").asText(), "acks", op.get("acks").asText(),
                "enable.idempotence", op.get("idempotent").asBoolean(), "linger.ms", 5, "max.request.size", 8 << 20, "max.block.ms", 20000,
                "request.timeout.ms", 15000, "delivery.timeout.ms", 20000);
        boolean transactional = op.hasNonNull("transaction");
        if (transactional) {
            p.put("transactional.id", op.get("transaction").asText());
        }
        ObjectNode r = JSON.createObjectNode();
        try (KafkaProducer<byte[], byte[]> producer = new KafkaProducer<>(p, new ByteArraySerializer(), new ByteArraySerializer())) {
            if (transactional) {
                producer.initTransactions();
                producer.beginTransaction();
            }
            List<Future<RecordMetadata>> sent = new ArrayList<>();
            for (JsonNode n : op.get("records")) {
                int partition = n.get("partition").asInt();
                long timestamp = n.get("timestamp").asLong();
                ProducerRecord<byte[], byte[]> record = new ProducerRecord<>(op.get("topic").asText(), partition < 0 ? null : partition,
                        timestamp < 0 ? null : timestamp, bytes(n.get("key")), bytes(n.get("value")));
                for (JsonNode h : n.path("headers")) {
                    record.headers().add(h.get("key").asText(), bytes(h.get("value")));
                }
                sent.add(producer.send(record));
            }
            for (Future<RecordMetadata> f : sent) {
                RecordMetadata m = f.get(LIMIT.toSeconds(), TimeUnit.SECONDS);
                r.withArray("records").addObject().put("topic", m.topic()).put("partition", m.partition()).put("offset", m.offset()).put("timestamp", m.timestamp());
            }
            if (transactional && op.path("abort").asBoolean()) {
                producer.abortTransaction();
            } else if (transactional) {
                producer.commitTransaction();
            }
        }
        return r;
    }

    private static byte[] bytes(JsonNode n) throws Exception {
        return n == null || n.isNull() ? null : n.binaryValue();
    }

    private ObjectNode consume(JsonNode op) {
        Properties p = properties(bootstrap, "auto.offset.reset", "none", "allow.auto.create.topics", false, "fetch.max.wait.ms", 200);
        ObjectNode r = JSON.createObjectNode();
        try (KafkaConsumer<byte[], byte[]> consumer = new KafkaConsumer<>(p, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
            TopicPartition tp = new TopicPartition(op.get("topic").asText(), op.get("partition").asInt());
            consumer.assign(List.of(tp));
            if (op.get("offset").asLong() == -2) {
                consumer.seekToBeginning(List.of(tp));
            } else {
                consumer.seek(tp, op.get("offset").asLong());
            }
            long end = System.nanoTime() + LIMIT.toNanos();
            int count = op.get("count").asInt();
            int n = 0;
            while (n < count) {
                if (System.nanoTime() > end) {
                    return JSON.createObjectNode().put("error", "client: timed out after " + n + " records");
                }
                for (ConsumerRecord<byte[], byte[]> c : consumer.poll(Duration.ofSeconds(1))) {
                    if (n++ < count) {
                        r.withArray("records").add(read(c));
                    }
                }
            }
        }
        return r;
    }

    static ObjectNode read(ConsumerRecord<byte[], byte[]> c) {
        ObjectNode r = JSON.createObjectNode().put("topic", c.topic()).put("partition", c.partition()).put("offset", c.offset())
                .put("key", c.key()).put("value", c.value()).put("timestamp", c.timestamp());
        for (Header h : c.headers()) {
            r.withArray("headers").addObject().put("key", h.key()).put("value", h.value());
        }
        return r;
    }
}
