// postgres.js, which prepares every query and pipelines by itself. Where to connect is in PGHOST and so on.
'use strict'

const assert = require('node:assert')
const { once } = require('node:events')
const { Readable } = require('node:stream')
const { pipeline } = require('node:stream/promises')
const { setImmediate } = require('node:timers/promises')
const postgres = require('postgres')
const { check, refused, runAll } = require('./check')

/** Runs `body(sql)` on a pool of its own, of ten connections if nothing else is said. */
async function on(body, config = {}) {
  const sql = postgres({ onnotice: () => {}, connect_timeout: 20, ...config })
  try {
    return await body(sql)
  } finally {
    await sql.end({ timeout: 5 })
  }
}

check('commits and rolls back as asked', () => on(async (sql) => {
  await sql`CREATE TABLE moves (id int)`
  await sql.begin((tx) => tx`INSERT INTO moves VALUES (1)`)
  await assert.rejects(sql.begin(async (tx) => {
    await tx`INSERT INTO moves VALUES (2)`
    throw new Error('changed my mind')
  }), /changed my mind/)
  await sql.begin('isolation level serializable', (tx) => tx`INSERT INTO moves VALUES (3)`)
  assert.deepStrictEqual((await sql`SELECT id FROM moves`).map((row) => row.id), [1, 3])
}))

check('a savepoint undoes what came after it', () => on(async (sql) => {
  await sql`CREATE TABLE saved (id int)`
  await sql.begin(async (tx) => {
    await tx`INSERT INTO saved VALUES (1)`
    await refused('22012', tx.savepoint((inner) => inner`SELECT 1 / ${0}::int`))
    await tx.savepoint((inner) => inner`INSERT INTO saved VALUES (2)`)
  })
  assert.deepStrictEqual((await sql`SELECT id FROM saved`).map((row) => row.id), [1, 2])
}))

check('an error in a block fails the block and not the session', () => on(async (sql) => {
  for (let turn = 0; turn < 5; turn++) {
    await refused('22012', sql.begin(async (tx) => {
      await refused('22012', tx`SELECT 1 / ${0}::int`)
      await refused('25P02', tx`SELECT ${1}::int`)
    }))
    assert.strictEqual((await sql`SELECT ${turn}::int AS n`)[0].n, turn)
  }
}, { max: 1 }))

check('errors have their SQLSTATE and the session goes on', () => on(async (sql) => {
  await sql`CREATE TABLE keyed (id int PRIMARY KEY)`
  for (let turn = 0; turn < 10; turn++) {
    await refused('42P01', sql`SELECT * FROM nowhere WHERE id = ${1}`)
    await refused('42601', sql`SELEC ${1}`)
    await sql`INSERT INTO keyed VALUES (${turn})`
    await refused('23505', sql`INSERT INTO keyed VALUES (${turn})`)
    assert.strictEqual((await sql`SELECT ${turn}::int AS n`)[0].n, turn)
  }
}, { max: 2 }))

check('its own prepared statements are used again in and across transactions', () => on(async (sql) => {
  for (let round = 0; round < 3; round++) {
    for (let n = 0; n < 100; n++) {
      const query = (tx) => tx.unsafe(`SELECT $1::int + ${n} AS n`, [n], { prepare: true })
      assert.strictEqual((await query(sql))[0].n, 2 * n)
      assert.strictEqual((await sql.begin((tx) => query(tx)))[0].n, 2 * n)
    }
  }
}))

check('prepared statements survive a change of their table', () => on((sql) => on(async (other) => {
  await sql`CREATE TABLE changing AS SELECT 1 AS a`
  const read = () => sql`SELECT * FROM changing WHERE a = ${1}`
  assert.deepStrictEqual({ ...(await read())[0] }, { a: 1 })
  await other`ALTER TABLE changing ADD COLUMN b int DEFAULT 2`
  for (let turn = 0; turn < 3; turn++) assert.deepStrictEqual({ ...(await read())[0] }, { a: 1, b: 2 })
}), { max: 1 }))

check('400 queries at once come back in order, an error fails its own', () => on(async (sql) => {
  const answers = await Promise.allSettled(Array.from({ length: 400 }, (_, i) => sql`SELECT 100 / (${i}::int % 10) AS n`))
  answers.forEach((answer, i) => {
    if (i % 10) assert.strictEqual(answer.value[0].n, Math.trunc(100 / (i % 10)))
    else assert.strictEqual(answer.reason.code, '22012')
  })
}))

check('without prepared statements and in simple queries everything works too', () => on(async (sql) => {
  const answers = await Promise.all(Array.from({ length: 100 }, (_, i) => sql`SELECT ${i}::int AS n`))
  assert.deepStrictEqual(answers.map((rows) => rows[0].n), Array.from({ length: 100 }, (_, i) => i))
  const [first, second] = await sql`SELECT 1 AS a; SELECT 2 AS b`.simple()
  assert.deepStrictEqual([first[0].a, second[0].b], [1, 2])
}, { prepare: false }))

check('describe tells columns and parameters without running', () => on(async (sql) => {
  for (let turn = 0; turn < 3; turn++) {
    const { columns, types } = await sql`SELECT ${1}::int / 0 AS n, ${'x'}::text AS t`.describe()
    assert.deepStrictEqual([columns.map((column) => column.name), types], [['n', 't'], [23, 25]])
  }
}))

check('COPY carries 20000 rows in and out', () => on(async (sql) => {
  await sql`CREATE TABLE copied (id int, name text)`
  const lines = Array.from({ length: 20_000 }, (_, i) => `${i}\trow ${i}\n`)
  await pipeline(Readable.from(lines), await sql`COPY copied FROM STDIN`.writable())
  let text = ''
  for await (const chunk of await sql`COPY (SELECT * FROM copied ORDER BY id) TO STDOUT`.readable()) text += chunk
  assert.strictEqual(text, lines.join(''))
}))

/** Lines without an end, a bad one among them. The pauses let the error in. */
async function* endless() {
  for (let i = 0; ; i++) {
    yield i === 200 ? 'not a number\n' : `${i}\n`.repeat(100)
    await setImmediate()
  }
}

// One that fails when all is sent is never told of, directly neither.
check('a COPY fed with a bad line in the middle fails and the connection goes on', () => on(async (sql) => {
  await sql`CREATE TABLE fed (id int)`
  for (let turn = 0; turn < 3; turn++) {
    const input = await sql`COPY fed FROM STDIN`.writable()
    await refused('22P02', pipeline(Readable.from(endless()), input))
    assert.strictEqual((await sql`SELECT ${turn}::int AS n`)[0].n, turn)
    await refused('22P02', sql.begin(async (tx) => {
      await tx`INSERT INTO fed VALUES (1)`
      await pipeline(Readable.from(endless()), await tx`COPY fed FROM STDIN`.writable())
    }))
    assert.strictEqual((await sql`SELECT count(*)::int AS n FROM fed`)[0].n, 0)
  }
}, { max: 1 }))

check('a COPY in that is destroyed in the middle leaves the connection usable', () => on(async (sql) => {
  await sql`CREATE TABLE given (id int)`
  for (let turn = 0; turn < 3; turn++) {
    const input = await sql`COPY given FROM STDIN`.writable()
    await new Promise((resolve) => input.write('1\n'.repeat(1000), resolve))
    input.destroy(new Error('changed my mind'))
    assert.match((await once(input, 'error'))[0].message, /changed my mind/)
    assert.strictEqual((await sql`SELECT count(*)::int AS n FROM given`)[0].n, 0)
    assert.strictEqual((await sql`SELECT ${turn}::int AS n`)[0].n, turn)
  }
}, { max: 1 }))

// A COPY out that is destroyed has no check: the driver reads no further on its connection, directly neither.
check('a COPY that cannot begin leaves the connection usable', () => on(async (sql) => {
  for (let turn = 0; turn < 3; turn++) {
    await refused('42P01', sql`COPY nowhere FROM STDIN`.writable())
    await refused('42P01', sql`COPY nowhere TO STDOUT`.readable())
    assert.strictEqual((await sql`SELECT ${turn}::int AS n`)[0].n, turn)
  }
}, { max: 1 }))

check('a cancel ends the query and the connection goes on', () => on(async (sql) => {
  for (let turn = 0; turn < 3; turn++) {
    const query = sql`SELECT pg_sleep(${30})`
    const again = setTimeout(() => query.cancel(), 500)
    await refused('57014', query).finally(() => clearTimeout(again))
    assert.strictEqual((await sql`SELECT ${turn}::int AS n`)[0].n, turn)
  }
}, { max: 1 }))

check('a statement_timeout of the connection holds on every server', () => on(async (sql) => {
  for (let turn = 0; turn < 5; turn++) await refused('57014', sql`SELECT pg_sleep(${30})`)
  assert.strictEqual((await sql`SHOW statement_timeout`)[0].statement_timeout, '100ms')
}, { max: 2, connection: { statement_timeout: 100, application_name: 'matrix' } }))

check('a cursor reads 100000 rows in batches, by callback and by iterator', () => on(async (sql) => {
  let seen = 0
  await sql`SELECT n FROM generate_series(1, ${100_000}::int) n`.cursor(7000, (rows) => {
    for (const row of rows) assert.strictEqual(row.n, ++seen)
  })
  for await (const rows of sql`SELECT n FROM generate_series(1, ${100_000}::int) n`.cursor(7000)) seen -= rows.length
  assert.strictEqual(seen, 0)
}))

check('a cursor left in the middle leaves the connection usable', () => on(async (sql) => {
  for (let turn = 0; turn < 5; turn++) {
    await sql`SELECT n FROM generate_series(1, 100000) n`.cursor(10, () => sql.CLOSE)
    for await (const rows of sql`SELECT n FROM generate_series(1, 100000) n`.cursor(10)) {
      assert.strictEqual(rows.length, 10)
      break
    }
    assert.strictEqual((await sql`SELECT ${turn}::int AS n`)[0].n, turn)
  }
}, { max: 1 }))

check('100000 rows come at once and one by one', () => on(async (sql) => {
  assert.strictEqual((await sql`SELECT n FROM generate_series(1, 100000) n`).length, 100_000)
  let sum = 0
  await sql`SELECT n FROM generate_series(1, 100000) n`.forEach((row) => { sum += row.n })
  assert.strictEqual(sum, 5_000_050_000)
}))

// It reads NULL within an array wrongly, directly too.
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
  'int[]': [1, 2, 3],
  'text[]': ['a', 'b,c', '"quoted"'],
}

check('a value of each type comes back as it went, null too', () => on(async (sql) => {
  for (const [type, value] of Object.entries(VALUES)) {
    const rows = await sql.unsafe(`SELECT CAST($1 AS ${type}) AS v, NULL::${type} AS nothing`, [value], { prepare: true })
    assert.deepStrictEqual({ ...rows[0] }, { v: value, nothing: null }, type)
  }
}))

check('a connection reserved by one does not disturb the others', () => on(async (sql) => {
  const mine = await sql.reserve()
  await mine`SELECT 1`
  const answers = await Promise.all(Array.from({ length: 50 }, (_, i) => sql`SELECT ${i}::int AS n`))
  assert.deepStrictEqual(answers.map((rows) => rows[0].n), Array.from({ length: 50 }, (_, i) => i))
  mine.release()
}))

check('transactions of ten connections at once lose no update', () => on(async (sql) => {
  await sql`CREATE TABLE counter AS SELECT 0 AS n`
  await Promise.all(Array.from({ length: 100 }, () => sql.begin(async (tx) => {
    await tx`SELECT n FROM counter FOR UPDATE`
    await tx`UPDATE counter SET n = n + 1`
  })))
  assert.strictEqual((await sql`SELECT n FROM counter`)[0].n, 100)
}))

runAll()
