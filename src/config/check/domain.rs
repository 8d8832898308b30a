//! `[domains.NAME]`, each with its pool over `[pool]`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::super::address::host_addr;
use super::super::error::{At, Flaw};
use super::super::raw::{Table, View};
use super::super::{Domain, Failover, HealthRules, HostAddr, OnPrimaryLoss, PoolSettings, Secret};
use super::modes::same_in_all_modes;
use super::{Check, pool_mode, some_unless_0, unless_zero};

impl Check<'_> {
    pub(super) fn domains(&mut self, root: &Table) -> Vec<Arc<Domain>> {
        let tables = root.named("domains");
        if tables.is_empty() && !root.is_broken("domains") {
            let at = At { line: None, key: "domains".to_owned() };
            self.problems.add(at, Flaw::new("at least one [domains.NAME] is needed"));
        }
        let defaults = root.table("pool");
        self.pool_problems(View::of(defaults));
        let mut domains = Vec::new();
        for (name, table) in tables {
            let view = View::over(table.table("pool"), defaults);
            self.pool_problems(view);
            let mut domain = self.domain(name, table, pool(view));
            domain.modes = self.modes(table, defaults);
            domain.tls = self.ladders(table.table("tls"), root, &domain.hosts);
            domains.push(Arc::new(domain));
        }
        self.ambiguous_databases(tables, &domains);
        self.ambiguous_aliases(tables, &domains);
        domains
    }

    fn domain(&mut self, name: &str, table: &Table, pool: PoolSettings) -> Domain {
        let view = View::of(table);
        self.domain_name(name, table);
        let database = self.non_empty(table, "database");
        let domain = Domain {
            name: Arc::from(name),
            database: match database {
                None if name == CATCH_ALL => None,
                database => Some(Arc::from(database.as_deref().unwrap_or(name))),
            },
            hosts: self.domain_hosts(table),
            health: health(table.table("health")),
            failover: failover(table.table("failover")),
            route_read_only: view.flag("route_read_only"),
            causal_reads: view.flag("causal_reads"),
            user: self.non_empty(table, "user").map(Arc::from),
            password: view
                .text_if_set("password")
                .filter(|secret| !secret.is_empty())
                .map(Secret::new),
            modes: same_in_all_modes(&pool),
            pool: Arc::new(pool),
            max_connections: some_unless_0(view.count("max_connections")),
            server_options: self.server_options(table),
            connect_query: Some(view.text("connect_query")).filter(|query| !query.is_empty()),
            tls: BTreeMap::new(),
        };
        if domain.password.is_some() && domain.user.is_none() {
            self.unless_broken(table, "user", "password", "a password without a user");
        }
        if let (Some(cap), Some(_)) = (domain.max_connections, &domain.user)
            && domain.pool.min > cap
        {
            let problem = format!("below the pool's min, {}", domain.pool.min);
            self.problem(table, "max_connections", &problem);
        }
        domain
    }

    fn domain_name(&mut self, name: &str, table: &Table) {
        let problem = match name {
            "" => "a domain's name must not be empty",
            "pgbouncer" | "pgweir" => "this name is reserved for the console",
            _ if name.contains('\0') => "must not hold a NUL character",
            _ => return,
        };
        self.problems.add(table.own_place(), Flaw::new(problem));
    }

    /// A name that is either left out or says something.
    fn non_empty(&mut self, table: &Table, key: &str) -> Option<String> {
        let text = View::of(table).text_if_set(key)?;
        if text.is_empty() {
            let flaw = Flaw::new("must not be empty");
            self.problems.add(table.at(key), flaw.suggest(Some("leave the key out".to_owned())));
        }
        Some(text)
    }

    fn domain_hosts(&mut self, table: &Table) -> Vec<HostAddr> {
        if table.is_broken("hosts") {
            return Vec::new();
        }
        let items = match table.leaf("hosts") {
            Some(_) => View::of(table).list("hosts"),
            None => Vec::new(),
        };
        let mut hosts = Vec::new();
        for item in &items {
            match host_addr(&item.text) {
                Ok(host) if hosts.contains(&host) => {
                    self.item(table, "hosts", &item.span, Flaw::new("listed twice"));
                }
                Ok(host) => hosts.push(host),
                Err(flaw) => self.item(table, "hosts", &item.span, flaw),
            }
        }
        if items.is_empty() {
            self.problem(table, "hosts", "at least one host is needed");
        }
        hosts
    }

    fn server_options(&mut self, table: &Table) -> BTreeMap<String, String> {
        let options = View::of(table).map("server_options");
        for (name, _) in &options {
            let problem = if RESERVED_OPTIONS.contains(&name.as_str()) {
                "pgweir itself says this to the server"
            } else if name.starts_with("pgweir.") || name.starts_with("_pq_.") {
                "no such setting reaches a server"
            } else if is_setting_name(name) {
                continue;
            } else {
                "not the name of a setting"
            };
            let problem = format!("{}: {problem}", name.escape_debug());
            self.problem(table, "server_options", &problem);
        }
        options.into_iter().collect()
    }

    /// What a pool's settings say against each other.
    pub(super) fn pool_problems(&mut self, view: View<'_>) {
        let PoolSettings { min, size, statement_timeout, prepared_statements, .. } = pool(view);
        if min > size && !view.is_broken("min") && !view.is_broken("size") {
            let problem = format!("min, {min}, is more than size, {size}");
            self.problems.add(view.at(&["min", "size"]), Flaw::new(problem));
        }
        let keys = ["reuse_unnamed", "prepared_statements"];
        let is_sound = !keys.iter().any(|key| view.is_broken(key));
        if pool(view).reuse_unnamed && prepared_statements == 0 && is_sound {
            let problem =
                "reuse_unnamed with prepared_statements = 0: servers keep none to be reused";
            self.problems.add(view.at(&keys), Flaw::new(problem));
        }
        let too_long = Duration::from_millis(STATEMENT_TIMEOUT_MILLIS_MAX);
        if statement_timeout.is_some_and(|timeout| timeout > too_long) {
            let problem = "PostgreSQL takes at most 2147483647 ms (24 days)";
            self.problems.add(view.at(&["statement_timeout"]), Flaw::new(problem));
        }
    }

    /// A client may name a domain by its `database`: it has to be clear which one that is.
    fn ambiguous_databases(&mut self, tables: &[(String, Table)], domains: &[Arc<Domain>]) {
        for ((name, table), domain) in tables.iter().zip(domains) {
            let Some(database) = domain.database.as_deref().filter(|_| name != CATCH_ALL) else {
                continue;
            };
            let same = |other: &&Arc<Domain>| {
                other.database.as_deref() == Some(database) && &*other.name != CATCH_ALL
            };
            let first = domains.iter().find(same).map(|first| Arc::clone(&first.name));
            let named = domains.iter().any(|other| &*other.name == database);
            if let Some(first) = first.filter(|first| !named && **first != **name) {
                // The database may come from a secret store; the domain's name never does.
                let flaw =
                    Flaw::new(format!("domain \"{}\" has this database too", first.escape_debug()));
                let way_out = "give one of the two the database's name, so that clients who name \
                               the database get that one";
                self.problems.add(table.at("database"), flaw.suggest(Some(way_out.to_owned())));
            }
        }
    }

    /// A problem of `key` that is none if `cause` was written wrong.
    fn unless_broken(&mut self, table: &Table, cause: &str, key: &str, problem: &str) {
        if !table.is_broken(cause) {
            self.problem(table, key, problem);
        }
    }
}

fn health(table: &Table) -> HealthRules {
    let view = View::of(table);
    HealthRules {
        interval: view.duration("interval"),
        timeout: view.duration("timeout"),
        down_after: u32::try_from(view.count("down_after")).unwrap_or(u32::MAX),
        max_lag: view.duration("max_lag"),
        resolve: view.duration("resolve"),
    }
}

fn failover(table: &Table) -> Failover {
    let view = View::of(table);
    Failover {
        timeout: view.duration("timeout"),
        on_primary_loss: match view.text("on_primary_loss").as_str() {
            "read_only" => OnPrimaryLoss::ReadOnly,
            "error" => OnPrimaryLoss::Error,
            _ => OnPrimaryLoss::Wait,
        },
    }
}

/// The settings of one pool.
pub(super) fn pool(view: View<'_>) -> PoolSettings {
    PoolSettings {
        pool_mode: pool_mode(&view.text("pool_mode")),
        size: view.count("size"),
        min: view.count("min"),
        max_overflow: view.count("max_overflow"),
        overflow_linger: view.duration("overflow_linger"),
        timeout: view.duration("timeout"),
        max_waiting: some_unless_0(view.count("max_waiting")),
        recycle: unless_zero(view.duration("recycle")),
        idle_timeout: unless_zero(view.duration("idle_timeout")),
        pre_ping: view.flag("pre_ping"),
        pre_ping_idle: view.duration("pre_ping_idle"),
        connect_timeout: view.duration("connect_timeout"),
        connect_attempts: some_unless_0(view.count("connect_attempts"))
            .map(|attempts| u32::try_from(attempts).unwrap_or(u32::MAX)),
        connects_per_host: view.count("connects_per_host"),
        query_timeout: unless_zero(view.duration("query_timeout")),
        transaction_timeout: unless_zero(view.duration("transaction_timeout")),
        idle_in_transaction_timeout: unless_zero(view.duration("idle_in_transaction_timeout")),
        prepared_statements: view.count("prepared_statements"),
        reuse_unnamed: view.flag("reuse_unnamed"),
        defer_begin: view.flag("defer_begin"),
        wait_notice: unless_zero(view.duration("wait_notice")),
        adaptive: view.flag("adaptive"),
        statement_timeout: view.duration_if_set("statement_timeout"),
    }
}

fn is_setting_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.'))
}

/// The name of the catch-all domain.
pub(super) const CATCH_ALL: &str = "*";

/// Fields of a `StartupMessage` that are no settings (`PostgreSQL` documentation, message formats).
const RESERVED_OPTIONS: [&str; 4] = ["user", "database", "replication", "options"];

/// `statement_timeout` is a signed 32-bit number of milliseconds in `PostgreSQL`.
const STATEMENT_TIMEOUT_MILLIS_MAX: u64 = 2_147_483_647;
