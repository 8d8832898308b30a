//! Every kind of problem by its exact line and text; what a good file comes to.

use std::path::{Path, PathBuf};
use std::time::Duration;

use proptest::prelude::*;

use super::super::{
    AuthMethod, Config, ConfigErrors, HostAddr, ListenAddr, LogLevel, MapEnvironment, PoolMode,
    load, parse,
};
use super::super::{Balance, HealthRules, Mode, OnPrimaryLoss};

fn env() -> MapEnvironment {
    MapEnvironment::default()
        .with_file("/etc/pgweir/users.txt", "\"app\" \"secret\"\n")
        .with_file("/run/secrets/pw", "hunter2\n")
        .with_variable("DB_PASSWORD", "hunter2")
        .with_variable("POOL_SIZE", "7")
        .with_variable("WORD", "hunter2")
}

/// Parses `text`, with a domain at its end if it has none.
fn parsed(text: &str) -> Result<Config, ConfigErrors> {
    let domain = if text.contains("domains") { "" } else { "\n[domains.a]\nhosts = [\"db\"]\n" };
    parse(&format!("{text}{domain}"), Path::new("/etc/pgweir/pgweir.toml"), &env())
}

fn accepted(text: &str) -> Config {
    parsed(text).unwrap_or_else(|errors| panic!("{text}\n{errors}"))
}

/// The problems of `text`, without the file's folder.
fn refused(text: &str) -> Vec<String> {
    let errors = parsed(text).err().unwrap_or_else(|| panic!("accepted: {text}"));
    errors.to_string().lines().map(|line| line.replace("/etc/pgweir/pgweir.toml", "f")).collect()
}

fn assert_refused(cases: &[(&str, &str)]) {
    for (text, problem) in cases {
        assert_eq!(refused(text), [*problem], "{text}");
    }
}

#[test]
fn unknown_keys_are_named_with_the_nearest_known_one() {
    assert_refused(&[
        ("[pool]\nszie = 3", "f:2: pool.szie: unknown key; did you mean \"size\"?"),
        ("[pol]\nsize = 3", "f:1: pol: unknown key; did you mean \"pool\"?"),
        ("[pool]\n\ncolour = 3", "f:3: pool.colour: unknown key"),
        ("[listen]\nsize = 3", "f:2: listen.size: unknown key; it belongs in [pool]"),
        ("size = 3", "f:1: size: unknown key; it belongs in [pool]"),
        ("[pool]\nhosts = []", "f:2: pool.hosts: unknown key; it belongs in [domains.NAME]"),
        (
            "[domains.a]\nhosts = [\"db\"]\nsize = 3",
            "f:3: domains.a.size: unknown key; did you mean \"pool.size\"?",
        ),
        (
            "[domains.\"x y\"]\nhosts = [\"db\"]\nusr = \"u\"",
            "f:3: domains.\"x y\".usr: unknown key; did you mean \"user\"?",
        ),
        (
            "[domains.a]\nhosts = [\"db\"]\npool = { sise = 3 }",
            "f:3: domains.a.pool.sise: unknown key; did you mean \"size\"?",
        ),
        (
            "[users.u.pool]\nquery_timeout = \"1s\"",
            "f:2: users.u.pool.query_timeout: unknown key; it belongs in [users.NAME]",
        ),
        (
            "[hosts.\"db:5432\"]\nmax_conections = 3",
            "f:2: hosts.\"db:5432\".max_conections: unknown key; did you mean \"max_connections\"?",
        ),
    ]);
}

#[test]
fn wrong_types_are_named() {
    assert_refused(&[
        ("[pool]\ntimeout = 30", "f:2: pool.timeout: durations are text with a unit, e.g. \"30s\""),
        (
            "[pool]\ntimeout = 1.5",
            "f:2: pool.timeout: durations are text with a unit, e.g. \"30s\"",
        ),
        (
            "[listen]\nmax_message = 1024",
            "f:2: listen.max_message: sizes are text with a unit, e.g. \"64KB\"",
        ),
        (
            "[pool]\nsize = \"10\"",
            "f:2: pool.size: must be a whole number, not text; leave the quotes out",
        ),
        (
            "[pool]\nsize = 1.5",
            "f:2: pool.size: must be a whole number, not a number with a fraction",
        ),
        ("[pool]\nsize = true", "f:2: pool.size: must be a whole number, not true or false"),
        (
            "[pool]\npre_ping = \"true\"",
            "f:2: pool.pre_ping: must be true or false, not text; leave the quotes out",
        ),
        ("[pool]\npre_ping = 1", "f:2: pool.pre_ping: must be true or false, not a whole number"),
        (
            "[log]\nlevel = 3",
            "f:2: log.level: must be one of \"error\", \"warn\", \"info\", \"debug\", \"trace\", \
             not a whole number",
        ),
        ("[http]\naddress = 1979-05-27", "f:2: http.address: must be text, not a date or time"),
        ("[admin]\nusers = \"pgweir\"", "f:2: admin.users: must be a list of texts, not text"),
        ("[admin]\nusers = [\n\"a\",\n3]", "f:4: admin.users: must be text, not a whole number"),
        ("pool = 3", "f:1: pool: must be a table, not a whole number"),
        ("[[pool]]\nsize = 3", "f:1: pool: must be a table, not a list"),
        ("domains = []", "f:1: domains: must be tables [domains.NAME], not a list"),
        ("[domains]\na = \"db\"", "f:2: domains.a: must be a table, not text"),
        (
            "[domains.a]\nhosts = [\"db\"]\nserver_options = \"x\"",
            "f:3: domains.a.server_options: must be a table of options, not text",
        ),
        (
            "[domains.a]\nhosts = [\"db\"]\nserver_options = { work_mem = [] }",
            "f:3: domains.a.server_options: work_mem: must be text, not a list",
        ),
    ]);
}

#[test]
fn values_out_of_range_are_named() {
    assert_refused(&[
        ("[pool]\nsize = 0", "f:2: pool.size: must be from 1 to 1000000"),
        ("[pool]\nmin = -1", "f:2: pool.min: must be from 0 to 1000000"),
        (
            "[pool]\nsize = 999999999999999999999999999999999999999999",
            "f:2: pool.size: must be from 1 to 1000000",
        ),
        ("[pool]\ntimeout = \"0s\"", "f:2: pool.timeout: must be at least \"1ms\""),
        (
            "[listen]\nlogin_timeout = \"10us\"",
            "f:2: listen.login_timeout: must be at least \"1ms\"",
        ),
        (
            "[listen]\ntcp = { keepalive_idle = \"500ms\" }",
            "f:2: listen.tcp.keepalive_idle: must be at least \"1s\"",
        ),
        (
            "[listen]\nmax_message = \"10B\"",
            "f:2: listen.max_message: must be from \"1KiB\" to \"2147483647B\"",
        ),
        (
            "[pool]\nrecycle = \"30x\"",
            "f:2: pool.recycle: \"30x\" is not a duration; durations are whole numbers with us, ms, \
             s, m, h or d, at most 366d, e.g. \"30s\" or \"1h30m\"",
        ),
        (
            "[listen]\nmax_message = \"1TB\"",
            "f:2: listen.max_message: \"1TB\" is not a size; sizes are whole numbers with B, KB, MB \
             or GB, e.g. \"64KB\"",
        ),
        (
            "[log]\nformat = \"jsn\"",
            "f:2: log.format: \"jsn\" is not one of \"text\", \"json\"; did you mean \"json\"?",
        ),
        ("[http]\naddress = \"a\\u0000b\"", "f:2: http.address: must not hold a NUL character"),
        (
            "[pool]\nstatement_timeout = \"30d\"",
            "f:2: pool.statement_timeout: PostgreSQL takes at most 2147483647 ms (24 days)",
        ),
    ]);
}

#[test]
fn what_is_not_built_is_refused_by_name() {
    let mode = "f:2: pool.pool_mode: not built yet: \"auto\" pool mode";
    assert_refused(&[
        ("[pool]\npool_mode = \"auto\"", mode),
        (
            "[listen]\nproxy_protocol = false",
            "f:2: listen.proxy_protocol: not built yet: the PROXY protocol",
        ),
        (
            "[auth]\nmethod = \"cert\"",
            "f:2: auth.method: not built yet: auth method \"cert\" (client certificates)",
        ),
        (
            "[auth]\nmethod = \"hba\"",
            "f:2: auth.method: not built yet: auth method \"hba\" (HBA files)",
        ),
        (
            "[peers]\n1 = \"h:1\"",
            "f:1: peers: not built yet: cancel requests between instances ([peers])",
        ),
    ]);
    let text = "[domains.a]\nhosts = [\"db\"]\nstrict = false";
    assert_eq!(refused(text), ["f:3: domains.a.strict: not built yet: strict mode (strict)"]);
}

#[test]
fn a_domain_has_several_hosts_and_rules_for_watching_them() {
    let config = accepted(
        "[domains.a]\nhosts = [\"p\", \"r1:5433\", \"/run/postgresql\"]\n\
         health = { interval = \"1s\", timeout = \"500ms\", down_after = 2, max_lag = \"0s\", \
         resolve = \"1m\" }\n\
         failover = { timeout = \"9s\", on_primary_loss = \"read_only\" }",
    );
    let domain = &config.domains[0];
    let hosts: Vec<_> = domain.hosts.iter().map(ToString::to_string).collect();
    assert_eq!(hosts, ["p:5432", "r1:5433", "/run/postgresql:5432"]);
    let HealthRules { interval, timeout, down_after, max_lag, resolve } = domain.health;
    assert_eq!((interval, timeout), (Duration::from_secs(1), Duration::from_millis(500)));
    assert_eq!((down_after, max_lag), (2, Duration::ZERO));
    assert_eq!(resolve, Duration::from_secs(60));
    assert_eq!(domain.failover.timeout, Duration::from_secs(9));
    assert_eq!(domain.failover.on_primary_loss, OnPrimaryLoss::ReadOnly);
}

#[test]
fn what_is_said_of_hosts_must_make_sense() {
    let domain = |keys: &str| format!("[domains.a]\nhosts = [\"db\"]\n{keys}");
    assert_refused(&[
        ("[domains.a]\nhosts = [\"db\", \"db:5432\"]", "f:2: domains.a.hosts: listed twice"),
        (
            &domain("health = { interval = \"0s\" }"),
            "f:3: domains.a.health.interval: must be at least \"1ms\"",
        ),
        (
            &domain("health = { down_after = 0 }"),
            "f:3: domains.a.health.down_after: must be from 1 to 1000000",
        ),
        (
            &domain("failover = { on_primary_loss = \"readonly\" }"),
            "f:3: domains.a.failover.on_primary_loss: \"readonly\" is not one of \"wait\", \"read_only\", \"error\"; did you mean \"read_only\"?",
        ),
    ]);
}

#[test]
fn a_mode_is_laid_over_its_domain_and_that_over_the_pool() {
    let config = accepted(
        "[pool]\nsize = 9\nmax_overflow = 1\ntimeout = \"7s\"\n\
         [hosts.db]\nweight = 3\n[users.u]\nmode = \"batch\"\npool = { size = 2 }\n\
         [domains.a]\nhosts = [\"db\"]\npool = { size = 5, query_timeout = \"3s\" }\n\
         read_only = { fallback = \"none\", balance = \"round_robin\", aliases = [\"a_reports\"] }\n\
         batch = { pool = { size = 4, max_overflow = 0 }, query_timeout = \"0s\", statement_timeout = \"1h\" }\n\
         transactional = { isolation = \"serializable\", aliases = [\"a_admin\"] }",
    );
    let domain = &config.domains[0];
    let sizes = Mode::ALL.map(|mode| {
        let pool = domain.pool_of(mode);
        (pool.size, pool.max_overflow)
    });
    assert_eq!(sizes, [(5, 1), (5, 1), (4, 0), (5, 1)]);
    let second = Duration::from_secs(1);
    assert!(Mode::ALL.iter().all(|mode| domain.pool_of(*mode).timeout == 7 * second));
    assert_eq!(domain.pool_of(Mode::ReadOnly).query_timeout, Some(3 * second));
    assert_eq!(domain.pool_of(Mode::Batch).query_timeout, None);
    assert_eq!(domain.pool_of(Mode::Batch).statement_timeout, Some(3600 * second));
    assert_eq!(domain.pool_of(Mode::Transactional).pool_mode, PoolMode::Session);
    assert_eq!(domain.pool_of(Mode::ReadWrite).pool_mode, PoolMode::Transaction);
    assert!(!domain.modes.falls_back);
    assert_eq!(domain.modes.balance, Balance::RoundRobin);
    assert_eq!(domain.modes.isolation.as_deref(), Some("serializable"));
    let aliases =
        [("a_reports".to_owned(), Mode::ReadOnly), ("a_admin".to_owned(), Mode::Transactional)];
    assert_eq!(domain.modes.aliases, aliases);
    assert_eq!(config.host_rules(&domain.hosts[0]).weight, 3);
    assert_eq!(config.users["u"].mode, Some(Mode::Batch));
    assert_eq!(config.pool_settings(domain, "u", Mode::Batch).size, 2);
}

#[test]
fn a_pool_adapts_where_it_says_so_and_a_session_has_no_server_to_itself() {
    let config = accepted(
        "[pool]\nadaptive = true\n\
         [domains.a]\nhosts = [\"db\"]\nbatch = { pool = { adaptive = false } }\n\
         [domains.b]\nhosts = [\"db\"]\npool = { pool_mode = \"session\" }\n\
         [users.fixed]\npool = { adaptive = false }\n[users.alone]\npool_mode = \"session\"",
    );
    let adapts = |domain: usize, user: &str, mode| {
        config.pool_settings(&config.domains[domain], user, mode).adapts()
    };

    assert!(adapts(0, "u", Mode::ReadWrite) && adapts(0, "u", Mode::ReadOnly));
    assert!(!adapts(0, "u", Mode::Batch), "the mode says so");
    assert!(!adapts(0, "fixed", Mode::ReadWrite), "the user says so");
    assert!(!adapts(0, "u", Mode::Transactional) && !adapts(0, "alone", Mode::ReadWrite));
    assert!(!adapts(1, "u", Mode::ReadWrite));
}

#[test]
fn what_is_said_of_modes_must_make_sense() {
    let domain = |keys: &str| format!("[domains.a]\nhosts = [\"db\"]\n{keys}");
    assert_refused(&[
        (
            &domain("read_only = { pool = { size = 2, min = 3 } }"),
            "f:3: domains.a.read_only.pool.min: min, 3, is more than size, 2",
        ),
        (
            &domain("transactional = { pool = { pool_mode = \"transaction\" } }"),
            "f:3: domains.a.transactional.pool.pool_mode: a session in the mode transactional has a \
             server of its own",
        ),
        (
            &domain("batch = { aliases = [\"a\"] }"),
            "f:3: domains.a.batch.aliases: \"a\" leads to domain \"a\" already",
        ),
        (
            &domain("batch = { aliases = [\"x\"] }\nread_only = { aliases = [\"x\"] }"),
            "f:3: domains.a.batch.aliases: listed twice",
        ),
        (
            &domain("read_only = { aliases = [\"pgbouncer\"] }"),
            "f:3: domains.a.read_only.aliases: this name is reserved",
        ),
        (
            &domain(
                "read_only = { aliases = [\"x\"] }\n[domains.b]\nhosts = [\"db\"]\n\
                 read_only = { aliases = [\"x\"] }",
            ),
            "f:6: domains.b.read_only.aliases: \"x\" leads to domain \"a\" already",
        ),
        (
            "[users.u]\nmode = \"readonly\"",
            "f:2: users.u.mode: \"readonly\" is not one of \"read_write\", \"read_only\", \"batch\", \
             \"transactional\"; did you mean \"read_only\"?",
        ),
    ]);
}

#[test]
fn disabled_tls_is_the_truth_and_accepted() {
    accepted(
        "[listen]\ntls = { mode = \"disable\" }\n[hosts.db]\ntls = { mode = \"disable\" }\n\
         [domains.a]\nhosts = [\"db\"]\ntls = { mode = \"disable\" }",
    );
}

#[test]
fn impossible_combinations_are_named() {
    assert_refused(&[
        ("[pool]\nsize = 3\nmin = 5", "f:3: pool.min: min, 5, is more than size, 3"),
        ("[pool]\nmin = 21", "f:2: pool.min: min, 21, is more than size, 20"),
        (
            "[pool]\nmin = 5\n[domains.a]\nhosts = [\"db\"]\npool = { size = 2 }",
            "f:5: domains.a.pool.size: min, 5, is more than size, 2",
        ),
        ("[users.u.pool]\nsize = 1\nmin = 2", "f:3: users.u.pool.min: 2 is more than size, 1"),
        (
            "[users.u]\nmax_connections = 1\npool = { min = 2 }",
            "f:3: users.u.pool.min: 2 is more than max_connections, 1",
        ),
        (
            "[pool]\nreuse_unnamed = true\nprepared_statements = 0",
            "f:2: pool.reuse_unnamed: reuse_unnamed with prepared_statements = 0: servers keep none to be reused",
        ),
        (
            "[pool]\nreuse_unnamed = true\n[domains.a]\nhosts = [\"db\"]\npool = { prepared_statements = 0 }",
            "f:5: domains.a.pool.prepared_statements: reuse_unnamed with prepared_statements = 0: \
             servers keep none to be reused",
        ),
        ("[domains.a]\nhosts = []", "f:2: domains.a.hosts: at least one host is needed"),
        ("[domains.a]\nuser = \"u\"", "f:1: domains.a.hosts: at least one host is needed"),
        ("[domains]", "f: domains: at least one [domains.NAME] is needed"),
        (
            "[domains.a]\nhosts = [\"db\"]\npassword = \"hunter2\"",
            "f:3: domains.a.password: a password without a user",
        ),
        (
            "[domains.a]\nhosts = [\"db\"]\nuser = \"\"",
            "f:3: domains.a.user: must not be empty; leave the key out",
        ),
        (
            "[domains.a]\nhosts = [\"db\"]\ndatabase = \"\"",
            "f:3: domains.a.database: must not be empty; leave the key out",
        ),
        (
            "[domains.pgbouncer]\nhosts = [\"db\"]",
            "f:1: domains.pgbouncer: this name is reserved for the console",
        ),
        (
            "[domains.pgweir]\nhosts = [\"db\"]",
            "f:1: domains.pgweir: this name is reserved for the console",
        ),
        (
            "[domains.\"\"]\nhosts = [\"db\"]",
            "f:1: domains.\"\": a domain's name must not be empty",
        ),
        ("[domains.a]\nhosts = [\"db\"]\n[domains.a]", "f:3: not TOML: duplicate key a"),
        (
            "[domains.a]\nhosts = [\"db\"]\nuser = \"u\"\nmax_connections = 2\npool.min = 3",
            "f:4: domains.a.max_connections: below the pool's min, 3",
        ),
    ]);
}

#[test]
fn impossible_addresses_names_and_options_are_named() {
    assert_refused(&[
        ("[listen]\naddresses = []", "f:2: listen.addresses: at least one address is needed"),
        (
            "[listen]\naddresses = [\"127.0.0.1:1\",\n\"127.0.0.1:1\"]",
            "f:3: listen.addresses: listed twice",
        ),
        (
            "[listen]\naddresses = [\n\"localhost\"]",
            "f:3: listen.addresses: needs a port, e.g. \"127.0.0.1:6432\"",
        ),
        ("[http]\naddress = \"9632\"", "f:2: http.address: needs a port, e.g. \"127.0.0.1:6432\""),
        ("[admin]\nusers = [\"\"]", "f:2: admin.users: a user's name must not be empty"),
        ("[users.\"\"]\nmax_clients = 1", "f:1: users.\"\": a user's name must not be empty"),
        ("[hosts.\"db:x\"]", "f:1: hosts.\"db:x\": a port is a number from 1 to 65535"),
        (
            "[hosts.db]\n[hosts.\"db:5432\"]",
            "f:2: hosts.\"db:5432\": another [hosts.\"...\"] is the same host",
        ),
        (
            "[domains.a]\nhosts = [\"db\"]\nserver_options = { user = \"x\" }",
            "f:3: domains.a.server_options: user: pgweir itself says this to the server",
        ),
        (
            "[domains.a]\nhosts = [\"db\"]\nserver_options = { \"pgweir.mode\" = \"x\" }",
            "f:3: domains.a.server_options: pgweir.mode: no such setting reaches a server",
        ),
        (
            "[domains.a]\nhosts = [\"db\"]\nserver_options = { \"work mem\" = \"x\" }",
            "f:3: domains.a.server_options: work mem: not the name of a setting",
        ),
    ]);
}

#[test]
fn a_database_that_two_domains_share_has_to_be_the_name_of_one() {
    let two = |first: &str, second: &str| {
        format!(
            "[domains.{first}]\nhosts = [\"db\"]\ndatabase = \"d\"\n\
             [domains.{second}]\nhosts = [\"db\"]\ndatabase = \"d\""
        )
    };

    assert_eq!(
        refused(&two("a", "b")),
        ["f:6: domains.b.database: domain \"a\" has this database too; give one of the two the \
          database's name, so that clients who name the database get that one"]
    );
    accepted(&two("a", "d"));
    accepted(&two("a", "\"*\""));
}

#[test]
fn the_users_file_must_be_there_for_a_method_that_needs_it() {
    let missing = "/etc/pgweir/no.txt cannot be read: entity not found";
    assert_refused(&[
        ("[auth]\nusers_file = \"no.txt\"", &format!("f:2: auth.users_file: {missing}")),
        (
            "[auth]\nmethod = \"trust\"\nusers_file = \"no.txt\"",
            &format!("f:3: auth.users_file: {missing}"),
        ),
        (
            "[auth]\nmethod = \"md5\"\nusers_file = \"\"",
            "f:3: auth.users_file: method \"md5\" needs a users_file",
        ),
    ]);

    let elsewhere = |text: &str| parse(text, Path::new("/srv/f"), &env());
    let domain = "[domains.a]\nhosts = [\"db\"]\n";
    assert_eq!(
        elsewhere(domain).unwrap_err().to_string(),
        "/srv/f: auth.users_file: /srv/users.txt cannot be read: entity not found"
    );
    let trusting = elsewhere(&format!("{domain}[auth]\nmethod = \"trust\"")).unwrap();
    assert_eq!(trusting.auth.users_file, None);
}

#[test]
fn a_file_that_cannot_be_read_is_one_problem() {
    let refusal = |file: &str| load(Path::new(file), &env()).unwrap_err().to_string();

    assert_eq!(refusal("none.toml"), "none.toml: cannot be read: entity not found");
    assert_eq!(
        refusal("/etc/pgbouncer.INI"),
        "/etc/pgbouncer.INI: reading pgbouncer.ini is not built yet"
    );
}

#[test]
fn every_problem_is_reported_in_the_order_of_lines() {
    let text = "[pool]\nszie = 1\ntimeout = 5\n[listen]\nmax_clients = 0\n\
                [domains.a]\nhosts = [\"db:0\"]\npassword = \"x\"\n[log]\nlevel = \"${NONE}\"";

    assert_eq!(
        refused(text),
        [
            "f:2: pool.szie: unknown key; did you mean \"size\"?",
            "f:3: pool.timeout: durations are text with a unit, e.g. \"30s\"",
            "f:5: listen.max_clients: must be from 1 to 1000000",
            "f:7: domains.a.hosts: a port is a number from 1 to 65535",
            "f:8: domains.a.password: a password without a user",
            "f:10: log.level: the environment variable NONE is not set",
        ]
    );
}

#[test]
fn one_wrong_value_is_one_problem() {
    for text in [
        "[pool]\nsize = \"x\"\nmin = 50",
        "[domains.a]\nhosts = 3",
        "[domains.a]\nhosts = [\"db\"]\nuser = 3\npassword = \"x\"",
        "[auth]\nusers_file = 3",
        "[auth]\nmethod = \"sram\"\nusers_file = \"\"",
        "[pool]\nsize = 2\nmin = 3\n[domains.a]\nhosts = [\"db\"]\n[domains.b]\nhosts = [\"db\"]",
    ] {
        assert_eq!(refused(text).len(), 1, "{text}\n{:?}", refused(text));
    }
}

#[test]
fn syntax_errors_have_their_line_and_end_the_search() {
    let problems = refused("[pool]\nszie = 3\nsize = = 3\n[domains.a]");

    assert!(problems[0].starts_with("f:3: not TOML: "), "{problems:?}");
    assert!(problems.iter().all(|problem| !problem.contains("szie")), "{problems:?}");
}

#[test]
fn a_syntax_error_quotes_nothing_of_the_file() {
    for text in ["password = hunter2", "password = \"hunter2", "password = \"hunter2\" hunter2"] {
        let problems = refused(&format!("[domains.a]\n{text}\n"));
        assert!(problems[0].starts_with("f:2: not TOML"), "{problems:?}");
        assert!(problems.iter().all(|problem| !problem.contains("hunter2")), "{problems:?}");
    }
}

#[test]
fn numbers_flags_and_words_may_be_interpolated() {
    let config = accepted(
        "[pool]\nsize = \"${POOL_SIZE}\"\nmax_overflow = \"${NONE:3}\"\npre_ping = \"${NONE:false}\"\n\
         pool_mode = \"${NONE:session}\"\ntimeout = \"${NONE:9}s\"",
    );

    let pool = &config.domains[0].pool;
    assert_eq!((pool.size, pool.max_overflow, pool.pre_ping), (7, 3, false));
    assert_eq!((pool.pool_mode, pool.timeout), (PoolMode::Session, Duration::from_secs(9)));
}

#[test]
fn no_error_quotes_an_interpolated_value() {
    for (text, problem) in [
        ("[pool]\nsize = \"${WORD}\"", "pool.size: the interpolated value is not a whole number"),
        (
            "[log]\nformat = \"${file:/run/secrets/pw}\"",
            "log.format: the interpolated value is not one of \"text\", \"json\"",
        ),
    ] {
        assert_eq!(refused(text), [format!("f:2: {problem}")]);
    }
    for text in [
        "[http]\naddress = \"${WORD}\"",
        "[pool]\ntimeout = \"${WORD}\"",
        "[listen]\nmax_message = \"${WORD}\"",
        "[listen]\naddresses = [\"${WORD}\"]",
        "[domains.a]\nhosts = [\"x:${WORD}\"]",
        "[domains.a]\nhosts = [\"postgres://u:hunter2@db/d\"]",
        "[domains.a]\nhosts = [\"db\"]\npassword = \"${WORD}\"",
        "[domains.a]\nhosts = [\"db\"]\npassword = \"hunter2${\"",
        "[domains.a]\nhosts = [\"db\"]\npassword = \"hunter2\\u0000\"\nuser = \"u\"",
    ] {
        let problems = refused(text);
        assert!(problems.iter().all(|problem| !problem.contains("hunter2")), "{problems:?}");
    }
}

#[test]
fn secrets_are_in_no_row_and_no_debug_print() {
    let config = accepted(
        "[domains.a]\nhosts = [\"db\"]\nuser = \"u\"\npassword = \"${DB_PASSWORD}\"\n\
         [domains.b]\nhosts = [\"db\"]\nuser = \"${file:/run/secrets/pw}\"\npassword = \"hunter2\"",
    );

    assert_eq!(config.domains[0].password.as_ref().unwrap().expose(), "hunter2");
    assert!(!format!("{:?}", config.rows).contains("hunter2"));
    assert!(!format!("{:?}", config.domains[0]).contains("hunter2"));
    let row = |key: &str| config.rows.iter().find(|row| row.key == key).unwrap().value.clone();
    assert_eq!(row("domains.a.password"), "***");
    assert_eq!(row("domains.b.user"), "***");
}

#[test]
fn rows_give_each_value_beside_what_would_apply_without_its_line() {
    let config = accepted(
        "[pool]\nsize = 8\n[domains.a]\nhosts = [\"db\"]\npool = { size = \"${POOL_SIZE}\" }\n\
         server_options = { work_mem = \"64MB\", jit = false }\n[users.u]\nmax_clients = 4",
    );

    let row = |key: &str| {
        let found = config.rows.iter().find(|row| row.key == key);
        found.map(|row| (row.value.as_str(), row.default.as_str()))
    };
    assert_eq!(row("pool.size"), Some(("8", "20")));
    assert_eq!(row("pool.timeout"), Some(("30s", "30s")));
    assert_eq!(row("pool.statement_timeout"), Some(("", "")));
    assert_eq!(row("listen.addresses"), Some(("127.0.0.1:6432", "127.0.0.1:6432")));
    assert_eq!(row("listen.tcp.keepalive"), Some(("true", "true")));
    assert_eq!(row("domains.a.pool.size"), Some(("7", "8")));
    assert_eq!(row("domains.a.pool.min"), None);
    assert_eq!(row("domains.a.server_options"), Some(("jit=off, work_mem=64MB", "")));
    assert_eq!(row("users.u.max_clients"), Some(("4", "0")));
    assert_eq!(row("pool.adaptive"), Some(("false", "false")));
}

#[test]
fn defaults_are_those_of_the_contract() {
    let config = accepted("");

    let tcp = |host: &str, port| ListenAddr::Tcp { host: host.to_owned(), port };
    assert_eq!(config.listen.addresses, [tcp("127.0.0.1", 6432)]);
    assert_eq!((config.listen.max_clients, config.listen.max_unauthenticated), (10_000, 1000));
    assert_eq!(config.listen.login_timeout, Duration::from_secs(15));
    assert_eq!(config.listen.client_idle_timeout, None);
    assert!(config.listen.keepalive);
    assert_eq!(config.listen.keepalive_idle, Duration::from_secs(60));
    assert_eq!(config.listen.user_timeout, None);
    assert_eq!(config.listen.max_message, 1 << 30);
    assert_eq!(config.listen.max_statements_per_client, 10_000);
    assert_eq!(config.listen.flush_timeout, Duration::from_secs(60));
    assert_eq!(config.http.address, Some(("127.0.0.1".to_owned(), 9632)));
    assert!(!config.http.seed_metrics);
    assert_eq!(config.log.level, LogLevel::Info);
    assert_eq!(config.log.slow_query, Duration::from_millis(100));
    assert_eq!(config.runtime.workers, 0);
    assert_eq!(config.runtime.shutdown_timeout, Duration::from_secs(30));
    assert_eq!(config.auth.method, AuthMethod::ScramSha256);
    assert_eq!(config.auth.users_file, Some(PathBuf::from("/etc/pgweir/users.txt")));
    assert_eq!(
        (config.admin.users[0].as_str(), config.admin.stats_users[0].as_str()),
        ("pgweir", "prometheus")
    );
    assert_eq!(
        format!("{:?}", config.domains[0].pool),
        "PoolSettings { pool_mode: Transaction, size: 20, min: 0, max_overflow: 10, \
         overflow_linger: 5s, timeout: 30s, max_waiting: None, recycle: Some(3600s), \
         idle_timeout: Some(600s), pre_ping: true, pre_ping_idle: 5s, connect_timeout: 10s, \
         connect_attempts: None, connects_per_host: 4, query_timeout: None, \
         transaction_timeout: None, idle_in_transaction_timeout: None, prepared_statements: 200, \
         reuse_unnamed: false, defer_begin: true, \
         wait_notice: Some(5s), adaptive: false, statement_timeout: None }"
    );
}

#[test]
fn zero_is_never_where_the_contract_says_so() {
    let config = accepted(
        "[pool]\nrecycle = \"0s\"\nidle_timeout = \"0s\"\nwait_notice = \"0s\"\n\
         statement_timeout = \"0s\"\nprepared_statements = 0\noverflow_linger = \"0s\"\n\
         [http]\naddress = \"\"\n[listen]\nclient_idle_timeout = \"1h\"\n\
         [users.u]\nclient_idle_timeout = \"0s\"",
    );

    let pool = &config.domains[0].pool;
    assert_eq!((pool.recycle, pool.idle_timeout, pool.wait_notice), (None, None, None));
    assert_eq!(pool.statement_timeout, Some(Duration::ZERO));
    assert_eq!((pool.prepared_statements, pool.overflow_linger), (0, Duration::ZERO));
    assert_eq!(config.http.address, None);
    assert_eq!(config.client_idle_timeout("u"), None);
    assert_eq!(config.client_idle_timeout("other"), Some(Duration::from_secs(3600)));
}

#[test]
fn a_domain_is_laid_over_the_pool_and_a_user_over_the_domain() {
    let config = accepted(
        "[pool]\nsize = 8\nmin = 4\nmax_overflow = 2\n\
         [domains.a]\nhosts = [\"db\"]\npool = { size = 6, query_timeout = \"9s\" }\n\
         [domains.b]\nhosts = [\"db\"]\n\
         [users.u]\npool = { size = 3, timeout = \"1s\" }\nquery_timeout = \"0s\"\n\
         pool_mode = \"session\"",
    );
    let domain = |name: &str| config.domains.iter().find(|d| &*d.name == name).unwrap();

    let other = config.pool_settings(domain("a"), "other", Mode::ReadWrite);
    assert_eq!((other.size, other.min, other.max_overflow), (6, 4, 2));
    assert_eq!(other.query_timeout, Some(Duration::from_secs(9)));
    assert_eq!(config.pool_settings(domain("b"), "other", Mode::ReadWrite).size, 8);
    let user = config.pool_settings(domain("a"), "u", Mode::ReadWrite);
    assert_eq!((user.size, user.max_overflow, user.query_timeout), (3, 2, None));
    assert_eq!((user.pool_mode, user.timeout), (PoolMode::Session, Duration::from_secs(1)));
    // The domain's min is more than the user's size, which goes before it.
    assert_eq!(user.min, 3);
}

#[test]
fn domains_have_their_names_databases_and_hosts() {
    let config = accepted(
        "[domains.plain]\nhosts = [\"/run/postgresql:5433\"]\n\
         [domains.\"*\"]\nhosts = [\"[::1]\"]\nuser = \"u\"\npassword = \"${NONE:}\"\n\
         connect_query = \"SELECT 1\"\nmax_connections = 9\n[hosts.\"[::1]:5432\"]\nmax_connections = 5",
    );

    let [catch_all, plain] = config.domains.as_slice() else { panic!("{:?}", config.domains) };
    assert_eq!((&*catch_all.name, catch_all.database.as_deref()), ("*", None));
    assert_eq!(catch_all.hosts, [HostAddr::Tcp { host: "::1".to_owned(), port: 5432 }]);
    assert_eq!((catch_all.user.as_deref(), &catch_all.password), (Some("u"), &None));
    assert_eq!(catch_all.connect_query.as_deref(), Some("SELECT 1"));
    assert_eq!(catch_all.max_connections, Some(9));
    assert_eq!(config.host_rules(&catch_all.hosts[0]).max_connections, Some(5));
    assert_eq!(plain.database.as_deref(), Some("plain"));
    assert_eq!(plain.hosts, [HostAddr::Unix { directory: "/run/postgresql".into(), port: 5433 }]);
    assert_eq!((plain.connect_query.as_deref(), plain.max_connections), (None, None));
}

#[test]
fn a_unix_socket_has_the_port_of_the_first_tcp_address() {
    let ports = |addresses: &str| -> Vec<u16> {
        let config = accepted(&format!("[listen]\naddresses = {addresses}"));
        let port = |address: &ListenAddr| match address {
            ListenAddr::Tcp { port, .. } | ListenAddr::Unix { port, .. } => *port,
        };
        config.listen.addresses.iter().map(port).collect()
    };

    assert_eq!(ports("[\"/run/a\", \"h:7000\", \"h:8000\", \"/run/b:9\"]"), [7000, 7000, 8000, 9]);
    assert_eq!(ports("[\"/run/a\"]"), [6432]);
}

#[test]
fn every_word_of_a_choice_means_something_else() {
    let distinct = |section: &str, key: &str, words: &[&str]| {
        let mut seen = Vec::new();
        for word in words {
            let mut config = accepted(&format!("[{section}]\n{key} = \"{word}\""));
            config.rows.clear();
            let config = format!("{config:?}");
            assert!(!seen.contains(&config), "{key} = {word}");
            seen.push(config);
        }
    };

    distinct("log", "level", &["error", "warn", "info", "debug", "trace"]);
    distinct("log", "format", &["text", "json"]);
    distinct("log", "statements", &["none", "slow", "all"]);
    distinct("auth", "method", &["trust", "md5", "scram-sha-256", "plain"]);
    distinct("pool", "pool_mode", &["transaction", "session", "statement"]);
}

proptest! {
    #[test]
    fn arbitrary_text_never_panics(text in "\\PC{0,200}") {
        drop(parsed(&text));
    }

    /// Text that gets past the syntax more often than noise does.
    #[test]
    fn arbitrary_keys_and_values_never_panic(
        table in "(listen|listen.tcp|log|auth|pool|domains.a|domains.a.pool|users.u|hosts.\"h:1\"|x)",
        key in "(size|min|timeout|hosts|user|password|method|users_file|level|addresses|pool|tls|y)",
        value in "(-?[0-9]{1,30}|true|\"[^\"\\\\]{0,20}\"|\\[\"[a-z:0-9/]{0,9}\"\\]|\\{ size = 1 \\}|1.5)",
    ) {
        drop(parsed(&format!("[{table}]\n{key} = {value}\n")));
    }
}
