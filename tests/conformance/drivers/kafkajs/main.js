// Drives kafkajs over stdin and stdout: each line of stdin is one operation in
// JSON, each is answered by one line of stdout. The Go package driver says what
// the fields mean.
'use strict'

const readline = require('readline')
const { AssignerProtocol, CompressionCodecs, CompressionTypes, ConfigResourceTypes, Kafka, logLevel, Partitioners } = require('kafkajs')
const lz4 = require('lz4js')
const snappy = require('kafkajs-snappy')
const { ZstdCodec } = require('zstd-codec')

const LIMIT = 30000

const LACKS = {
  lz4: 'no lz4 library in plain JavaScript writes the independent blocks that Kafka asks for; it reads them',
  alter_configs: 'kafkajs sends AlterConfigs only, which replaces every config',
  max_timestamp: 'kafkajs does not know the special timestamp',
  list_offsets_by_time: 'kafkajs puts the end offset in the place of the -1 that means there is no such record',
  delete_offset: 'kafkajs has no OffsetDelete',
  out_of_range: 'kafkajs always resets',
  null_headers: 'kafkajs cannot encode a header without a value'
}

const kafka = new Kafka({
  clientId: 'conformance', brokers: [process.argv[2]], logLevel: logLevel.NOTHING,
  retry: { initialRetryTime: 50, retries: 3 }
})
const admin = kafka.admin()
const members = new Map()

const bytes = b64 => (b64 == null ? null : Buffer.from(b64, 'base64'))
const b64 = data => (data == null ? null : Buffer.from(data).toString('base64'))

CompressionCodecs[CompressionTypes.Snappy] = snappy
CompressionCodecs[CompressionTypes.LZ4] = () => ({
  compress: async () => { throw new Error(LACKS.lz4) },
  decompress: async b => Buffer.from(lz4.decompress(b))
})
const zstd = new Promise(resolve => ZstdCodec.run(z => resolve(new z.Streaming())))
CompressionCodecs[CompressionTypes.ZSTD] = () => ({
  compress: async e => Buffer.from((await zstd).compress(e.buffer)),
  decompress: async b => Buffer.from((await zstd).decompress(b))
})

// failed is the result of an operation that failed with err.
function failed (err) {
  for (;;) {
    if (err.type && err.code > 0) return { code: err.code, message: err.message }
    const inner = (err.errors && err.errors[0]) || (err.partitions && err.partitions[0] && err.partitions[0].error) || err.originalError || err.cause
    if (!inner) return { error: 'client: ' + err.name + ': ' + err.message }
    err = inner
  }
}

function headersOf (list) {
  const out = {}
  for (const h of list || []) {
    const v = bytes(h.value)
    if (!(h.key in out)) out[h.key] = v
    else out[h.key] = [].concat(out[h.key], [v])
  }
  return out
}

function read (topic, partition, m) {
  const headers = []
  for (const [key, v] of Object.entries(m.headers || {})) {
    for (const value of Array.isArray(v) ? v : [v]) headers.push({ key, value: b64(value) })
  }
  return { topic, partition, offset: Number(m.offset), key: b64(m.key), value: b64(m.value), headers, timestamp: Number(m.timestamp) }
}

const codecs = { none: CompressionTypes.None, gzip: CompressionTypes.GZIP, snappy: CompressionTypes.Snappy, lz4: CompressionTypes.LZ4, zstd: CompressionTypes.ZSTD }

async function produce (op) {
  const producer = kafka.producer({
    allowAutoTopicCreation: op.autoCreate, idempotent: op.idempotent, createPartitioner: Partitioners.DefaultPartitioner,
    ...(op.autoCreate ? { retry: { initialRetryTime: 50, retries: 20 } } : {})
  })
  await producer.connect()
  try {
    const got = await producer.send({
      topic: op.topic, compression: codecs[op.codec], acks: { 0: 0, 1: 1, all: -1 }[op.acks],
      messages: op.records.map(r => ({
        key: bytes(r.key), value: bytes(r.value), headers: headersOf(r.headers),
        ...(r.partition >= 0 ? { partition: r.partition } : {}),
        ...(r.timestamp >= 0 ? { timestamp: String(r.timestamp) } : {})
      }))
    })
    // kafkajs reports the first offset of each partition, not that of each record.
    return { records: (got || []).map(p => ({ topic: p.topicName, partition: p.partition, offset: Number(p.baseOffset) })) }
  } finally {
    await producer.disconnect()
  }
}

// Inbox is what a consumer has been given so far, and those who wait for it.
class Inbox {
  constructor () {
    this.records = []
    this.next = new Map()
    this.assigned = []
    this.waiting = new Set()
  }

  changed () {
    for (const check of this.waiting) check()
  }

  wait (what, ready) {
    return new Promise((resolve, reject) => {
      const end = (f, v) => {
        clearTimeout(timer)
        this.waiting.delete(check)
        f(v)
      }
      const check = () => {
        if (this.error) end(reject, this.error)
        else if (ready()) end(resolve)
      }
      const timer = setTimeout(() => end(reject, new Error(`waited in vain for ${what}: ${this.records.length} records, assigned ${this.assigned}`)), LIMIT)
      this.waiting.add(check)
      check()
    })
  }

  async take (count) {
    await this.wait(count + ' records', () => this.records.length >= count)
    const taken = this.records.splice(0, count)
    for (const r of taken) this.next.set(r.topic + '/' + r.partition, { topic: r.topic, partition: r.partition, offset: String(r.offset + 1) })
    return taken
  }
}

// range assigns as Kafka's range assignor does: kafkajs brings round robin only.
const range = ({ cluster }) => ({
  name: 'range',
  version: 0,
  async assign ({ members, topics }) {
    const ids = members.map(m => m.memberId).sort()
    const out = new Map(ids.map(id => [id, {}]))
    for (const topic of topics) {
      const parts = cluster.findTopicPartitionMetadata(topic).map(p => p.partitionId).sort((a, b) => a - b)
      let at = 0
      ids.forEach((id, i) => {
        const n = Math.floor(parts.length / ids.length) + (i < parts.length % ids.length ? 1 : 0)
        out.get(id)[topic] = parts.slice(at, at += n)
      })
    }
    return ids.map(id => ({ memberId: id, memberAssignment: AssignerProtocol.MemberAssignment.encode({ version: 0, assignment: out.get(id), userData: Buffer.alloc(0) }) }))
  },
  protocol ({ topics }) {
    return { name: 'range', metadata: AssignerProtocol.MemberMetadata.encode({ version: 0, topics, userData: Buffer.alloc(0) }) }
  }
})

async function subscribe (group, topic, fromBeginning, inbox) {
  const consumer = kafka.consumer({
    groupId: group, heartbeatInterval: 100, sessionTimeout: 10000, rebalanceTimeout: 10000, maxWaitTimeInMs: 200, allowAutoTopicCreation: false,
    partitionAssigners: [range], retry: { initialRetryTime: 50, retries: 10 }
  })
  consumer.on(consumer.events.GROUP_JOIN, e => {
    inbox.assigned = Object.entries(e.payload.memberAssignment).flatMap(([t, ps]) => ps.map(p => t + '/' + p))
    inbox.changed()
  })
  consumer.on(consumer.events.REBALANCING, () => {
    inbox.assigned = []
    inbox.changed()
  })
  consumer.on(consumer.events.CRASH, e => {
    if (!e.payload.restart) inbox.error = e.payload.error // else kafkajs comes back by itself
    inbox.changed()
  })
  await consumer.connect()
  await consumer.subscribe({ topics: topic.split(','), fromBeginning })
  await consumer.run({
    autoCommit: false,
    eachMessage: async ({ topic, partition, message }) => {
      inbox.records.push(read(topic, partition, message))
      inbox.changed()
    }
  })
  return consumer
}

let readers = 0

const OPS = {
  hello: async () => ({ lacks: LACKS }),
  produce,

  // kafkajs can read only as a group member, so this is one that seeks.
  async consume (op) {
    const inbox = new Inbox()
    const group = `reader-${process.pid}-${readers++}`
    const consumer = kafka.consumer({ groupId: group, maxWaitTimeInMs: 200, heartbeatInterval: 500, allowAutoTopicCreation: false, retry: { initialRetryTime: 50, retries: 10 } })
    consumer.on(consumer.events.CRASH, e => {
      if (!e.payload.restart) inbox.error = e.payload.error // else kafkajs comes back by itself
      inbox.changed()
    })
    const joined = new Promise(resolve => consumer.on(consumer.events.GROUP_JOIN, resolve))
    await consumer.connect()
    try {
      await consumer.subscribe({ topics: [op.topic], fromBeginning: true })
      await consumer.run({
        autoCommit: false,
        eachMessage: async ({ topic, partition, message }) => {
          if (partition !== op.partition || Number(message.offset) < op.offset) return
          inbox.records.push(read(topic, partition, message))
          inbox.changed()
        }
      })
      if (op.offset > 0) {
        await joined
        consumer.seek({ topic: op.topic, partition: op.partition, offset: String(op.offset) })
      }
      return { records: await inbox.take(op.count) }
    } finally {
      await consumer.disconnect()
      await admin.deleteGroups([group]).catch(() => {})
    }
  },

  async join (op) {
    const inbox = new Inbox()
    members.set(op.member, { inbox, consumer: await subscribe(op.group, op.topic, op.reset === 'earliest', inbox) })
    return {}
  },
  async poll (op) {
    return { records: await members.get(op.member).inbox.take(op.count) }
  },
  async assignment (op) {
    const { inbox } = members.get(op.member)
    await inbox.wait(op.count + ' partitions', () => inbox.assigned.length === op.count)
    return { partitions: op.count }
  },
  async commit (op) {
    const { inbox, consumer } = members.get(op.member)
    await consumer.commitOffsets([...inbox.next].filter(([k]) => inbox.assigned.includes(k)).map(([, o]) => o))
    return {}
  },
  async leave (op) {
    const { consumer } = members.get(op.member)
    members.delete(op.member)
    await consumer.disconnect()
    return {}
  },

  async create_topic (op) {
    await admin.createTopics({
      validateOnly: op.validateOnly,
      waitForLeaders: false,
      topics: [{ topic: op.topic, numPartitions: op.partitions, replicationFactor: op.replicas, configEntries: (op.configs || []).map(c => ({ name: c.name, value: c.value })) }]
    }).then(created => {
      // kafkajs says false where the topic exists and swallows the error.
      if (!created) throw Object.assign(new Error('topic exists'), { type: 'TOPIC_ALREADY_EXISTS', code: 36 })
    })
    return {}
  },
  async delete_topic (op) {
    await admin.deleteTopics({ topics: [op.topic] })
    return {}
  },
  async describe_topic (op) {
    const { topics } = await admin.fetchTopicMetadata({ topics: [op.topic] })
    return { partitions: topics[0].partitions.length, replicas: topics[0].partitions[0].replicas.length }
  },
  list_topics: async () => ({ names: await admin.listTopics() }),
  async create_partitions (op) {
    await admin.createPartitions({ validateOnly: op.validateOnly, topicPartitions: [{ topic: op.topic, count: op.partitions }] })
    return {}
  },
  async delete_records (op) {
    await admin.fetchTopicOffsets(op.topic) // by which kafkajs learns of the leader
    await admin.deleteTopicRecords({ topic: op.topic, partitions: [{ partition: op.partition, offset: String(op.offset) }] })
    return OPS.list_offsets({ ...op, timestamp: -2 }) // kafkajs keeps the low watermark to itself
  },
  async list_offsets (op) {
    const got = (await admin.fetchTopicOffsets(op.topic)).find(p => p.partition === op.partition)
    return { offset: Number({ '-1': got.high, '-2': got.low }[op.timestamp]) }
  },
  async describe_configs (op) {
    const names = (op.configs || []).map(c => c.name)
    const type = { topic: ConfigResourceTypes.TOPIC, broker: ConfigResourceTypes.BROKER }[op.resource]
    const got = await admin.describeConfigs({ includeSynonyms: true, resources: [{ type, name: op.name }] })
    const sources = [null, 'DYNAMIC_TOPIC_CONFIG', 'DYNAMIC_BROKER_CONFIG', 'DYNAMIC_DEFAULT_BROKER_CONFIG', 'STATIC_BROKER_CONFIG', 'DEFAULT_CONFIG']
    return {
      configs: got.resources[0].configEntries.filter(c => !names.length || names.includes(c.configName)).map(c => ({
        name: c.configName, value: c.configValue, source: sources[c.configSource],
        synonyms: c.configSynonyms.map(s => `${sources[s.configSource]}:${s.configName}=${s.configValue}`)
      }))
    }
  },
  list_groups: async () => ({ names: (await admin.listGroups()).groups.map(g => g.groupId) }),
  async describe_group (op) {
    const g = (await admin.describeGroups([op.group])).groups[0]
    if (g.errorCode) return { code: g.errorCode }
    return { state: g.state, members: g.members.length }
  },
  async delete_group (op) {
    await admin.deleteGroups([op.group]).catch(err => {
      const first = err.groups && err.groups[0]
      if (first) throw first.error
      throw err
    })
    return {}
  },
  async group_offsets (op) {
    const out = []
    for (const t of await admin.fetchOffsets({ groupId: op.group })) {
      for (const p of t.partitions) if (Number(p.offset) >= 0) out.push(`${t.topic}/${p.partition}=${p.offset}`)
    }
    return { offsets: out }
  },
  async set_offset (op) {
    await admin.setOffsets({ groupId: op.group, topic: op.topic, partitions: [{ partition: op.partition, offset: String(op.offset) }] })
    return {}
  }
}

async function main () {
  await admin.connect()
  for await (const line of readline.createInterface({ input: process.stdin, crlfDelay: Infinity })) {
    const op = JSON.parse(line)
    let result
    try {
      result = OPS[op.op] ? await OPS[op.op](op) : { error: 'client: no operation ' + op.op }
    } catch (err) { // the suite shows it; the driver goes on
      result = failed(err)
    }
    process.stdout.write(JSON.stringify(result) + '\n')
  }
  for (const { consumer } of members.values()) await consumer.disconnect()
  await admin.disconnect()
}

main().catch(err => {
  console.error(err)
  process.exit(1)
})
