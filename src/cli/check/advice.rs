//! What a good configuration may still get wrong: settings that fight, users that cannot log in.

use crate::config::{AuthMethod, Config, Domain, ListenAddr, format_duration};

use super::SecretKind;

/// A line for everything worth a second look.
pub(super) fn warnings(config: &Config, secrets: &[(String, SecretKind)]) -> Vec<String> {
    let mut warnings = open_doors(config);
    warnings.extend(config.warnings.iter().cloned());
    for domain in &config.domains {
        warnings.extend(fights(domain));
        warnings.extend(shadowed_database(config, domain));
        warnings.extend(server_logins(config, domain, secrets));
    }
    warnings.extend(host_rules(config));
    warnings.extend(user_rules(config, secrets));
    warnings
}

/// Addresses where everybody is let in.
fn open_doors(config: &Config) -> Vec<String> {
    if config.auth.method != AuthMethod::Trust {
        return Vec::new();
    }
    let reachable = config.listen.addresses.iter().filter_map(|address| match address {
        ListenAddr::Tcp { host, port } if !is_loopback(host) => Some(format!("{host}:{port}")),
        ListenAddr::Tcp { .. } | ListenAddr::Unix { .. } => None,
    });
    reachable
        .map(|address| format!("listen: method \"trust\" lets everybody in who reaches {address}"))
        .collect()
}

fn is_loopback(host: &str) -> bool {
    host == "localhost"
        || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Settings of one domain that get into each other's way.
fn fights(domain: &Domain) -> Vec<String> {
    let pool = &domain.pool;
    let mut fights = Vec::new();
    let mut fight = |text: String| fights.push(format!("domain \"{}\": {text}", domain.name));
    if let Some(cap) = domain.max_connections
        && cap < pool.size + pool.max_overflow
    {
        let (size, overflow) = (pool.size, pool.max_overflow);
        fight(format!(
            "max_connections, {cap}, is less than one pool may want: size {size} + max_overflow \
             {overflow}"
        ));
    }
    if let (Some(recycle), Some(idle)) = (pool.recycle, pool.idle_timeout)
        && recycle < idle
    {
        fight(format!(
            "no server gets as old as idle_timeout, {}: recycle is {}",
            format_duration(idle),
            format_duration(recycle)
        ));
    }
    if let (Some(query), Some(transaction)) = (pool.query_timeout, pool.transaction_timeout)
        && query > transaction
    {
        fight(format!(
            "transaction_timeout, {}, ends every query before query_timeout, {}",
            format_duration(transaction),
            format_duration(query)
        ));
    }
    if pool.statement_timeout.is_some() && domain.server_options.contains_key("statement_timeout") {
        fight("statement_timeout is both in pool and in server_options".to_owned());
    }
    fights
}

/// A `database` that clients cannot name, because it is another domain's name.
fn shadowed_database(config: &Config, domain: &Domain) -> Option<String> {
    let database = domain.database.as_deref()?;
    let other = config.domains.iter().find(|other| &*other.name == database)?;
    if other.name == domain.name || other.database == domain.database {
        return None;
    }
    let served = other.database.as_deref().unwrap_or("the one they name");
    Some(format!(
        "domain \"{}\": clients that name its database, \"{database}\", get the domain of that \
         name, which is the database \"{served}\"",
        domain.name
    ))
}

/// Users that the domain's servers would turn away.
fn server_logins(
    config: &Config,
    domain: &Domain,
    secrets: &[(String, SecretKind)],
) -> Vec<String> {
    let name = &domain.name;
    if let Some(user) = &domain.user {
        let known =
            |(other, kind): &(String, SecretKind)| **other == **user && *kind == SecretKind::Plain;
        if domain.password.is_some() || secrets.iter().any(known) {
            return Vec::new();
        }
        return vec![format!(
            "domain \"{name}\": user \"{user}\" has no password: only a server that asks for none \
             lets it in"
        )];
    }
    let mut warnings = Vec::new();
    if config.auth.users_file.is_none() {
        warnings.push(format!(
            "domain \"{name}\": without a users_file clients' own users log in only to a server \
             that asks for no password"
        ));
    }
    let with = |wanted: SecretKind| -> Vec<&str> {
        let users = secrets.iter().filter(|(_, kind)| *kind == wanted);
        users.map(|(user, _)| user.as_str()).collect()
    };
    if let Some(users) = listed(&with(SecretKind::Scram)) {
        warnings.push(format!(
            "domain \"{name}\": no login to a server that asks for a password for {users}: users_file \
             has a SCRAM verifier, which cannot log in; give the plain secret, or the domain a user"
        ));
    }
    if let Some(users) = listed(&with(SecretKind::Md5)) {
        warnings.push(format!(
            "domain \"{name}\": login only to a server that asks for md5 for {users}: users_file \
             has an md5 hash; give the plain secret, or the domain a user"
        ));
    }
    warnings
}

/// Names in a sentence, the first few of many.
fn listed(names: &[&str]) -> Option<String> {
    let shown: Vec<_> =
        names.iter().take(NAMES_MAX).map(|name| format!("\"{}\"", name.escape_debug())).collect();
    match names.len() {
        0 => None,
        all if all > NAMES_MAX => {
            Some(format!("{} and {} more", shown.join(", "), all - NAMES_MAX))
        }
        _ => Some(shown.join(", ")),
    }
}

fn host_rules(config: &Config) -> Vec<String> {
    let mut warnings = Vec::new();
    for (host, rules) in &config.hosts {
        let here = || config.domains.iter().filter(|domain| domain.hosts.contains(host));
        if here().next().is_none() {
            warnings.push(format!("hosts.\"{host}\": no domain has this host"));
        }
        let wanted: usize = here().filter(|d| d.user.is_some()).map(|d| d.pool.min).sum();
        if let Some(cap) = rules.max_connections
            && wanted > cap
        {
            warnings.push(format!(
                "hosts.\"{host}\": max_connections, {cap}, is less than the sum of its domains' \
                 min, {wanted}"
            ));
        }
    }
    warnings
}

fn user_rules(config: &Config, secrets: &[(String, SecretKind)]) -> Vec<String> {
    let mut warnings = Vec::new();
    for (user, rules) in &config.users {
        let logs_in =
            config.auth.method == AuthMethod::Trust || secrets.iter().any(|(name, _)| name == user);
        let is_servers = config.domains.iter().any(|d| d.user.as_deref() == Some(user));
        if !logs_in && !is_servers {
            warnings.push(format!("users.{user}: users_file has no such user"));
        }
        if let (Some(cap), Some(size)) = (rules.max_connections, rules.pool.size)
            && cap < size
        {
            warnings
                .push(format!("users.{user}: max_connections, {cap}, is less than size, {size}"));
        }
    }
    warnings
}

/// How many names a warning lists.
const NAMES_MAX: usize = 5;
