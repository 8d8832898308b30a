//! How the metrics that take more than a word are read.

use std::time::UNIX_EPOCH;

use super::super::counters::{CloseReason, StatementOutcome};
use super::super::resources::Resources;
use super::super::sample::{Group, Samples, Scrape, number, seconds};
use super::super::snapshot::{HostSnapshot, PoolSnapshot};

pub(super) fn clients(scrape: &Scrape, out: &mut Samples) {
    for pools in scrape.groups(CLIENT_LABELS) {
        let mut push = |state, count| {
            let mut labels = pools.labels.clone();
            labels.push(state);
            out.push(&labels, count);
        };
        push("active", pools.count(|pool| pool.clients_active));
        push("idle", pools.count(|pool| pool.clients_idle));
        push("waiting", pools.count(|pool| pool.clients_waiting));
    }
    // Whoever has not logged in yet has no pool; an empty label is an absent one to Prometheus.
    out.push(&["", "", "", "login"], number(scrape.process.clients_login as u64));
}

pub(super) fn servers(pools: &Group<'_>, out: &mut Samples) {
    out.push(&["active"], pools.count(|pool| pool.servers.active));
    out.push(&["idle"], pools.count(|pool| pool.servers.idle));
    out.push(&["used"], pools.count(|pool| pool.servers.used));
    out.push(&["tested"], pools.count(|pool| pool.servers.tested));
    out.push(&["login"], pools.count(|pool| pool.servers.login));
    out.push(&["being_canceled"], pools.count(|pool| pool.servers.being_canceled));
    out.push(&["closing"], pools.count(|pool| pool.servers.closing));
}

pub(super) fn utilization(pools: &Group<'_>, out: &mut Samples) {
    let limit = pools.count(|pool| pool.limit).max(1.0);
    out.push(&[], pools.count(PoolSnapshot::checked_out) / limit);
}

pub(super) fn oldest_wait(pools: &Group<'_>, out: &mut Samples) {
    let oldest = pools.pools.iter().map(|pool| pool.oldest_wait).max().unwrap_or_default();
    out.push(&[], seconds(oldest));
}

pub(super) fn errors(scrape: &Scrape, out: &mut Samples) {
    for (class, fault, count) in scrape.process.stats.errors.values() {
        out.push(&[class, fault.label()], number(count));
    }
}

pub(super) fn closes(pools: &Group<'_>, out: &mut Samples) {
    for (index, reason) in CloseReason::ALL.into_iter().enumerate() {
        let count = |pool: &PoolSnapshot| pool.stats.closes.values().nth(index).unwrap_or(0);
        out.push(&[reason.label()], pools.total(count));
    }
}

pub(super) fn prepared_statements(pools: &Group<'_>, out: &mut Samples) {
    for (index, outcome) in StatementOutcome::ALL.into_iter().enumerate() {
        let count = |pool: &PoolSnapshot| pool.traffic.statements.values().nth(index).unwrap_or(0);
        out.push(&[outcome.label()], pools.total(count));
    }
}

pub(super) fn start_time(scrape: &Scrape, out: &mut Samples) {
    if let Ok(since_1970) = scrape.process.started.duration_since(UNIX_EPOCH) {
        out.push(&[], since_1970.as_secs_f64());
    }
}

/// A number of each host; no sample where it is not known.
pub(super) fn per_host(scrape: &Scrape, out: &mut Samples, read: fn(&HostSnapshot) -> Option<f64>) {
    for host in &scrape.hosts {
        if let Some(number) = read(host) {
            out.push(&[&host.domain, &host.host], number);
        }
    }
}

/// All roles of each host, so that one which it has no more is seen to go.
pub(super) fn roles(scrape: &Scrape, out: &mut Samples) {
    for host in &scrape.hosts {
        for role in ROLES {
            let is_it = number(u64::from(host.role == role));
            out.push(&[&host.domain, &host.host, role], is_it);
        }
    }
}

const ROLES: [&str; 5] = ["primary", "replica", "fenced", "stranger", "unknown"];

/// A number of the process; no sample where it is not known.
pub(super) fn resource(scrape: &Scrape, out: &mut Samples, read: fn(&Resources) -> Option<f64>) {
    if let Some(number) = scrape.resources.as_ref().and_then(read) {
        out.push(&[], number);
    }
}

/// `domain`, `mode` and `user`.
const CLIENT_LABELS: usize = 3;
