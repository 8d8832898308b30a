//! The file as written → [`Config`]: what values say together, all problems at once.

mod domain;
mod modes;
#[cfg(test)]
mod tests;
mod tls;
mod user;

use std::time::Duration;

use super::address::{bind_addr, host_addr, listen_addr};
use super::error::{Flaw, Problems};
use super::raw::{Source, Table, View};
use super::{
    Admin, Auth, AuthMethod, Config, HostRules, Http, Listen, ListenAddr, Log, LogFormat, LogLevel,
    LogStatements, PoolMode, Runtime,
};

/// Builds the configuration. It holds stand-ins where problems were found, so it may be used only if
/// none were.
pub(super) fn check(root: &Table, source: Source<'_>, problems: &mut Problems) -> Config {
    let mut check = Check { source, problems, warnings: Vec::new() };
    let mut config = Config {
        listen: check.listen(root.table("listen")),
        http: check.http(root.table("http")),
        log: log(root.table("log")),
        runtime: runtime(root.table("runtime")),
        auth: check.auth(root.table("auth")),
        admin: check.admin(root.table("admin")),
        domains: check.domains(root),
        hosts: check.hosts(root),
        users: check.users(root),
        rows: Vec::new(),
        warnings: Vec::new(),
    };
    config.warnings = check.warnings;
    config
}

struct Check<'a> {
    source: Source<'a>,
    problems: &'a mut Problems,
    /// What is no problem, but may become one.
    warnings: Vec<String>,
}

impl Check<'_> {
    fn listen(&mut self, table: &Table) -> Listen {
        let view = View::of(table);
        let tcp = View::of(table.table("tcp"));
        Listen {
            addresses: self.listen_addresses(table),
            max_clients: view.count("max_clients"),
            max_unauthenticated: view.count("max_unauthenticated"),
            login_timeout: view.duration("login_timeout"),
            client_idle_timeout: unless_zero(view.duration("client_idle_timeout")),
            keepalive: tcp.flag("keepalive"),
            keepalive_idle: tcp.duration("keepalive_idle"),
            user_timeout: unless_zero(tcp.duration("user_timeout")),
            max_message: usize::try_from(view.size("max_message")).unwrap_or(usize::MAX),
            max_statements_per_client: view.count("max_statements_per_client"),
            flush_timeout: view.duration("flush_timeout"),
            tls: self.offer(table.table("tls")),
        }
    }

    fn listen_addresses(&mut self, table: &Table) -> Vec<ListenAddr> {
        let items = View::of(table).list("addresses");
        if items.is_empty() {
            self.problem(table, "addresses", "at least one address is needed");
        }
        let unix_port = items
            .iter()
            .filter(|item| !item.text.starts_with('/'))
            .find_map(|item| bind_addr(&item.text).ok())
            .map_or(LISTEN_PORT, |(_, port)| port);
        let mut addresses: Vec<ListenAddr> = Vec::new();
        for item in &items {
            match listen_addr(&item.text, unix_port) {
                Ok(address) if addresses.contains(&address) && !takes_a_free_port(&address) => {
                    self.item(table, "addresses", &item.span, Flaw::new("listed twice"));
                }
                Ok(address) => addresses.push(address),
                Err(flaw) => self.item(table, "addresses", &item.span, flaw),
            }
        }
        addresses
    }

    fn http(&mut self, table: &Table) -> Http {
        let view = View::of(table);
        let address = match view.text("address") {
            text if text.is_empty() => None,
            text => {
                bind_addr(&text).map_err(|flaw| self.problems.add(table.at("address"), flaw)).ok()
            }
        };
        Http { address, seed_metrics: view.flag("seed_metrics") }
    }

    fn auth(&mut self, table: &Table) -> Auth {
        let method_name = View::of(table).text("method");
        let method = match method_name.as_str() {
            "trust" => AuthMethod::Trust,
            "plain" => AuthMethod::Plain,
            "md5" => AuthMethod::Md5,
            _ => AuthMethod::ScramSha256,
        };
        let users_file = self.users_file(table, &method_name);
        Auth { method, users_file }
    }

    /// The users file, proved readable. Without need of one only a file that is named must be there.
    fn users_file(&mut self, table: &Table, method: &str) -> Option<std::path::PathBuf> {
        let view = View::of(table);
        let needed = method != "trust" && !table.is_broken("method");
        let name = view.text("users_file");
        if table.is_broken("users_file") {
            return None;
        }
        if name.is_empty() {
            if needed {
                let problem = format!("method \"{method}\" needs a users_file");
                self.problem(table, "users_file", &problem);
            }
            return None;
        }
        let path = self.source.folder.join(&name);
        match self.source.env.read(&path) {
            Ok(_) => Some(path),
            Err(error) => {
                if needed || view.is_written("users_file") {
                    let problem = format!("{} cannot be read: {error}", path.display());
                    self.problem(table, "users_file", &problem);
                }
                None
            }
        }
    }

    fn admin(&mut self, table: &Table) -> Admin {
        Admin { users: self.names(table, "users"), stats_users: self.names(table, "stats_users") }
    }

    fn names(&mut self, table: &Table, key: &str) -> Vec<String> {
        let items = View::of(table).list(key);
        for item in items.iter().filter(|item| item.text.is_empty()) {
            self.item(table, key, &item.span, Flaw::new("a user's name must not be empty"));
        }
        items.into_iter().map(|item| item.text).collect()
    }

    fn hosts(&mut self, root: &Table) -> std::collections::BTreeMap<super::HostAddr, HostRules> {
        let mut hosts = std::collections::BTreeMap::new();
        for (name, table) in root.named("hosts") {
            let view = View::of(table);
            let rules = HostRules {
                max_connections: some_unless_0(view.count("max_connections")),
                weight: u32::try_from(view.count("weight")).unwrap_or(1),
            };
            match host_addr(name) {
                Ok(host) => {
                    let twice = hosts.insert(host, rules).is_some();
                    if twice {
                        let problem = "another [hosts.\"...\"] is the same host";
                        self.problems.add(table.own_place(), Flaw::new(problem));
                    }
                }
                Err(flaw) => self.problems.add(table.own_place(), flaw),
            }
        }
        hosts
    }

    /// A problem of one key. Silent if the key was written wrong: that is reported already.
    fn problem(&mut self, table: &Table, key: &str, problem: &str) {
        if !table.is_broken(key) {
            self.problems.add(table.at(key), Flaw::new(problem));
        }
    }

    /// A problem of one element of a list.
    fn item(&mut self, table: &Table, key: &str, span: &std::ops::Range<usize>, flaw: Flaw) {
        let mut at = table.at(key);
        // A default's span means nothing in this file.
        if table.leaf(key).is_some() {
            at.line = Some(self.source.lines.of_span(span));
        }
        self.problems.add(at, flaw);
    }
}

fn log(table: &Table) -> Log {
    let view = View::of(table);
    Log {
        level: match view.text("level").as_str() {
            "error" => LogLevel::Error,
            "warn" => LogLevel::Warn,
            "debug" => LogLevel::Debug,
            "trace" => LogLevel::Trace,
            _ => LogLevel::Info,
        },
        format: match view.text("format").as_str() {
            "json" => LogFormat::Json,
            _ => LogFormat::Text,
        },
        statements: match view.text("statements").as_str() {
            "none" => LogStatements::None,
            "all" => LogStatements::All,
            _ => LogStatements::Slow,
        },
        slow_query: view.duration("slow_query"),
    }
}

fn runtime(table: &Table) -> Runtime {
    let view = View::of(table);
    Runtime { workers: view.count("workers"), shutdown_timeout: view.duration("shutdown_timeout") }
}

fn pool_mode(name: &str) -> PoolMode {
    match name {
        "session" => PoolMode::Session,
        "statement" => PoolMode::Statement,
        _ => PoolMode::Transaction,
    }
}

/// `"0s"` is never.
fn unless_zero(duration: Duration) -> Option<Duration> {
    Some(duration).filter(|duration| !duration.is_zero())
}

/// 0 is no bound.
fn some_unless_0(count: usize) -> Option<usize> {
    Some(count).filter(|count| *count > 0)
}

fn takes_a_free_port(address: &ListenAddr) -> bool {
    matches!(address, ListenAddr::Tcp { port: 0, .. })
}

/// The port of a Unix socket if there is no TCP address to take it from.
const LISTEN_PORT: u16 = 6432;
