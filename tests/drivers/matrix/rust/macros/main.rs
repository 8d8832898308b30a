//! The macros of sqlx: each asks the database at DATABASE_URL for columns, types and a plan while this
//! is compiled. `test_programs.py` does that, in a package made for it; where to connect when it runs
//! is in PGHOST, PGPORT and so on.

use std::process::ExitCode;

use driver_matrix::{told, Checks, Outcome};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions, Connection, Error};

#[tokio::main]
async fn main() -> ExitCode {
    let mut checks = Checks::default();
    checks.check("query! has the columns' types, and what may be null", typed()).await;
    checks.check("query_as! and query_scalar! read what they were checked for", read()).await;
    checks.end()
}

async fn connect() -> Result<PgConnection, Error> {
    let options = PgConnectOptions::new_without_pgpass()
        .host(&told("PGHOST"))
        .port(told("PGPORT").parse().expect("a port"))
        .username(&told("PGUSER"))
        .password(&told("PGPASSWORD"))
        .database(&told("PGDATABASE"));
    PgConnection::connect_with(&options.disable_statement_logging()).await
}

async fn typed() -> Outcome {
    let mut conn = connect().await?;
    let parent: Option<i32> = None;
    let row = sqlx::query!(
        "INSERT INTO parts (id, name, parent) VALUES ($1, $2, $3) RETURNING id, name, parent",
        1,
        "wheel",
        parent,
    )
    .fetch_one(&mut conn)
    .await?;
    let (id, name, parent): (i32, String, Option<i32>) = (row.id, row.name, row.parent);
    assert_eq!((id, name.as_str(), parent), (1, "wheel", None));
    sqlx::query!("INSERT INTO parts (id, name, parent) VALUES (2, 'spoke', 1)")
        .execute(&mut conn)
        .await?;
    let rows = sqlx::query!(
        r#"SELECT part.id, whole.id AS "whole?", whole.name AS "name?" FROM parts part
           LEFT JOIN parts whole ON whole.id = part.parent ORDER BY part.id"#
    )
    .fetch_all(&mut conn)
    .await?;
    let found: Vec<(i32, Option<i32>, Option<String>)> =
        rows.into_iter().map(|row| (row.id, row.whole, row.name)).collect();
    assert_eq!(found, [(1, None, None), (2, Some(1), Some("wheel".to_owned()))]);
    Ok(())
}

#[derive(Debug, PartialEq)]
struct Part {
    id: i32,
    name: String,
}

async fn read() -> Outcome {
    let mut conn = connect().await?;
    let count: Option<i64> =
        sqlx::query_scalar!("SELECT count(*) FROM parts").fetch_one(&mut conn).await?;
    assert_eq!(count, Some(2));
    let mut tx = conn.begin().await?;
    for _ in 0..3 {
        let wanted = [2, 3];
        let parts =
            sqlx::query_as!(Part, "SELECT id, name FROM parts WHERE id = ANY($1)", &wanted[..])
                .fetch_all(&mut *tx)
                .await?;
        assert_eq!(parts, [Part { id: 2, name: "spoke".to_owned() }]);
    }
    tx.commit().await?;
    Ok(())
}
