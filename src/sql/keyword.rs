//! The words that matter to classification.

/// A word of SQL text. Only those that change what we do are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keyword {
    Abort,
    /// A function that takes a session-level advisory lock, or leaves other state by its call.
    StatefulFunction,
    /// One that leaves what DISCARD ALL does not take: a seed, a connection, a replication origin or a
    /// temporary slot, a backup that has begun.
    LastingFunction,
    All,
    Alter,
    Analyze,
    ApplicationName,
    Authorization,
    Begin,
    Chain,
    Characteristics,
    ClientEncoding,
    Commit,
    Constraints,
    Copy,
    Create,
    Database,
    DateStyle,
    Deallocate,
    Declare,
    Default,
    Delete,
    Discard,
    Do,
    Drop,
    End,
    Execute,
    Explain,
    Fetch,
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
    No,
    Null,
    Or,
    /// `pg_temp`, and `pg_temp_12`: the schema of temporary objects.
    PgTemp,
    /// `pg_settings`, whose UPDATE is a SET.
    PgSettings,
    Prepare,
    Prepared,
    Release,
    ReloadConf,
    Replace,
    Reset,
    /// ROLE, USER or GROUP.
    Role,
    Rollback,
    /// A function that runs a text which it is given.
    RunsText,
    Savepoint,
    Select,
    Session,
    Set,
    SetConfig,
    Share,
    Show,
    StandardStrings,
    Start,
    System,
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

impl Keyword {
    /// It begins a statement of which nothing is read or looked up when it is parsed.
    pub(super) const fn controls(self) -> bool {
        matches!(
            self,
            Self::Abort
                | Self::Begin
                | Self::Commit
                | Self::Deallocate
                | Self::Discard
                | Self::End
                | Self::Release
                | Self::Reset
                | Self::Rollback
                | Self::Savepoint
                | Self::Set
                | Self::Show
                | Self::Start
        )
    }
}

/// Looks a word up, in any case. The same for a quoted identifier's content, although there only
/// lower case would be the same name: a false alarm costs little.
#[inline]
pub(super) fn keyword(word: &[u8]) -> Keyword {
    // Most words end here: none of ours begins with this letter and is as long.
    let Some(first) = word.first() else { return Keyword::Other };
    let lengths = LENGTHS.get(usize::from(first & 0x1f)).copied().unwrap_or_default();
    if lengths & length_bit(word.len()) == 0 {
        return Keyword::Other;
    }
    look_up(word)
}

fn look_up(word: &[u8]) -> Keyword {
    let ends = Ends::of(word);
    let mut at = ends.slot(word.len());
    // A free slot has an index that is no word's.
    while let Some(found) = TABLE.get(at).and_then(|index| WORDS.get(usize::from(*index))) {
        // Sixteen bytes are all in the two ends.
        if found.ends.is_same(ends)
            && found.name.len() == word.len()
            && (word.len() <= 16 || word.eq_ignore_ascii_case(found.name))
        {
            return found.keyword;
        }
        at = (at + 1) % SLOTS;
    }
    match word.split_at_checked(PG_TEMP.len()) {
        Some((head, b"" | [b'_', ..])) if head.eq_ignore_ascii_case(PG_TEMP) => Keyword::PgTemp,
        Some(_) | None => Keyword::Other,
    }
}

/// The first and the last eight bytes of a word in lower case; they overlap in a short one, and one of
/// less than four is all in the first.
#[derive(Debug, Clone, Copy)]
struct Ends {
    first: u64,
    last: u64,
}

impl Ends {
    #[inline]
    const fn of(word: &[u8]) -> Self {
        let (first, last) = match (word.first_chunk(), word.last_chunk()) {
            (Some(first), Some(last)) => (u64::from_le_bytes(*first), u64::from_le_bytes(*last)),
            _ => match (word.first_chunk(), word.last_chunk()) {
                (Some(first), Some(last)) => {
                    (u32::from_le_bytes(*first) as u64, u32::from_le_bytes(*last) as u64)
                }
                _ => match *word {
                    [a, b, c] => (u32::from_le_bytes([a, b, c, 0]) as u64, 0),
                    [a, b] => (u16::from_le_bytes([a, b]) as u64, 0),
                    [a] => (a as u64, 0),
                    _ => (0, 0),
                },
            },
        };
        Self { first: lower_case(first), last: lower_case(last) }
    }

    const fn is_same(self, other: Self) -> bool {
        self.first == other.first && self.last == other.last
    }

    /// Where in [`TABLE`] to look first.
    const fn slot(self, len: usize) -> usize {
        let mixed = (self.first ^ self.last.rotate_left(29)).wrapping_add(len as u64);
        (mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 55) as usize % SLOTS
    }
}

/// Eight bytes at once, those of ASCII's letters in lower case.
const fn lower_case(bytes: u64) -> u64 {
    const EACH: u64 = u64::MAX / 255;
    let low = bytes & (EACH * 0x7f);
    let from_a = low + EACH * (0x80 - b'A' as u64);
    let behind_z = low + EACH * (0x7f - b'Z' as u64);
    let is_upper = (from_a ^ behind_z) & !bytes & (EACH * 0x80);
    bytes | (is_upper >> 2)
}

#[derive(Clone, Copy)]
struct Word {
    ends: Ends,
    name: &'static [u8],
    keyword: Keyword,
}

/// All words.
const WORDS: [Word; COUNT] = {
    let mut all =
        [Word { ends: Ends { first: 0, last: 0 }, name: b"", keyword: Keyword::Other }; COUNT];
    let mut at = 0;
    let mut letter = b'a';
    while letter <= b'z' {
        let mut words = candidates(letter);
        while let [(name, keyword), rest @ ..] = words {
            #[expect(clippy::indexing_slicing, reason = "evaluated by the compiler")]
            {
                all[at] = Word { ends: Ends::of(name), name, keyword: *keyword };
            }
            at += 1;
            words = rest;
        }
        letter += 1;
    }
    all
};

const COUNT: usize = {
    let mut count = 0;
    let mut letter = b'a';
    while letter <= b'z' {
        count += candidates(letter).len();
        letter += 1;
    }
    count
};

/// A power of two, several times as many as there are words.
const SLOTS: usize = 512;

/// No word's.
const FREE: u8 = u8::MAX;

const _: () = assert!(COUNT <= FREE as usize, "each word has an index of its own");

/// Where each word stands in [`WORDS`]; one whose slot is taken has the next that is free.
const TABLE: [u8; SLOTS] = {
    let mut table = [FREE; SLOTS];
    let mut index = 0;
    while index < COUNT {
        #[expect(clippy::indexing_slicing, reason = "evaluated by the compiler")]
        #[expect(clippy::cast_possible_truncation, reason = "there are fewer words than that")]
        {
            let word = WORDS[index];
            let mut at = word.ends.slot(word.name.len());
            while table[at] != FREE {
                at = (at + 1) % SLOTS;
            }
            table[at] = index as u8;
        }
        index += 1;
    }
    table
};

/// The bit of a length in [`LENGTHS`]; all long words share the last.
const fn length_bit(len: usize) -> u32 {
    1 << if len < 31 { len } else { 31 }
}

/// For each letter (its low five bits, which are the same in both cases) how long our words are.
const LENGTHS: [u32; 32] = {
    let mut table = [0; 32];
    let mut letter = b'a';
    while letter <= b'z' {
        let mut words = candidates(letter);
        while let [(name, _), rest @ ..] = words {
            #[expect(clippy::indexing_slicing, reason = "evaluated by the compiler")]
            {
                table[(letter & 0x1f) as usize] |= length_bit(name.len());
            }
            words = rest;
        }
        letter += 1;
    }
    // `pg_temp` and whatever begins with it and `_`.
    let from_pg_temp = u32::MAX << PG_TEMP.len();
    #[expect(clippy::indexing_slicing, reason = "evaluated by the compiler")]
    {
        table[(b'p' & 0x1f) as usize] |= from_pg_temp;
    }
    table
};

/// The words that begin with this letter.
#[expect(clippy::too_many_lines, reason = "a table")]
const fn candidates(first: u8) -> &'static [(&'static [u8], Keyword)] {
    use Keyword as K;
    match first | 0x20 {
        b'a' => &[
            (b"all", K::All),
            (b"alter", K::Alter),
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
            (b"copy", K::Copy),
            (b"characteristics", K::Characteristics),
            (b"chain", K::Chain),
            (b"client_encoding", K::ClientEncoding),
            (b"connectby", K::RunsText),
            (b"crosstab", K::RunsText),
            (b"crosstab2", K::RunsText),
            (b"crosstab3", K::RunsText),
            (b"crosstab4", K::RunsText),
            (b"constraints", K::Constraints),
        ],
        b'd' => &[
            (b"delete", K::Delete),
            (b"drop", K::Drop),
            (b"do", K::Do),
            (b"deallocate", K::Deallocate),
            (b"declare", K::Declare),
            (b"default", K::Default),
            (b"discard", K::Discard),
            (b"database", K::Database),
            (b"datestyle", K::DateStyle),
            (b"dblink_connect", K::LastingFunction),
            (b"dblink_connect_u", K::LastingFunction),
        ],
        b'e' => &[(b"end", K::End), (b"execute", K::Execute), (b"explain", K::Explain)],
        b'f' => &[(b"for", K::For), (b"fetch", K::Fetch)],
        b'g' => &[(b"global", K::Global), (b"group", K::Role)],
        b'h' => &[(b"hold", K::Hold)],
        b'i' => &[(b"insert", K::Insert), (b"into", K::Into), (b"intervalstyle", K::IntervalStyle)],
        b'k' => &[(b"key", K::Key)],
        b'l' => &[(b"load", K::Load), (b"local", K::Local), (b"listen", K::Listen)],
        b'm' => &[(b"merge", K::Merge)],
        b'n' => &[(b"null", K::Null), (b"names", K::Names), (b"no", K::No)],
        b'o' => &[(b"or", K::Or)],
        b'p' => &[
            (b"prepare", K::Prepare),
            (b"prepared", K::Prepared),
            (b"pg_advisory_lock", K::StatefulFunction),
            (b"pg_advisory_lock_shared", K::StatefulFunction),
            (b"pg_try_advisory_lock", K::StatefulFunction),
            (b"pg_try_advisory_lock_shared", K::StatefulFunction),
            (b"pg_reload_conf", K::ReloadConf),
            (b"pg_settings", K::PgSettings),
            (b"pg_replication_origin_session_setup", K::LastingFunction),
            (b"pg_create_logical_replication_slot", K::LastingFunction),
            (b"pg_create_physical_replication_slot", K::LastingFunction),
            (b"pg_copy_logical_replication_slot", K::LastingFunction),
            (b"pg_copy_physical_replication_slot", K::LastingFunction),
            (b"pg_backup_start", K::LastingFunction),
        ],
        b'q' => &[
            (b"query_to_xml", K::RunsText),
            (b"query_to_xml_and_xmlschema", K::RunsText),
            (b"query_to_xmlschema", K::RunsText),
        ],
        b'r' => &[
            (b"rollback", K::Rollback),
            (b"release", K::Release),
            (b"reset", K::Reset),
            (b"role", K::Role),
            (b"replace", K::Replace),
        ],
        b's' => &[
            (b"select", K::Select),
            (b"set", K::Set),
            (b"show", K::Show),
            (b"savepoint", K::Savepoint),
            (b"session", K::Session),
            (b"share", K::Share),
            (b"system", K::System),
            (b"start", K::Start),
            (b"set_config", K::SetConfig),
            (b"setseed", K::LastingFunction),
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
            (b"ts_stat", K::RunsText),
            (b"ts_rewrite", K::RunsText),
        ],
        b'u' => &[(b"update", K::Update), (b"user", K::Role)],
        b'v' => &[(b"values", K::Values)],
        b'w' => &[(b"with", K::With)],
        b'x' => &[(b"xpath_table", K::RunsText)],
        _ => &[],
    }
}

const PG_TEMP: &[u8] = b"pg_temp";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_found_in_any_case_and_not_with_a_letter_more() {
        for first in b'a'..=b'z' {
            for (name, expected) in candidates(first) {
                assert_eq!(name[0], first);
                assert_eq!(keyword(name), *expected);
                assert_eq!(keyword(&name.to_ascii_uppercase()), *expected);
                assert_ne!(keyword(&[*name, b"z"].concat()), *expected);
            }
        }
    }

    #[test]
    fn a_long_word_is_more_than_its_ends() {
        assert_eq!(keyword(b"standard_conforming_strings"), Keyword::StandardStrings);
        assert_eq!(keyword(b"standard_c0nf0rming_strings"), Keyword::Other);
    }

    #[test]
    fn only_letters_have_a_lower_case() {
        for byte in 0..=u8::MAX {
            let eight = u64::from_le_bytes([byte; 8]);
            assert_eq!(lower_case(eight).to_le_bytes(), [byte.to_ascii_lowercase(); 8]);
        }
    }

    #[test]
    fn temporary_schemas_are_one_word() {
        for name in ["pg_temp", "PG_TEMP_12", "pg_temp_1234567890123456789012345"] {
            assert_eq!(keyword(name.as_bytes()), Keyword::PgTemp, "{name}");
        }
        for name in ["pg_tempo", "pg_tem", "xpg_temp", ""] {
            assert_eq!(keyword(name.as_bytes()), Keyword::Other, "{name}");
        }
    }
}
