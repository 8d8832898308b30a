//! Stepping over the messages of one read.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput};
use pgweir::wire::frame::{self, HEAD};
use pgweir::wire::frontend;

/// How many small messages one read brings.
const COUNTS: [usize; 3] = [1, 10, 1000];
/// Bytes of the body of a large message.
const LARGE: usize = 64 * 1024;
const LIMIT: usize = 64 * 1024 * 1024;

pub(crate) fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("backend frames");
    for count in COUNTS {
        let rows = data_row(16).repeat(count);
        group.throughput(Throughput::Elements(count as u64));
        group.bench_with_input(BenchmarkId::new("small", count), &rows, |bencher, rows| {
            bencher.iter(|| split_backend(black_box(rows)));
        });
    }
    group.throughput(Throughput::Elements(1));
    group.bench_with_input("large", &data_row(LARGE), |bencher, row| {
        bencher.iter(|| split_backend(black_box(row)));
    });
    group.finish();

    let mut group = criterion.benchmark_group("frontend frames");
    for count in COUNTS {
        let messages: Vec<u8> =
            small_frontend().into_iter().cycle().take(count).flatten().collect();
        group.throughput(Throughput::Elements(count as u64));
        group.bench_with_input(BenchmarkId::new("small", count), &messages, |bencher, messages| {
            bencher.iter(|| split_frontend(black_box(messages)));
        });
    }
    let mut large = Vec::new();
    frontend::put_query(&mut large, &vec![b'x'; LARGE]);
    group.throughput(Throughput::Elements(1));
    group.bench_with_input("large", &large, |bencher, query| {
        bencher.iter(|| split_frontend(black_box(query)));
    });
    group.finish();
}

/// A row of one column of `len` bytes.
fn data_row(len: usize) -> Vec<u8> {
    let mut row = Vec::new();
    frame::put(&mut row, b'D', |out| {
        out.extend_from_slice(&1_u16.to_be_bytes());
        out.extend_from_slice(&u32::try_from(len).unwrap().to_be_bytes());
        out.resize(out.len() + len, b'x');
    });
    row
}

/// Bind, Describe, Execute and Sync of a prepared statement, and a Query.
fn small_frontend() -> [Vec<u8>; 5] {
    let mut messages: [Vec<u8>; 5] = Default::default();
    let [bind, describe, execute, sync, query] = &mut messages;
    frontend::put_bind_names(bind, b"", b"pgweir_1", 6);
    bind.extend_from_slice(&[0; 6]);
    frontend::put_describe_statement(describe, b"pgweir_1");
    frame::put(execute, b'E', |out| out.extend_from_slice(&[0; 5]));
    frontend::put_sync(sync);
    frontend::put_query(query, b"select 1");
    messages
}

/// Rows are stepped over by their heads alone.
fn split_backend(mut bytes: &[u8]) -> usize {
    let mut count = 0;
    while let Some(head) = frame::head(bytes, LIMIT).unwrap() {
        bytes = bytes.get(head.len..).unwrap();
        count += usize::from(black_box(head.tag) == b'D');
    }
    count
}

/// Of a client's messages the names and the text are read.
fn split_frontend(mut bytes: &[u8]) -> usize {
    let mut count = 0;
    while let Some(head) = frontend::head(bytes, LIMIT).unwrap() {
        let body = bytes.get(HEAD..head.len).unwrap();
        count += match head.tag {
            b'Q' => frontend::query_text(body).len(),
            b'B' => frontend::bind(body).unwrap().names_len,
            b'D' => frontend::named(body).unwrap().name.len(),
            _ => 1,
        };
        bytes = bytes.get(head.len..).unwrap();
    }
    count
}
