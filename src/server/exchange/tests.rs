//! The exchange against hand-made conversations, and against a naive server.
#![expect(clippy::wildcard_enum_match_arm, reason = "test code")]

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
    let mut exchange = sent(&[PARSE, Request::Describe]);
    answer(&mut exchange, b"1tT");
    assert!(exchange.is_held_open());
    assert!(!exchange.may_checkin());

    exchange.on_request(Request::Sync, None);
    answer(&mut exchange, b"Z");
    assert!(exchange.may_checkin());
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
    assert!(exchange.in_copy_in());
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

#[test]
fn a_query_inside_a_copy_ends_it_with_one_error() {
    let mut exchange = sent(&[QUERY]);
    answer(&mut exchange, b"G");
    exchange.on_request(QUERY, None);
    answer(&mut exchange, b"EZ");
    assert!(exchange.is_settled());
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
}

#[derive(Debug, Clone, Copy)]
enum Act {
    Send(Request, Outcome),
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Outcome {
    Works,
    Fails,
    CopiesIn,
}

impl NaiveServer {
    /// The tags that it answers `request` with.
    fn serve(&mut self, request: Request, outcome: Outcome) -> Vec<u8> {
        if let Some(copying) = self.copying {
            if request == Request::Sync {
                return vec![];
            }
            self.copying = None;
            let done = request == Request::CopyEnd && outcome == Outcome::Works;
            return match (copying, done) {
                (Request::Execute, true) => vec![b'C'],
                (Request::Execute, false) => {
                    self.skipping = true;
                    vec![b'E']
                }
                (_, true) => vec![b'C', b'Z'],
                (_, false) => vec![b'E', b'Z'],
            };
        }
        if self.skipping && request != Request::Sync {
            return vec![];
        }
        let fails = outcome == Outcome::Fails;
        match request {
            Request::Sync => {
                self.skipping = false;
                vec![b'Z']
            }
            Request::Simple(_) | Request::Execute if outcome == Outcome::CopiesIn => {
                self.copying = Some(request);
                vec![b'G']
            }
            Request::Simple(_) if fails => vec![b'E', b'Z'],
            Request::Simple(_) => vec![b'C', b'Z'],
            Request::CopyEnd | Request::MadeUp(_) => vec![],
            _ if fails => {
                self.skipping = true;
                vec![b'E']
            }
            Request::Parse(_) => vec![b'1'],
            Request::Bind => vec![b'2'],
            Request::Describe => vec![b'n'],
            Request::Execute => vec![b'D', b'C'],
            Request::Close(_) => vec![b'3'],
        }
    }
}

fn requests() -> impl Strategy<Value = Act> {
    let request = prop_oneof![
        Just(QUERY),
        Just(Request::Sync),
        Just(PARSE),
        Just(Request::Parse(Verdict::Swallow)),
        Just(Request::Bind),
        Just(Request::Describe),
        Just(Request::Execute),
        Just(Request::Close(Verdict::Forward)),
        Just(Request::CopyEnd),
    ];
    let outcome = prop_oneof![
        4 => Just(Outcome::Works), 1 => Just(Outcome::Fails), 1 => Just(Outcome::CopiesIn)
    ];
    (request, outcome).prop_map(|(r, o)| Act::Send(r, o))
}

proptest! {
    /// However requests and answers interleave, nothing the server says is a violation, and the
    /// exchange is settled exactly when the server waits for nothing more than a new request.
    #[test]
    fn agrees_with_a_naive_server(
        acts in prop::collection::vec((requests(), 0_usize..4), 0..60),
    ) {
        let mut server = NaiveServer::default();
        let mut exchange = Plain::default();
        let mut wire: VecDeque<u8> = VecDeque::new();
        let mut open = false;
        for (Act::Send(request, outcome), reads) in acts {
            let was_copying = server.copying.is_some();
            let was_skipping = server.skipping;
            exchange.on_request(request, None);
            wire.extend(server.serve(request, outcome));
            match request {
                Request::Simple(_) if !was_copying && !was_skipping => open = false,
                Request::Sync if !was_copying => open = false,
                Request::CopyEnd | Request::Sync | Request::Simple(_) => {}
                _ if !was_copying && !was_skipping => open = true,
                _ => {}
            }
            for _ in 0..reads {
                if let Some(tag) = wire.pop_front() {
                    prop_assert!(exchange.on_answer(tag, Some(TxStatus::Idle)).is_ok());
                }
            }
        }
        while let Some(tag) = wire.pop_front() {
            prop_assert!(exchange.on_answer(tag, Some(TxStatus::Idle)).is_ok());
        }
        let waits = server.copying.is_some() || server.skipping || open;
        prop_assert_eq!(exchange.is_settled(), !waits);
    }
}
