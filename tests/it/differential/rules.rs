//! The fields that may differ between PostgreSQL's answers and those that come through pgweir, and
//! why. Everything else is equal.
//!
//! Some messages are not sent at all. Of those PostgreSQL itself makes nothing to be compared:
//!
//! - A: what makes it crash, or lose track of its own transaction (`Direct::is_deadly`; of a client that waits
//!   for a server: `Step::take_out_incomparable`).
//! - B: anything behind the data of a copy but its end, before the client knows whether the copy has failed:
//!   what of it is ignored is up to when the failure is found (`Step::split_behind_copy_data`).
//! - C: a division by a parameter, or a cast of one, that planning could do: it fails at the Bind or at the
//!   Execute, by how often that server process has planned it (`texts.rs` and `generate.rs` have none).
//!
//! And three are deviations, which `docs/POOL_MODES.md` tells of:
//!
//! - D: a statement that gives no rows, described in a block that has failed, is described directly; here it
//!   is refused where its server lacks it (`Direct::is_described_in_failed_block`: rule 3 for what does not
//!   fail).
//! - E: of a client that waits for a server, a statement described behind what may have failed in a block: D,
//!   where the answers are not known before (`Step::take_out_incomparable`).
//! - F: a FETCH prepared by name has the columns of the cursor that there is when a server prepares it
//!   (`texts.rs` has none).

use super::sequence::Frame;
use crate::support::reply::Message;

/// True if a client that was told `through` was told what PostgreSQL says.
pub fn agree(direct: &Message, through: &Message) -> bool {
    direct.tag == through.tag
        && (direct.body == through.body
            || (matches!(direct.tag, b'E' | b'N') && errors_agree(&direct.body, &through.body))
            || (direct.tag == b'E' && refuse_in_failed_block(&direct.body, &through.body))
            || (direct.tag == b'K' && keys_agree(&direct.body, &through.body))
            || (direct.tag == b'E' && is_about_lost_track(direct) && tells_of_length(through)))
}

/// Rule 1: an error that pgweir raises in PostgreSQL's place names no file and line of PostgreSQL's
/// source (fields F and L).
fn errors_agree(direct: &[u8], through: &[u8]) -> bool {
    let fields = |body: &[u8]| -> Vec<Vec<u8>> {
        body.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect()
    };
    let is_place = |field: &Vec<u8>| matches!(field.first(), Some(b'F' | b'L'));
    let (mut expected, actual) = (fields(direct), fields(through));
    if actual.iter().any(is_place) {
        return false;
    }
    expected.retain(|field| !is_place(field));
    expected == actual
}

/// Rule 2: the cancel key of a session is pgweir's own, as long as PostgreSQL's.
const fn keys_agree(direct: &[u8], through: &[u8]) -> bool {
    direct.len() == through.len()
}

/// Rule 3: in a block that has failed a statement cannot be prepared where it is not. Its Bind or Describe
/// is then refused in the place of the server's Parse (fields F, L and R), whatever else is wrong with it.
fn refuse_in_failed_block(direct: &[u8], through: &[u8]) -> bool {
    let has = |body: &[u8], field: &[u8]| body.split(|byte| *byte == 0).any(|it| it == field);
    // The last two read a Bind that breaks the protocol.
    let refuses: [&[u8]; 4] = [
        b"Rexec_bind_message",
        b"Rexec_describe_statement_message",
        b"Rpq_copymsgbytes",
        b"Rpq_getmsgbytes",
    ];
    refuses.iter().any(|routine| has(direct, routine))
        && has(through, b"Rexec_parse_message")
        && has(through, b"C25P02")
}

/// PostgreSQL leaves a client that has sent it, in the middle of a copy, what has no place there.
fn is_about_lost_track(last: &Message) -> bool {
    let fields = last.fields();
    fields.severity() == "FATAL" && fields.code() == "08P01"
}

/// Rule 4: what PostgreSQL says to who says goodbye in the middle of a copy is not told: nobody is there to
/// hear it.
pub fn is_told_to_nobody(frame: &Frame) -> bool {
    frame.tag() == b'X'
}

/// Rule 5: who claims a length that no message may have is told so. PostgreSQL writes it into its log
/// and leaves; in the middle of a copy it says that it was left. (Who has broken off a copy
/// before, in the same breath, is told of either.)
pub fn tells_of_length(last: &Message) -> bool {
    let fields = last.fields();
    fields.severity() == "FATAL" && (fields.code() == "08P01" || fields.code() == "54000")
}

/// Rule 6: from PostgreSQL 16 on, settings that change together are told in an order that depends on what
/// the same server process has told before (`ReportChangedGUCOptions`), to whichever client. Such
/// messages stand together, and are compared in the order of their names.
pub fn are_told_together(one: &Message, next: &Message) -> bool {
    one.tag == b'S' && next.tag == b'S'
}

/// Rule 7: a server process that ends itself for a mistake of its own (XX000) is a lost server. The client is
/// told that in an ERROR, and its session goes on.
pub fn tells_of_crash(last: &Message) -> bool {
    last.tag == b'E' && last.fields().severity() == "FATAL" && last.fields().code() == "XX000"
}

/// What a client is told whose server has crashed.
pub fn tells_of_loss(told: &Message) -> bool {
    told.tag == b'E'
        && told.fields().severity() == "ERROR"
        && told.fields().code().starts_with("08")
}

mod tests {
    use super::*;

    fn error(fields: &str) -> Message {
        Message { tag: b'E', body: fields.replace('|', "\0").into_bytes() }
    }

    const SERVERS: &str = "SERROR|VERROR|C26000|Mno such|Fprepare.c|L451|RFetchPreparedStatement||";

    #[test]
    fn what_is_the_same_agrees() {
        for message in [error(SERVERS), Message { tag: b'C', body: b"SELECT 1\0".to_vec() }] {
            assert!(agree(&message, &message));
        }
    }

    /// Rule 1: the place is left out, and only as a whole.
    #[test]
    fn an_error_of_ours_has_all_but_the_place() {
        let ours = "SERROR|VERROR|C26000|Mno such|RFetchPreparedStatement||";
        assert!(agree(&error(SERVERS), &error(ours)));
        for other in [
            ours.replace("no such", "such"),
            ours.replace("26000", "26001"),
            ours.replace("SERROR", "SFATAL"),
            ours.replace("RFetch", "RFind"),
            ours.replace("|Mno", "|Dmore|Mno"),
            SERVERS.replace("L451", "L452"),
            SERVERS.replace("|L451", ""),
        ] {
            assert!(!agree(&error(SERVERS), &error(&other)), "{other}");
        }
        // Where there is a place in ours only, PostgreSQL did not say it.
        assert!(!agree(&error(ours), &error(SERVERS)));
    }

    #[test]
    fn nothing_else_has_fields_that_may_differ() {
        let told = |tag, body: &[u8]| Message { tag, body: body.to_vec() };
        assert!(!agree(&told(b'C', b"SELECT 1\0"), &told(b'C', b"SELECT 2\0")));
        assert!(!agree(&told(b'D', b"\0\x01Fa\0"), &told(b'D', b"\0\x01")));
        assert!(!agree(&told(b'Z', b"I"), &told(b'Z', b"T")));
        assert!(!agree(&told(b'1', b""), &told(b'2', b"")));
        assert!(!agree(&error(SERVERS), &told(b'N', &error(SERVERS).body)));
    }

    /// Rule 2.
    #[test]
    fn keys_are_as_long() {
        let key = |body: &[u8]| Message { tag: b'K', body: body.to_vec() };
        assert!(agree(&key(&[1; 8]), &key(&[2; 8])));
        assert!(!agree(&key(&[1; 8]), &key(&[2; 36])));
    }

    /// Rule 3.
    #[test]
    fn a_statement_that_cannot_be_prepared_in_a_failed_block_is_refused() {
        let ours = error("SERROR|C25P02|Mcurrent|RExec|Rexec_parse_message||");
        for (routine, agrees) in [
            ("exec_bind_message", true),
            ("exec_describe_statement_message", true),
            ("other", false),
        ] {
            let direct = error(&format!("SERROR|C08P01|Mbad|R{routine}||"));
            assert_eq!(agree(&direct, &ours), agrees, "{routine}");
        }
        let other = error("SERROR|C26000|Mcurrent|Rexec_parse_message||");
        assert!(!agree(&error("SERROR|C25P02|Mit|Rexec_bind_message||"), &other));
    }

    /// Rules 5 and 7: who is told, and of what.
    #[test]
    fn an_end_is_told_as_what_it_is() {
        let fatal = |code: &str| error(&format!("SFATAL|VFATAL|C{code}|Mover||"));
        assert!(agree(&fatal("08P01"), &fatal("54000")));
        assert!(!agree(&fatal("57P01"), &fatal("08P01")));
        assert!(!agree(&error("SERROR|VERROR|C08P01|Mover||"), &fatal("08P01")));
        assert!(tells_of_crash(&fatal("XX000")) && !tells_of_crash(&fatal("57P01")));
        assert!(tells_of_loss(&error("SERROR|VERROR|C08006|Mlost||")));
        assert!(!tells_of_loss(&fatal("08006")));
    }
}
