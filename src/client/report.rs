//! Snapshots of the running proxy, for the console, `/status` and `/metrics`.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::context::Context;
use super::record::ClientRecord;
use crate::config::Config;
use crate::domain::Domain;
use crate::domain::lookout::HostView;
use crate::domain::topology::Role;
use crate::pool::Pool;
use crate::pool::core::ServerId;
use crate::telemetry::snapshot::HostSnapshot;
use crate::telemetry::snapshot::{
    ClientSnapshot, ClientState, DomainSnapshot, Observe, PoolSnapshot, ProcessSnapshot,
    ServerSnapshot,
};
use crate::wire::startup::Replication;

impl Observe for Context {
    fn config(&self) -> Arc<Config> {
        Arc::clone(&self.config)
    }

    fn process(&self) -> ProcessSnapshot {
        ProcessSnapshot {
            started: self.started,
            stats: Arc::clone(&self.process),
            clients_login: self.registry.in_login.load(Relaxed),
            clients_connected: self.registry.connected.load(Relaxed),
            draining: self.commons.drain.soft().is_cancelled(),
        }
    }

    fn domains(&self) -> Vec<DomainSnapshot> {
        self.router.domains().iter().map(|domain| domain_snapshot(domain)).collect()
    }

    fn hosts(&self) -> Vec<HostSnapshot> {
        self.router.domains().iter().flat_map(|domain| host_snapshots(domain)).collect()
    }

    fn pools(&self) -> Vec<PoolSnapshot> {
        self.router.pools().iter().map(|pool| pool_snapshot(pool)).collect()
    }

    fn clients(&self) -> Vec<ClientSnapshot> {
        let servers = self.router.pools().into_iter().flat_map(|pool| pool.records());
        let processes = servers.map(|server| (server.id, server.key.process_id)).collect();
        self.registry.list().iter().map(|record| client_snapshot(record, &processes)).collect()
    }

    fn servers(&self) -> Vec<ServerSnapshot> {
        self.router.pools().iter().flat_map(|pool| server_snapshots(pool)).collect()
    }
}

fn domain_snapshot(domain: &Domain) -> DomainSnapshot {
    let pools = domain.list();
    DomainSnapshot {
        config: Arc::clone(&domain.config),
        clients: pools.iter().map(|pool| pool.clients.load(Relaxed)).sum(),
        servers: pools.iter().map(|pool| pool.counts().0.total()).sum(),
        usable: domain.trouble().map_or(Ok(()), Err),
        failovers: domain.failovers.value(),
    }
}

fn host_snapshots(domain: &Domain) -> Vec<HostSnapshot> {
    let pools = domain.list();
    let snapshot = |view: HostView| HostSnapshot {
        domain: Arc::clone(&domain.config.name),
        host: domain.lookout.watches.get(view.site).host.endpoint.to_string().into(),
        condition: view.condition.as_str(),
        role: view.role.as_str(),
        since: view.since,
        lag: view.lag.map(|lag| (lag.bytes, lag.time)),
        lags: matches!(view.role, Role::Replica { lags: true }),
        timeline: view.timeline,
        system: view.system,
        servers: pools.iter().map(|pool| pool.servers_at(view.site)).sum(),
        trouble: view.trouble,
    };
    domain.lookout.hosts().into_iter().map(snapshot).collect()
}

fn pool_snapshot(pool: &Pool) -> PoolSnapshot {
    let (servers, waiting, oldest_wait) = pool.counts();
    let clients = pool.clients.load(Relaxed);
    PoolSnapshot {
        domain: Arc::clone(&pool.domain),
        database: Arc::clone(&pool.database),
        user: Arc::clone(&pool.user),
        mode: pool.mode.as_str(),
        pool_mode: pool.settings.pool_mode,
        host: Arc::clone(&pool.hosts),
        clients_active: servers.active.min(clients),
        clients_idle: clients.saturating_sub(servers.active + waiting),
        clients_waiting: waiting,
        servers,
        size: pool.settings.size,
        min: pool.settings.min,
        max_overflow: pool.settings.max_overflow,
        limit: pool.limit(),
        adaptive: pool.settings.adapts(),
        is_settled: pool.is_settled(),
        load: pool.load(),
        oldest_wait,
        cancels_active: pool.cancels_active.load(Relaxed),
        stats: Arc::clone(&pool.stats),
        traffic: Arc::new(pool.traffic.sum()),
    }
}

/// `processes`: those of all servers.
fn client_snapshot(record: &ClientRecord, processes: &HashMap<ServerId, i32>) -> ClientSnapshot {
    let link = record.link();
    ClientSnapshot {
        id: record.id,
        domain: Arc::clone(&record.domain),
        user: Arc::clone(&record.user),
        state: match record.state() {
            // In session mode a server is linked while the client idles, too.
            ClientState::Idle if link.is_some() => ClientState::Active,
            state @ (ClientState::Login
            | ClientState::Idle
            | ClientState::Waiting
            | ClientState::Active) => state,
        },
        peer: record.peer.clone(),
        local: record.local.clone(),
        connected: record.connected,
        requested: record.requested(),
        wait: record.wait(),
        link: link.map(|server| server.0),
        remote_pid: link.and_then(|server| processes.get(&server).copied()),
        tls: record.tls.clone(),
        application_name: record.application_name(),
        prepared_statements: record.prepared_statements.load(Relaxed),
        replication: record.replication.map(Replication::label),
    }
}

fn server_snapshots(pool: &Pool) -> Vec<ServerSnapshot> {
    let snapshot = |record: Arc<crate::server::record::ServerRecord>| ServerSnapshot {
        id: record.id.0,
        domain: Arc::clone(&pool.domain),
        database: Arc::clone(&pool.database),
        user: Arc::clone(&pool.user),
        state: record.state(),
        peer: record.peer.clone(),
        local: record.local.clone(),
        connected: record.connected,
        requested: record.requested(),
        link: record.link(),
        remote_pid: record.key.process_id,
        tls: record.encryption.as_ref().map(|(description, _)| Arc::clone(description)),
        application_name: record.application_name(),
        prepared_statements: record.prepared_statements.load(Relaxed),
        replication: record.replication.map(Replication::label),
    };
    pool.records().into_iter().map(snapshot).collect()
}
