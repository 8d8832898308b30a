//! sqlx, which prepares and caches every query. Where to connect is in PGHOST, PGPORT and so on.

use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, NaiveDate, Utc};
use driver_matrix::{told, Checks, Outcome};
use futures_util::future::try_join_all;
use futures_util::{StreamExt, TryStreamExt};
use serde_json::json;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool, PgPoolOptions};
use sqlx::types::BigDecimal;
use sqlx::{ConnectOptions, Connection, Error, Executor, Row};
use uuid::Uuid;

#[tokio::main]
async fn main() -> ExitCode {
    let mut checks = Checks::default();
    checks.check("commits and rolls back as asked", commits_and_rolls_back()).await;
    checks.check("a nested transaction undoes its own part", savepoints()).await;
    checks.check("a transaction that is dropped is rolled back", dropped_transaction()).await;
    checks.check("errors have their SQLSTATE and the session goes on", errors()).await;
    checks.check("cached statements work in and across transactions", cached(100)).await;
    checks.check("more statements than the cache holds are prepared again", cached(7)).await;
    checks.check("queries that are not kept work too", not_kept()).await;
    checks.check("describe tells columns, parameters and what may be null", describe()).await;
    checks.check("two connections with the same statement names stay apart", same_names()).await;
    checks.check("several statements in one string run in order", several()).await;
    checks.check("COPY carries 20000 rows in and out", copy()).await;
    checks.check("a COPY that fails or is given up leaves the session usable", copy_fails()).await;
    checks.check("a query that times out leaves the pool usable", timed_out()).await;
    checks.check("a future that is dropped leaves the session usable", dropped_future()).await;
    checks
        .check("a connection dropped in the middle of its query makes room", dropped_connection())
        .await;
    checks.check("a cancel ends the query and the session goes on", cancelled()).await;
    checks
        .check("a statement_timeout asked for at startup holds on every server", timeouts())
        .await;
    checks.check("100000 rows come at once and as a stream", many_rows()).await;
    checks
        .check("a stream left in the middle leaves the session usable", left_in_the_middle())
        .await;
    checks.check("a value of each type comes back as it went", types()).await;
    checks.check("enums and composites are looked up", looked_up_types()).await;
    checks.check("a pool of 20 serves 400 queries and loses no update", pool()).await;
    checks.check("migrations' advisory lock and tables work within a transaction", locks()).await;
    checks.end()
}

fn options() -> PgConnectOptions {
    PgConnectOptions::new_without_pgpass()
        .host(&told("PGHOST"))
        .port(told("PGPORT").parse().expect("a port"))
        .username(&told("PGUSER"))
        .password(&told("PGPASSWORD"))
        .database(&told("PGDATABASE"))
        .disable_statement_logging()
}

async fn connect() -> Result<PgConnection, Error> {
    PgConnection::connect_with(&options()).await
}

async fn pool_of(size: u32, options: PgConnectOptions) -> Result<PgPool, Error> {
    PgPoolOptions::new().max_connections(size).connect_with(options).await
}

async fn run(conn: &mut PgConnection, sql: &str) -> Result<(), Error> {
    conn.execute(sql).await.map(|_| ())
}

async fn one(conn: &mut PgConnection, n: i32) -> Result<i32, Error> {
    sqlx::query_scalar("SELECT $1::int").bind(n).fetch_one(conn).await
}

#[track_caller]
fn refused<T>(state: &str, outcome: Result<T, Error>) {
    match outcome {
        Err(Error::Database(error)) => assert_eq!(Some(state), error.code().as_deref(), "{error}"),
        Err(error) => panic!("wanted {state}, found {error:?}"),
        Ok(_) => panic!("not refused with {state}"),
    }
}

async fn commits_and_rolls_back() -> Outcome {
    let mut conn = connect().await?;
    run(&mut conn, "CREATE TABLE moves (id int)").await?;
    for id in 1..=3 {
        let mut tx = conn.begin().await?;
        sqlx::query("INSERT INTO moves VALUES ($1)").bind(id).execute(&mut *tx).await?;
        if id == 2 {
            tx.rollback().await?;
        } else {
            tx.commit().await?;
        }
    }
    let kept: Vec<i32> = sqlx::query_scalar("SELECT id FROM moves").fetch_all(&mut conn).await?;
    assert_eq!(kept, [1, 3]);
    Ok(())
}

async fn savepoints() -> Outcome {
    let mut conn = connect().await?;
    run(&mut conn, "CREATE TABLE saved (id int)").await?;
    let mut tx = conn.begin().await?;
    for id in 1..=3 {
        let mut inner = tx.begin().await?;
        sqlx::query("INSERT INTO saved VALUES ($1)").bind(id).execute(&mut *inner).await?;
        if id == 2 {
            let divided = sqlx::query("SELECT 1 / $1::int").bind(0).execute(&mut *inner).await;
            refused("22012", divided);
            refused("25P02", one(&mut inner, 1).await);
            inner.rollback().await?;
        } else {
            inner.commit().await?;
        }
    }
    tx.commit().await?;
    let kept: Vec<i32> = sqlx::query_scalar("SELECT id FROM saved").fetch_all(&mut conn).await?;
    assert_eq!(kept, [1, 3]);
    Ok(())
}

async fn dropped_transaction() -> Outcome {
    let pool = pool_of(2, options()).await?;
    sqlx::query("CREATE TABLE dropped (id int)").execute(&pool).await?;
    for id in 0..10 {
        let mut tx = pool.begin().await?;
        sqlx::query("INSERT INTO dropped VALUES ($1)").bind(id).execute(&mut *tx).await?;
        drop(tx);
    }
    let count: i64 = sqlx::query_scalar("SELECT count(*) FROM dropped").fetch_one(&pool).await?;
    assert_eq!(count, 0);
    Ok(())
}

async fn errors() -> Outcome {
    let mut conn = connect().await?;
    run(&mut conn, "CREATE TABLE keyed (id int PRIMARY KEY)").await?;
    let insert = "INSERT INTO keyed VALUES ($1)";
    for turn in 0..10 {
        let nowhere = sqlx::query("SELECT * FROM nowhere WHERE id = $1").bind(1);
        refused("42P01", nowhere.execute(&mut conn).await);
        refused("42601", run(&mut conn, "SELEC 1").await);
        sqlx::query(insert).bind(turn).execute(&mut conn).await?;
        refused("23505", sqlx::query(insert).bind(turn).execute(&mut conn).await);
        assert_eq!(one(&mut conn, turn).await?, turn);
    }
    Ok(())
}

async fn cached(capacity: usize) -> Outcome {
    let mut conn =
        PgConnection::connect_with(&options().statement_cache_capacity(capacity)).await?;
    for _ in 0..3 {
        for n in 0..60 {
            let text = format!("SELECT $1::int + {n}");
            let found: i32 = sqlx::query_scalar(&text).bind(n).fetch_one(&mut conn).await?;
            assert_eq!(found, 2 * n);
            let mut tx = conn.begin().await?;
            let found: i32 = sqlx::query_scalar(&text).bind(0).fetch_one(&mut *tx).await?;
            assert_eq!(found, n);
            tx.commit().await?;
        }
    }
    conn.clear_cached_statements().await?;
    assert_eq!(conn.cached_statements_size(), 0);
    assert_eq!(one(&mut conn, 7).await?, 7);
    Ok(())
}

async fn not_kept() -> Outcome {
    let mut conn = connect().await?;
    for n in 0..50 {
        let query = sqlx::query_scalar("SELECT $1::int + 1").bind(n).persistent(false);
        let found: i32 = query.fetch_one(&mut conn).await?;
        assert_eq!(found, n + 1);
    }
    Ok(())
}

async fn same_names() -> Outcome {
    let (mut alice, mut bob) = (connect().await?, connect().await?);
    for n in 0..20 {
        let sum: i32 =
            sqlx::query_scalar("SELECT $1::int + 1").bind(n).fetch_one(&mut alice).await?;
        let text: String = sqlx::query_scalar("SELECT $1::text || '!'")
            .bind(n.to_string())
            .fetch_one(&mut bob)
            .await?;
        assert_eq!((sum, text), (n + 1, format!("{n}!")));
    }
    Ok(())
}

async fn describe() -> Outcome {
    let mut conn = connect().await?;
    run(&mut conn, "CREATE TABLE described (id int NOT NULL, name text)").await?;
    for _ in 0..3 {
        let told = conn.describe("SELECT id, name FROM described WHERE id = $1").await?;
        assert_eq!(told.columns().len(), 2);
        assert_eq!((told.nullable(0), told.nullable(1)), (Some(false), Some(true)));
    }
    Ok(())
}

async fn several() -> Outcome {
    let mut conn = connect().await?;
    let text = "CREATE TABLE several (n int); INSERT INTO several VALUES (7); TABLE several";
    let rows = conn.fetch_all(text).await?;
    assert_eq!(rows[0].get::<i32, _>(0), 7);
    Ok(())
}

async fn copy() -> Outcome {
    let mut conn = connect().await?;
    run(&mut conn, "CREATE TABLE copied (id int, name text)").await?;
    let lines: String = (0..20_000).map(|n| format!("{n}\trow {n}\n")).collect();
    let mut input = conn.copy_in_raw("COPY copied FROM STDIN").await?;
    for chunk in lines.as_bytes().chunks(1000) {
        input.send(chunk).await?;
    }
    assert_eq!(input.finish().await?, 20_000);
    let out = conn.copy_out_raw("COPY (SELECT * FROM copied ORDER BY id) TO STDOUT").await?;
    let chunks: Vec<Bytes> = out.try_collect().await?;
    assert_eq!(chunks.concat(), lines.as_bytes());
    Ok(())
}

async fn copy_fails() -> Outcome {
    let mut conn = connect().await?;
    run(&mut conn, "CREATE TABLE numbers (id int PRIMARY KEY)").await?;
    for turn in 0..3 {
        let mut input = conn.copy_in_raw("COPY numbers FROM STDIN").await?;
        input.send(&b"1\n2\n1\n"[..]).await?;
        refused("23505", input.finish().await);
        let mut input = conn.copy_in_raw("COPY numbers FROM STDIN").await?;
        input.send(&b"1\n"[..]).await?;
        input.abort("changed my mind").await?;
        refused("42P01", conn.copy_in_raw("COPY nowhere FROM STDIN").await.map(|_| ()));
        assert_eq!(one(&mut conn, turn).await?, turn);
    }
    let count: i64 =
        sqlx::query_scalar("SELECT count(*) FROM numbers").fetch_one(&mut conn).await?;
    assert_eq!(count, 0);
    Ok(())
}

async fn timed_out() -> Outcome {
    // It sends no cancel: the connection is left to its query, and the pool waits for it.
    let pool = pool_of(2, options()).await?;
    for turn in 0..3 {
        let slept = sqlx::query("SELECT pg_sleep(1)").execute(&pool);
        assert!(tokio::time::timeout(Duration::from_millis(100), slept).await.is_err());
        let found: i32 = sqlx::query_scalar("SELECT $1::int").bind(turn).fetch_one(&pool).await?;
        assert_eq!(found, turn);
    }
    Ok(())
}

async fn dropped_future() -> Outcome {
    let mut conn = connect().await?;
    run(&mut conn, "CREATE TABLE half (id int)").await?;
    for turn in 0..20_i32 {
        // Dropped while it is prepared, while it runs, or when its rows are on their way.
        let late = Duration::from_millis(3) * turn.unsigned_abs();
        let slept = sqlx::query("SELECT n FROM pg_sleep(0.03), generate_series(1, 10000) n")
            .persistent(turn % 2 == 0)
            .fetch_all(&mut conn);
        let _ = tokio::time::timeout(late, slept).await;
        assert_eq!(one(&mut conn, turn).await?, turn);

        let mut tx = conn.begin().await?;
        sqlx::query("INSERT INTO half VALUES (1)").execute(&mut *tx).await?;
        let slept = sqlx::query("INSERT INTO half SELECT 2 FROM pg_sleep(0.1)").execute(&mut *tx);
        assert!(tokio::time::timeout(Duration::from_millis(5), slept).await.is_err());
        drop(tx);
    }
    let count: i64 = sqlx::query_scalar("SELECT count(*) FROM half").fetch_one(&mut conn).await?;
    assert_eq!(count, 0);
    Ok(())
}

async fn dropped_connection() -> Outcome {
    for turn in 0..3 {
        let mut lost = connect().await?;
        let slept = sqlx::query("SELECT pg_sleep(30)").execute(&mut lost);
        assert!(tokio::time::timeout(Duration::from_millis(200), slept).await.is_err());
        drop(lost);
        let next = async { one(&mut connect().await?, turn).await };
        assert_eq!(tokio::time::timeout(Duration::from_secs(10), next).await??, turn);
    }
    Ok(())
}

/// sqlx sends no cancel requests. `pg_cancel_backend` does it, on a connection past the proxy, which
/// may have no second server.
async fn cancelled() -> Outcome {
    let direct = options().port(told("DIRECT_PORT").parse()?);
    let mut canceller = PgConnection::connect_with(&direct).await?;
    let mut conn = connect().await?;
    let sleep = || sqlx::query("SELECT pg_sleep($1)").bind(30_f64);
    for turn in 0..3 {
        let (slept, sent) = tokio::join!(sleep().execute(&mut conn), cancel_sleep(&mut canceller));
        refused("57014", slept);
        sent?;
        assert_eq!(one(&mut conn, turn).await?, turn);

        let mut tx = conn.begin().await?;
        let mut inner = tx.begin().await?;
        let (slept, sent) =
            tokio::join!(sleep().execute(&mut *inner), cancel_sleep(&mut canceller));
        refused("57014", slept);
        sent?;
        refused("25P02", one(&mut inner, turn).await);
        inner.rollback().await?;
        assert_eq!(one(&mut tx, turn).await?, turn);
        tx.commit().await?;
    }
    Ok(())
}

/// Waits for the sleep: a cancel that came before it would do nothing.
async fn cancel_sleep(canceller: &mut PgConnection) -> Result<(), Error> {
    let text = "SELECT pg_cancel_backend(pid) FROM pg_stat_activity
                WHERE datname = current_database() AND wait_event = 'PgSleep'";
    while canceller.fetch_optional(text).await?.is_none() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

async fn timeouts() -> Outcome {
    let pool = pool_of(2, options().options([("statement_timeout", "100ms")])).await?;
    for turn in 0..5 {
        refused("57014", sqlx::query("SELECT pg_sleep($1)").bind(30_f64).execute(&pool).await);
        let found: i32 = sqlx::query_scalar("SELECT $1::int").bind(turn).fetch_one(&pool).await?;
        assert_eq!(found, turn);
    }
    Ok(())
}

async fn many_rows() -> Outcome {
    let mut conn = connect().await?;
    let text = "SELECT n FROM generate_series(1, $1::int) n";
    let rows: Vec<i32> = sqlx::query_scalar(text).bind(100_000).fetch_all(&mut conn).await?;
    assert_eq!(rows, (1..=100_000).collect::<Vec<_>>());
    let mut stream = sqlx::query_scalar::<_, i32>(text).bind(100_000).fetch(&mut conn);
    let mut sum = 0;
    while let Some(n) = stream.try_next().await? {
        sum += i64::from(n);
    }
    assert_eq!(sum, 5_000_050_000);
    Ok(())
}

async fn left_in_the_middle() -> Outcome {
    let mut conn = connect().await?;
    for turn in 0..5 {
        let text = "SELECT n FROM generate_series(1, $1::int) n";
        sqlx::query(text).bind(100_000).fetch(&mut conn).next().await.expect("a row")?;
        assert_eq!(one(&mut conn, turn).await?, turn);
    }
    Ok(())
}

async fn types() -> Outcome {
    let mut conn = connect().await?;
    let bytes: Vec<u8> = (0..4096).map(|n| n as u8).collect();
    let at: DateTime<Utc> = "2038-01-19T03:14:08.000001Z".parse()?;
    let day = NaiveDate::from_ymd_opt(1582, 10, 15).expect("a day");
    let id = Uuid::parse_str("0b6d2f9c-8a4e-4d5f-9d0e-1f2a3b4c5d6e")?;
    let document = json!({"a": [1, 2.5, null, "ü"]});
    let numeric = BigDecimal::from_str("-12345678901234567890.123456789012345678900")?;
    let (ints, texts) = (vec![Some(1), None, Some(3)], vec!["a", "b,c", "\"quoted\""]);
    let row = sqlx::query(
        "SELECT $1::bool, $2::int, $3::int8, $4::float8, $5::text, $6::bytea, $7::timestamptz,
                $8::uuid, $9::jsonb, $10::int4[], $11::text[], $12::text, $13::numeric, $14::date",
    )
    .bind(true)
    .bind(i32::MIN)
    .bind(i64::MAX)
    .bind(0.3_f64)
    .bind("naïve 漢字 '\\")
    .bind(&bytes)
    .bind(at)
    .bind(id)
    .bind(&document)
    .bind(&ints)
    .bind(&texts)
    .bind(None::<String>)
    .bind(&numeric)
    .bind(day)
    .fetch_one(&mut conn)
    .await?;
    assert!(row.get::<bool, _>(0));
    assert_eq!((row.get::<i32, _>(1), row.get::<i64, _>(2)), (i32::MIN, i64::MAX));
    assert_eq!(row.get::<f64, _>(3).to_bits(), 0.3_f64.to_bits());
    assert_eq!(row.get::<String, _>(4), "naïve 漢字 '\\");
    assert_eq!(row.get::<Vec<u8>, _>(5), bytes);
    assert_eq!(row.get::<DateTime<Utc>, _>(6), at);
    assert_eq!(row.get::<Uuid, _>(7), id);
    assert_eq!(row.get::<serde_json::Value, _>(8), document);
    assert_eq!(row.get::<Vec<Option<i32>>, _>(9), ints);
    assert_eq!(row.get::<Vec<String>, _>(10), texts);
    assert_eq!(row.get::<Option<String>, _>(11), None);
    assert_eq!(row.get::<BigDecimal, _>(12), numeric);
    assert_eq!(row.get::<NaiveDate, _>(13), day);
    Ok(())
}

#[derive(sqlx::Type, Debug, PartialEq)]
#[sqlx(type_name = "mood", rename_all = "lowercase")]
enum Mood {
    Sad,
    Happy,
}

#[derive(sqlx::Type, Debug, PartialEq)]
#[sqlx(type_name = "pair")]
struct Pair {
    a: i32,
    b: Mood,
}

async fn looked_up_types() -> Outcome {
    let mut conn = connect().await?;
    run(&mut conn, "CREATE TYPE mood AS ENUM ('sad', 'happy')").await?;
    run(&mut conn, "CREATE TYPE pair AS (a int, b mood)").await?;
    for _ in 0..3 {
        let mut fresh = connect().await?;
        let found: Mood =
            sqlx::query_scalar("SELECT $1::mood").bind(Mood::Happy).fetch_one(&mut fresh).await?;
        assert_eq!(found, Mood::Happy);
        let pair = Pair { a: 1, b: Mood::Sad };
        let found: Pair =
            sqlx::query_scalar("SELECT $1::pair").bind(&pair).fetch_one(&mut fresh).await?;
        assert_eq!(found, pair);
    }
    Ok(())
}

async fn pool() -> Outcome {
    let pool = pool_of(20, options()).await?;
    sqlx::query("CREATE TABLE counter AS SELECT 0 AS n").execute(&pool).await?;
    let answers = try_join_all((0..400).map(|n| {
        let pool = pool.clone();
        async move {
            let mut tx = pool.begin().await?;
            let text = format!("SELECT $1::int + {}", n % 7);
            let found: i32 = sqlx::query_scalar(&text).bind(n).fetch_one(&mut *tx).await?;
            sqlx::query("UPDATE counter SET n = n + 1").execute(&mut *tx).await?;
            tx.commit().await?;
            Ok::<_, Error>(found)
        }
    }))
    .await?;
    assert_eq!(answers, (0..400).map(|n| n + n % 7).collect::<Vec<_>>());
    let count: i32 = sqlx::query_scalar("SELECT n FROM counter").fetch_one(&pool).await?;
    assert_eq!(count, 400);
    Ok(())
}

async fn locks() -> Outcome {
    let mut conn = connect().await?;
    for turn in 0..3 {
        let mut tx = conn.begin().await?;
        sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(42_i64).execute(&mut *tx).await?;
        let mut other = tx.begin().await?;
        other.execute("CREATE TABLE IF NOT EXISTS migrations (version int)").await?;
        sqlx::query("INSERT INTO migrations VALUES ($1)").bind(turn).execute(&mut *other).await?;
        other.commit().await?;
        tx.commit().await?;
    }
    let count: i64 =
        sqlx::query_scalar("SELECT count(*) FROM migrations").fetch_one(&mut conn).await?;
    assert_eq!(count, 3);
    Ok(())
}
