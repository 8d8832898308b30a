//! The modes of a domain: `read_only`, `batch` and `transactional`.

use std::sync::Arc;

use super::super::error::Flaw;
use super::super::raw::{Table, View};
use super::super::{Balance, Domain, Mode, Modes, PoolMode, PoolSettings};
use super::domain::{CATCH_ALL, pool};
use super::{Check, unless_zero};

impl Check<'_> {
    /// The modes of the domain that `table` is; `defaults` is `[pool]`.
    pub(super) fn modes(&mut self, table: &Table, defaults: &Table) -> Modes {
        let read_only = View::of(table.table("read_only"));
        let mut transactional = self.settings_of("transactional", table, defaults);
        transactional.pool_mode = PoolMode::Session;
        let written = View::of(table.table("transactional").table("pool"));
        if written.is_written("pool_mode") && written.text("pool_mode") != "session" {
            let problem = "a session in the mode transactional has a server of its own";
            self.problem(table.table("transactional").table("pool"), "pool_mode", problem);
        }
        Modes {
            read_only: Arc::new(self.settings_of("read_only", table, defaults)),
            batch: Arc::new(self.settings_of("batch", table, defaults)),
            transactional: Arc::new(transactional),
            falls_back: read_only.text("fallback") == "primary",
            balance: match read_only.text("balance").as_str() {
                "round_robin" => Balance::RoundRobin,
                _ => Balance::LeastBusy,
            },
            isolation: View::of(table.table("transactional")).text_if_set("isolation"),
            aliases: self.aliases(table),
        }
    }

    /// The pool of one mode: its own keys over the domain's, and those over `[pool]`.
    fn settings_of(&mut self, mode: &str, domain: &Table, defaults: &Table) -> PoolSettings {
        let table = domain.table(mode);
        let view = View::over_both(table.table("pool"), domain.table("pool"), defaults);
        self.pool_problems(view);
        let settings = pool(view);
        let own = View::of(table);
        let or = |key, beneath| own.duration_if_set(key).map_or(beneath, unless_zero);
        PoolSettings {
            query_timeout: or("query_timeout", settings.query_timeout),
            transaction_timeout: or("transaction_timeout", settings.transaction_timeout),
            idle_in_transaction_timeout: or(
                "idle_in_transaction_timeout",
                settings.idle_in_transaction_timeout,
            ),
            statement_timeout: own
                .duration_if_set("statement_timeout")
                .or(settings.statement_timeout),
            ..settings
        }
    }

    fn aliases(&mut self, domain: &Table) -> Vec<(String, Mode)> {
        let mut aliases: Vec<(String, Mode)> = Vec::new();
        for mode in Mode::ALL.into_iter().filter(|mode| mode.suffix().is_some()) {
            let table = domain.table(mode.as_str());
            for item in View::of(table).list("aliases") {
                if item.text.is_empty() || item.text.contains('\0') {
                    self.item(
                        table,
                        "aliases",
                        &item.span,
                        Flaw::new("not the name of a database"),
                    );
                } else if aliases.iter().any(|(known, _)| *known == item.text) {
                    self.item(table, "aliases", &item.span, Flaw::new("listed twice"));
                } else {
                    aliases.push((item.text, mode));
                }
            }
        }
        aliases
    }

    /// A name that leads to one place must not be the alias of another.
    pub(super) fn ambiguous_aliases(
        &mut self,
        tables: &[(String, Table)],
        domains: &[Arc<Domain>],
    ) {
        for (index, ((_, table), domain)) in tables.iter().zip(domains).enumerate() {
            for (alias, mode) in &domain.modes.aliases {
                let is_name = |other: &&Arc<Domain>| {
                    *other.name == **alias || other.database.as_deref() == Some(alias)
                };
                let is_alias = |other: &&Arc<Domain>| {
                    other.modes.aliases.iter().any(|(known, _)| known == alias)
                };
                let taken = domains
                    .iter()
                    .find(is_name)
                    .or_else(|| domains.iter().take(index).find(is_alias));
                if let Some(taken) = taken {
                    let problem = format!(
                        "\"{}\" leads to domain \"{}\" already",
                        alias.escape_debug(),
                        taken.name.escape_debug()
                    );
                    self.problem(table.table(mode.as_str()), "aliases", &problem);
                }
                if *alias == *CATCH_ALL || matches!(alias.as_str(), "pgbouncer" | "pgweir") {
                    self.problem(table.table(mode.as_str()), "aliases", "this name is reserved");
                }
            }
        }
    }
}

/// Modes that have nothing of their own.
pub(super) fn same_in_all_modes(pool: &PoolSettings) -> Modes {
    let all = Arc::new(pool.clone());
    Modes {
        read_only: Arc::clone(&all),
        batch: Arc::clone(&all),
        transactional: all,
        falls_back: true,
        balance: Balance::LeastBusy,
        isolation: None,
        aliases: Vec::new(),
    }
}
