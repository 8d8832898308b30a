// Runs checks one after the other, prints a line for each, and ends with 1 if one has failed.
'use strict'

const assert = require('node:assert')

const checks = []

/** Registers a check; its name is a claim. */
function check(name, body) {
  checks.push({ name, body })
}

/** Asserts that a promise is rejected with a SQLSTATE. */
async function refused(code, promise) {
  await assert.rejects(promise, (error) => {
    assert.strictEqual(error.code, code, error.message)
    return true
  })
}

async function runAll() {
  let failed = 0
  for (const { name, body } of checks) {
    let timer
    const late = new Promise((_, reject) => {
      timer = setTimeout(() => reject(new Error('not within 60 s')), 60_000)
    })
    try {
      await Promise.race([body(), late])
      console.log(`ok ${name}`)
    } catch (error) {
      failed += 1
      console.log(`FAILED ${name}: ${error.stack}`)
    } finally {
      clearTimeout(timer)
    }
  }
  process.exit(failed ? 1 : 0)
}

module.exports = { check, refused, runAll }
