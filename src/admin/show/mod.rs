//! The SHOWs: each a function from snapshots to a table, with `PgBouncer`'s columns and types.

pub mod advice;
pub mod clients;
pub mod config;
pub mod databases;
pub mod hosts;
pub mod lists;
pub mod parameter;
pub mod pools;
pub mod servers;
pub mod state;
pub mod stats;
pub mod version;

use super::table::{Column, Table, Type};
use crate::telemetry::averages::{Averages, Totals};
use crate::telemetry::snapshot::{Observe, Peer};

/// A table that the console can show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Show {
    Advice,
    Clients,
    Config,
    /// `SELECT current_schema()`
    CurrentSchema,
    Databases,
    Hosts,
    Lists,
    /// `SELECT 1`
    One,
    /// A setting as `PostgreSQL` would show it, by its place in [`parameter::PARAMETERS`].
    Parameter(usize),
    Pools,
    Servers,
    /// `SELECT version()`
    ServerVersion,
    State,
    Stats,
    StatsAverages,
    StatsTotals,
    Totals,
    /// `SELECT pg_advisory_unlock_all()`
    UnlockAll,
    Version,
}

/// The name of each SHOW, and one sentence for `SHOW HELP`.
pub const SHOWS: [(&str, Show, &str); 14] = [
    ("advice", Show::Advice, "how many servers each pool would do with"),
    ("clients", Show::Clients, "connections from clients"),
    ("config", Show::Config, "the configuration file as it is in force"),
    ("databases", Show::Databases, "domains, with their hosts and limits"),
    ("hosts", Show::Hosts, "hosts of PostgreSQL, with their roles and states"),
    ("lists", Show::Lists, "how many there are of everything"),
    ("pools", Show::Pools, "pools, with their clients and servers by state"),
    ("servers", Show::Servers, "connections to PostgreSQL"),
    ("state", Show::State, "whether pgweir is active"),
    ("stats", Show::Stats, "totals and averages by database"),
    ("stats_averages", Show::StatsAverages, "averages by database"),
    ("stats_totals", Show::StatsTotals, "totals by database"),
    ("totals", Show::Totals, "totals and averages over all databases"),
    ("version", Show::Version, "the version of pgweir"),
];

impl Show {
    /// By its name in lower case.
    pub fn named(name: &str) -> Option<Self> {
        SHOWS.iter().find(|(known, _, _)| *known == name).map(|(_, show, _)| *show)
    }

    /// A setting by its name in lower case.
    pub fn parameter(name: &str) -> Option<Self> {
        parameter::find(name).map(Self::Parameter)
    }

    /// The tag of its `CommandComplete`.
    pub const fn tag(self) -> &'static str {
        match self {
            Self::One | Self::ServerVersion | Self::CurrentSchema | Self::UnlockAll => "SELECT 1",
            Self::Advice
            | Self::Clients
            | Self::Config
            | Self::Databases
            | Self::Hosts
            | Self::Lists
            | Self::Parameter(_)
            | Self::Pools
            | Self::Servers
            | Self::State
            | Self::Stats
            | Self::StatsAverages
            | Self::StatsTotals
            | Self::Totals
            | Self::Version => "SHOW",
        }
    }

    /// Its columns, known without a look at the proxy.
    pub fn columns(self) -> Vec<Column> {
        match self {
            Self::Advice => advice::COLUMNS.to_vec(),
            Self::Clients | Self::Servers => clients::COLUMNS.to_vec(),
            Self::Config => config::COLUMNS.to_vec(),
            Self::CurrentSchema => vec![("current_schema", Type::Text)],
            Self::Databases => databases::COLUMNS.to_vec(),
            Self::Hosts => hosts::COLUMNS.to_vec(),
            Self::Lists => lists::COLUMNS.to_vec(),
            Self::One => vec![("?column?", Type::Int4)],
            Self::Parameter(place) => parameter::columns(place),
            Self::Pools => pools::COLUMNS.to_vec(),
            Self::ServerVersion => vec![("version", Type::Text)],
            Self::State => state::COLUMNS.to_vec(),
            Self::Stats => stats::COLUMNS.to_vec(),
            Self::StatsAverages => stats::AVERAGES.to_vec(),
            Self::StatsTotals => stats::TOTALS.to_vec(),
            Self::Totals => stats::SUMS.to_vec(),
            Self::UnlockAll => vec![("pg_advisory_unlock_all", Type::Text)],
            Self::Version => version::COLUMNS.to_vec(),
        }
    }

    /// The table at this moment.
    pub fn table(self, observe: &dyn Observe, averages: &Averages) -> Table {
        let single = |text: &str| vec![vec![Some(text.to_owned())]];
        let rows = match self {
            Self::Advice => advice::rows(&observe.pools()),
            Self::Clients => clients::rows(&observe.clients()),
            Self::Config => config::rows(&observe.config()),
            Self::CurrentSchema => single("public"),
            Self::Databases => databases::rows(&observe.domains()),
            Self::Hosts => hosts::rows(&observe.hosts()),
            Self::Lists => lists::rows(&observe.process(), &observe.domains(), &observe.pools()),
            Self::One => single("1"),
            Self::Parameter(place) => parameter::rows(place),
            Self::Pools => pools::rows(&observe.pools()),
            Self::Servers => servers::rows(&observe.servers()),
            Self::ServerVersion => single(parameter::POSTGRESQL),
            Self::State => state::rows(),
            Self::Stats => stats::rows(&Totals::databases(&observe.pools()), &averages.databases()),
            Self::StatsAverages => {
                stats::averages(&Totals::databases(&observe.pools()), &averages.databases())
            }
            Self::StatsTotals => stats::totals(&Totals::databases(&observe.pools())),
            Self::Totals => {
                let totals = Totals::databases(&observe.pools());
                stats::sums(&Totals::sum(totals.values()), &averages.whole())
            }
            Self::UnlockAll => single(""),
            Self::Version => single(version::VERSION),
        };
        Table { columns: self.columns(), rows }
    }
}

/// An address and a port as `PgBouncer` prints them.
fn peer(peer: &Peer) -> (String, u16) {
    match peer {
        Peer::Tcp { ip, port } => (ip.to_string(), *port),
        Peer::Unix => ("unix".to_owned(), 0),
    }
}

#[cfg(test)]
mod tests;
