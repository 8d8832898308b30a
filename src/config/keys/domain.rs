//! `[domains.NAME]`.

use super::tls::DOMAIN_TLS;
use super::{
    BOUND, COUNT, DURATION, Key, MILLIS, POOL, POSITIVE, Type, built, later, required, table,
    unset, value,
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
    value(
        "route_read_only",
        Type::Flag,
        "false",
        "Transactions that say that they only read (`BEGIN READ ONLY`, or `default_transaction_read_only = on`) go to \
         replicas, by the pool of `read_only`, from sessions of `read_write` too.",
    ),
    value(
        "causal_reads",
        Type::Flag,
        "true",
        "With `route_read_only`: a session that has written reads from the primary until the replicas have what it wrote.",
    ),
    table("read_only", READ_ONLY, "The mode `read_only`: replicas, and nothing is written."),
    table("batch", BATCH, "The mode `batch`: long work, in a pool of its own."),
    table(
        "transactional",
        TRANSACTIONAL,
        "The mode `transactional`: a server of its own for each session, as with `pool_mode = \"session\"`.",
    ),
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
    value(
        "timeout",
        BOUND,
        r#""2s""#,
        "Longest wait for the answer to one look. The shortest counts where domains share a host.",
    ),
    value(
        "down_after",
        POSITIVE,
        "3",
        "Looks in a row without an answer, and without a byte from the host on any other connection, that \
         make it down. One that refuses connections, or cannot be reached, is down at the second look. The \
         smallest counts where domains share a host.",
    ),
    value(
        "max_lag",
        DURATION,
        r#""10s""#,
        "A replica that is further behind serves nobody until it has caught up.",
    ),
    value(
        "resolve",
        BOUND,
        r#""15s""#,
        "Between two look-ups of a host's name while all is well. One whose host cannot be reached, or whose \
         domain loses its primary, is looked up at once. The shortest counts where domains share a name.",
    ),
];

const FAILOVER: &[Key] = &[
    value(
        "timeout",
        BOUND,
        r#""5s""#,
        "Longest wait for a new primary, from a client's request on, or from when the old one was seen to be \
         lost if that is later; then it gets an error (08001). `pool.timeout` bounds it.",
    ),
    value(
        "on_primary_loss",
        Type::Choice(&[built("wait"), built("read_only"), built("error")]),
        r#""wait""#,
        "What clients get meanwhile: they wait, are served by a replica (which refuses writes), or get the \
         error at once.",
    ),
];

const READ_ONLY: &[Key] = &[
    table("pool", POOL, MODE_POOL_DOC),
    value(
        "fallback",
        Type::Choice(&[built("primary"), built("none")]),
        r#""primary""#,
        "Who serves while no replica does: the primary, or nobody. A domain of one host has no other.",
    ),
    value(
        "balance",
        Type::Choice(&[built("least_busy"), built("round_robin")]),
        r#""least_busy""#,
        "Which replica is next: the one with the fewest servers lent, weighted by how long requests have \
         taken there of late; or each in turn. Both go by `[hosts]` `weight`.",
    ),
    QUERY_TIMEOUT,
    TRANSACTION_TIMEOUT,
    IDLE_IN_TRANSACTION_TIMEOUT,
    STATEMENT_TIMEOUT,
    ALIASES,
];

const BATCH: &[Key] = &[
    table("pool", POOL, MODE_POOL_DOC),
    QUERY_TIMEOUT,
    TRANSACTION_TIMEOUT,
    IDLE_IN_TRANSACTION_TIMEOUT,
    STATEMENT_TIMEOUT,
    ALIASES,
];

const TRANSACTIONAL: &[Key] = &[
    table("pool", POOL, MODE_POOL_DOC),
    unset(
        "isolation",
        Type::Choice(&[
            built("read uncommitted"),
            built("read committed"),
            built("repeatable read"),
            built("serializable"),
        ]),
        r#""repeatable read""#,
        "`default_transaction_isolation` of its servers. Unset: the server's own.",
    ),
    QUERY_TIMEOUT,
    TRANSACTION_TIMEOUT,
    IDLE_IN_TRANSACTION_TIMEOUT,
    STATEMENT_TIMEOUT,
    ALIASES,
];

const QUERY_TIMEOUT: Key =
    unset("query_timeout", MILLIS, r#""30s""#, "As in `pool`, which it goes before.");
const TRANSACTION_TIMEOUT: Key =
    unset("transaction_timeout", MILLIS, r#""5m""#, "As in `pool`, which it goes before.");
const IDLE_IN_TRANSACTION_TIMEOUT: Key =
    unset("idle_in_transaction_timeout", MILLIS, r#""1m""#, "As in `pool`, which it goes before.");
const STATEMENT_TIMEOUT: Key =
    unset("statement_timeout", MILLIS, r#""0s""#, "As in `pool`, which it goes before.");
const ALIASES: Key = value(
    "aliases",
    Type::List,
    "[]",
    "Database names by which clients ask for this mode, besides the domain's name with its suffix.",
);

/// Also tells a mode's `pool` from others where the keys are listed.
pub(crate) const MODE_POOL_DOC: &str = "Laid over the domain's `pool`, key by key.";

/// Also tells a domain's `pool` from a user's where the keys are listed.
pub(crate) const DOMAIN_POOL_DOC: &str = "Laid over `[pool]`, key by key.";
