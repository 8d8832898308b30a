//! Prepared statements, kept once for the process.

use std::collections::HashMap;
use std::hash::BuildHasher as _;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use foldhash::fast::RandomState;

use super::seen::Seen;
use super::shape::{self, Shape};
use crate::sql::{Traits, classify, draws_notice, is_query, literal_clock};
use crate::state::settings::Settings;

/// A statement as a client prepared it. It takes and gives the same for as long as it lives: where a
/// server has come to see it otherwise, its clients are told so, and get another in its place.
#[derive(Debug)]
pub struct Statement {
    id: u64,
    /// What it is called on every server.
    name: Box<str>,
    /// Everything that makes it this statement: the database and the settings that Parse depends on,
    /// then `rest`.
    identity: Box<[u8]>,
    /// Where `rest` begins in `identity`.
    rest_at: usize,
    /// Bytes of the text, which `rest` begins with.
    text_len: usize,
    traits: Traits,
    /// The settings of the client when it was parsed; `None` if others may have been in force.
    under: Option<Arc<Settings>>,
    /// Others that parse the same get the same.
    is_shared: bool,
    /// How often tables of its database had been altered when it was made, or was last seen to be what
    /// it was.
    epoch: AtomicU64,
    /// What its clients were told that it takes and gives.
    shape: shape::Known,
    is_outdated: AtomicBool,
    draws_notice: OnceLock<bool>,
    /// What its EXECUTE found when it was parsed.
    executed: OnceLock<Option<Arc<Self>>>,
}

impl Statement {
    /// Its number in the process.
    pub(super) const fn id(&self) -> u64 {
        self.id
    }

    /// True if a server no longer takes or gives what its clients were told.
    pub fn is_outdated(&self) -> bool {
        self.is_outdated.load(Relaxed)
    }

    /// A server refused to go on with what it had prepared (pitfall P83), or has prepared something
    /// else.
    pub fn outdate(&self) {
        self.is_outdated.store(true, Relaxed);
    }

    /// What it takes and gives, if a server has told.
    pub fn shape(&self) -> Option<Shape> {
        self.shape.get()
    }

    /// Notes what it takes and gives.
    pub fn learn(&self, shape: Shape) {
        self.shape.set(shape);
    }

    /// How often tables of its database had been altered when it was last seen to be what it was.
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Relaxed)
    }

    /// It was seen to be what it was by a server that was asked when tables had been altered that often.
    pub fn confirm(&self, epoch: u64) {
        self.epoch.fetch_max(epoch, Relaxed);
    }

    /// True if others that parse the same get the same.
    pub const fn is_shared(&self) -> bool {
        self.is_shared
    }

    /// True if a Parse of it says and does nothing but that it is prepared, and whoever executes it changes
    /// nothing that a later Parse depends on.
    fn may_be_reused(&self) -> bool {
        let Self { traits, is_shared, .. } = self;
        let changes = traits.changes_meaning() || traits.alters_results() || traits.leaves_state();
        *is_shared && !traits.several_statements() && !changes && !self.draws_notice()
    }

    /// True if its client's settings are still those that it was parsed under.
    pub fn is_of(&self, settings: &Arc<Settings>) -> bool {
        self.under.as_ref().is_some_and(|under| {
            Arc::ptr_eq(under, settings) || under.is_same_parse_context(settings)
        })
    }

    /// What it is called on servers. No client can reach this name: see [`is_reserved`].
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Text, terminator and parameter types, as they stand in a Parse message.
    pub fn rest(&self) -> &[u8] {
        self.identity.get(self.rest_at..).unwrap_or_default()
    }

    /// The text alone.
    pub fn text(&self) -> &[u8] {
        self.rest().get(..self.text_len).unwrap_or_default()
    }

    pub const fn traits(&self) -> Traits {
        self.traits
    }

    /// The statement that it executes, as its client had it when it was first asked for: that decided of its
    /// columns.
    pub fn executed(&self, find: impl FnOnce() -> Option<Arc<Self>>) -> Option<&Arc<Self>> {
        self.executed.get_or_init(find).as_ref()
    }

    /// A Parse of it may bring more than its answer, which each client is told that parses it.
    pub fn draws_notice(&self) -> bool {
        *self.draws_notice.get_or_init(|| draws_notice(self.text()))
    }

    /// The settings that it was parsed under, as far as they are known.
    pub const fn under(&self) -> Option<&Arc<Settings>> {
        self.under.as_ref()
    }
}

/// True for names that statements have on servers and that clients therefore may not use there.
pub fn is_reserved(name: &[u8]) -> bool {
    name.starts_with(PREFIX.as_bytes())
}

const PREFIX: &str = "pgweir_";

/// Who asks, and where: the same names may be of other tables elsewhere, and the same types have other
/// numbers.
#[derive(Debug, Clone, Copy)]
pub struct Scope<'a> {
    pub database: &'a str,
    pub domain: &'a str,
    /// The user that servers are opened for.
    pub user: &'a str,
}

/// The statements of a process. Sessions hold them; one that nobody holds is forgotten.
#[derive(Debug)]
pub struct Store {
    statements: Mutex<Known>,
    hasher: RandomState,
    next: AtomicU64,
    /// How often tables of any database were altered.
    alterations: AtomicU64,
}

#[derive(Debug)]
struct Known {
    /// By the hash of the identity: a text is kept by those who hold its statement, and by nobody else.
    by_hash: hashlink::LruCache<u64, Weak<Statement>>,
    /// How often tables were altered, by database: what was parsed before is not what a client gets that
    /// parses the same text now.
    epochs: HashMap<Box<str>, u64>,
    /// What was parsed as unnamed statements.
    seen: Seen,
}

impl Known {
    /// How often tables of `database` were altered.
    fn epoch(&self, database: &str) -> u64 {
        self.epochs.get(database).copied().unwrap_or_default()
    }

    fn find(&mut self, hash: u64, identity: &[u8], epoch: u64) -> Option<Arc<Statement>> {
        let found = self.by_hash.get(&hash).and_then(Weak::upgrade)?;
        let is_as_then = found.epoch() == epoch && !found.is_outdated();
        (is_as_then && *found.identity == *identity).then_some(found)
    }
}

/// Texts that can be recognised at once. One that is pushed out is only prepared once more.
const MOST_KNOWN: usize = 20_000;

/// The longest Parse that is worth the memory which each server would keep for it.
const REUSED_LEN_MOST: usize = 16 * 1024;

impl Default for Store {
    fn default() -> Self {
        Self::new()
    }
}

impl Store {
    pub fn new() -> Self {
        let by_hash = hashlink::LruCache::new(MOST_KNOWN);
        let known = Known { by_hash, epochs: HashMap::new(), seen: Seen::default() };
        Self {
            statements: Mutex::new(known),
            hasher: RandomState::default(),
            next: AtomicU64::new(1),
            alterations: AtomicU64::new(0),
        }
    }

    /// The statement of `rest` (text, terminator, types) in a scope under the client's settings.
    /// The same statement for all who ask with what comes to the same until tables are altered, but
    /// for texts that mean something else each time (pitfall P68).
    pub fn statement(
        &self,
        scope: Scope<'_>,
        rest: &[u8],
        settings: &Arc<Settings>,
    ) -> Arc<Statement> {
        let (identity, rest_at) = identity_of(scope, rest, settings);
        if literal_clock(text_of(rest)) {
            return Arc::new(self.new_statement(identity, rest_at, Some(Arc::clone(settings))));
        }
        let hash = self.hasher.hash_one(&identity);
        let mut known = self.known();
        let epoch = known.epoch(scope.database);
        if let Some(statement) = known.find(hash, &identity, epoch) {
            return statement;
        }
        // A long text takes long to read, and others want to go on.
        drop(known);
        let made = self.shared_statement(identity, rest_at, settings, epoch);
        if made.is_shared { self.insert(hash, made) } else { made }
    }

    /// The same of an unnamed statement that servers are to have under its own name. `None`: they are not.
    /// It is not a query, or a long one, it is parsed for the first time, or a Parse of it says more than that
    /// it is done.
    pub fn reusable(
        &self,
        scope: Scope<'_>,
        rest: &[u8],
        settings: &Arc<Settings>,
    ) -> Option<Arc<Statement>> {
        if rest.len() > REUSED_LEN_MOST || !is_query(text_of(rest)) {
            return None;
        }
        let (identity, rest_at) = identity_of(scope, rest, settings);
        let hash = self.hasher.hash_one(&identity);
        let mut known = self.known();
        let epoch = known.epoch(scope.database);
        if let Some(statement) = known.find(hash, &identity, epoch) {
            return statement.may_be_reused().then_some(statement);
        }
        // Most texts of a client that writes its values into them never come again.
        let is_seen = known.seen.insert(hash);
        drop(known);
        if !is_seen || literal_clock(text_of(rest)) {
            return None;
        }
        let made = self.shared_statement(identity, rest_at, settings, epoch);
        made.may_be_reused().then(|| self.insert(hash, made))
    }

    fn shared_statement(
        &self,
        identity: Vec<u8>,
        rest_at: usize,
        settings: &Arc<Settings>,
        epoch: u64,
    ) -> Arc<Statement> {
        let mut statement = self.new_statement(identity, rest_at, Some(Arc::clone(settings)));
        statement.epoch = AtomicU64::new(epoch);
        // What it names is its client's.
        let traits = statement.traits;
        statement.is_shared = !traits.names_statements() && !traits.names_ours();
        Arc::new(statement)
    }

    /// Makes a statement known, unless the same is by now: that one, then.
    fn insert(&self, hash: u64, statement: Arc<Statement>) -> Arc<Statement> {
        let mut known = self.known();
        if let Some(first) = known.find(hash, &statement.identity, statement.epoch()) {
            return first;
        }
        known.by_hash.insert(hash, Arc::downgrade(&statement));
        statement
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // Plain data, touched for a few lines: a panic elsewhere leaves nothing half done.
        self.statements.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A statement that is nobody else's: the unnamed one, and one that was parsed where more may be in
    /// force than the settings that follow a session (`under` is `None` then).
    pub fn private(&self, rest: &[u8], under: Option<Arc<Settings>>) -> Arc<Statement> {
        Arc::new(self.new_statement(rest.to_vec(), 0, under))
    }

    /// What is prepared anew, under `settings`, in the place of one that is outdated.
    pub fn renew(
        &self,
        old: &Statement,
        scope: Scope<'_>,
        settings: &Arc<Settings>,
    ) -> Arc<Statement> {
        if old.is_shared {
            self.statement(scope, old.rest(), settings)
        } else {
            self.private(old.rest(), Some(Arc::clone(settings)))
        }
    }

    /// How often tables of a database were altered, as far as was seen.
    pub fn epoch(&self, database: &str) -> u64 {
        self.known().epoch(database)
    }

    /// Tables of a database are altered: who parses a text from now on has not seen what was parsed
    /// before, and who has keeps it (pitfall P55).
    pub fn alter(&self, database: &str) {
        let mut known = self.known();
        match known.epochs.get_mut(database) {
            Some(epoch) => *epoch += 1,
            None => {
                known.epochs.insert(database.into(), 1);
            }
        }
        // Who sees this sees the other as well.
        self.alterations.fetch_add(1, Release);
    }

    /// How often tables of any database were altered: what was looked up when it was less may be another
    /// statement by now.
    pub fn alterations(&self) -> u64 {
        self.alterations.load(Acquire)
    }

    fn new_statement(
        &self,
        identity: Vec<u8>,
        rest_at: usize,
        under: Option<Arc<Settings>>,
    ) -> Statement {
        let text = text_of(identity.get(rest_at..).unwrap_or_default());
        let (text_len, traits) = (text.len(), classify(text));
        let id = self.next.fetch_add(1, Relaxed);
        let name = format!("{PREFIX}{id}").into();
        Statement {
            id,
            name,
            identity: identity.into(),
            rest_at,
            text_len,
            traits,
            under,
            is_shared: false,
            epoch: AtomicU64::new(0),
            shape: shape::Known::default(),
            is_outdated: AtomicBool::new(false),
            draws_notice: OnceLock::new(),
            executed: OnceLock::new(),
        }
    }

    /// Statements that somebody holds or held lately.
    pub fn len(&self) -> usize {
        self.known().by_hash.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Everything that makes a statement this one and no other, and where `rest` begins in it.
fn identity_of(scope: Scope<'_>, rest: &[u8], settings: &Settings) -> (Vec<u8>, usize) {
    let mut identity = Vec::with_capacity(rest.len() + 128);
    for part in [scope.database, scope.domain, scope.user] {
        identity.extend_from_slice(part.as_bytes());
        identity.push(0);
    }
    settings.put_parse_context(&mut identity);
    let rest_at = identity.len();
    identity.extend_from_slice(rest);
    (identity, rest_at)
}

/// The text in front of its terminator.
fn text_of(rest: &[u8]) -> &[u8] {
    let end = memchr::memchr(0, rest).unwrap_or(rest.len());
    rest.get(..end).unwrap_or(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCOPE: Scope<'_> = Scope { database: "db", domain: "main", user: "app" };
    const ELSEWHERE: Scope<'_> = Scope { database: "else", ..SCOPE };

    fn statement(store: &Store, text: &str) -> Arc<Statement> {
        store.statement(SCOPE, format!("{text}\0\0\0").as_bytes(), &Arc::default())
    }

    #[test]
    fn the_same_text_types_and_settings_are_one_statement() {
        let store = Store::new();
        let one = statement(&store, "select 1");
        assert!(Arc::ptr_eq(&one, &statement(&store, "select 1")));
        let settings = Arc::new(Settings::new([("TimeZone", "UTC")]));
        let other = store.statement(SCOPE, b"select 1\0\0\0", &settings);
        assert!(!Arc::ptr_eq(&one, &other));
        assert_eq!(other.rest(), b"select 1\0\0\0");
        assert_eq!(other.text(), b"select 1");
    }

    /// One that nobody holds leaves nothing behind that is as long as its text.
    #[test]
    fn a_text_is_kept_by_who_holds_its_statement_and_by_nobody_else() {
        let store = Store::new();
        let one = statement(&store, "select 1");
        let identity = std::ptr::from_ref(&*one.identity);
        let known = store.known();
        let held: Vec<_> = known.by_hash.iter().filter_map(|(_, weak)| weak.upgrade()).collect();
        assert!(held.iter().any(|held| std::ptr::eq(&raw const *held.identity, identity)));
        drop((held, known));

        drop(one);

        let known = store.known();
        assert_eq!((known.by_hash.iter().filter(|(_, weak)| weak.upgrade().is_some())).count(), 0);
    }

    /// P49: the same text with other parameter types is another statement.
    #[test]
    fn types_are_part_of_the_identity() {
        let store = Store::new();
        let one = store.statement(SCOPE, b"select $1\0\0\x01\0\0\0\x17", &Arc::default());
        let other = store.statement(SCOPE, b"select $1\0\0\x01\0\0\0\x19", &Arc::default());
        assert_ne!(one.name(), other.name());
    }

    /// P68: a literal clock is read when the statement is parsed.
    #[test]
    fn a_text_with_a_literal_clock_is_never_shared() {
        let store = Store::new();
        let text = "select 'now'::timestamptz";
        assert!(!Arc::ptr_eq(&statement(&store, text), &statement(&store, text)));
    }

    /// P55: who parses a text when tables were altered gets it fresh; in other databases nothing changes.
    #[test]
    fn what_was_parsed_before_tables_were_altered_is_not_given_out_again() {
        let store = Store::new();
        let (old, elsewhere) = (
            statement(&store, "select 1"),
            store.statement(ELSEWHERE, b"select 1\0\0\0", &Arc::default()),
        );
        store.alter("db");

        let fresh = statement(&store, "select 1");
        assert_ne!(fresh.name(), old.name());
        assert!(Arc::ptr_eq(&fresh, &statement(&store, "select 1")));
        let again = store.statement(ELSEWHERE, b"select 1\0\0\0", &Arc::default());
        assert!(Arc::ptr_eq(&elsewhere, &again));
    }

    /// P83
    #[test]
    fn an_outdated_statement_is_not_given_out_again() {
        let store = Store::new();
        let old = statement(&store, "select 1");
        let private = store.private(b"select 1\0\0\0", None);

        old.outdate();

        let fresh = statement(&store, "select 1");
        assert!(!Arc::ptr_eq(&old, &fresh));
        assert!(Arc::ptr_eq(&fresh, &store.renew(&old, SCOPE, &Arc::default())));
        let renewed = store.renew(&private, SCOPE, &Arc::default());
        assert_eq!(renewed.text(), private.text());
        assert_ne!(renewed.name(), private.name());
    }

    /// P55: one that was seen to be what it was is good for those who parse it behind an ALTER.
    #[test]
    fn a_statement_that_an_alter_left_as_it_was_is_given_out_again() {
        let store = Store::new();
        let one = statement(&store, "select 1");
        store.alter("db");
        one.confirm(store.epoch("db"));
        assert!(Arc::ptr_eq(&one, &statement(&store, "select 1")));
        store.alter("db");
        assert!(!Arc::ptr_eq(&one, &statement(&store, "select 1")));
    }

    fn reusable(store: &Store, rest: &[u8]) -> Option<Arc<Statement>> {
        store.reusable(SCOPE, rest, &Arc::default())
    }

    #[test]
    fn a_query_is_reusable_when_it_comes_a_second_time() {
        let store = Store::new();
        assert!(reusable(&store, b"select 1\0\0\0").is_none());
        // With other types, or elsewhere, it is another.
        assert!(reusable(&store, b"select 1\0\0\x01\0\0\0\x17").is_none());
        assert!(store.reusable(ELSEWHERE, b"select 1\0\0\0", &Arc::default()).is_none());
        let found = reusable(&store, b"select 1\0\0\0").unwrap();
        assert!(Arc::ptr_eq(&found, &statement(&store, "select 1")));
        // One that somebody has given a name is known at once.
        let named = statement(&store, "select 2");
        assert!(
            reusable(&store, b"select 2\0\0\0").is_some_and(|found| Arc::ptr_eq(&found, &named))
        );
    }

    #[test]
    fn what_is_no_query_or_means_more_is_never_reusable() {
        let store = Store::new();
        let (long, cut) = ("x".repeat(REUSED_LEN_MOST), "x".repeat(64));
        for text in [
            "begin",
            "select 1; select 2",
            "select 'now'::timestamptz",
            "select set_config('search_path', 'a', true)",
            "select 1 into t",
            "select pg_advisory_lock(1)",
            "with a as (select 1) execute a",
            &format!("select 1 as {cut}"),
            &format!("select '{long}'"),
        ] {
            let rest = format!("{text}\0\0\0");
            let held = statement(&store, text);
            for _ in 0..3 {
                assert!(reusable(&store, rest.as_bytes()).is_none(), "{text}");
            }
            drop(held);
            for _ in 0..3 {
                assert!(reusable(&store, rest.as_bytes()).is_none(), "{text}");
            }
        }
    }

    /// P55
    #[test]
    fn a_query_is_another_behind_an_alter_of_which_those_who_hold_it_know() {
        let store = Store::new();
        let rest = b"select 1\0\0\0";
        assert!(reusable(&store, rest).is_none());
        let (before, old) = (store.alterations(), reusable(&store, rest).unwrap());
        store.alter("db");
        assert_ne!(store.alterations(), before);
        assert!(!Arc::ptr_eq(&old, &reusable(&store, rest).unwrap()));
    }
}
