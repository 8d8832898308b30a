//! The differential tester: what clients see through pgweir is what PostgreSQL would have told them.
//!
//! Random sequences of frontend messages, valid and not, are sent to PostgreSQL by connections of
//! their own, and to a second, identical PostgreSQL through pgweir in transaction mode. Every message
//! that comes back is compared byte for byte, but for the fields in `rules.rs`. A sequence is known
//! by its seed. One that shows a difference is cut down to what is needed for it, and shown.
//!
//! `DIFFERENTIAL_SEQUENCES=100000 cargo nextest run -E 'test(differential)'` runs more of them than
//! the few of every day; `DIFFERENTIAL_SEED=n` begins elsewhere, and `DIFFERENTIAL_MOST=n` goes on
//! until that many differences are found.

mod bulk;
mod direct;
mod generate;
mod link;
mod odd;
mod rules;
mod run;
mod sequence;
mod shrink;
mod texts;

use std::env;

use tokio::time::Instant;

use self::generate::{Shape, generate};
use self::run::Bench;

/// Sequences of each shape in a run of every day.
const SEQUENCES: u64 = 150;

/// Runs a share of the sequences that are asked for, from a seed of its own.
#[track_caller]
fn run(shape: &Shape, percent: u64) {
    let number = |name: &str| env::var(name).ok().map(|text| text.parse::<u64>().expect(name));
    let count = number("DIFFERENTIAL_SEQUENCES").map_or(SEQUENCES, |all| all * percent / 100);
    let first = number("DIFFERENTIAL_SEED").unwrap_or(1);
    let most = number("DIFFERENTIAL_MOST").unwrap_or(1);
    let mut bench = Bench::start(shape);
    let begun = Instant::now();
    let mut reports = Vec::new();
    for seed in first..first + count {
        let sequence = generate(shape, seed);
        if let Err(difference) = bench.play(&sequence) {
            reports.push(shrink::report(&mut bench, seed, &sequence, &difference));
            if reports.len() as u64 >= most {
                break;
            }
        }
    }
    assert!(reports.is_empty(), "{}", reports.join("\n\n"));
    assert_eq!(bench.reused() > 0, shape.reuses, "{}", bench.reused());
    let reused = bench.reused();
    eprintln!("{count} sequences in {:?}, {reused} Parses not sent", begun.elapsed());
}

const ONE: Shape = Shape { clients: 3, servers: 1, statements: 100, reuses: false };
const TWO_STATEMENTS: Shape = Shape { statements: 2, ..ONE };
const SEVERAL: Shape = Shape { clients: 4, servers: 2, ..ONE };
const EACH: Shape = Shape { servers: 3, ..ONE };

/// P27, P28, P45 to P52, P54, P56, P64 to P67, P77, P88: clients that take turns at one server.
#[test]
fn clients_of_one_server_see_what_postgresql_says() {
    run(&ONE, 60);
}

/// P50: a server that may hold two statements at a time.
#[test]
fn clients_of_a_server_with_room_for_two_statements_see_what_postgresql_says() {
    run(&TWO_STATEMENTS, 20);
}

/// A BEGIN is put off until what comes behind it.
#[test]
fn clients_with_a_server_for_each_see_what_postgresql_says() {
    run(&EACH, 20);
}

/// Statements follow their clients from server to server.
#[test]
fn clients_of_several_servers_see_what_postgresql_says() {
    run(&SEVERAL, 20);
}

/// The same where unnamed statements are reused.
#[test]
fn clients_of_one_server_that_reuses_see_what_postgresql_says() {
    run(&Shape { reuses: true, ..ONE }, 60);
}

#[test]
fn clients_of_a_server_that_reuses_with_room_for_two_statements_see_what_postgresql_says() {
    run(&Shape { reuses: true, ..TWO_STATEMENTS }, 20);
}

#[test]
fn clients_of_several_servers_that_reuse_see_what_postgresql_says() {
    run(&Shape { reuses: true, ..SEVERAL }, 20);
}
