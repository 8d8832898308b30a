//! The fields that may differ between PostgreSQL's answers and those that come through pgweir, and
//! why. Everything else is equal.
//!
//! Some messages are not sent at all, for nothing can be learned from what PostgreSQL says to them: those
//! that make it crash or lose track of its own transaction (`Direct::is_deadly`); to a client that waits for a
//! server, those that may have to do with rule 3 (`Step::take_out_incomparable`); a division by a parameter that
//! planning could do (it fails at the Bind or at the Execute, by how often this process has planned it); and a
//! FETCH that is prepared by name (its columns are those of the cursor that there was then).

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

/// Rule 2: the cancel key of a session is pgweir's own, as long as PostgreSQL's.
const fn keys_agree(direct: &[u8], through: &[u8]) -> bool {
    direct.len() == through.len()
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
