//! Which prepared statements a server has.

use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::RandomState;
use hashlink::LinkedHashMap;

use super::shape::Parameters;
use super::store::Statement;
use super::unnamed::Unnamed;

/// The statements that one server has, as far as what was sent to it succeeds.
#[derive(Debug, Default)]
pub struct Statements {
    /// The least recently used first.
    named: LinkedHashMap<u64, Entry, RandomState>,
    /// The unnamed statement, if it is known whose it is.
    pub unnamed: Unnamed,
    /// Serial number of the last request that was to change it.
    pub unnamed_since: u64,
    /// Names of its client's own that were put on it for SQL to find, and the serial numbers of the
    /// requests that did it.
    own_names: HashMap<Box<[u8]>, u64, RandomState>,
    /// The parameters of the statement that is being described.
    pub parameters: Parameters,
}

#[derive(Debug)]
struct Entry {
    statement: Arc<Statement>,
    /// Serial number of its Parse in the exchange.
    serial: u64,
    serves: Serves,
    /// One that was to be closed before this was prepared was not, and may be there still.
    has_older: bool,
}

/// What a statement is good for that was prepared on a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Serves {
    Everyone,
    /// The next use only: it was prepared under settings that are not those of the statement.
    OneUse,
    /// It has to be prepared anew.
    Nobody,
}

/// A statement that a server is told to close.
#[derive(Debug)]
pub struct Evicted(Entry);

impl Evicted {
    pub fn statement(&self) -> &Arc<Statement> {
        &self.0.statement
    }
}

/// Whether a server has a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    Ready,
    /// It has, but must prepare it anew.
    Outdated,
    Absent,
}

impl Statements {
    /// Looks whether the server has it; it is then the most recently used.
    pub fn touch(&mut self, statement: &Statement) -> Presence {
        match self.named.to_back(&statement.id()) {
            None => Presence::Absent,
            Some(prepared) => match prepared.serves {
                Serves::Everyone => Presence::Ready,
                Serves::OneUse => {
                    prepared.serves = Serves::Nobody;
                    Presence::Ready
                }
                Serves::Nobody => Presence::Outdated,
            },
        }
    }

    /// Whether the server has it for whoever asks. This is no use of it.
    pub fn presence(&self, statement: &Statement) -> Presence {
        match self.named.get(&statement.id()).map(|prepared| prepared.serves) {
            None => Presence::Absent,
            Some(Serves::Everyone) => Presence::Ready,
            Some(Serves::OneUse | Serves::Nobody) => Presence::Outdated,
        }
    }

    /// True if the server has it, and need not prepare it anew.
    pub fn is_ready(&self, statement: &Statement) -> bool {
        let prepared = self.named.get(&statement.id());
        prepared.is_some_and(|prepared| prepared.serves != Serves::Nobody)
    }

    /// Serial number of the Parse of a statement that it has.
    pub fn serial(&self, statement: &Statement) -> Option<u64> {
        self.named.get(&statement.id()).map(|prepared| prepared.serial)
    }

    /// Notes a Parse that is being sent.
    pub fn insert(&mut self, statement: Arc<Statement>, serial: u64) {
        self.insert_to_serve(statement, serial, Serves::Everyone);
    }

    /// Notes a Parse that is being sent where the settings are not those of the statement: it serves
    /// one use, and is then prepared anew.
    pub fn insert_passing(&mut self, statement: Arc<Statement>, serial: u64) {
        self.insert_to_serve(statement, serial, Serves::OneUse);
    }

    fn insert_to_serve(&mut self, statement: Arc<Statement>, serial: u64, serves: Serves) {
        let prepared = Entry { statement, serial, serves, has_older: false };
        self.named.insert(prepared.statement.id(), prepared);
    }

    /// What was prepared by the request `serial` is not the statement, or nobody knows whether it is.
    pub fn distrust(&mut self, statement: &Statement, serial: u64) {
        if let Some(prepared) = self.named.get_mut(&statement.id())
            && prepared.serial == serial
        {
            prepared.serves = Serves::Nobody;
        }
    }

    pub fn remove(&mut self, statement: &Statement) {
        self.named.remove(&statement.id());
    }

    /// Takes back the Parse that was sent as the request `serial`; one that came later stays.
    pub fn take_back(&mut self, statement: &Statement, serial: u64) {
        match self.named.get_mut(&statement.id()) {
            Some(prepared) if prepared.serial != serial => {}
            Some(prepared) if prepared.has_older => prepared.serves = Serves::Nobody,
            _ => self.remove(statement),
        }
    }

    /// Takes back whatever Parse was sent as the request `serial`.
    pub fn take_back_parse(&mut self, serial: u64) {
        let sent = self.named.values().find(|prepared| prepared.serial == serial);
        if let Some(statement) = sent.map(|prepared| Arc::clone(&prepared.statement)) {
            self.take_back(&statement, serial);
        }
    }

    /// Takes one out that the server is told to close.
    pub fn take(&mut self, statement: &Statement) -> Option<Evicted> {
        self.named.remove(&statement.id()).map(Evicted)
    }

    /// Takes one back of which the Close was skipped. Its Parse may have failed since, or it may be
    /// deallocated: it is closed and prepared anew before it serves anybody.
    pub fn restore(&mut self, evicted: Evicted) {
        let Evicted(prepared) = evicted;
        match self.named.get_mut(&prepared.statement.id()) {
            // Prepared again behind what was skipped, which may come to nothing as well.
            Some(later) => later.has_older = true,
            None => {
                let older = Entry { serves: Serves::Nobody, ..prepared };
                self.named.insert(older.statement.id(), older);
            }
        }
    }

    /// Takes out the least recently used if there are more than `most`.
    pub fn evict(&mut self, most: usize) -> Option<Evicted> {
        if self.named.len() <= most {
            return None;
        }
        self.named.pop_front().map(|(_, prepared)| Evicted(prepared))
    }

    /// `DEALLOCATE ALL` or `DISCARD ALL` was done by the request with this serial number: only what
    /// was prepared behind it is left.
    pub fn deallocated_all(&mut self, serial: u64) {
        self.named.retain(|_, prepared| prepared.serial > serial);
        self.own_names.retain(|_, put| *put > serial);
    }

    /// Notes that a statement is prepared under its client's own name by the request `serial`.
    pub fn put_own_name(&mut self, name: &[u8], serial: u64) {
        self.own_names.insert(name.into(), serial);
    }

    pub fn drop_own_name(&mut self, name: &[u8]) {
        self.own_names.remove(name);
    }

    /// True if there may be a statement of that name on the server.
    pub fn has_own_name(&self, name: &[u8]) -> bool {
        self.own_names.contains_key(name)
    }

    /// True if there may be names on the server that are no business of another client's.
    pub fn has_own_names(&self) -> bool {
        !self.own_names.is_empty()
    }

    pub fn len(&self) -> usize {
        self.named.len()
    }

    pub fn is_empty(&self) -> bool {
        self.named.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::super::store::Store;
    use super::*;

    fn statement(store: &Store, text: &str) -> Arc<Statement> {
        store.private(format!("{text}\0\0\0").as_bytes(), None)
    }

    #[test]
    fn the_least_recently_used_is_evicted() {
        let store = Store::new();
        let mut statements = Statements::default();
        let (a, b) = (statement(&store, "select 1"), statement(&store, "select 2"));
        statements.insert(Arc::clone(&a), 0);
        statements.insert(Arc::clone(&b), 1);
        assert_eq!(statements.touch(&a), Presence::Ready);

        assert!(statements.evict(1).is_some_and(|gone| Arc::ptr_eq(gone.statement(), &b)));
        assert!(statements.evict(1).is_none());
        assert_eq!(statements.touch(&b), Presence::Absent);
    }

    /// P68
    #[test]
    fn what_is_prepared_in_passing_serves_one_use() {
        let store = Store::new();
        let mut statements = Statements::default();
        let a = statement(&store, "select 1");
        statements.insert_passing(Arc::clone(&a), 0);
        assert_eq!(statements.touch(&a), Presence::Ready);
        assert_eq!(statements.touch(&a), Presence::Outdated);

        statements.insert(Arc::clone(&a), 1);
        statements.distrust(&a, 0);
        assert_eq!(statements.touch(&a), Presence::Ready);
        statements.distrust(&a, 1);
        assert_eq!(statements.touch(&a), Presence::Outdated);
    }

    /// P51: what was prepared behind a DEALLOCATE ALL in the same pipeline stays.
    #[test]
    fn deallocate_all_spares_what_came_behind_it() {
        let store = Store::new();
        let mut statements = Statements::default();
        let (a, b) = (statement(&store, "select 1"), statement(&store, "select 2"));
        statements.insert(Arc::clone(&a), 3);
        statements.insert(Arc::clone(&b), 5);

        statements.deallocated_all(4);

        assert_eq!(statements.touch(&a), Presence::Absent);
        assert_eq!(statements.touch(&b), Presence::Ready);
    }

    /// The Close was skipped; whether the Parse before it had worked, nobody says.
    #[test]
    fn what_was_to_be_closed_and_was_not_is_prepared_anew() {
        let store = Store::new();
        let mut statements = Statements::default();
        let a = statement(&store, "select 1");
        statements.insert(Arc::clone(&a), 0);
        let evicted = statements.take(&a).unwrap();
        statements.restore(evicted);
        assert_eq!(statements.touch(&a), Presence::Outdated);
    }

    #[test]
    fn what_was_not_closed_is_known_when_its_next_parse_is_skipped_as_well() {
        let store = Store::new();
        let mut statements = Statements::default();
        let a = statement(&store, "select 1");
        statements.insert(Arc::clone(&a), 0);
        let evicted = statements.take(&a).unwrap();
        statements.insert(Arc::clone(&a), 2);
        statements.restore(evicted);
        assert_eq!(statements.touch(&a), Presence::Ready);

        statements.take_back(&a, 2);

        assert_eq!(statements.touch(&a), Presence::Outdated);
    }
}
