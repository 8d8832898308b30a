//! pgweir itself, in this process, before the throwaway cluster.

use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;

use thiserror::Error;

use super::folder::{Folder, FolderError};
use super::samples::{PASSWORD, SAMPLES, USER};
use crate::app::{self, Running, StartError};
use crate::config::{self, ConfigErrors, ProcessEnvironment};

/// Where pgweir listens: for clients, and for HTTP.
#[derive(Debug)]
pub(super) struct Ports {
    clients: Port,
    http: Port,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Port {
    /// As the user said; 0 is any.
    Wanted(u16),
    Usual(u16),
    /// The usual one is taken.
    AnyBut(u16),
}

#[derive(Debug, Error)]
pub(super) enum ProxyError {
    #[error(transparent)]
    Folder(#[from] FolderError),
    #[error("the demo's own configuration is wrong:\n{0}")]
    Config(#[from] ConfigErrors),
    #[error("cannot log: {0}")]
    Log(#[from] tracing::dispatcher::SetGlobalDefaultError),
    #[error(transparent)]
    Start(#[from] StartError),
}

impl Ports {
    /// Those that the user named, else the usual ones, else free ones.
    pub(super) fn choose(clients: Option<u16>, http: Option<u16>) -> Self {
        Self { clients: Port::choose(clients, CLIENTS), http: Port::choose(http, HTTP) }
    }

    /// A line for each usual port that is taken.
    pub(super) fn notes(&self) -> Vec<String> {
        let note = |port, what, option| match port {
            Port::AnyBut(taken) => Some(format!(
                "Port {taken} is taken, so {what} another one; {option} PORT chooses it."
            )),
            Port::Wanted(_) | Port::Usual(_) => None,
        };
        let notes = [
            note(self.clients, "pgweir listens at", "--port"),
            note(self.http, "metrics and status have", "--http-port"),
        ];
        notes.into_iter().flatten().collect()
    }
}

impl Port {
    fn choose(wanted: Option<u16>, usual: u16) -> Self {
        match wanted {
            Some(port) => Self::Wanted(port),
            None if is_free(usual) => Self::Usual(usual),
            None => Self::AnyBut(usual),
        }
    }

    /// What to bind; 0 is any.
    const fn number(self) -> u16 {
        match self {
            Self::Wanted(port) | Self::Usual(port) => port,
            Self::AnyBut(_) => 0,
        }
    }
}

fn is_free(port: u16) -> bool {
    let bound = TcpListener::bind((Ipv4Addr::LOCALHOST, port));
    !bound.is_err_and(|error| error.kind() == io::ErrorKind::AddrInUse)
}

/// Writes a configuration into `folder` and serves it. Also says where that configuration is.
pub(super) fn start(
    folder: &Folder,
    ports: &Ports,
    postgres_port: u16,
) -> Result<(Running, PathBuf), ProxyError> {
    let text = configuration(ports, postgres_port);
    let path = folder.write("pgweir.toml", &text)?;
    folder.write("users.txt", &format!("\"{USER}\" \"{PASSWORD}\"\n"))?;
    let config = config::parse(&text, &path, &ProcessEnvironment)?;
    crate::telemetry::log::init(&config.log)?;
    Ok((app::start(config)?, path))
}

/// config/three-domains.toml with smaller pools, so that one sees them shared.
fn configuration(ports: &Ports, postgres_port: u16) -> String {
    let process = format!(
        "# What `pgweir demo` runs on.\n\n\
         [listen]\naddresses = [\"127.0.0.1:{}\"]\n\n\
         [http]\naddress = \"127.0.0.1:{}\"\n\n\
         [log]\nlevel = \"warn\"\nstatements = \"none\"\n\n\
         [runtime]\nshutdown_timeout = \"1s\"\n\n\
         [auth]\nmethod = \"scram-sha-256\"\nusers_file = \"users.txt\"\n\n\
         [admin]\nusers = [\"{USER}\"]\n",
        ports.clients.number(),
        ports.http.number(),
    );
    let domains = SAMPLES.map(|sample| {
        format!(
            "\n[domains.{}]\ndatabase = \"{}\"\nhosts = [\"127.0.0.1:{postgres_port}\"]\n\
             user = \"{USER}\"\npassword = \"{PASSWORD}\"\n\
             pool = {{ size = {}, max_overflow = {} }}\n",
            sample.domain, sample.database, sample.size, sample.max_overflow,
        )
    });
    process + &domains.concat()
}

const CLIENTS: u16 = 6432;
const HTTP: u16 = 9632;

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::MapEnvironment;

    #[test]
    fn the_configuration_is_good_and_has_the_three_domains() {
        let ports = Ports::choose(Some(7000), Some(0));

        let text = configuration(&ports, 41_234);
        let env = MapEnvironment::default().with_file("users.txt", "");
        let config = config::parse(&text, Path::new("pgweir.toml"), &env).unwrap();

        let domains: Vec<_> = config
            .domains
            .iter()
            .map(|domain| (&*domain.name, domain.database.as_deref()))
            .collect();
        let expected = SAMPLES.map(|sample| (sample.domain, Some(sample.database)));
        assert_eq!(domains.len(), 3);
        assert!(expected.iter().all(|pair| domains.contains(pair)), "{domains:?}");
        assert_eq!(config.http.address, Some(("127.0.0.1".to_owned(), 0)));
        assert!(ports.notes().is_empty());
    }

    #[test]
    fn a_usual_port_that_is_taken_is_passed_over_and_said() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let usual = taken.local_addr().unwrap().port();

        let port = Port::choose(None, usual);

        assert_eq!(port, Port::AnyBut(usual));
        assert_eq!(port.number(), 0);
        let ports = Ports { clients: port, http: Port::Wanted(1) };
        assert!(ports.notes()[0].starts_with(&format!("Port {usual} is taken")));
    }

    #[test]
    fn a_port_that_the_user_names_is_not_exchanged() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let wanted = taken.local_addr().unwrap().port();

        assert_eq!(Port::choose(Some(wanted), 1).number(), wanted);
    }
}
