package io.klamm.conformance;

import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import com.fasterxml.jackson.databind.JsonNode;
import java.time.Duration;
import java.util.ArrayDeque;
import java.util.Collection;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.consumer.RangeAssignor;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/** A member of a consumer group. Its thread owns the consumer, polls, and commits between two polls when asked. */
final class Member implements ConsumerRebalanceListener {
    private final KafkaConsumer<byte[], byte[]> consumer;
    private final BlockingQueue<CompletableFuture<Void>> commits = new LinkedBlockingQueue<>();
    private final Thread thread;
    private volatile boolean stopping;

    // Guarded by this.
    private final ArrayDeque<ConsumerRecord<byte[], byte[]>> records = new ArrayDeque<>();
    private final Map<TopicPartition, Long> next = new HashMap<>();
    private final Set<TopicPartition> assigned = new HashSet<>();
    private Throwable error;

    Member(String bootstrap, JsonNode op) {
        consumer = new KafkaConsumer<>(Driver.properties(bootstrap, "group.id", op.get("group").asText(), "auto.offset.reset", op.get("reset").asText(),
                "enable.auto.commit", false, "heartbeat.interval.ms", 100, "session.timeout.ms", 10000, "allow.auto.create.topics", false,
                "partition.assignment.strategy", RangeAssignor.class.getName(), "fetch.max.wait.ms", 200), new ByteArrayDeserializer(), new ByteArrayDeserializer());
        consumer.subscribe(List.of(op.get("topic").asText().split(",")), this);
        thread = new Thread(this::run, "member");
        thread.start();
    }

    @Override
    public synchronized void onPartitionsAssigned(Collection<TopicPartition> partitions) {
        assigned.addAll(partitions);
        notifyAll();
    }

    @Override
    public synchronized void onPartitionsRevoked(Collection<TopicPartition> partitions) {
        assigned.removeAll(partitions);
        notifyAll();
    }

    private void run() {
        try {
            while (!stopping) {
                for (ConsumerRecord<byte[], byte[]> r : consumer.poll(Duration.ofMillis(50))) {
                    synchronized (this) {
                        records.add(r);
                        notifyAll();
                    }
                }
                for (CompletableFuture<Void> c = commits.poll(); c != null; c = commits.poll()) {
                    try {
                        consumer.commitSync(offsets(), Driver.LIMIT);
                        c.complete(null);
                    } catch (RuntimeException e) {
                        c.completeExceptionally(e);
                    }
                }
            }
        } catch (RuntimeException e) {
            synchronized (this) {
                error = e;
                notifyAll();
            }
        } finally {
            consumer.close();
        }
    }

    private synchronized Map<TopicPartition, OffsetAndMetadata> offsets() {
        Map<TopicPartition, OffsetAndMetadata> out = new HashMap<>();
        next.forEach((p, o) -> {
            if (assigned.contains(p)) {
                out.put(p, new OffsetAndMetadata(o));
            }
        });
        return out;
    }

    synchronized ObjectNode poll(int count) throws Exception {
        long end = System.nanoTime() + Driver.LIMIT.toNanos();
        while (error == null && records.size() < count) {
            await(end, count + " records");
        }
        check();
        ObjectNode r = Driver.JSON.createObjectNode();
        ArrayNode out = r.putArray("records");
        for (int i = 0; i < count; i++) {
            ConsumerRecord<byte[], byte[]> c = records.remove();
            next.put(new TopicPartition(c.topic(), c.partition()), c.offset() + 1);
            out.add(Driver.read(c));
        }
        return r;
    }

    synchronized ObjectNode assignment(int count) throws Exception {
        long end = System.nanoTime() + Driver.LIMIT.toNanos();
        while (error == null && assigned.size() != count) {
            await(end, count + " partitions");
        }
        check();
        return Driver.JSON.createObjectNode().put("partitions", count);
    }

    private void check() throws Exception {
        if (error != null) {
            throw new Exception(error);
        }
    }

    private synchronized void await(long end, String what) throws Exception {
        long left = TimeUnit.NANOSECONDS.toMillis(end - System.nanoTime());
        if (left <= 0) {
            throw new Exception("waited in vain for " + what + ": " + records.size() + " records, assigned " + assigned);
        }
        wait(left);
    }

    ObjectNode commit() throws Exception {
        CompletableFuture<Void> c = new CompletableFuture<>();
        commits.add(c);
        c.get(Driver.LIMIT.toSeconds(), TimeUnit.SECONDS);
        return Driver.JSON.createObjectNode();
    }

    ObjectNode leave() throws Exception {
        stopping = true;
        thread.join();
        return Driver.JSON.createObjectNode();
    }
}
