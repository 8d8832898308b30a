//! `pgweir check`: every problem of a configuration, or what it comes to.

mod advice;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use crate::config::{
    self, Config, Domain, Environment, HostAddr, Mode, PoolSettings, ProcessEnvironment,
};

/// What the users file holds for a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecretKind {
    Plain,
    Md5,
    Scram,
}

/// Reads the text of a users file: each user with what it holds for it, or every problem as a line.
pub type UsersParser<'a> = &'a dyn Fn(&str) -> Result<Vec<(String, SecretKind)>, Vec<String>>;

/// Checks the configuration in `path`: every problem on stderr and 1, or a summary on stdout and 0.
pub fn run(path: &Path, parse_users: UsersParser<'_>) -> ExitCode {
    match examine(path, &ProcessEnvironment, parse_users) {
        Ok(summary) => {
            // A reader that has seen enough (`| head`) is no failure of the check.
            drop(std::io::stdout().write_all(summary.as_bytes()));
            ExitCode::SUCCESS
        }
        Err(problems) => {
            drop(std::io::stderr().write_all(problems.as_bytes()));
            ExitCode::FAILURE
        }
    }
}

/// The summary, or the problems, a line each.
fn examine(
    path: &Path,
    env: &dyn Environment,
    parse_users: UsersParser<'_>,
) -> Result<String, String> {
    let config = config::load(path, env).map_err(|errors| format!("{errors}\n"))?;
    let secrets = read_users(&config, env, parse_users)?;
    Ok(format!("{}: good\n\n{}", path.display(), summary(&config, &secrets)))
}

fn read_users(
    config: &Config,
    env: &dyn Environment,
    parse_users: UsersParser<'_>,
) -> Result<Vec<(String, SecretKind)>, String> {
    let Some(file) = &config.auth.users_file else { return Ok(Vec::new()) };
    let text =
        env.read(file).map_err(|error| format!("{}: cannot be read: {error}\n", file.display()))?;
    parse_users(&text).map_err(|problems| {
        let lines = problems.iter().map(|problem| format!("{}: {problem}", file.display()));
        lines.collect::<Vec<_>>().join("\n") + "\n"
    })
}

/// What the configuration comes to: its domains, the sums of its caps, and what fights what.
pub fn summary(config: &Config, secrets: &[(String, SecretKind)]) -> String {
    let bounds = host_bounds(config, secrets);
    let mut parts = vec![
        domain_table(config),
        list(
            "Server connections that may be open at once, besides cancel requests",
            bounds.iter().map(|(host, bound)| format!("{host}: {bound}")),
        ),
    ];
    let warnings = advice::warnings(config, secrets);
    if !warnings.is_empty() {
        parts.push(list("Warnings", warnings));
    }
    parts.join("\n")
}

fn list(title: &str, items: impl IntoIterator<Item = String>) -> String {
    let mut out = format!("{title}:\n");
    for item in items {
        out.push_str("  ");
        out.push_str(&item);
        out.push('\n');
    }
    out
}

fn domain_table(config: &Config) -> String {
    let mut rows = vec![DOMAIN_HEAD.map(str::to_owned)];
    for domain in &config.domains {
        let PoolSettings { pool_mode, size, min, max_overflow, .. } = &*domain.pool;
        rows.push([
            domain.name.to_string(),
            domain.hosts.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
            domain.database.as_deref().unwrap_or("the client's").to_owned(),
            domain.user.as_deref().unwrap_or("the client's").to_owned(),
            pool_mode.as_str().to_owned(),
            min.to_string(),
            size.to_string(),
            max_overflow.to_string(),
            domain.max_connections.map_or_else(|| "-".to_owned(), |cap| cap.to_string()),
        ]);
    }
    align(&rows)
}

/// Columns as wide as their widest cell.
fn align<const N: usize>(rows: &[[String; N]]) -> String {
    let mut widths = [0; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut out = String::new();
    for row in rows {
        let cells: Vec<_> =
            row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        out.push_str(cells.join("  ").trim_end());
        out.push('\n');
    }
    out
}

/// The most servers that all domains together may open.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Bound {
    /// `None`: no bound.
    most: Option<usize>,
    /// How it comes about.
    because: String,
}

impl std::fmt::Display for Bound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.most {
            Some(most) => write!(f, "{most}")?,
            None => f.write_str("no bound")?,
        }
        write!(f, " ({})", self.because)
    }
}

fn host_bounds(config: &Config, secrets: &[(String, SecretKind)]) -> Vec<(HostAddr, Bound)> {
    let mut parts: BTreeMap<&HostAddr, Vec<(&str, Option<usize>)>> = BTreeMap::new();
    for domain in &config.domains {
        let most = domain_bound(config, domain, secrets);
        for host in &domain.hosts {
            parts.entry(host).or_default().push((&domain.name, most));
        }
    }
    parts
        .into_iter()
        .map(|(host, parts)| {
            let sum = parts.iter().map(|(_, most)| *most).sum::<Option<usize>>();
            let mut because: Vec<_> = parts
                .iter()
                .map(|(domain, most)| match most {
                    Some(most) => format!("{domain} {most}"),
                    None => format!("{domain} no bound"),
                })
                .collect();
            let cap = config.host_rules(host).max_connections;
            because.extend(cap.map(|cap| format!("the host's max_connections {cap}")));
            (host.clone(), Bound { most: smaller(sum, cap), because: because.join(", ") })
        })
        .collect()
}

/// The most servers that `domain` may open. `None`: no bound.
fn domain_bound(
    config: &Config,
    domain: &Domain,
    secrets: &[(String, SecretKind)],
) -> Option<usize> {
    let pools = match (&domain.database, &domain.user) {
        // A pool for each database that clients come up with.
        (None, _) => None,
        (Some(_), Some(user)) => Some(pool_bound(config, domain, user)),
        (Some(_), None) if config.auth.method == config::AuthMethod::Trust => None,
        (Some(_), None) => {
            Some(secrets.iter().map(|(user, _)| pool_bound(config, domain, user)).sum())
        }
    };
    smaller(pools, domain.max_connections)
}

fn pool_bound(config: &Config, domain: &Domain, user: &str) -> usize {
    // Which modes are used is the clients' business: each has a pool of its own when it is.
    let pool = config.pool_settings(domain, user, Mode::ReadWrite);
    let most = pool.size + pool.max_overflow;
    config.user_rules(user).max_connections.map_or(most, |cap| most.min(cap))
}

/// The smaller of two bounds, of which `None` is none.
fn smaller(a: Option<usize>, b: Option<usize>) -> Option<usize> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

const DOMAIN_HEAD: [&str; 9] =
    ["domain", "hosts", "database", "user", "mode", "min", "size", "overflow", "cap"];
