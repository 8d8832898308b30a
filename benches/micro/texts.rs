//! Reading statement texts: the lexer alone, and the classifier.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput};
use pgweir::sql::{Lexer, classify};

pub(crate) fn bench(criterion: &mut Criterion) {
    let texts = [
        ("BEGIN", "BEGIN".to_owned()),
        ("COMMIT", "COMMIT".to_owned()),
        ("select 1", "select 1".to_owned()),
        ("pgbench -S", "SELECT abalance FROM pgbench_accounts WHERE aid = 4711;".to_owned()),
        (
            "TPC-B update",
            "UPDATE pgbench_accounts SET abalance = abalance + -1234 WHERE aid = 4711;".to_owned(),
        ),
        ("2 KB query", long_query(2 * 1024)),
        ("64 KB INSERT", long_insert(64 * 1024)),
    ];
    let mut group = criterion.benchmark_group("lexer");
    for (name, text) in &texts {
        group.throughput(Throughput::Bytes(text.len() as u64));
        group.bench_with_input(BenchmarkId::from_parameter(name), text, |bencher, text| {
            bencher.iter(|| count_tokens(black_box(text.as_bytes())));
        });
    }
    group.finish();

    let mut group = criterion.benchmark_group("classify");
    for (name, text) in &texts {
        group.throughput(Throughput::Bytes(text.len() as u64));
        group.bench_with_input(BenchmarkId::from_parameter(name), text, |bencher, text| {
            bencher.iter(|| classify(black_box(text.as_bytes())));
        });
    }
    group.finish();
}

fn count_tokens(text: &[u8]) -> usize {
    let mut lexer = Lexer::new(text);
    std::iter::from_fn(|| lexer.significant()).count()
}

/// A query of about `len` bytes as an ORM writes it: quoted names, joins, parameters.
fn long_query(len: usize) -> String {
    let columns: Vec<_> = (0..len / 32).map(|n| format!("\"shop_order\".\"column_{n}\"")).collect();
    format!(
        "SELECT {} FROM \"shop_order\" INNER JOIN \"shop_customer\" \
         ON (\"shop_order\".\"customer_id\" = \"shop_customer\".\"id\") \
         WHERE (\"shop_customer\".\"name\" LIKE $1 AND NOT (\"shop_order\".\"paid\" IS NULL)) \
         ORDER BY \"shop_order\".\"id\" DESC LIMIT 21",
        columns.join(", ")
    )
}

/// An INSERT of rows of about `len` bytes.
fn long_insert(len: usize) -> String {
    let row = |id| format!("({id}, 'click', 'it''s the payload of event {id}')");
    let rows: Vec<_> = (10_000..10_000 + len / 56).map(row).collect();
    format!("INSERT INTO events (id, kind, payload) VALUES {}", rows.join(", "))
}
