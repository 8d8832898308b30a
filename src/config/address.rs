//! Addresses as written: `host:port`, `[::1]:port`, and directories of Unix sockets.

use std::path::PathBuf;

use super::error::Flaw;
use super::suggest::did_you_mean;
use super::{HostAddr, ListenAddr};

/// One of `listen.addresses`. `unix_port` is for a directory that names none.
pub(super) fn listen_addr(text: &str, unix_port: u16) -> Result<ListenAddr, Flaw> {
    if text.starts_with('/') {
        let (directory, port) = unix(text, unix_port)?;
        return Ok(ListenAddr::Unix { directory, port });
    }
    let (host, port) = tcp(text, None, Ports::Any)?;
    Ok(ListenAddr::Tcp { host, port })
}

/// One of a domain's `hosts`, or the name of a `[hosts."..."]`.
pub(super) fn host_addr(text: &str) -> Result<HostAddr, Flaw> {
    if text.starts_with('/') {
        let (directory, port) = unix(text, POSTGRES_PORT)?;
        return Ok(HostAddr::Unix { directory, port });
    }
    let (host, port) = tcp(text, Some(POSTGRES_PORT), Ports::Real)?;
    Ok(HostAddr::Tcp { host, port })
}

/// `host:port` to bind to.
pub(super) fn bind_addr(text: &str) -> Result<(String, u16), Flaw> {
    tcp(text, None, Ports::Any)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Ports {
    /// 0 too: a free one is taken.
    Any,
    Real,
}

/// No error quotes the text: people paste URLs with passwords here.
fn tcp(text: &str, default_port: Option<u16>, ports: Ports) -> Result<(String, u16), Flaw> {
    if text.contains("://") || text.contains('@') {
        return Err(Flaw::new("must be host:port, not a URL"));
    }
    let (host, port) = if let Some(bracketed) = text.strip_prefix('[') {
        let (host, rest) = bracketed
            .split_once(']')
            .ok_or_else(|| Flaw::new("\"[\" without its \"]\" in an address"))?;
        if host.parse::<std::net::Ipv6Addr>().is_err() {
            return Err(Flaw::new("what stands in brackets is no IPv6 address"));
        }
        if !rest.is_empty() && !rest.starts_with(':') {
            return Err(malformed());
        }
        (host, rest.strip_prefix(':'))
    } else {
        match text.split_once(':') {
            Some((_, port)) if port.contains(':') => {
                return Err(Flaw::new("an IPv6 address needs brackets, e.g. \"[::1]:5432\""));
            }
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        }
    };
    if host.is_empty() || host.contains(|c: char| c.is_whitespace() || c.is_control() || c == '/') {
        return Err(malformed());
    }
    let port = match port {
        Some(port) => port_number(port, ports)?,
        None => default_port.ok_or_else(|| Flaw::new("needs a port, e.g. \"127.0.0.1:6432\""))?,
    };
    if host == "*" {
        let every = format!("0.0.0.0:{port}");
        return Err(Flaw::new("\"*\" is not an address").suggest(Some(did_you_mean(&every))));
    }
    Ok((host.to_owned(), port))
}

/// `/directory:port` or `/directory`.
fn unix(text: &str, default_port: u16) -> Result<(PathBuf, u16), Flaw> {
    let (directory, port) = match text.rsplit_once(':') {
        Some((directory, port)) if !port.contains('/') => {
            (directory, port_number(port, Ports::Real)?)
        }
        Some(_) | None => (text, default_port),
    };
    // The kernel's bound on the whole path, socket name and final NUL included, is 108 bytes.
    let socket_bytes = directory.len() + "/.s.PGSQL.65535".len() + 1;
    if socket_bytes > 108 {
        return Err(Flaw::new("the path of this Unix socket would be longer than 107 bytes"));
    }
    Ok((PathBuf::from(directory), port))
}

fn port_number(text: &str, ports: Ports) -> Result<u16, Flaw> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let port = text.parse::<u16>().ok().filter(|_| digits);
    match (port, ports) {
        (Some(0) | None, Ports::Real) => Err(Flaw::new("a port is a number from 1 to 65535")),
        (None, Ports::Any) => Err(Flaw::new("a port is a number from 0 to 65535")),
        (Some(port), Ports::Any | Ports::Real) => Ok(port),
    }
}

fn malformed() -> Flaw {
    Flaw::new("must be host:port, [address]:port or an absolute directory")
}

/// Where `PostgreSQL` listens unless told otherwise.
const POSTGRES_PORT: u16 = 5432;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_read() {
        for (text, shown) in [
            ("db-primary:5433", "db-primary:5433"),
            ("db-primary", "db-primary:5432"),
            ("127.0.0.1:5432", "127.0.0.1:5432"),
            ("[::1]:5432", "[::1]:5432"),
            ("[::1]", "[::1]:5432"),
            ("/run/postgresql:5433", "/run/postgresql:5433"),
            ("/run/postgresql", "/run/postgresql:5432"),
            ("/run/a:b/c", "/run/a:b/c:5432"),
        ] {
            assert_eq!(host_addr(text).unwrap().to_string(), shown, "{text}");
        }
    }

    #[test]
    fn what_is_no_host_is_refused_with_the_reason() {
        for (text, reason) in [
            ("", "must be host:port, [address]:port or an absolute directory"),
            (":5432", "must be host:port, [address]:port or an absolute directory"),
            ("a b:1", "must be host:port, [address]:port or an absolute directory"),
            ("run/postgresql", "must be host:port, [address]:port or an absolute directory"),
            ("[::1]x", "must be host:port, [address]:port or an absolute directory"),
            ("postgres://u:hunter2@h/db", "must be host:port, not a URL"),
            ("u:hunter2@h", "must be host:port, not a URL"),
            ("::1", "an IPv6 address needs brackets, e.g. \"[::1]:5432\""),
            ("[::1", "\"[\" without its \"]\" in an address"),
            ("[db]:1", "what stands in brackets is no IPv6 address"),
            ("db:0", "a port is a number from 1 to 65535"),
            ("db:", "a port is a number from 1 to 65535"),
            ("db:+1", "a port is a number from 1 to 65535"),
            ("db:65536", "a port is a number from 1 to 65535"),
            ("/run:x", "a port is a number from 1 to 65535"),
        ] {
            assert_eq!(host_addr(text).unwrap_err().problem, reason, "{text}");
        }
        let long = format!("/{}", "d".repeat(100));
        assert_eq!(
            host_addr(&long).unwrap_err().problem,
            "the path of this Unix socket would be longer than 107 bytes"
        );
    }

    #[test]
    fn listeners_may_take_a_free_port_but_must_say_so() {
        assert_eq!(bind_addr("localhost:0"), Ok(("localhost".to_owned(), 0)));
        assert_eq!(
            listen_addr("localhost", 6432).unwrap_err().problem,
            "needs a port, e.g. \"127.0.0.1:6432\""
        );
        assert_eq!(
            listen_addr("*:6432", 6432).unwrap_err().suggestion.as_deref(),
            Some("did you mean \"0.0.0.0:6432\"?")
        );
        assert_eq!(
            listen_addr("/run/pgweir", 7000),
            Ok(ListenAddr::Unix { directory: PathBuf::from("/run/pgweir"), port: 7000 })
        );
    }
}
