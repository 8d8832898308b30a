//! What a `CommandComplete` tag says about the state of its session.

/// What a statement did, as far as it matters to who may have the server next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TagState {
    /// Nothing that matters here; also CREATE TEMP TABLE, whose tag does not tell.
    None,
    /// SET of any form: LOCAL and TRANSACTION have the same tag.
    Set,
    /// RESET of one setting or of all: the tag does not tell which (P86).
    Reset,
    DiscardAll,
    /// DISCARD TEMP: temporary tables are gone.
    DiscardTemp,
    DeallocateAll,
    /// DEALLOCATE of one statement.
    Deallocate,
    /// PREPARE of a statement.
    Prepare,
    Listen,
    /// UNLISTEN, of one channel or of all.
    Unlisten,
    Load,
    /// DECLARE CURSOR, with or without HOLD.
    DeclareCursor,
    Do,
    /// ALTER, CREATE or DROP of anything.
    Alter,
}

/// Reads a tag, with or without its terminator. Runs for every `CommandComplete`: what is frequent
/// is let go by its first byte.
#[inline]
pub fn state_of_tag(tag: &[u8]) -> TagState {
    match tag {
        [b'S', b'E', b'T', ..]
        | [b'R', b'E', b'S', ..]
        | [b'D', b'I' | b'E' | b'O', ..]
        | [b'A' | b'P' | b'U' | b'L', ..]
        | [b'C' | b'D', b'R', ..] => rare(tag.strip_suffix(b"\0").unwrap_or(tag)),
        _ => TagState::None,
    }
}

/// The tags of `PostgreSQL`'s cmdtaglist.h that concern us.
fn rare(tag: &[u8]) -> TagState {
    match tag {
        b"SET" => TagState::Set,
        b"RESET" => TagState::Reset,
        b"DISCARD ALL" => TagState::DiscardAll,
        b"DISCARD TEMP" => TagState::DiscardTemp,
        b"DEALLOCATE ALL" => TagState::DeallocateAll,
        b"DEALLOCATE" => TagState::Deallocate,
        b"PREPARE" => TagState::Prepare,
        b"LISTEN" => TagState::Listen,
        b"UNLISTEN" => TagState::Unlisten,
        b"LOAD" => TagState::Load,
        b"DECLARE CURSOR" => TagState::DeclareCursor,
        b"DO" => TagState::Do,
        [b'A', b'L', b'T', b'E', b'R', b' ', ..]
        | [b'C', b'R', b'E', b'A', b'T', b'E', b' ', ..]
        | [b'D', b'R', b'O', b'P', b' ', ..] => TagState::Alter,
        _ => TagState::None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TAGS: [(&str, TagState); 15] = [
        ("SET", TagState::Set),
        ("RESET", TagState::Reset),
        ("DISCARD ALL", TagState::DiscardAll),
        ("DISCARD TEMP", TagState::DiscardTemp),
        ("DEALLOCATE ALL", TagState::DeallocateAll),
        ("DEALLOCATE", TagState::Deallocate),
        ("PREPARE", TagState::Prepare),
        ("LISTEN", TagState::Listen),
        ("UNLISTEN", TagState::Unlisten),
        ("LOAD", TagState::Load),
        ("DECLARE CURSOR", TagState::DeclareCursor),
        ("DO", TagState::Do),
        ("ALTER TABLE", TagState::Alter),
        ("CREATE TABLE", TagState::Alter),
        ("DROP VIEW", TagState::Alter),
    ];

    #[test]
    fn tags_that_tell_of_state_are_known_with_and_without_terminator() {
        for (tag, state) in TAGS {
            assert_eq!(state_of_tag(tag.as_bytes()), state);
            assert_eq!(state_of_tag(format!("{tag}\0").as_bytes()), state);
        }
    }

    #[test]
    fn all_other_tags_pass() {
        for tag in [
            "SELECT 1",
            "INSERT 0 1",
            "UPDATE 3",
            "DELETE 0",
            "BEGIN",
            "COMMIT",
            "ROLLBACK",
            "DISCARD PLANS",
            "DISCARD SEQUENCES",
            "PREPARE TRANSACTION",
            "SET CONSTRAINTS",
            "LOCK TABLE",
            "SAVEPOINT",
            "RELEASE",
            "",
            "\0",
            "S",
            "SETTLE",
        ] {
            assert_eq!(state_of_tag(tag.as_bytes()), TagState::None, "{tag}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_tags_are_none_of_ours(tag: Vec<u8>) {
            let bare = tag.strip_suffix(b"\0").unwrap_or(&tag);
            prop_assume!(!["ALTER ", "CREATE ", "DROP "].iter().any(|a| bare.starts_with(a.as_bytes())));
            prop_assume!(TAGS.iter().all(|(known, _)| known.as_bytes() != bare));
            prop_assert_eq!(state_of_tag(&tag), TagState::None);
        }
    }
}
