//! The words that matter to classification.

/// A word of SQL text. Only those that change what we do are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keyword {
    Abort,
    /// A function that takes a session-level advisory lock, or leaves other state by its call.
    StatefulFunction,
    All,
    Analyze,
    ApplicationName,
    Authorization,
    Begin,
    Characteristics,
    ClientEncoding,
    Commit,
    Constraints,
    Create,
    DateStyle,
    Deallocate,
    Declare,
    Delete,
    Discard,
    Do,
    End,
    Explain,
    For,
    Global,
    Hold,
    Insert,
    IntervalStyle,
    Into,
    Key,
    Listen,
    Load,
    Local,
    Merge,
    Names,
    Or,
    /// `pg_temp`, and `pg_temp_12`: the schema of temporary objects.
    PgTemp,
    Prepare,
    Prepared,
    Release,
    Replace,
    Reset,
    Rollback,
    Savepoint,
    Select,
    Session,
    Set,
    SetConfig,
    Share,
    Show,
    StandardStrings,
    Start,
    Table,
    Temporary,
    Time,
    TimeZone,
    To,
    Transaction,
    True,
    Update,
    Values,
    With,
    /// Any other.
    Other,
}

/// Looks a word up, in any case. The same for a quoted identifier's content, although there only
/// lower case would be the same name: a false alarm costs little.
#[inline]
pub(super) fn keyword(word: &[u8]) -> Keyword {
    let Some((first, _)) = word.split_first() else { return Keyword::Other };
    for (name, keyword) in candidates(*first) {
        if word.len() == name.len() && word.eq_ignore_ascii_case(name) {
            return *keyword;
        }
    }
    match word.split_at_checked(PG_TEMP.len()) {
        Some((head, b"" | [b'_', ..])) if head.eq_ignore_ascii_case(PG_TEMP) => Keyword::PgTemp,
        Some(_) | None => Keyword::Other,
    }
}

/// The words that begin with this letter, the most frequent first.
#[expect(clippy::too_many_lines, reason = "a table")]
const fn candidates(first: u8) -> &'static [(&'static [u8], Keyword)] {
    use Keyword as K;
    match first | 0x20 {
        b'a' => &[
            (b"all", K::All),
            (b"abort", K::Abort),
            (b"analyze", K::Analyze),
            (b"analyse", K::Analyze),
            (b"application_name", K::ApplicationName),
            (b"authorization", K::Authorization),
        ],
        b'b' => &[(b"begin", K::Begin)],
        b'c' => &[
            (b"commit", K::Commit),
            (b"create", K::Create),
            (b"characteristics", K::Characteristics),
            (b"client_encoding", K::ClientEncoding),
            (b"constraints", K::Constraints),
        ],
        b'd' => &[
            (b"delete", K::Delete),
            (b"do", K::Do),
            (b"deallocate", K::Deallocate),
            (b"declare", K::Declare),
            (b"discard", K::Discard),
            (b"datestyle", K::DateStyle),
            (b"dblink_connect", K::StatefulFunction),
            (b"dblink_connect_u", K::StatefulFunction),
        ],
        b'e' => &[(b"end", K::End), (b"explain", K::Explain)],
        b'f' => &[(b"for", K::For)],
        b'g' => &[(b"global", K::Global)],
        b'h' => &[(b"hold", K::Hold)],
        b'i' => &[(b"insert", K::Insert), (b"into", K::Into), (b"intervalstyle", K::IntervalStyle)],
        b'k' => &[(b"key", K::Key)],
        b'l' => &[(b"load", K::Load), (b"local", K::Local), (b"listen", K::Listen)],
        b'm' => &[(b"merge", K::Merge)],
        b'n' => &[(b"names", K::Names)],
        b'o' => &[(b"or", K::Or)],
        b'p' => &[
            (b"prepare", K::Prepare),
            (b"prepared", K::Prepared),
            (b"pg_advisory_lock", K::StatefulFunction),
            (b"pg_advisory_lock_shared", K::StatefulFunction),
            (b"pg_try_advisory_lock", K::StatefulFunction),
            (b"pg_try_advisory_lock_shared", K::StatefulFunction),
            (b"pg_replication_origin_session_setup", K::StatefulFunction),
        ],
        b'r' => &[
            (b"rollback", K::Rollback),
            (b"release", K::Release),
            (b"reset", K::Reset),
            (b"replace", K::Replace),
        ],
        b's' => &[
            (b"select", K::Select),
            (b"set", K::Set),
            (b"show", K::Show),
            (b"savepoint", K::Savepoint),
            (b"session", K::Session),
            (b"share", K::Share),
            (b"start", K::Start),
            (b"set_config", K::SetConfig),
            (b"setseed", K::StatefulFunction),
            // pg_trgm's, which sets a parameter of the session.
            (b"set_limit", K::StatefulFunction),
            (b"standard_conforming_strings", K::StandardStrings),
        ],
        b't' => &[
            (b"to", K::To),
            (b"time", K::Time),
            (b"true", K::True),
            (b"table", K::Table),
            (b"temp", K::Temporary),
            (b"temporary", K::Temporary),
            (b"timezone", K::TimeZone),
            (b"transaction", K::Transaction),
        ],
        b'u' => &[(b"update", K::Update)],
        b'v' => &[(b"values", K::Values)],
        b'w' => &[(b"with", K::With)],
        _ => &[],
    }
}

const PG_TEMP: &[u8] = b"pg_temp";
