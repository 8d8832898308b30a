// node-postgres, with its cursors, streams and COPY. Where to connect is in PGHOST, PGPORT and so on.
'use strict'

const assert = require('node:assert')
const { once } = require('node:events')
const { Readable } = require('node:stream')
const { pipeline } = require('node:stream/promises')
const { Client, Pool } = require('pg')
const { from: copyFrom, to: copyTo } = require('pg-copy-streams')
const Cursor = require('pg-cursor')
const QueryStream = require('pg-query-stream')
const { check, refused, runAll } = require('./check')

/** Runs `body(client)` on a connection of its own. */
async function onClient(body, config = {}) {
  const client = new Client({ connectionTimeoutMillis: 20_000, ...config })
  await client.connect()
  try {
    return await body(client)
  } finally {
    await client.end()
  }
}

/** The first value of a query. */
async function one(client, text, values) {
  const { rows } = await client.query({ text, values, rowMode: 'array' })
  return rows[0] && rows[0][0]
}

check('commits and rolls back as asked', () => onClient(async (client) => {
  await client.query('CREATE TABLE moves (id int)')
  for (const [id, end] of [[1, 'COMMIT'], [2, 'ROLLBACK'], [3, 'COMMIT']]) {
    await client.query('BEGIN')
    await client.query('INSERT INTO moves VALUES ($1)', [id])
    await client.query(end)
  }
  assert.deepStrictEqual(await one(client, 'SELECT array_agg(id) FROM moves'), [1, 3])
}))

check('a savepoint undoes what came after it, also after an error', () => onClient(async (client) => {
  await client.query('BEGIN; CREATE TABLE saved (id int); INSERT INTO saved VALUES (1); SAVEPOINT here')
  await refused('22012', client.query('SELECT 1 / $1::int', [0]))
  await refused('25P02', client.query('SELECT 1'))
  await client.query('ROLLBACK TO here')
  await client.query('INSERT INTO saved VALUES (2)')
  await client.query('COMMIT')
  assert.deepStrictEqual(await one(client, 'SELECT array_agg(id) FROM saved'), [1, 2])
}))

check('errors have their SQLSTATE and the session goes on', () => onClient(async (client) => {
  await client.query('CREATE TABLE keyed (id int PRIMARY KEY)')
  for (let turn = 0; turn < 10; turn++) {
    await refused('42P01', client.query('SELECT * FROM nowhere WHERE id = $1', [1]))
    await refused('22P02', client.query("SELECT 'x'::int"))
    await refused('42601', client.query('SELEC 1'))
    await client.query('INSERT INTO keyed VALUES ($1)', [turn])
    await refused('23505', client.query('INSERT INTO keyed VALUES ($1)', [turn]))
    assert.strictEqual(await one(client, 'SELECT $1::int', [turn]), turn)
  }
}))

check('named statements of two clients with the same names stay apart', async () => {
  await onClient((alice) => onClient(async (bob) => {
    for (let i = 0; i < 20; i++) {
      const a = await alice.query({ name: 'one', text: 'SELECT $1::int + 1 AS n', values: [i] })
      const b = await bob.query({ name: 'one', text: "SELECT $1::text || '!' AS n", values: [`${i}`] })
      assert.deepStrictEqual([a.rows[0].n, b.rows[0].n], [i + 1, `${i}!`])
    }
  }))
})

check('300 named statements are used again in and across transactions', () => onClient(async (client) => {
  for (let round = 0; round < 3; round++) {
    await client.query('BEGIN')
    for (let n = 0; n < 300; n++) {
      const { rows } = await client.query({ name: `s${n}`, text: `SELECT $1::int + ${n} AS n`, values: [n] })
      assert.strictEqual(rows[0].n, 2 * n)
      if (n % 50 === 49) await client.query('COMMIT; BEGIN')
    }
    await client.query('COMMIT')
  }
}))

check('a named statement that fails to parse can be prepared once it makes sense', () => onClient(async (client) => {
  const later = { name: 'later', text: 'SELECT id FROM later WHERE id = $1', values: [1] }
  await refused('42P01', client.query(later))
  await client.query('CREATE TABLE later AS SELECT 1 AS id')
  assert.deepStrictEqual((await client.query(later)).rows, [{ id: 1 }])
}))

check('queries of pipelined clients come back in order, an error fails its own', () => onClient(async (client) => {
  const answers = await Promise.allSettled(Array.from({ length: 300 }, (_, i) =>
    client.query({ text: 'SELECT 100 / ($1::int % 10) AS n', values: [i], ...(i % 3 ? { name: 'div' } : {}) })))
  answers.forEach((answer, i) => {
    if (i % 10) assert.strictEqual(answer.value.rows[0].n, Math.trunc(100 / (i % 10)))
    else assert.strictEqual(answer.reason.code, '22012')
  })
}, { pipeline: true }))

check('COPY carries 20000 rows in and out', () => onClient(async (client) => {
  await client.query('CREATE TABLE copied (id int, name text)')
  const lines = Array.from({ length: 20_000 }, (_, i) => `${i}\trow ${i}\n`)
  const input = client.query(copyFrom('COPY copied FROM STDIN'))
  await pipeline(Readable.from(lines), input)
  assert.strictEqual(input.rowCount, 20_000)
  let text = ''
  for await (const chunk of client.query(copyTo('COPY (SELECT * FROM copied ORDER BY id) TO STDOUT'))) text += chunk
  assert.strictEqual(text, lines.join(''))
}))

check('COPY in binary carries what COPY out gave', () => onClient(async (client) => {
  await client.query("CREATE TABLE a AS SELECT n, repeat('x', n % 70) AS t FROM generate_series(1, 20000) n")
  await client.query('CREATE TABLE b (n int, t text)')
  const chunks = []
  for await (const chunk of client.query(copyTo('COPY a TO STDOUT (FORMAT binary)'))) chunks.push(chunk)
  await pipeline(Readable.from(chunks), client.query(copyFrom('COPY b FROM STDIN (FORMAT binary)')))
  assert.strictEqual(await one(client, 'SELECT count(*)::int FROM (TABLE a INTERSECT TABLE b) s'), 20_000)
}))

check('a COPY that fails or is given up leaves the client usable', () => onClient(async (client) => {
  await client.query('CREATE TABLE numbers (id int)')
  for (let turn = 0; turn < 3; turn++) {
    await refused('22P02', pipeline(Readable.from(['1\n', 'not a number\n']), client.query(copyFrom('COPY numbers FROM STDIN'))))
    const given = client.query(copyFrom('COPY numbers FROM STDIN'))
    given.write('1\n')
    given.destroy(new Error('changed my mind'))
    await once(given, 'error')
    assert.strictEqual(await one(client, 'SELECT count(*)::int FROM numbers'), 0)
  }
}))

check('a cancel ends the query and the client goes on', () => onClient(async (client) => {
  for (let turn = 0; turn < 3; turn++) {
    const query = client.query(`SELECT pg_sleep(30)`)
    // A cancel that comes before the query has begun does nothing, so it is asked for again.
    const again = setInterval(() => cancel(client), 200)
    await refused('57014', query).finally(() => clearInterval(again))
    await new Promise((resolve) => setTimeout(resolve, 300))
    assert.strictEqual(await one(client, 'SELECT $1::int', [turn]), turn)
  }
}))

/** Sends a CancelRequest on a connection of its own. */
function cancel(client) {
  const { connection } = new Client()
  connection.on('error', () => {})
  connection.on('connect', () => connection.cancel(client.processID, client.secretKey))
  connection.connect(client.port, client.host)
}

check('a statement_timeout of the configuration holds on every server', () => onClient(async (client) => {
  for (let turn = 0; turn < 5; turn++) {
    await refused('57014', client.query('SELECT pg_sleep($1)', [30]))
    assert.strictEqual(await one(client, 'SHOW statement_timeout'), '100ms')
  }
}, { statement_timeout: 100 }))

check('a cursor reads 100000 rows in batches', () => onClient(async (client) => {
  const cursor = client.query(new Cursor('SELECT n FROM generate_series(1, $1::int) n', [100_000]))
  let seen = 0
  for (let rows = await cursor.read(7000); rows.length; rows = await cursor.read(7000)) {
    for (const row of rows) assert.strictEqual(row.n, ++seen)
  }
  assert.strictEqual(seen, 100_000)
}))

check('a cursor closed in the middle leaves the client usable', () => onClient(async (client) => {
  for (let turn = 0; turn < 5; turn++) {
    const cursor = client.query(new Cursor('SELECT generate_series(1, 100000)'))
    assert.strictEqual((await cursor.read(10)).length, 10)
    await cursor.close()
    assert.strictEqual(await one(client, 'SELECT $1::int', [turn]), turn)
  }
}))

check('a query stream delivers 100000 rows', () => onClient(async (client) => {
  const stream = client.query(new QueryStream('SELECT n FROM generate_series(1, $1::int) n', [100_000], { batchSize: 1000 }))
  let sum = 0
  for await (const row of stream) sum += row.n
  assert.strictEqual(sum, 5_000_050_000)
}))

const VALUES = {
  boolean: true,
  int: 2147483647,
  bigint: '-9223372036854775808',
  'double precision': 0.1 + 0.2,
  numeric: '-12345678901234567890.123456789012345678900',
  text: "naïve 漢字 🐍 '\\",
  bytea: Buffer.from(Array.from({ length: 4096 }, (_, i) => i % 256)),
  timestamptz: new Date('2038-01-19T03:14:08.001Z'),
  uuid: '0b6d2f9c-8a4e-4d5f-9d0e-1f2a3b4c5d6e',
  jsonb: { a: [1, 2.5, null, 'ü'], b: { c: true } },
  'int[]': [1, null, 3],
  'text[]': ['a', 'b,c', '"quoted"', null],
}

check('a value of each type comes back as it went, null too', () => onClient(async (client) => {
  for (const [type, value] of Object.entries(VALUES)) {
    const text = `SELECT CAST($1 AS ${type}) AS v, NULL::${type} AS nothing`
    const { rows } = await client.query(text, [value])
    assert.deepStrictEqual(rows[0], { v: value, nothing: null }, type)
  }
}))

check('results in binary are what they are in text', () => onClient(async (client) => {
  // This version reads bytes above 127 wrongly in binary results, directly too.
  const text = 'SELECT n, n % 2 = 0 AS even FROM generate_series(1, 127) n WHERE n > $1'
  const inText = (await client.query({ text, values: [0] })).rows
  const inBinary = (await client.query({ text, values: [0], binary: true })).rows
  assert.deepStrictEqual(inBinary, inText)
}))

check('ten clients that take turns keep their transactions apart', async () => {
  const clients = await Promise.all(Array.from({ length: 10 }, async () => {
    const client = new Client()
    await client.connect()
    return client
  }))
  await clients[0].query('CREATE TABLE turns (client int, turn int)')
  for (let turn = 0; turn < 10; turn++) {
    await Promise.all(clients.map(async (client, number) => {
      await client.query('BEGIN')
      await client.query('INSERT INTO turns VALUES ($1, $2)', [number, turn])
      await client.query((number + turn) % 2 ? 'ROLLBACK' : 'COMMIT')
    }))
  }
  const found = await one(clients[0], 'SELECT count(*)::int FROM turns WHERE (client + turn) % 2 = 0')
  assert.deepStrictEqual([found, await one(clients[0], 'SELECT count(*)::int FROM turns')], [50, 50])
  await Promise.all(clients.map((client) => client.end()))
})

check('a Pool of 20 serves 400 queries', async () => {
  const pool = new Pool({ max: 20 })
  const answers = await Promise.all(Array.from({ length: 400 }, (_, i) =>
    pool.query({ name: `pool ${i % 7}`, text: `SELECT $1::int + ${i % 7} AS n`, values: [i] })))
  assert.deepStrictEqual(answers.map(({ rows }) => rows[0].n), Array.from({ length: 400 }, (_, i) => i + (i % 7)))
  await pool.end()
})

check('what is asked for at startup holds in each transaction', () => onClient(async (client) => {
  for (let turn = 0; turn < 5; turn++) {
    assert.strictEqual(await one(client, 'SHOW application_name'), 'matrix')
    assert.strictEqual(await one(client, 'SHOW search_path'), 'pg_catalog')
  }
}, { application_name: 'matrix', options: '-c search_path=pg_catalog' }))

runAll()
