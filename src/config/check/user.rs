//! `[users.NAME]`: what goes before the domain's settings.

use std::collections::BTreeMap;

use super::super::error::Flaw;
use super::super::raw::{Table, View};
use super::super::{Mode, PoolOverrides, UserRules};
use super::{Check, pool_mode, some_unless_0, unless_zero};

impl Check<'_> {
    pub(super) fn users(&mut self, root: &Table) -> BTreeMap<String, UserRules> {
        let mut users = BTreeMap::new();
        for (name, table) in root.named("users") {
            if name.is_empty() {
                let flaw = Flaw::new("a user's name must not be empty");
                self.problems.add(table.own_place(), flaw);
            }
            users.insert(name.clone(), self.user(table));
        }
        users
    }

    fn user(&mut self, table: &Table) -> UserRules {
        let view = View::of(table);
        let pool = overrides(table);
        let own_pool = table.table("pool");
        if let (Some(min), Some(size)) = (pool.min, pool.size)
            && min > size
        {
            self.problem(own_pool, "min", &format!("{min} is more than size, {size}"));
        }
        let max_connections = some_unless_0(view.count("max_connections"));
        if let (Some(min), Some(cap)) = (pool.min, max_connections)
            && min > cap
        {
            self.problem(own_pool, "min", &format!("{min} is more than max_connections, {cap}"));
        }
        UserRules {
            max_connections,
            max_clients: some_unless_0(view.count("max_clients")),
            client_idle_timeout: view.duration_if_set("client_idle_timeout").map(unless_zero),
            mode: view.text_if_set("mode").and_then(|name| Mode::named(&name)),
            pool,
        }
    }
}

fn overrides(table: &Table) -> PoolOverrides {
    let view = View::of(table);
    let pool = View::of(table.table("pool"));
    PoolOverrides {
        pool_mode: view.text_if_set("pool_mode").map(|name| pool_mode(&name)),
        size: pool.count_if_set("size"),
        min: pool.count_if_set("min"),
        max_overflow: pool.count_if_set("max_overflow"),
        timeout: pool.duration_if_set("timeout"),
        adaptive: pool.flag_if_set("adaptive"),
        query_timeout: view.duration_if_set("query_timeout").map(unless_zero),
        transaction_timeout: view.duration_if_set("transaction_timeout").map(unless_zero),
        idle_in_transaction_timeout: view
            .duration_if_set("idle_in_transaction_timeout")
            .map(unless_zero),
    }
}
