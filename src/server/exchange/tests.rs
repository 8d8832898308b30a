//! The exchange against hand-made conversations, and against a naive server.
#![expect(clippy::wildcard_enum_match_arm, reason = "test code")]

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

type Plain = Exchange<u32>;

fn sent(requests: &[Request]) -> Plain {
    let mut exchange = Plain::default();
    for request in requests {
        exchange.on_request(*request, None);
    }
    exchange
}

fn answer(exchange: &mut Plain, tags: &[u8]) {
    for tag in tags {
        exchange.on_answer(*tag, Some(TxStatus::Idle)).unwrap();
    }
}

const QUERY: Request = Request::Simple(Verdict::Forward);
const PARSE: Request = Request::Parse(Verdict::Forward);

#[test]
fn a_query_is_settled_by_its_ready() {
    let mut exchange = sent(&[QUERY]);
    answer(&mut exchange, b"TDDC");
    assert!(!exchange.is_settled());
    answer(&mut exchange, b"Z");
    assert!(exchange.may_checkin());
}

#[test]
fn a_block_may_be_rolled_back_when_nothing_is_owed() {
    let mut exchange = sent(&[QUERY]);
    exchange.on_answer(b'C', None).unwrap();
    assert!(!exchange.may_roll_back());
    exchange.on_answer(b'Z', Some(TxStatus::Block)).unwrap();
    assert!(exchange.may_roll_back() && !exchange.may_checkin());

    exchange.on_request(QUERY, None);
    assert!(!exchange.may_roll_back());
    exchange.on_answer(b'C', None).unwrap();
    exchange.on_answer(b'Z', Some(TxStatus::Idle)).unwrap();
    assert!(!exchange.may_roll_back() && exchange.may_checkin());
}

/// P27: a second request in flight keeps the server.
#[test]
fn every_ready_of_a_pipeline_is_waited_for() {
    let mut exchange = sent(&[QUERY, QUERY]);
    answer(&mut exchange, b"CZ");
    assert!(!exchange.is_settled());
    answer(&mut exchange, b"CZ");
    assert!(exchange.is_settled());
}

/// P28, P67: a Flush leaves the segment open.
#[test]
fn an_answered_segment_without_sync_is_not_settled() {
    let mut exchange = sent(&[PARSE, Request::Describe(Verdict::Forward)]);
    answer(&mut exchange, b"1tT");
    assert!(exchange.is_held_open());
    assert!(!exchange.may_checkin());

    exchange.on_request(Request::Sync, None);
    answer(&mut exchange, b"Z");
    assert!(exchange.may_checkin());
}

/// What is asked behind a Parse on our own account never reaches the client.
#[test]
fn a_describe_of_ours_is_swallowed_and_found_again() {
    let mut exchange = sent(&[PARSE]);
    exchange.on_request(Request::Describe(Verdict::Swallow), Some(7));
    exchange.on_request(Request::Describe(Verdict::Forward), None);
    assert_eq!(exchange.on_answer(b'1', None), Ok(Verdict::Forward));
    assert!(exchange.awaits_description());
    assert_eq!(exchange.on_answer(b't', None), Ok(Verdict::Swallow));
    assert_eq!(exchange.on_answer(b'T', None), Ok(Verdict::Swallow));
    assert_eq!(exchange.take_described(), Some(7));
    assert!(!exchange.awaits_description());
    assert_eq!(exchange.on_answer(b't', None), Ok(Verdict::Forward));
    assert_eq!(exchange.on_answer(b'n', None), Ok(Verdict::Forward));
    assert_eq!(exchange.take_described(), None);
}

/// P56: an error skips everything to the Sync, whether it was sent before or after.
#[test]
fn an_error_skips_to_the_next_sync() {
    let mut exchange = sent(&[PARSE, Request::Bind, Request::Execute]);
    answer(&mut exchange, b"1E");
    exchange.on_request(Request::Execute, None);
    exchange.on_request(QUERY, None);
    assert_eq!(exchange.depth(), 0);
    assert!(!exchange.is_settled());

    exchange.on_request(Request::Sync, None);
    answer(&mut exchange, b"Z");
    assert!(exchange.is_settled());
}

#[test]
fn an_error_does_not_skip_beyond_the_sync() {
    let mut exchange = sent(&[PARSE, Request::Bind, Request::Sync, PARSE, Request::Sync]);
    answer(&mut exchange, b"EZ1Z");
    assert!(exchange.is_settled());
}

#[test]
fn the_end_of_a_failed_segment_may_be_unheard_if_nothing_is_behind_it() {
    for (behind, ended) in
        [(&[Request::Sync][..], Some(true)), (&[], Some(false)), (&[Request::Sync, QUERY], None)]
    {
        let mut exchange = sent(&[&[PARSE, Request::Bind, Request::Execute], behind].concat());
        answer(&mut exchange, b"1E");

        assert_eq!(exchange.end_unheard(), ended);

        if ended.is_some() {
            let heard = exchange.on_answer(b'Z', Some(TxStatus::Idle)).unwrap();
            assert_eq!((heard, exchange.may_checkin()), (Verdict::Swallow, true));
        }
    }
    assert_eq!(sent(&[PARSE]).end_unheard(), None);
    assert_eq!(sent(&[]).end_unheard(), None);
}

/// P46, P64: what failed and what was skipped is told apart, newest first.
#[test]
fn what_came_to_nothing_is_handed_back() {
    let mut exchange = Plain::default();
    for (n, request) in (0..).zip([PARSE, PARSE, Request::MadeUp(MadeUp::CloseComplete)]) {
        exchange.on_request(request, Some(n));
    }
    exchange.on_request(Request::Sync, None);
    answer(&mut exchange, b"1E");

    let undone: Vec<_> = exchange.take_undone().collect();

    assert_eq!(undone, [Undone { failed: false, undo: 2 }, Undone { failed: true, undo: 1 }]);
}

/// P66: answers of ours keep their place among the server's.
#[test]
fn a_made_up_answer_waits_for_those_in_front() {
    let mut exchange =
        sent(&[Request::Bind, Request::MadeUp(MadeUp::ParseComplete), Request::Sync]);
    assert_eq!(exchange.next_made_up(), None);
    answer(&mut exchange, b"2");
    assert_eq!(exchange.next_made_up(), Some(MadeUp::ParseComplete));
    assert_eq!(exchange.next_made_up(), None);
}

/// It goes with what the server says behind it, unless that says nothing.
#[test]
fn a_made_up_answer_goes_alone_only_where_no_other_comes_behind_it() {
    let made_up = Request::MadeUp(MadeUp::ParseComplete);
    for (requests, is_alone) in [
        (&[made_up][..], true),
        (&[made_up, made_up], true),
        (&[made_up, Request::CopyEnd], true),
        (&[made_up, Request::Sync], false),
        (&[made_up, Request::Bind], false),
        (&[PARSE, made_up], false),
        (&[], false),
    ] {
        assert_eq!(sent(requests).owes_made_up_alone(), is_alone, "{requests:?}");
    }
}

#[test]
fn a_made_up_answer_behind_an_error_is_never_given() {
    let mut exchange =
        sent(&[Request::Bind, Request::MadeUp(MadeUp::ParseComplete), Request::Sync]);
    answer(&mut exchange, b"E");
    assert_eq!(exchange.next_made_up(), None);
    answer(&mut exchange, b"Z");
    assert!(exchange.is_settled());
}

#[test]
fn injected_messages_are_swallowed() {
    let mut exchange =
        sent(&[Request::Simple(Verdict::Swallow), Request::Parse(Verdict::Swallow), Request::Bind]);
    assert_eq!(exchange.on_answer(b'C', None), Ok(Verdict::Swallow));
    assert_eq!(exchange.on_answer(b'S', None), Ok(Verdict::Swallow));
    assert_eq!(exchange.on_answer(b'Z', Some(TxStatus::Idle)), Ok(Verdict::Swallow));
    assert_eq!(exchange.on_answer(b'1', None), Ok(Verdict::Swallow));
    assert_eq!(exchange.on_answer(b'2', None), Ok(Verdict::Forward));
}

#[test]
fn copy_in_of_a_simple_query() {
    let mut exchange = sent(&[QUERY]);
    answer(&mut exchange, b"G");
    assert!(exchange.takes_copy_data());
    exchange.on_request(Request::CopyEnd, None);
    answer(&mut exchange, b"CZ");
    assert!(exchange.is_settled());
}

/// P32: a Sync that went into the copy gets no answer; the one behind it does.
#[test]
fn a_sync_before_the_end_of_a_copy_is_not_owed() {
    let mut pipelined = sent(&[Request::Execute, Request::Sync, Request::CopyEnd, Request::Sync]);
    answer(&mut pipelined, b"GCZ");
    assert!(pipelined.is_settled());

    let mut stepwise = sent(&[Request::Execute, Request::Sync]);
    answer(&mut stepwise, b"G");
    stepwise.on_request(Request::Sync, None);
    stepwise.on_request(Request::CopyEnd, None);
    answer(&mut stepwise, b"C");
    assert!(!stepwise.is_settled());
    stepwise.on_request(Request::Sync, None);
    answer(&mut stepwise, b"Z");
    assert!(stepwise.is_settled());
}

/// P31: the copy fails on the server while the client streams on.
#[test]
fn a_late_copy_done_is_not_owed_anything() {
    let mut exchange = sent(&[QUERY]);
    answer(&mut exchange, b"GEZ");
    exchange.on_request(Request::CopyEnd, None);
    assert!(exchange.is_settled());
}

/// P31: the copy had failed before the query came: it is one like any other.
#[test]
fn a_query_behind_a_copy_that_had_failed_is_answered() {
    for seen in [false, true] {
        let mut exchange = sent(&[QUERY]);
        if seen {
            answer(&mut exchange, b"G");
        }
        exchange.on_request(QUERY, None);
        answer(&mut exchange, if seen { b"EZTDC" } else { b"GEZTDC" });
        assert!(!exchange.is_settled());
        answer(&mut exchange, b"Z");
        assert!(exchange.may_checkin());
    }
}

/// P31, P32: whether a Sync went into the copy or came behind its failure only the server knows: it
/// is lent to nobody else, who would get the answer.
#[test]
fn a_sync_sent_into_a_copy_that_failed_taints_the_server() {
    let mut exchange = sent(&[QUERY]);
    answer(&mut exchange, b"G");
    exchange.on_request(Request::Sync, None);
    answer(&mut exchange, b"EZ");
    assert!(exchange.is_at_rest());
    assert!(!exchange.may_checkin());
    assert_eq!(exchange.on_answer(b'Z', Some(TxStatus::Idle)), Ok(Verdict::Forward));
}

/// What ended the copy tells that every Sync in front of it went into it.
#[test]
fn a_sync_in_front_of_what_ended_the_copy_is_in_no_doubt() {
    let mut exchange = sent(&[Request::Execute, Request::Sync]);
    answer(&mut exchange, b"G");
    for request in [Request::Sync, Request::CopyEnd, Request::Sync] {
        exchange.on_request(request, None);
    }
    exchange.on_error(CopyEnd::GivenUp).unwrap();
    assert!(!exchange.is_settled());
    answer(&mut exchange, b"Z");
    assert!(exchange.may_checkin());
}

/// A client that sends nothing but Syncs into a copy takes no memory by it, and is read on.
#[test]
fn syncs_in_a_copy_do_not_pile_up() {
    let mut exchange = sent(&[QUERY]);
    answer(&mut exchange, b"G");
    for _ in 0..100_000 {
        exchange.on_request(Request::Sync, None);
    }
    assert_eq!(exchange.depth(), 2);
}

/// P56: whatever fails, nothing is left of it.
#[test]
fn nothing_piles_up_over_100_000_failed_segments() {
    let mut exchange = Plain::default();
    for n in 0..100_000 {
        for request in
            [PARSE, Request::Bind, Request::Execute, Request::MadeUp(MadeUp::CloseComplete)]
        {
            exchange.on_request(request, Some(n));
        }
        answer(&mut exchange, b"E");
        exchange.on_request(Request::Execute, None);
        exchange.on_request(Request::Sync, None);
        answer(&mut exchange, b"Z");
        assert_eq!(exchange.take_undone().count(), 4);
        assert_eq!(exchange.depth(), 0);
    }
    assert!(exchange.may_checkin());
    assert!(exchange.owed.capacity() < 100 && exchange.undone.capacity() < 100);
}

#[test]
fn nothing_is_kept_of_a_long_pipeline() {
    let mut exchange = Plain::default();
    for n in 0..10_000 {
        exchange.on_request(Request::Bind, Some(n));
    }
    exchange.on_request(Request::Sync, None);
    assert!(exchange.owed.capacity() > 10_000);
    answer(&mut exchange, &[b'2'; 10_000]);
    answer(&mut exchange, b"Z");
    assert_eq!(exchange.depth(), 0);
    assert!(exchange.owed.capacity() < 1000);
}

/// Later requests keep their numbers when something in front of them went into a copy.
#[test]
fn serial_numbers_outlive_a_copy() {
    let mut exchange = sent(&[Request::Execute, Request::Sync, Request::CopyEnd, Request::Sync]);
    let next = exchange.next_serial();
    answer(&mut exchange, b"GCZ");
    assert_eq!(exchange.next_serial(), next);
    assert_eq!(exchange.head_serial(), next);
}

fn fates(exchange: &mut Plain) -> Vec<(bool, bool)> {
    exchange.fates().owed.iter().map(|fate| (fate.may_commit, fate.in_block)).collect()
}

#[test]
fn what_was_answered_counts_for_the_fate_of_its_segment() {
    let mut exchange = Plain::default();
    exchange.on_run(Request::Execute, Effect::Writes, None);
    exchange.on_request(Request::Sync, None);
    answer(&mut exchange, b"C");
    assert_eq!(fates(&mut exchange), [(true, false)]);
    answer(&mut exchange, b"Z");
    exchange.on_run(QUERY, Effect::Reads, None);
    assert_eq!(fates(&mut exchange), [(false, false)]);
}

/// What was skipped has not run.
#[test]
fn what_was_skipped_does_not_count() {
    let mut exchange = sent(&[PARSE]);
    exchange.on_run(Request::Execute, Effect::Writes, None);
    exchange.on_request(Request::Sync, None);
    answer(&mut exchange, b"E");
    assert_eq!(fates(&mut exchange), [(false, false)]);
}

/// Commands of ours are nothing that the client is owed an answer to.
#[test]
fn only_the_clients_requests_have_a_fate() {
    let mut exchange = sent(&[Request::Simple(Verdict::Swallow)]);
    exchange.on_run(QUERY, Effect::Writes, None);
    assert_eq!(fates(&mut exchange), [(true, false)]);
}

/// A Sync that went into a copy has no answer to come, whatever becomes of the server.
#[test]
fn a_copy_that_is_lost_takes_its_syncs_with_it() {
    let mut exchange = Plain::default();
    exchange.on_run(Request::Execute, Effect::Writes, None);
    exchange.on_request(Request::Sync, None);
    answer(&mut exchange, b"G");

    let fates = exchange.fates();

    assert_eq!((fates.owed.len(), fates.last.may_commit), (0, true));
    assert_eq!(exchange.segment(), Segment::Open);
}

#[test]
fn an_error_of_the_commit_in_a_sync_is_not_skipped_over() {
    let mut exchange = sent(&[Request::Execute, Request::Sync]);
    answer(&mut exchange, b"CEZ");
    assert!(exchange.is_settled());
}

#[test]
fn an_answer_to_nothing_is_a_violation() {
    let mut exchange = Plain::default();
    assert!(exchange.on_answer(b'Z', Some(TxStatus::Idle)).is_err());
    assert!(exchange.on_answer(b'E', None).is_err());
    assert!(sent(&[Request::Bind]).on_answer(b'1', None).is_err());
    assert_eq!(exchange.on_answer(b'N', None), Ok(Verdict::Forward));
}

/// P54: no `ParseComplete` of ours where the server would refuse.
#[test]
fn nothing_is_made_up_in_a_failed_block_or_behind_an_open_outcome() {
    let mut exchange = sent(&[QUERY]);
    assert!(!exchange.may_make_up());
    exchange.on_answer(b'Z', Some(TxStatus::Failed)).unwrap();
    assert!(!exchange.may_make_up());
    exchange.on_request(QUERY, None);
    exchange.on_answer(b'Z', Some(TxStatus::Idle)).unwrap();
    assert!(exchange.may_make_up());
}

/// What we put in front of a client's messages outside of a block leaves it outside.
#[test]
fn a_request_of_ours_decides_about_no_block_unless_it_is_in_one() {
    let ours = Request::Simple(Verdict::Swallow);
    assert!(sent(&[ours]).may_make_up());
    assert!(!sent(&[ours, QUERY]).may_make_up());
    assert!(!sent(&[QUERY, ours]).may_make_up());
    let mut exchange = sent(&[QUERY]);
    exchange.on_answer(b'Z', Some(TxStatus::Block)).unwrap();
    assert!(exchange.may_make_up());
    exchange.on_request(ours, None);
    assert!(!exchange.may_make_up());
}

#[test]
fn serial_numbers_follow_the_order_of_requests() {
    let mut exchange = sent(&[QUERY]);
    assert_eq!((exchange.head_serial(), exchange.next_serial()), (0, 1));
    answer(&mut exchange, b"Z");
    assert_eq!((exchange.head_serial(), exchange.next_serial()), (1, 1));
}

/// A server as simple as can be: takes requests in order, answers at once, fails where told.
#[derive(Default)]
struct NaiveServer {
    skipping: bool,
    copying: Option<Request>,
    /// It was sent what has no place in a copy, and has closed the connection.
    is_gone: bool,
}

#[derive(Debug, Clone, Copy)]
enum Act {
    Send(Request, Outcome),
    /// The data of the copy that runs turns out to be bad.
    SendBadData,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Outcome {
    Works,
    Fails,
    CopiesIn,
}

/// A tag on its way, and how a copy ended if it is an error.
type Answer = (u8, CopyEnd);

impl NaiveServer {
    /// The tags that it answers `request` with.
    fn serve(&mut self, request: Request, outcome: Outcome) -> Vec<Answer> {
        if self.copying.is_some() {
            return match (request, outcome) {
                (Request::Sync, _) => vec![],
                (Request::CopyEnd, Outcome::Works) => self.end_copy(CopyEnd::Done),
                (Request::CopyEnd, Outcome::Fails) => self.end_copy(CopyEnd::GivenUp),
                // Refused by something that looks at all of it.
                (Request::CopyEnd, Outcome::CopiesIn) => self.end_copy(CopyEnd::Failed),
                _ => {
                    self.is_gone = true;
                    vec![(b'E', CopyEnd::Failed)]
                }
            };
        }
        self.answer(request, outcome).iter().map(|tag| (*tag, CopyEnd::Failed)).collect()
    }

    fn end_copy(&mut self, end: CopyEnd) -> Vec<Answer> {
        let Some(copying) = self.copying.take() else { return vec![] };
        let is_simple = matches!(copying, Request::Simple(_));
        self.skipping = !is_simple && end != CopyEnd::Done;
        let tag = if end == CopyEnd::Done { b'C' } else { b'E' };
        let mut answers = vec![(tag, end)];
        answers.extend(is_simple.then_some((b'Z', end)));
        answers
    }

    fn answer(&mut self, request: Request, outcome: Outcome) -> &'static [u8] {
        if self.skipping && request != Request::Sync {
            return b"";
        }
        let fails = outcome == Outcome::Fails;
        match request {
            Request::Sync => {
                self.skipping = false;
                b"Z"
            }
            Request::Simple(_) | Request::Execute if outcome == Outcome::CopiesIn => {
                self.copying = Some(request);
                b"G"
            }
            Request::Simple(_) if fails => b"EZ",
            Request::Simple(_) => b"CZ",
            Request::CopyEnd | Request::MadeUp(_) => b"",
            _ if fails => {
                self.skipping = true;
                b"E"
            }
            Request::Parse(_) => b"1",
            Request::Bind | Request::Own => b"2",
            Request::Describe(_) => b"n",
            Request::Execute => b"DC",
            Request::Close(_) => b"3",
        }
    }
}

fn acts() -> impl Strategy<Value = Act> {
    let request = prop_oneof![
        Just(QUERY),
        Just(Request::Sync),
        Just(PARSE),
        Just(Request::Parse(Verdict::Swallow)),
        Just(Request::Bind),
        Just(Request::Describe(Verdict::Forward)),
        Just(Request::Execute),
        Just(Request::Close(Verdict::Forward)),
        Just(Request::Own),
        Just(Request::CopyEnd),
    ];
    let outcome = prop_oneof![
        4 => Just(Outcome::Works), 1 => Just(Outcome::Fails), 1 => Just(Outcome::CopiesIn)
    ];
    let send = (request, outcome).prop_map(|(r, o)| Act::Send(r, o));
    prop_oneof![9 => send, 1 => Just(Act::SendBadData)]
}

fn read(exchange: &mut Plain, (tag, end): Answer) -> Result<Verdict, Violation> {
    match tag {
        b'E' => exchange.on_error(end),
        _ => exchange.on_answer(tag, Some(TxStatus::Idle)),
    }
}

proptest! {
    /// However requests and answers interleave, nothing the server says is a violation, and the
    /// exchange is settled exactly when the server waits for nothing more than a new request.
    #[test]
    fn agrees_with_a_naive_server(acts in prop::collection::vec((acts(), 0_usize..4), 0..60)) {
        let mut server = NaiveServer::default();
        let mut exchange = Plain::default();
        let mut wire: VecDeque<Answer> = VecDeque::new();
        let mut open = false;
        for (act, reads) in acts {
            let was_copying = server.copying.is_some();
            let was_skipping = server.skipping;
            match act {
                Act::SendBadData => wire.extend(server.end_copy(CopyEnd::Failed)),
                Act::Send(request, outcome) => {
                    exchange.on_request(request, None);
                    wire.extend(server.serve(request, outcome));
                    match request {
                        Request::Simple(_) if !was_copying && !was_skipping => open = false,
                        Request::Sync if !was_copying => open = false,
                        Request::CopyEnd | Request::Sync | Request::Simple(_) => {}
                        _ if !was_copying && !was_skipping => open = true,
                        _ => {}
                    }
                }
            }
            for _ in 0..reads {
                if let Some(answer) = wire.pop_front() {
                    prop_assert!(read(&mut exchange, answer).is_ok());
                }
                if exchange.doubtful {
                    // Nobody can know: the server is used no further.
                    prop_assert!(!exchange.may_checkin());
                    return Ok(());
                }
            }
            if server.is_gone {
                break;
            }
        }
        while let Some(answer) = wire.pop_front() {
            prop_assert!(read(&mut exchange, answer).is_ok());
            if exchange.doubtful {
                return Ok(());
            }
        }
        if server.is_gone {
            prop_assert!(!exchange.is_settled() || !exchange.may_checkin());
            return Ok(());
        }
        let waits = server.copying.is_some() || server.skipping || open;
        prop_assert_eq!(exchange.is_settled(), !waits);
        if !waits {
            prop_assert!(!exchange.owed.has_boundary());
        }
    }
}
