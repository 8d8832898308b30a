//! `[domains.NAME]`.

use super::tls::DOMAIN_TLS;
use super::{
    BOUND, COUNT, DURATION, Key, POOL, POSITIVE, Type, built, later, required, table, unset, value,
};

pub(super) const DOMAIN: &[Key] = &[
    unset(
        "database",
        Type::Text,
        r#""markets_technicals""#,
        "The name on the server; clients may use it as well as the domain's. Unset: the domain's \
         name; for `\"*\"` what the client asked for.",
    ),
    required(
        "hosts",
        Type::List,
        r#"["127.0.0.1:5432"]"#,
        "`host:port` (5432 without a port), `[::1]:port`, or the directory of a Unix socket, e.g. \
         `\"/run/postgresql:5432\"`. Which of several is the primary is found out.",
    ),
    unset(
        "user",
        Type::Text,
        r#""postgres""#,
        "The one user of all its servers. Unset: each client's own, one pool per user.",
    ),
    unset(
        "password",
        Type::Secret,
        r#""${DB_PASSWORD}""#,
        "The secret of `user`. Unset or `\"\"`: none is sent.",
    ),
    table("pool", POOL, DOMAIN_POOL_DOC),
    value("max_connections", COUNT, "0", "Cap over all pools of the domain. 0: none."),
    value("server_options", Type::Map, "{}", "Startup options of its servers."),
    value(
        "connect_query",
        Type::Text,
        r#""""#,
        "Run on each new server before it is lent. `\"\"`: nothing.",
    ),
    table("health", HEALTH, "How its hosts are watched; see `docs/HA.md`."),
    table("failover", FAILOVER, "What happens when the primary of several hosts is lost."),
    later("route_read_only", "read-only routing (route_read_only)"),
    later("causal_reads", "causal reads (causal_reads)"),
    later("read_only", "the mode read_only"),
    later("batch", "the mode batch"),
    later("transactional", "the mode transactional"),
    table(
        "tls",
        DOMAIN_TLS,
        "TLS towards the servers; see `docs/TLS.md`. Unix sockets do without.",
    ),
    later("strict", "strict mode (strict)"),
];

const HEALTH: &[Key] = &[
    value(
        "interval",
        BOUND,
        r#""5s""#,
        "Between two looks at a host that is well; while something is wrong there are more. The shortest \
         counts where domains share a host.",
    ),
    value("timeout", BOUND, r#""2s""#, "Longest wait for the answer to one look."),
    value(
        "down_after",
        POSITIVE,
        "3",
        "Looks in a row without an answer, and without a byte from the host on any other connection, that \
         make it down. One that refuses connections, or cannot be reached, is down at the second look.",
    ),
    value(
        "max_lag",
        DURATION,
        r#""10s""#,
        "A replica that is further behind serves nobody until it has caught up.",
    ),
];

const FAILOVER: &[Key] = &[
    value(
        "timeout",
        BOUND,
        r#""5s""#,
        "Longest wait for a new primary, from a client's request on; then it gets an error (08001).",
    ),
    value(
        "on_primary_loss",
        Type::Choice(&[built("wait"), built("read_only"), built("error")]),
        r#""wait""#,
        "What clients get meanwhile: they wait, are served by a replica (which refuses writes), or get the \
         error at once.",
    ),
];

/// Also tells a domain's `pool` from a user's where the keys are listed.
pub(crate) const DOMAIN_POOL_DOC: &str = "Laid over `[pool]`, key by key.";
