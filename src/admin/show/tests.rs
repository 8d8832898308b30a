//! Names, types and order of every SHOW, and what a row of each says.

use std::time::Duration;

use tokio::time::Instant;

use super::*;
use crate::telemetry::fake::{self, Fake};
use crate::telemetry::snapshot::Load;

fn table(show: Show, fake: &Fake) -> Table {
    show.table(fake, &Averages::new(Instant::now()))
}

/// `name:letter` of each column, as `PgBouncer`'s documentation has them.
fn shape(show: Show) -> String {
    let letter = |kind| match kind {
        Type::Text => 's',
        Type::Int4 => 'i',
        Type::Numeric => 'N',
    };
    let columns = show.columns();
    let columns = columns.iter().map(|(name, kind)| format!("{name}:{}", letter(*kind)));
    columns.collect::<Vec<_>>().join(" ")
}

fn row(show: Show, fake: &Fake) -> Vec<String> {
    let table = table(show, fake);
    table.rows[0].iter().map(|cell| cell.clone().unwrap_or_else(|| "NULL".into())).collect()
}

#[test]
fn every_row_has_a_cell_for_each_column_and_each_cell_its_type() {
    let fake = Fake::new();
    let parameters = (0..parameter::PARAMETERS.len()).map(Show::Parameter);
    let others = [Show::One, Show::ServerVersion, Show::CurrentSchema, Show::UnlockAll];

    for show in SHOWS.map(|(_, show, _)| show).into_iter().chain(parameters).chain(others) {
        let table = table(show, &fake);
        assert!(!table.rows.is_empty(), "{show:?}");
        for row in &table.rows {
            assert_eq!(row.len(), table.columns.len(), "{show:?}");
            for ((name, kind), cell) in table.columns.iter().zip(row) {
                let Some(cell) = cell else { continue };
                let encoded = kind.encode_binary(cell, &mut Vec::new());
                assert!(encoded.is_some(), "{show:?}: {name} is {cell}");
            }
        }
    }
}

#[test]
fn pools_has_pgbouncers_columns() {
    assert_eq!(
        shape(Show::Pools),
        "database:s user:s cl_active:i cl_waiting:i cl_active_cancel_req:i \
         cl_waiting_cancel_req:i sv_active:i sv_active_cancel:i sv_being_canceled:i sv_idle:i \
         sv_used:i sv_tested:i sv_login:i maxwait:i maxwait_us:i pool_mode:s load_balance_hosts:s"
    );
    let mut fake = Fake::new();
    fake.pools[0].servers.used = 5;
    fake.pools[0].servers.tested = 6;
    fake.pools[0].servers.login = 7;
    fake.pools[0].servers.being_canceled = 8;
    assert_eq!(
        row(Show::Pools, &fake).join(" "),
        "markets postgres 3 3 1 0 2 1 8 1 5 6 7 1 500250 transaction NULL"
    );
}

#[test]
fn advice_has_a_number_and_a_sentence_for_each_pool() {
    assert_eq!(
        shape(Show::Advice),
        "domain:s mode:s user:s database:s size:i adaptive:s limit:i advised:i in_use:s full_percent:s \
         waits:N avg_wait_ms:N longest_wait_ms:N seconds:i advice:s"
    );
    let mut fake = Fake::new();
    let silent =
        "markets|read_write|postgres|markets_db|20|no|30|NULL|0.0|0.0|0|0|0|0|nothing came of late";
    assert_eq!(row(Show::Advice, &fake).join("|"), silent);

    fake.pools[0].load = Load {
        period: Duration::from_secs(600),
        transactions: 5_000,
        busiest: 3.24,
        most: 6,
        full: 0.125,
        waits: 7,
        mean_wait: Duration::from_millis(4),
        longest_wait: Duration::from_millis(25),
        ..Load::default()
    };
    assert_eq!(
        row(Show::Advice, &fake).join("|"),
        "markets|read_write|postgres|markets_db|20|no|30|7|3.2|12.5|7|4|25|600|\
         7 are enough for what came in the last 10m; size is 20"
    );
}

#[test]
fn a_pool_of_the_catch_all_is_shown_by_its_database() {
    let mut fake = Fake::new();
    fake.pools = vec![fake::pool("*", "shop", "alice")];

    assert_eq!(row(Show::Pools, &fake)[..2], ["shop", "alice"]);
    assert_eq!(row(Show::Stats, &fake)[0], "shop");
}

#[test]
fn databases_has_pgbouncers_columns() {
    assert_eq!(
        shape(Show::Databases),
        "name:s host:s port:i database:s force_user:s pool_size:i min_pool_size:i \
         reserve_pool_size:i server_lifetime:i pool_mode:s load_balance_hosts:s max_connections:i \
         current_connections:i max_client_connections:i current_client_connections:i paused:i \
         disabled:i"
    );
    assert_eq!(
        row(Show::Databases, &Fake::new()).join(" "),
        "markets db-primary 5432 markets_db postgres 20 2 10 3600 transaction NULL 60 4 0 3 0 0"
    );
}

#[test]
fn clients_and_servers_have_pgbouncers_columns() {
    let shared = "type:s user:s database:s replication:s state:s addr:s port:i local_addr:s \
                  local_port:i connect_time:s request_time:s wait:i wait_us:i close_needed:i \
                  ptr:s link:s remote_pid:i tls:s application_name:s prepared_statements:i id:i";
    assert_eq!(shape(Show::Clients), shared);
    assert_eq!(shape(Show::Servers), shared);
    let fake = Fake::new();
    assert_eq!(
        row(Show::Clients, &fake).join("|"),
        "C|alice|markets|none|active|127.0.0.1|40000|127.0.0.1|6432|2026-11-20 12:00:00 UTC|\
         2026-11-20 12:00:01 UTC|0|0|0|client-1|server-7|4711||psql|2|1"
    );
    assert_eq!(
        row(Show::Servers, &fake).join("|"),
        "S|postgres|markets|none|active|127.0.0.1|5432|127.0.0.1|50000|2026-11-20 12:00:00 UTC|\
         2026-11-20 12:00:00 UTC|0|0|0|server-7|client-1|4711|TLSv1.3/TLS_AES_256_GCM_SHA384|psql|5|7"
    );
}

#[test]
fn a_waiting_client_on_a_socket_says_for_how_long() {
    let table = table(Show::Clients, &Fake::new());

    let cell = |name| {
        let place = table.columns.iter().position(|(column, _)| *column == name).unwrap();
        table.rows[1][place].clone().unwrap()
    };
    assert_eq!([cell("state"), cell("addr"), cell("port")], ["waiting", "unix", "0"]);
    assert_eq!([cell("wait"), cell("wait_us")], ["2", "750"]);
    assert_eq!([cell("ptr"), cell("link"), cell("id")], ["client-4294967298", "", "2"]);
}

#[test]
fn stats_has_pgbouncers_columns() {
    let counts = |prefix: &str, received: &str| {
        format!(
            "{prefix}server_assignment_count:N {prefix}xact_count:N {prefix}query_count:N \
             {prefix}{received}:N {prefix}sent:N {prefix}xact_time:N {prefix}query_time:N \
             {prefix}wait_time:N {prefix}client_parse_count:N {prefix}server_parse_count:N \
             {prefix}bind_count:N {prefix}client_login_count:N"
        )
    };
    let expected =
        format!("database:s {} {}", counts("total_", "received"), counts("avg_", "recv"));
    assert_eq!(shape(Show::Stats), expected);
    assert_eq!(
        shape(Show::StatsTotals),
        "database:s server_assignment_count:N xact_count:N query_count:N bytes_received:N \
         bytes_sent:N xact_time:N query_time:N wait_time:N client_parse_count:N \
         server_parse_count:N bind_count:N client_login_count:N"
    );
    assert_eq!(
        shape(Show::StatsAverages),
        "database:s server_assignment_count:N xact_count:N query_count:N bytes_received:N \
         bytes_sent:N xact_time:N query_time:N wait_time:N avg_client_parse_count:N \
         avg_server_parse_count:N avg_bind_count:N avg_client_login_count:N"
    );
}

#[tokio::test(start_paused = true)]
async fn stats_add_up_the_users_of_a_database() {
    let mut fake = Fake::new();
    fake.pools.push(fake::pool("markets", "markets_db", "alice"));
    let start = Instant::now();
    let averages = Averages::new(start);
    averages.sample(&fake.pools, start + Duration::from_secs(10));

    let stats = Show::Stats.table(&fake, &averages);
    let totals = Show::StatsTotals.table(&fake, &averages);
    let means = Show::StatsAverages.table(&fake, &averages);

    let numbers: Vec<String> = stats.rows[0].iter().skip(1).flatten().cloned().collect();
    let (total, average) = numbers.split_at(12);
    assert_eq!(total.join(" "), "20 20 40 2000 10000 100000 200004000 1200 6 4 14 10");
    assert_eq!(average.join(" "), "2 2 4 200 1000 5000 5000100 60 0 0 1 1");
    assert_eq!(stats.rows.len(), 1);
    assert_eq!(totals.rows[0][1..], stats.rows[0][1..13]);
    assert_eq!(means.rows[0][1..], stats.rows[0][13..]);
}

#[tokio::test(start_paused = true)]
async fn totals_name_each_number() {
    assert_eq!(shape(Show::Totals), "name:s value:N");
    let fake = Fake::new();
    let start = Instant::now();
    let averages = Averages::new(start);
    averages.sample(&fake.pools, start + Duration::from_secs(10));

    let table = Show::Totals.table(&fake, &averages);

    let value = |name: &str| {
        let row = table.rows.iter().find(|row| row[0].as_deref() == Some(name)).unwrap();
        row[1].clone().unwrap()
    };
    assert_eq!(table.rows.len(), 24);
    assert_eq!(value("total_client_bytes"), "1000");
    assert_eq!(value("total_ps_bind_count"), "7");
    assert_eq!(value("avg_query_time"), "5000100");
}

#[test]
fn the_small_tables_have_pgbouncers_columns() {
    let fake = Fake::new();
    assert_eq!(shape(Show::Config), "key:s value:s default:s changeable:s");
    assert_eq!(row(Show::Config, &fake), ["pool.size", "20", "20", "no"]);
    assert_eq!(shape(Show::Version), "version:s");
    assert_eq!(row(Show::Version, &fake), [format!("pgweir {}", env!("CARGO_PKG_VERSION"))]);
    assert_eq!(shape(Show::State), "key:s value:s");
    assert_eq!(shape(Show::Lists), "list:s items:i");
    let lists = table(Show::Lists, &fake);
    let item = |place: usize| lists.rows[place].iter().flatten().cloned().collect::<Vec<_>>();
    assert_eq!(item(0), ["databases", "1"]);
    assert_eq!(item(6), ["used_clients", "7"]);
    assert_eq!(item(8), ["free_servers", "1"]);
    assert_eq!(item(9), ["used_servers", "3"]);
    assert_eq!(lists.rows.len(), 14);
}

#[test]
fn no_show_gives_a_secret_away() {
    let fake = Fake::new();

    for (name, show, _) in SHOWS {
        assert!(!format!("{:?}", table(show, &fake)).contains("hunter2"), "{name}");
    }
}
