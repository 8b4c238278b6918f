"""Drives librdkafka, through confluent-kafka, over stdin and stdout.

Each line of stdin is one operation in JSON; each is answered by one line of
stdout. See the Go package driver for the fields.
"""

import base64
import json
import queue
import sys
import threading
import time
from concurrent.futures import Future

from confluent_kafka import (
    Consumer, KafkaError, KafkaException, Producer, TopicPartition,
    ConsumerGroupTopicPartitions, OFFSET_BEGINNING, TIMESTAMP_NOT_AVAILABLE,
)
from confluent_kafka.admin import (
    AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ConfigSource,
    NewPartitions, NewTopic, OffsetSpec,
)
from confluent_kafka import TopicCollection

LIMIT = 30.0
BOOTSTRAP = sys.argv[1]

LACKS = {
    "delete_offset": "confluent-kafka has no DeleteConsumerGroupOffsets",
}


def raw(b64):
    return None if b64 is None else base64.b64decode(b64)


def b64(data):
    if data is None:
        return None
    if isinstance(data, str):
        data = data.encode()
    return base64.b64encode(data).decode()


def failed(err):
    """The result of an operation that failed with a KafkaError."""
    if err.code() > 0:
        return {"code": err.code(), "message": err.str()}
    return {"error": "client: " + err.name(), "message": err.str()}


def common(**more):
    conf = {"bootstrap.servers": BOOTSTRAP, "log_level": 0, "broker.address.family": "v4"}
    conf.update({k.replace("_", "."): v for k, v in more.items()})
    return conf


def read(msg):
    kind, ts = msg.timestamp()
    return {
        "topic": msg.topic(), "partition": msg.partition(), "offset": msg.offset(),
        "key": b64(msg.key()), "value": b64(msg.value()),
        "headers": [{"key": k, "value": b64(v)} for k, v in (msg.headers() or [])],
        "timestamp": -1 if kind == TIMESTAMP_NOT_AVAILABLE else ts,
    }


admin = AdminClient(common())


def only(futures):
    """The result of the one future in a dict of them."""
    return next(iter(futures.values())).result(LIMIT)


def produce(op):
    conf = common(compression_type=op["codec"], linger_ms=5, message_max_bytes=8 << 20,
                  enable_idempotence=op["idempotent"], partitioner="murmur2_random",
                  message_timeout_ms=20000, allow_auto_create_topics=op["autoCreate"],
                  topic_metadata_propagation_max_ms=20000 if op["autoCreate"] else 0)
    conf["acks"] = op["acks"]
    producer = Producer(conf)
    errors, records = [], []

    def delivered(err, msg):
        if err is not None:
            errors.append(err)
        else:
            records.append({"topic": msg.topic(), "partition": msg.partition(), "offset": msg.offset(), "timestamp": msg.timestamp()[1]})

    for r in op["records"]:
        more = {}
        if r["partition"] >= 0:
            more["partition"] = r["partition"]
        if r["timestamp"] >= 0:
            more["timestamp"] = r["timestamp"]
        headers = [(h["key"], raw(h["value"])) for h in r.get("headers", [])]
        producer.produce(op["topic"], key=raw(r["key"]), value=raw(r["value"]), headers=headers, on_delivery=delivered, **more)
    if producer.flush(LIMIT) > 0:
        return {"error": "client: not delivered in time"}
    if errors:
        return failed(errors[0])
    return {"records": records}


def consume(op):
    consumer = Consumer(common(group_id="none", auto_offset_reset="error", enable_auto_commit=False, fetch_wait_max_ms=200))
    try:
        start = OFFSET_BEGINNING if op["offset"] == -2 else op["offset"]
        consumer.assign([TopicPartition(op["topic"], op["partition"], start)])
        records, end = [], time.monotonic() + LIMIT
        while len(records) < op["count"]:
            msg = consumer.poll(1.0)
            if msg is None:
                if time.monotonic() > end:
                    return {"error": "client: timed out after %d records" % len(records)}
                continue
            if msg.error():
                # librdkafka reports a reset policy of error as its own code and
                # puts the broker's into the text.
                if msg.error().code() == KafkaError._AUTO_OFFSET_RESET and "Offset out of range" in msg.error().str():
                    return {"code": KafkaError.OFFSET_OUT_OF_RANGE, "message": msg.error().str()}
                return failed(msg.error())
            records.append(read(msg))
        return {"records": records}
    finally:
        consumer.close()


class Member:
    """A group member whose thread polls, and commits between two polls when asked."""

    def __init__(self, op):
        self.changed = threading.Condition()
        self.records, self.next, self.assigned = [], {}, set()
        self.error = None
        self.stopping = False
        self.commits = queue.SimpleQueue()
        self.consumer = Consumer(common(
            group_id=op["group"], auto_offset_reset=op["reset"], enable_auto_commit=False,
            heartbeat_interval_ms=100, partition_assignment_strategy="range", fetch_wait_max_ms=200,
            session_timeout_ms=10000))
        self.consumer.subscribe(op["topic"].split(","), on_assign=self.assign, on_revoke=self.revoke, on_lost=self.revoke)
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def assign(self, _, partitions):
        with self.changed:
            self.assigned = {(p.topic, p.partition) for p in partitions}
            self.changed.notify_all()

    def revoke(self, _, partitions):
        with self.changed:
            self.assigned -= {(p.topic, p.partition) for p in partitions}
            self.changed.notify_all()

    def run(self):
        while not self.stopping:
            while not self.commits.empty():
                asked = self.commits.get()
                try:
                    asked.set_result(self.consumer.commit(offsets=self.offsets(), asynchronous=False))
                except KafkaException as e:
                    asked.set_exception(e)
            msg = self.consumer.poll(0.05)
            if msg is None:
                continue
            with self.changed:
                if msg.error():
                    self.error = msg.error()
                else:
                    self.records.append(read(msg))
                self.changed.notify_all()

    def wait(self, what, ready):
        with self.changed:
            if not self.changed.wait_for(lambda: self.error or ready(), LIMIT):
                return {"error": "client: waited in vain for %s: %d records, assigned %s" % (what, len(self.records), self.assigned)}
            return failed(self.error) if self.error else None

    def poll(self, count):
        bad = self.wait("%d records" % count, lambda: len(self.records) >= count)
        if bad:
            return bad
        with self.changed:
            taken, self.records = self.records[:count], self.records[count:]
            for r in taken:
                self.next[r["topic"], r["partition"]] = r["offset"] + 1
            return {"records": taken}

    def assignment(self, count):
        return self.wait("%d partitions" % count, lambda: len(self.assigned) == count) or {"partitions": count}

    def offsets(self):
        with self.changed:
            return [TopicPartition(t, p, o) for (t, p), o in self.next.items() if (t, p) in self.assigned]

    def commit(self):
        asked = Future()
        self.commits.put(asked)
        for p in asked.result(LIMIT):
            if p.error:
                return failed(p.error)
        return {}

    def leave(self):
        self.stopping = True
        self.thread.join()
        self.consumer.close()
        return {}


members = {}


def join(op):
    members[op["member"]] = Member(op)
    return {}


def create_topic(op):
    topic = NewTopic(op["topic"], num_partitions=op["partitions"], replication_factor=op["replicas"],
                     config={c["name"]: c["value"] for c in op.get("configs", [])})
    only(admin.create_topics([topic], validate_only=op["validateOnly"]))
    return {}


def delete_topic(op):
    only(admin.delete_topics([op["topic"]]))
    return {}


def describe_topic(op):
    t = only(admin.describe_topics(TopicCollection([op["topic"]])))
    return {"partitions": len(t.partitions), "replicas": len(t.partitions[0].replicas)}


def list_topics(_):
    return {"names": [t for t in admin.list_topics(timeout=LIMIT).topics]}


def create_partitions(op):
    only(admin.create_partitions([NewPartitions(op["topic"], op["partitions"])], validate_only=op["validateOnly"]))
    return {}


def delete_records(op):
    got = only(admin.delete_records([TopicPartition(op["topic"], op["partition"], op["offset"])]))
    return {"offset": got.low_watermark}


def list_offsets(op):
    spec = {-1: OffsetSpec.latest, -2: OffsetSpec.earliest, -3: OffsetSpec.max_timestamp}.get(op["timestamp"])
    spec = spec() if spec else OffsetSpec.for_timestamp(op["timestamp"])
    got = only(admin.list_offsets({TopicPartition(op["topic"], op["partition"]): spec}))
    return {"offset": got.offset}


def resource(op, **more):
    return ConfigResource({"topic": ConfigResource.Type.TOPIC, "broker": ConfigResource.Type.BROKER}[op["resource"]], op["name"], **more)


def source(value):
    name = ConfigSource(value).name.replace("_CONFIG", "")
    return {"DYNAMIC_TOPIC": "DYNAMIC_TOPIC_CONFIG"}.get(name, name + "_CONFIG")


def text(value):
    return "null" if value is None else value


def describe_configs(op):
    names = {c["name"] for c in op.get("configs", [])}
    got = only(admin.describe_configs([resource(op)]))
    return {"configs": [{
        "name": c.name, "value": c.value, "source": source(c.source),
        "synonyms": [source(s.source) + ":" + s.name + "=" + text(s.value) for s in c.synonyms.values()],
    } for c in got.values() if not names or c.name in names]}


def alter_configs(op):
    ops = {"set": AlterConfigOpType.SET, "delete": AlterConfigOpType.DELETE, "append": AlterConfigOpType.APPEND, "subtract": AlterConfigOpType.SUBTRACT}
    entries = [ConfigEntry(c["name"], c["value"], incremental_operation=ops[c["op"]]) for c in op["configs"]]
    only(admin.incremental_alter_configs([resource(op, incremental_configs=entries)], validate_only=op["validateOnly"]))
    return {}


def list_groups(_):
    got = admin.list_consumer_groups().result(LIMIT)
    if got.errors:
        return failed(got.errors[0].args[0])
    return {"names": [g.group_id for g in got.valid]}


def describe_group(op):
    g = only(admin.describe_consumer_groups([op["group"]]))
    names = {"PREPARING_REBALANCING": "PreparingRebalance", "COMPLETING_REBALANCING": "CompletingRebalance"}
    return {"state": names.get(g.state.name, g.state.name.capitalize()), "members": len(g.members)}


def delete_group(op):
    only(admin.delete_consumer_groups([op["group"]]))
    return {}


def group_offsets(op):
    got = only(admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(op["group"])]))
    for p in got.topic_partitions:
        if p.error:
            return failed(p.error)
    return {"offsets": ["%s/%d=%d" % (p.topic, p.partition, p.offset) for p in got.topic_partitions if p.offset >= 0]}


def set_offset(op):
    ask = ConsumerGroupTopicPartitions(op["group"], [TopicPartition(op["topic"], op["partition"], op["offset"])])
    for p in only(admin.alter_consumer_group_offsets([ask])).topic_partitions:
        if p.error:
            return failed(p.error)
    return {}


def leave(op):
    return members.pop(op["member"]).leave()


OPS = {
    "hello": lambda _: {"lacks": LACKS},
    "poll": lambda op: members[op["member"]].poll(op["count"]),
    "assignment": lambda op: members[op["member"]].assignment(op["count"]),
    "commit": lambda op: members[op["member"]].commit(),
}
for f in (produce, consume, join, leave, create_topic, delete_topic, describe_topic, list_topics, create_partitions, delete_records, list_offsets,
          describe_configs, alter_configs, list_groups, describe_group, delete_group, group_offsets, set_offset):
    OPS[f.__name__] = f

for line in sys.stdin:
    op = json.loads(line)
    try:
        result = OPS[op["op"]](op) if op["op"] in OPS else {"error": "client: no operation " + op["op"]}
    except KafkaException as e:
        result = failed(e.args[0])
    except Exception as e:  # the suite shows it; the driver goes on
        result = {"error": "client: %s: %s" % (type(e).__name__, e)}
    print(json.dumps(result), flush=True)
for m in members.values():
    m.leave()
