//! tokio-postgres, which pipelines whatever is asked for at the same time.

use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use driver_matrix::{told, Checks, Outcome};
use futures_util::future::{join_all, try_join_all};
use futures_util::{pin_mut, SinkExt, StreamExt, TryStreamExt};
use serde_json::json;
use tokio_postgres::binary_copy::{BinaryCopyInWriter, BinaryCopyOutStream};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Config, Error, IsolationLevel, NoTls, SimpleQueryMessage};
use uuid::Uuid;

#[tokio::main]
async fn main() -> ExitCode {
    let mut checks = Checks::default();
    checks.check("commits and rolls back as asked", commits_and_rolls_back()).await;
    checks.check("a nested transaction undoes its own part", savepoints()).await;
    checks.check("a transaction that is dropped is rolled back", dropped_transaction()).await;
    checks.check("errors have their SQLSTATE and the session goes on", errors()).await;
    checks.check("300 statements prepared work in and across transactions", prepared()).await;
    checks.check("a statement that is dropped is closed and may be prepared again", closed()).await;
    checks.check("500 futures at once come back in order", pipelined()).await;
    checks.check("an error in a pipeline fails its own", pipelined_errors()).await;
    checks.check("statements prepared at once share a pipeline", prepared_at_once()).await;
    checks.check("queries with types given need no statement", typed()).await;
    checks.check("COPY carries 20000 rows in and out", copy()).await;
    checks.check("COPY in binary carries what went in", copy_binary()).await;
    checks.check("a COPY that fails or is dropped leaves the session usable", copy_fails()).await;
    checks.check("a cancel token ends the query and the session goes on", cancel()).await;
    checks.check("a future that is dropped leaves the session usable", dropped_future()).await;
    checks.check("a portal gives 100000 rows in batches", portal()).await;
    checks
        .check("rows that are dropped in the middle leave the session usable", dropped_rows())
        .await;
    checks.check("a value of each type comes back as it went", types()).await;
    checks.check("enums and composites are looked up", looked_up_types()).await;
    checks.check("a read-only serializable transaction is one", read_only()).await;
    checks.check("simple queries give the results of several statements", simple()).await;
    checks.check("what is asked for at startup holds in each transaction", startup()).await;
    checks.check("20 clients at once lose no update", updates()).await;
    checks.end()
}

fn config() -> Config {
    let mut config = Config::new();
    config.host(told("PGHOST")).port(told("PGPORT").parse().expect("a port"));
    config.user(told("PGUSER")).password(told("PGPASSWORD")).dbname(told("PGDATABASE"));
    config
}

async fn connect_as(config: Config) -> Result<Client, Error> {
    let (client, connection) = config.connect(NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

async fn connect() -> Result<Client, Error> {
    connect_as(config()).await
}

async fn one(client: &Client, n: i32) -> Result<i32, Error> {
    client.query_one_scalar("SELECT $1::int", &[&n]).await
}

#[track_caller]
fn refused<T>(state: &SqlState, outcome: Result<T, Error>) {
    match outcome {
        Ok(_) => panic!("not refused with {}", state.code()),
        Err(error) => assert_eq!(Some(state), error.code(), "{error:?}"),
    }
}

async fn commits_and_rolls_back() -> Outcome {
    let mut client = connect().await?;
    client.batch_execute("CREATE TABLE moves (id int)").await?;
    for id in 1..=3 {
        let tx = client.transaction().await?;
        tx.execute("INSERT INTO moves VALUES ($1)", &[&id]).await?;
        if id == 2 {
            tx.rollback().await?;
        } else {
            tx.commit().await?;
        }
    }
    let kept: Vec<i32> = client.query_one_scalar("SELECT array_agg(id) FROM moves", &[]).await?;
    assert_eq!(kept, [1, 3]);
    Ok(())
}

async fn savepoints() -> Outcome {
    let mut client = connect().await?;
    client.batch_execute("CREATE TABLE saved (id int)").await?;
    let mut tx = client.transaction().await?;
    tx.execute("INSERT INTO saved VALUES ($1)", &[&1]).await?;
    let inner = tx.savepoint("here").await?;
    inner.execute("INSERT INTO saved VALUES ($1)", &[&2]).await?;
    refused(&SqlState::DIVISION_BY_ZERO, inner.execute("SELECT 1 / $1::int", &[&0]).await);
    refused(&SqlState::IN_FAILED_SQL_TRANSACTION, inner.execute("SELECT 1", &[]).await);
    inner.rollback().await?;
    tx.execute("INSERT INTO saved VALUES ($1)", &[&3]).await?;
    tx.commit().await?;
    let kept: Vec<i32> = client.query_one_scalar("SELECT array_agg(id) FROM saved", &[]).await?;
    assert_eq!(kept, [1, 3]);
    Ok(())
}

async fn dropped_transaction() -> Outcome {
    let mut client = connect().await?;
    client.batch_execute("CREATE TABLE dropped (id int)").await?;
    for n in 0..10 {
        let tx = client.transaction().await?;
        tx.execute("INSERT INTO dropped VALUES ($1)", &[&n]).await?;
        drop(tx);
    }
    let count: i64 = client.query_one_scalar("SELECT count(*) FROM dropped", &[]).await?;
    assert_eq!(count, 0);
    Ok(())
}

async fn errors() -> Outcome {
    let client = connect().await?;
    client.batch_execute("CREATE TABLE keyed (id int PRIMARY KEY)").await?;
    for turn in 0..10 {
        refused(&SqlState::UNDEFINED_TABLE, client.query("SELECT * FROM nowhere", &[]).await);
        refused(&SqlState::SYNTAX_ERROR, client.query("SELEC 1", &[]).await);
        client.execute("INSERT INTO keyed VALUES ($1)", &[&turn]).await?;
        let again = client.execute("INSERT INTO keyed VALUES ($1)", &[&turn]).await;
        refused(&SqlState::UNIQUE_VIOLATION, again);
        assert_eq!(one(&client, turn).await?, turn);
    }
    Ok(())
}

async fn prepared() -> Outcome {
    let mut client = connect().await?;
    let mut statements = Vec::new();
    for n in 0..300 {
        statements.push(client.prepare(&format!("SELECT $1::int + {n}")).await?);
    }
    for _ in 0..2 {
        for (n, statement) in (0..).zip(&statements) {
            let doubled: i32 = client.query_one_scalar(statement, &[&n]).await?;
            assert_eq!(doubled, 2 * n);
            if n % 10 == 0 {
                let tx = client.transaction().await?;
                assert_eq!(tx.query_one(statement, &[&0]).await?.get::<_, i32>(0), n);
                tx.commit().await?;
            }
        }
    }
    Ok(())
}

async fn closed() -> Outcome {
    let client = connect().await?;
    for n in 0..50 {
        // Dropped at the end of each turn, which sends a Close that nobody waits for.
        let statement = client.prepare("SELECT $1::int + 1").await?;
        let found: i32 = client.query_one_scalar(&statement, &[&n]).await?;
        assert_eq!(found, n + 1);
    }
    Ok(())
}

async fn pipelined() -> Outcome {
    let client = connect().await?;
    let statement = client.prepare("SELECT $1::int * 2").await?;
    let params: Vec<i32> = (0..500).collect();
    let asked =
        params.iter().map(async |n| client.query_one_scalar::<i32, _>(&statement, &[n]).await);
    let answers = try_join_all(asked).await?;
    assert_eq!(answers, (0..500).map(|n| n * 2).collect::<Vec<_>>());
    Ok(())
}

async fn pipelined_errors() -> Outcome {
    let client = connect().await?;
    let statement = client.prepare("SELECT 100 / ($1::int % 10)").await?;
    let params: Vec<i32> = (0..300).collect();
    let asked =
        params.iter().map(async |n| client.query_one_scalar::<i32, _>(&statement, &[n]).await);
    for (n, answer) in params.iter().zip(join_all(asked).await) {
        match n % 10 {
            0 => refused(&SqlState::DIVISION_BY_ZERO, answer),
            rest => assert_eq!(answer?, 100 / rest),
        }
    }
    Ok(())
}

async fn prepared_at_once() -> Outcome {
    let client = connect().await?;
    let texts: Vec<String> = (0..100).map(|n| format!("SELECT $1::int + {n}")).collect();
    let statements = try_join_all(texts.iter().map(|text| client.prepare(text))).await?;
    for (n, statement) in (0..).zip(&statements) {
        assert_eq!(client.query_one_scalar::<i32, _>(statement, &[&n]).await?, 2 * n);
    }
    Ok(())
}

async fn typed() -> Outcome {
    let client = connect().await?;
    for n in 0..20_i32 {
        let rows = client.query_typed("SELECT $1 + 1", &[(&n, Type::INT4)]).await?;
        assert_eq!(rows[0].get::<_, i32>(0), n + 1);
    }
    Ok(())
}

async fn copy() -> Outcome {
    let client = connect().await?;
    client.batch_execute("CREATE TABLE copied (id int, name text)").await?;
    let lines: String = (0..20_000).map(|n| format!("{n}\trow {n}\n")).collect();
    let sink = client.copy_in::<_, Bytes>("COPY copied FROM STDIN").await?;
    pin_mut!(sink);
    for chunk in lines.as_bytes().chunks(1000) {
        sink.send(Bytes::copy_from_slice(chunk)).await?;
    }
    assert_eq!(sink.finish().await?, 20_000);
    let out = client.copy_out("COPY (SELECT * FROM copied ORDER BY id) TO STDOUT").await?;
    let chunks: Vec<Bytes> = out.try_collect().await?;
    assert_eq!(chunks.concat(), lines.as_bytes());
    Ok(())
}

async fn copy_binary() -> Outcome {
    let client = connect().await?;
    client.batch_execute("CREATE TABLE carried (id int8, name text)").await?;
    let types = [Type::INT8, Type::TEXT];
    let sink = client.copy_in("COPY carried FROM STDIN (FORMAT binary)").await?;
    let writer = BinaryCopyInWriter::new(sink, &types);
    pin_mut!(writer);
    for n in 0..20_000_i64 {
        writer.as_mut().write(&[&n, &format!("row {n}")]).await?;
    }
    writer.finish().await?;
    let out = client.copy_out("COPY carried TO STDOUT (FORMAT binary)").await?;
    let rows: Vec<_> = BinaryCopyOutStream::new(out, &types).try_collect().await?;
    assert_eq!(rows.len(), 20_000);
    assert_eq!(rows[7].get::<&str>(1), "row 7");
    Ok(())
}

async fn copy_fails() -> Outcome {
    let client = connect().await?;
    client.batch_execute("CREATE TABLE numbers (id int PRIMARY KEY)").await?;
    for turn in 0..3 {
        let sink = client.copy_in::<_, Bytes>("COPY numbers FROM STDIN").await?;
        pin_mut!(sink);
        for _ in 0..100 {
            sink.feed(Bytes::from("1\n".repeat(1000))).await?;
        }
        refused(&SqlState::UNIQUE_VIOLATION, sink.finish().await);
        let sink = client.copy_in::<_, Bytes>("COPY numbers FROM STDIN").await?;
        {
            // Dropped without an end: CopyFail.
            let mut sink = Box::pin(sink);
            sink.send(Bytes::from_static(b"1\n")).await?;
        }
        let out = client.copy_out("COPY (SELECT generate_series(1, 100000)) TO STDOUT").await?;
        {
            let mut out = Box::pin(out);
            out.next().await.expect("a row")?;
        }
        assert_eq!(one(&client, turn).await?, turn);
        assert_eq!(
            client.query_one_scalar::<i64, _>("SELECT count(*) FROM numbers", &[]).await?,
            0
        );
    }
    Ok(())
}

async fn cancel() -> Outcome {
    let client = connect().await?;
    for turn in 0..3 {
        let token = client.cancel_token();
        // A cancel that comes before the query has begun does nothing, so it is asked for again.
        let again = tokio::spawn(async move {
            loop {
                tokio::time::sleep(Duration::from_millis(200)).await;
                let _ = token.cancel_query(NoTls).await;
            }
        });
        let slept = client.query("SELECT pg_sleep($1)", &[&30_f64]).await;
        again.abort();
        refused(&SqlState::QUERY_CANCELED, slept);
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(one(&client, turn).await?, turn);
    }
    Ok(())
}

async fn dropped_future() -> Outcome {
    let client = connect().await?;
    for turn in 0..20 {
        let slept = client.query("SELECT pg_sleep(0.05)", &[]);
        assert!(tokio::time::timeout(Duration::from_millis(5), slept).await.is_err());
        assert_eq!(one(&client, turn).await?, turn);
    }
    Ok(())
}

async fn portal() -> Outcome {
    let mut client = connect().await?;
    let tx = client.transaction().await?;
    let portal = tx.bind("SELECT n FROM generate_series(1, $1::int) n", &[&100_000]).await?;
    let mut seen = 0;
    loop {
        let rows = tx.query_portal(&portal, 7000).await?;
        if rows.is_empty() {
            break;
        }
        for row in rows {
            seen += 1;
            assert_eq!(row.get::<_, i32>(0), seen);
        }
    }
    assert_eq!(seen, 100_000);
    tx.commit().await?;
    Ok(())
}

async fn dropped_rows() -> Outcome {
    let client = connect().await?;
    let none: [i32; 0] = [];
    for turn in 0..5 {
        {
            let rows = client.query_raw("SELECT generate_series(1, 100000)", none).await?;
            pin_mut!(rows);
            rows.try_next().await?;
        }
        assert_eq!(one(&client, turn).await?, turn);
    }
    Ok(())
}

async fn types() -> Outcome {
    let client = connect().await?;
    let bytes: Vec<u8> = (0..4096).map(|n| n as u8).collect();
    let at = SystemTime::UNIX_EPOCH + Duration::from_micros(2_147_483_648_000_001);
    let id = Uuid::parse_str("0b6d2f9c-8a4e-4d5f-9d0e-1f2a3b4c5d6e")?;
    let document = json!({"a": [1, 2.5, null, "ü"]});
    let (ints, texts) = (vec![Some(1), None, Some(3)], vec!["a", "b,c", "\"quoted\""]);
    let row = client
        .query_one(
            "SELECT $1::bool, $2::int, $3::int8, $4::float8, $5::text, $6::bytea, $7::timestamptz,
                    $8::uuid, $9::jsonb, $10::int4[], $11::text[], $12::text",
            &[
                &true,
                &i32::MIN,
                &i64::MAX,
                &0.3_f64,
                &"naïve 漢字 '\\",
                &bytes,
                &at,
                &id,
                &document,
                &ints,
                &texts,
                &None::<String>,
            ],
        )
        .await?;
    assert!(row.get::<_, bool>(0));
    assert_eq!((row.get::<_, i32>(1), row.get::<_, i64>(2)), (i32::MIN, i64::MAX));
    assert_eq!(row.get::<_, f64>(3).to_bits(), 0.3_f64.to_bits());
    assert_eq!(row.get::<_, &str>(4), "naïve 漢字 '\\");
    assert_eq!(row.get::<_, Vec<u8>>(5), bytes);
    assert_eq!(row.get::<_, SystemTime>(6), at);
    assert_eq!(row.get::<_, Uuid>(7), id);
    assert_eq!(row.get::<_, serde_json::Value>(8), document);
    assert_eq!(row.get::<_, Vec<Option<i32>>>(9), ints);
    assert_eq!(row.get::<_, Vec<String>>(10), texts);
    assert_eq!(row.get::<_, Option<String>>(11), None);
    Ok(())
}

async fn looked_up_types() -> Outcome {
    let client = connect().await?;
    client
        .batch_execute(
            "CREATE TYPE mood AS ENUM ('sad', 'happy'); CREATE TYPE pair AS (a int, b mood)",
        )
        .await?;
    for _ in 0..5 {
        client.clear_type_cache();
        let statement = client.prepare("SELECT ROW(1, 'sad')::pair, 'happy'::mood").await?;
        assert_eq!(statement.columns()[0].type_().name(), "pair");
        assert_eq!(statement.columns()[1].type_().name(), "mood");
        client.query_one(&statement, &[]).await?;
    }
    Ok(())
}

async fn read_only() -> Outcome {
    let mut client = connect().await?;
    for _ in 0..3 {
        let tx = client
            .build_transaction()
            .isolation_level(IsolationLevel::Serializable)
            .read_only(true)
            .start()
            .await?;
        let level = tx.query_one("SHOW transaction_isolation", &[]).await?;
        assert_eq!(level.get::<_, &str>(0), "serializable");
        let write = tx.execute("CREATE TABLE never (id int)", &[]).await;
        refused(&SqlState::READ_ONLY_SQL_TRANSACTION, write);
        tx.rollback().await?;
    }
    Ok(())
}

async fn simple() -> Outcome {
    let client = connect().await?;
    let messages = client.simple_query("SELECT 1; SELECT 2 WHERE false; SELECT 'three'").await?;
    let values: Vec<_> = messages
        .iter()
        .filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0),
            _ => None,
        })
        .collect();
    assert_eq!(values, ["1", "three"]);
    Ok(())
}

async fn startup() -> Outcome {
    let mut config = config();
    config.application_name("matrix").options("-c search_path=pg_catalog");
    let client = connect_as(config).await?;
    for _ in 0..5 {
        let row = client
            .query_one(
                "SELECT current_setting('application_name'), current_setting('search_path')",
                &[],
            )
            .await?;
        assert_eq!((row.get::<_, &str>(0), row.get::<_, &str>(1)), ("matrix", "pg_catalog"));
    }
    Ok(())
}

async fn updates() -> Outcome {
    let client = connect().await?;
    client.batch_execute("CREATE TABLE counter AS SELECT 0 AS n").await?;
    try_join_all((0..20).map(|_| async {
        let mut client = connect().await?;
        for _ in 0..10 {
            let tx = client.transaction().await?;
            tx.execute("UPDATE counter SET n = n + $1", &[&1]).await?;
            tx.commit().await?;
        }
        Ok::<_, Error>(())
    }))
    .await?;
    assert_eq!(client.query_one_scalar::<i32, _>("SELECT n FROM counter", &[]).await?, 200);
    Ok(())
}
