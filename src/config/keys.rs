//! The table of keys: the one place that says which keys there are, of what type, with which default.
//!
//! Reading, did-you-mean, `SHOW CONFIG`, `docs/CONFIG.md` and `config/pgweir.toml` all follow it.

mod domain;
mod tls;

use std::time::Duration;

use domain::DOMAIN;
pub(super) use domain::{DOMAIN_POOL_DOC, MODE_POOL_DOC};
use tls::{HOST_TLS, LISTEN_TLS};

/// One key of a table.
#[derive(Debug, Clone, Copy)]
pub(super) struct Key {
    pub name: &'static str,
    pub kind: Kind,
    /// What it means, as a sentence.
    pub doc: &'static str,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    Value {
        of: Type,
        default: Fallback,
    },
    /// A table of these keys.
    Table(&'static [Key]),
    /// A table of tables, each under a name of the user's choice.
    Named {
        placeholder: &'static str,
        /// A name for the annotated default.
        example: &'static str,
        keys: &'static [Key],
    },
    /// Refused by name: the feature is not built yet.
    Later(&'static str),
}

/// What a value has to be.
#[derive(Debug, Clone, Copy)]
pub(super) enum Type {
    Flag,
    Count { min: u64, max: u64 },
    Duration { least: Duration, zero: Zero },
    Size { min: u64, max: u64 },
    Text,
    Secret,
    Choice(&'static [Choice]),
    List,
    Map,
}

/// What `"0s"` means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Zero {
    Allowed,
    Refused,
}

/// One word of a choice.
#[derive(Debug, Clone, Copy)]
pub(super) struct Choice {
    pub name: &'static str,
    /// The feature behind it, if it is not built yet.
    pub later: Option<&'static str>,
}

/// What applies without the key. All texts are TOML.
#[derive(Debug, Clone, Copy)]
pub(super) enum Fallback {
    Is(&'static str),
    Unset { example: &'static str },
    Required { example: &'static str },
}

const fn value(name: &'static str, of: Type, default: &'static str, doc: &'static str) -> Key {
    Key { name, kind: Kind::Value { of, default: Fallback::Is(default) }, doc }
}

const fn unset(name: &'static str, of: Type, example: &'static str, doc: &'static str) -> Key {
    Key { name, kind: Kind::Value { of, default: Fallback::Unset { example } }, doc }
}

const fn required(name: &'static str, of: Type, example: &'static str, doc: &'static str) -> Key {
    Key { name, kind: Kind::Value { of, default: Fallback::Required { example } }, doc }
}

const fn table(name: &'static str, keys: &'static [Key], doc: &'static str) -> Key {
    Key { name, kind: Kind::Table(keys), doc }
}

const fn later(name: &'static str, feature: &'static str) -> Key {
    Key { name, kind: Kind::Later(feature), doc: "" }
}

const fn built(name: &'static str) -> Choice {
    Choice { name, later: None }
}

const fn unbuilt(name: &'static str, feature: &'static str) -> Choice {
    Choice { name, later: Some(feature) }
}

/// A duration that may be `"0s"`.
const DURATION: Type = Type::Duration { least: Duration::from_micros(1), zero: Zero::Allowed };
/// A duration that bounds a wait: no wait is without a bound.
const BOUND: Type = Type::Duration { least: Duration::from_millis(1), zero: Zero::Refused };
/// A duration that the kernel or `PostgreSQL` counts in whole milliseconds.
const MILLIS: Type = Type::Duration { least: Duration::from_millis(1), zero: Zero::Allowed };
/// A duration that the kernel counts in whole seconds.
const SECONDS: Type = Type::Duration { least: Duration::from_secs(1), zero: Zero::Refused };
/// Large enough for every machine, small enough that no sum of counts overflows.
const MANY: u64 = 1_000_000;
const COUNT: Type = Type::Count { min: 0, max: MANY };
const POSITIVE: Type = Type::Count { min: 1, max: MANY };

/// The file as a whole.
pub(super) const ROOT: &[Key] = &[
    table("listen", LISTEN, "How clients reach pgweir."),
    table("http", HTTP, "Metrics, health and status over HTTP."),
    table("log", LOG, "What is logged, and how."),
    table("runtime", RUNTIME, "Threads and shutdown."),
    table("auth", AUTH, "How clients prove who they are."),
    table("admin", ADMIN, "Who may use the console (the databases `pgweir` and `pgbouncer`)."),
    table("pool", POOL, "What every pool starts from; a domain lays its own `pool` over it."),
    Key {
        name: "domains",
        kind: Kind::Named { placeholder: "NAME", example: "*", keys: DOMAIN },
        doc: "A named logical database: what clients give as `dbname`. A client's `dbname` is \
              matched against these names, then against their `database`, then against `\"*\"`, \
              the catch-all. At least one is needed.",
    },
    Key {
        name: "hosts",
        kind: Kind::Named { placeholder: "\"HOST:PORT\"", example: "127.0.0.1:5432", keys: HOST },
        doc: "Rules for one server host, over all domains.",
    },
    Key {
        name: "users",
        kind: Kind::Named { placeholder: "NAME", example: "reporting", keys: USER },
        doc: "Rules for one user. They go before the domain's, and those before `[pool]`.",
    },
    later("peers", "cancel requests between instances ([peers])"),
];

const LISTEN: &[Key] = &[
    value(
        "addresses",
        Type::List,
        r#"["127.0.0.1:6432"]"#,
        "Where to listen: `host:port`, `[::1]:port`, or a directory for a Unix socket, e.g. \
         `\"/run/pgweir\"` (`\"/run/pgweir:6433\"` with a port of its own; without one it has the \
         first TCP address's, or 6432).",
    ),
    value(
        "max_clients",
        POSITIVE,
        "10000",
        "Most clients at once. One more is accepted, told 53300 and closed; cancel requests and \
         admins are exempt.",
    ),
    value("max_unauthenticated", POSITIVE, "1000", "Most clients at once that have not logged in."),
    value(
        "login_timeout",
        BOUND,
        r#""15s""#,
        "Longest time from accept to the end of the authentication.",
    ),
    value(
        "client_idle_timeout",
        MILLIS,
        r#""0s""#,
        "A client idle for longer is closed with 57P05. `\"0s\"`: never.",
    ),
    table("tcp", TCP, "Options of the clients' sockets."),
    later("proxy_protocol", "the PROXY protocol"),
    table("tls", LISTEN_TLS, "TLS towards clients; see `docs/TLS.md`."),
    value(
        "max_message",
        Type::Size { min: 1 << 10, max: (1 << 31) - 1 },
        r#""1GiB""#,
        "Longest message from a client or a server, 54000 beyond it.",
    ),
    value(
        "max_statements_per_client",
        POSITIVE,
        "10000",
        "Most prepared statements that one client may hold, 53400 beyond it.",
    ),
    value(
        "flush_timeout",
        BOUND,
        r#""60s""#,
        "Longest time that a client may hold a server by a Flush without a Sync.",
    ),
];

const TCP: &[Key] = &[
    value("keepalive", Type::Flag, "true", "Let the kernel probe silent connections."),
    value("keepalive_idle", SECONDS, r#""60s""#, "Silence before the first probe."),
    value(
        "user_timeout",
        MILLIS,
        r#""0s""#,
        "Longest time that sent bytes may stay unacknowledged. `\"0s\"`: the kernel's own.",
    ),
];

const HTTP: &[Key] = &[
    value("address", Type::Text, r#""127.0.0.1:9632""#, "`host:port`. `\"\"`: no HTTP at all."),
    value(
        "seed_metrics",
        Type::Flag,
        "false",
        "Offer `db_pool_connections_total`, `db_pool_connections_active` and \
         `db_query_duration_seconds` under these names too.",
    ),
];

const LOG: &[Key] = &[
    value(
        "level",
        Type::Choice(&[
            built("error"),
            built("warn"),
            built("info"),
            built("debug"),
            built("trace"),
        ]),
        r#""info""#,
        "The least severe event that is logged.",
    ),
    value(
        "format",
        Type::Choice(&[built("text"), built("json")]),
        r#""text""#,
        "One line per event.",
    ),
    value(
        "statements",
        Type::Choice(&[built("none"), built("slow"), built("all")]),
        r#""slow""#,
        "Which statements are logged, their literals masked.",
    ),
    value("slow_query", DURATION, r#""100ms""#, "A query that takes this long is slow."),
];

const RUNTIME: &[Key] = &[
    value("workers", Type::Count { min: 0, max: 1024 }, "0", "Worker threads. 0: one per core."),
    value(
        "shutdown_timeout",
        MILLIS,
        r#""30s""#,
        "After SIGTERM, how long transactions may take to end. `\"0s\"`: they are cut off.",
    ),
];

const AUTH: &[Key] = &[
    value(
        "method",
        Type::Choice(&[
            built("trust"),
            built("md5"),
            built("scram-sha-256"),
            built("plain"),
            unbuilt("cert", "auth method \"cert\" (client certificates)"),
            unbuilt("hba", "auth method \"hba\" (HBA files)"),
        ]),
        r#""scram-sha-256""#,
        "How clients log in.",
    ),
    value(
        "users_file",
        Type::Text,
        r#""users.txt""#,
        "PgBouncer's format, `\"name\" \"secret\"` a line: a plain secret, an md5 hash or a SCRAM \
         verifier. A relative path starts at this file's folder. Not needed for \
         `method = \"trust\"`.",
    ),
];

const ADMIN: &[Key] = &[
    value("users", Type::List, r#"["pgweir"]"#, "Users that may run every console command."),
    value("stats_users", Type::List, r#"["prometheus"]"#, "Users that may run `SHOW`."),
];

/// `[pool]`, and `pool` of a domain.
pub(super) const POOL: &[Key] = &[
    value(
        "pool_mode",
        POOL_MODE,
        r#""transaction""#,
        "When a server goes back to its pool: after each transaction, when the client leaves, or \
         after each statement.",
    ),
    value(
        "size",
        POSITIVE,
        "20",
        "Up to this many servers stay open until `idle_timeout`, never fewer than `min`.",
    ),
    value("min", COUNT, "0", "Servers opened ahead of need. At most `size`."),
    value(
        "max_overflow",
        COUNT,
        "10",
        "Servers beyond `size` under load, closed again when idle for `overflow_linger`.",
    ),
    value(
        "overflow_linger",
        DURATION,
        r#""5s""#,
        "How long a server beyond `size` stays open idle. `\"0s\"`: it is closed at once.",
    ),
    value("timeout", BOUND, r#""30s""#, "Longest wait for a server; bounds every other wait."),
    value("max_waiting", COUNT, "0", "Most clients that wait for a server. 0: no bound."),
    value(
        "recycle",
        DURATION,
        r#""1h""#,
        "A server older than this is replaced, spread out, never all at once. `\"0s\"`: never.",
    ),
    value(
        "idle_timeout",
        DURATION,
        r#""10m""#,
        "A server idle for longer is closed, down to `min`. `\"0s\"`: never.",
    ),
    value(
        "pre_ping",
        Type::Flag,
        "true",
        "A server idle for longer than `pre_ping_idle` is proved alive before it is lent.",
    ),
    value(
        "pre_ping_idle",
        DURATION,
        r#""5s""#,
        "A server idle for less is lent without that proof. `\"0s\"`: none is.",
    ),
    value(
        "connect_timeout",
        BOUND,
        r#""10s""#,
        "Longest time for one attempt to connect and log in to a server, or to deliver a cancel request.",
    ),
    value(
        "connect_attempts",
        COUNT,
        "0",
        "Attempts to connect for one waiting client. 0: as many as fit into `timeout`.",
    ),
    value("connects_per_host", POSITIVE, "4", "Most servers being opened at once, per host."),
    value(
        "query_timeout",
        MILLIS,
        r#""0s""#,
        "A query that takes longer is cancelled with 57014. `\"0s\"`: never.",
    ),
    value(
        "transaction_timeout",
        MILLIS,
        r#""0s""#,
        "A transaction that takes longer is ended. `\"0s\"`: never.",
    ),
    value(
        "idle_in_transaction_timeout",
        MILLIS,
        r#""0s""#,
        "A client idle in a transaction for longer is closed with 25P03. `\"0s\"`: never.",
    ),
    value(
        "prepared_statements",
        Type::Count { min: 0, max: 100_000 },
        "200",
        "Prepared statements kept per server; the least recently used is closed. 0: clients' \
         prepared statements are not shared.",
    ),
    value(
        "reuse_unnamed",
        Type::Flag,
        "false",
        "A query that clients parse again as their unnamed statement is prepared on servers and not sent \
         again. Plans are then as `plan_cache_mode` says. No effect in session mode.",
    ),
    value(
        "defer_begin",
        Type::Flag,
        "true",
        "A lone BEGIN is answered at once, and sent with the first statement behind it: a round trip less, \
         and `now()` is the time of that statement. Transaction mode alone.",
    ),
    value(
        "wait_notice",
        MILLIS,
        r#""5s""#,
        "A client that has waited this long for a server gets a NOTICE. `\"0s\"`: none.",
    ),
    value(
        "adaptive",
        Type::Flag,
        "false",
        "How many servers are lent at once follows what they get done, from `size` on, between `min` and `size` \
         and `max_overflow` together; see `docs/SIZING.md`. No effect in session mode.",
    ),
    unset(
        "statement_timeout",
        MILLIS,
        r#""30s""#,
        "Sent to servers as a startup option. `\"0s\"`: none. Unset: the server's own applies.",
    ),
];

const POOL_MODE: Type = Type::Choice(&[
    unbuilt("auto", "\"auto\" pool mode"),
    built("transaction"),
    built("session"),
    built("statement"),
]);

const HOST: &[Key] = &[
    value(
        "max_connections",
        COUNT,
        "0",
        "Cap over the servers of all domains; over all addresses of a name together. Looks at the host and \
         cancel requests come on top of it: leave places for them. 0: none.",
    ),
    value(
        "weight",
        Type::Count { min: 1, max: 1000 },
        "1",
        "Its share of the work that is spread over replicas, to the others' weights. Of a name, that of each of \
         its addresses.",
    ),
    table("tls", HOST_TLS, "Laid over the `tls` of each domain that has this host, key by key."),
];

const USER: &[Key] = &[
    table("pool", USER_POOL, "Laid over the domain's `pool`, key by key."),
    unset("pool_mode", POOL_MODE, r#""session""#, "As in `[pool]`. Unset: the domain's."),
    unset(
        "mode",
        Type::Choice(&[
            built("read_write"),
            built("read_only"),
            built("batch"),
            built("transactional"),
        ]),
        r#""read_only""#,
        "The mode of this user's sessions, unless they ask for another. Unset: `read_write`.",
    ),
    value(
        "max_connections",
        COUNT,
        "0",
        "Cap over all servers that are logged in as this user. 0: none.",
    ),
    value("max_clients", COUNT, "0", "Most clients logged in as this user at once. 0: no cap."),
    unset("query_timeout", MILLIS, r#""30s""#, "As in `[pool]`. Unset: the domain's."),
    unset("transaction_timeout", MILLIS, r#""5m""#, "As in `[pool]`. Unset: the domain's."),
    unset("idle_in_transaction_timeout", MILLIS, r#""1m""#, "As in `[pool]`. Unset: the domain's."),
    unset("client_idle_timeout", MILLIS, r#""1h""#, "As in `[listen]`. Unset: `[listen]`'s."),
];

const USER_POOL: &[Key] = &[
    unset("size", POSITIVE, "5", "As in `[pool]`. Unset: the domain's."),
    unset("min", COUNT, "1", "As in `[pool]`. Unset: the domain's, at most this `size`."),
    unset("max_overflow", COUNT, "0", "As in `[pool]`. Unset: the domain's."),
    unset("timeout", BOUND, r#""10s""#, "As in `[pool]`. Unset: the domain's."),
    unset("adaptive", Type::Flag, "true", "As in `[pool]`. Unset: the domain's."),
];
