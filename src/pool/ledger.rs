//! Caps that pools share (domain, host, user): places taken, and one queue in order of arrival. Pure.
//!
//! Who yields to others comes as one that arrives later: its turn is behind all that arrive until then.
//!
//! Invariants: `used` never exceeds `limit`; a request is granted all its caps or none; no request
//! is granted while one whose turn is earlier could be.

use std::collections::VecDeque;

use tokio::time::Instant;

/// Which cap, as a number that [`Ledger::add_cap`] gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CapId(usize);

/// A request in the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId(u64);

/// What a request leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    Granted,
    Queued(RequestId),
}

#[derive(Debug)]
struct Cap {
    limit: usize,
    used: usize,
}

#[derive(Debug)]
struct Request {
    id: RequestId,
    caps: Vec<CapId>,
    /// When it arrived, or up to when it yields to those who arrive.
    turn: Instant,
}

/// The caps of a process.
#[derive(Debug, Default)]
pub struct Ledger {
    caps: Vec<Cap>,
    /// The earliest turn first.
    queue: VecDeque<Request>,
    next: u64,
}

impl Ledger {
    /// Adds a cap of `limit` places.
    pub fn add_cap(&mut self, limit: usize) -> CapId {
        self.caps.push(Cap { limit, used: 0 });
        CapId(self.caps.len() - 1)
    }

    /// Asks for one place under each of `caps`. `turn`: now, or later for one that yields.
    pub fn request(&mut self, caps: &[CapId], turn: Instant) -> Answer {
        let behind = self.queue.partition_point(|other| other.turn <= turn);
        // Caps that an older request waits for are not taken from under it.
        let is_first = !self.queue.iter().take(behind).any(|r| shares(&r.caps, caps));
        if self.has_room(caps) && is_first {
            self.take(caps);
            return Answer::Granted;
        }
        let id = RequestId(self.next);
        self.next += 1;
        self.queue.insert(behind, Request { id, caps: caps.to_vec(), turn });
        Answer::Queued(id)
    }

    /// Gives back one place under each of `caps`; the requests that are granted by it.
    pub fn release(&mut self, caps: &[CapId]) -> Vec<RequestId> {
        for id in caps {
            if let Some(cap) = self.caps.get_mut(id.0) {
                debug_assert!(cap.used > 0, "a place was given back twice");
                cap.used = cap.used.saturating_sub(1);
            }
        }
        self.grant()
    }

    /// Takes a request back. The requests that are granted by it; `None` if it had been granted
    /// already, and its places are the caller's to release.
    pub fn withdraw(&mut self, id: RequestId) -> Option<Vec<RequestId>> {
        let index = self.queue.iter().position(|request| request.id == id)?;
        self.queue.remove(index);
        Some(self.grant())
    }

    fn grant(&mut self) -> Vec<RequestId> {
        let mut granted = Vec::new();
        let mut blocked: Vec<CapId> = Vec::new();
        let mut index = 0;
        while let Some(request) = self.queue.get(index) {
            if shares(&blocked, &request.caps) || !self.has_room(&request.caps) {
                blocked.extend_from_slice(&request.caps);
                index += 1;
                continue;
            }
            if let Some(request) = self.queue.remove(index) {
                self.take(&request.caps);
                granted.push(request.id);
            }
        }
        granted
    }

    fn has_room(&self, caps: &[CapId]) -> bool {
        caps.iter().all(|id| self.caps.get(id.0).is_some_and(|cap| cap.used < cap.limit))
    }

    fn take(&mut self, caps: &[CapId]) {
        for id in caps {
            if let Some(cap) = self.caps.get_mut(id.0) {
                cap.used += 1;
            }
        }
    }

    /// The caps among those of the first request that have no place left.
    pub fn first_blocked(&self) -> Option<Vec<CapId>> {
        let request = self.queue.front()?;
        let full = |id: &&CapId| self.caps.get(id.0).is_some_and(|cap| cap.used >= cap.limit);
        Some(request.caps.iter().filter(full).copied().collect())
    }

    /// When the first request arrived, or up to when it yields.
    pub fn first_turn(&self) -> Option<Instant> {
        self.queue.front().map(|request| request.turn)
    }

    pub fn waiting(&self) -> usize {
        self.queue.len()
    }

    /// Places taken, and the limit.
    pub fn usage(&self, id: CapId) -> (usize, usize) {
        self.caps.get(id.0).map_or((0, 0), |cap| (cap.used, cap.limit))
    }
}

fn shares(a: &[CapId], b: &[CapId]) -> bool {
    a.iter().any(|id| b.contains(id))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// P36: the older waiter is served first, but for one that yields, until its time is over.
    #[test]
    fn who_yields_is_behind_those_who_come_until_then() {
        let (start, second) = (Instant::now(), std::time::Duration::from_secs(1));
        let mut ledger = Ledger::default();
        let cap = [ledger.add_cap(1)];
        assert_eq!(ledger.request(&cap, start), Answer::Granted);
        let Answer::Queued(yields) = ledger.request(&cap, start + 10 * second) else { panic!() };
        let Answer::Queued(early) = ledger.request(&cap, start + 5 * second) else { panic!() };
        let Answer::Queued(late) = ledger.request(&cap, start + 11 * second) else { panic!() };

        assert_eq!(ledger.first_turn(), Some(start + 5 * second));
        assert_eq!(ledger.release(&cap), [early]);
        assert_eq!(ledger.release(&cap), [yields]);
        assert_eq!(ledger.release(&cap), [late]);
    }

    #[test]
    fn a_place_that_nobody_else_waits_for_is_taken_past_one_that_yields() {
        let (start, second) = (Instant::now(), std::time::Duration::from_secs(1));
        let mut ledger = Ledger::default();
        let (one, other) = (ledger.add_cap(1), ledger.add_cap(1));
        assert_eq!(ledger.request(&[one], start), Answer::Granted);
        let Answer::Queued(_) = ledger.request(&[one, other], start + 10 * second) else {
            panic!()
        };
        assert_eq!(ledger.request(&[other], start + second), Answer::Granted);
    }

    #[test]
    fn a_request_waits_for_all_of_its_caps() {
        let now = Instant::now();
        let mut ledger = Ledger::default();
        let (domain, host) = (ledger.add_cap(1), ledger.add_cap(2));
        assert_eq!(ledger.request(&[domain, host], now), Answer::Granted);
        let Answer::Queued(second) = ledger.request(&[domain, host], now) else { panic!() };
        assert_eq!(ledger.usage(host), (1, 2));
        assert_eq!(ledger.first_blocked(), Some(vec![domain]));

        assert_eq!(ledger.release(&[domain, host]), [second]);
        assert_eq!(ledger.usage(domain), (1, 1));
    }

    /// P36: a pool that comes later does not slip past one that waits for the same cap.
    #[test]
    fn a_younger_request_does_not_overtake() {
        let now = Instant::now();
        let mut ledger = Ledger::default();
        let (full, open) = (ledger.add_cap(1), ledger.add_cap(1));
        assert_eq!(ledger.request(&[full], now), Answer::Granted);
        let Answer::Queued(first) = ledger.request(&[full, open], now) else { panic!() };
        let Answer::Queued(second) = ledger.request(&[open], now) else { panic!() };

        assert_eq!(ledger.withdraw(first), Some(vec![second]));
        assert_eq!(ledger.withdraw(second), None);
    }

    proptest! {
        /// Caps hold, grants keep the order of arrival among those that share a cap, and nobody
        /// waits for places that are free.
        #[test]
        fn caps_hold_and_order_is_kept(
            limits in prop::collection::vec(1..4_usize, 3),
            acts in prop::collection::vec((0..3_u8, prop::collection::btree_set(0..3_usize, 1..3), any::<usize>()), 0..80),
        ) {
            let now = Instant::now();
            let mut ledger = Ledger::default();
            let ids: Vec<_> = limits.iter().map(|limit| ledger.add_cap(*limit)).collect();
            let mut held: Vec<Vec<CapId>> = Vec::new();
            let mut queued: Vec<(RequestId, Vec<CapId>)> = Vec::new();
            let settle = |granted: Vec<RequestId>, held: &mut Vec<Vec<CapId>>, queued: &mut Vec<(RequestId, Vec<CapId>)>| {
                for id in granted {
                    let at = queued.iter().position(|(q, _)| *q == id).unwrap();
                    let (_, caps) = queued.remove(at);
                    assert!(!queued[..at].iter().any(|(_, older)| shares(older, &caps)));
                    held.push(caps);
                }
            };
            for (act, caps, n) in acts {
                match act {
                    0 => {
                        let caps: Vec<_> = caps.iter().map(|c| ids[*c]).collect();
                        match ledger.request(&caps, now) {
                            Answer::Granted => held.push(caps),
                            Answer::Queued(id) => queued.push((id, caps)),
                        }
                    }
                    1 if !held.is_empty() => {
                        let caps = held.remove(n % held.len());
                        let granted = ledger.release(&caps);
                        settle(granted, &mut held, &mut queued);
                    }
                    2 if !queued.is_empty() => {
                        let (id, _) = queued.remove(n % queued.len());
                        let granted = ledger.withdraw(id).unwrap();
                        settle(granted, &mut held, &mut queued);
                    }
                    _ => {}
                }
                for (id, limit) in ids.iter().zip(&limits) {
                    let used = held.iter().filter(|caps| caps.contains(id)).count();
                    prop_assert_eq!(ledger.usage(*id), (used, *limit));
                    prop_assert!(used <= *limit);
                }
                if let Some((_, caps)) = queued.first() {
                    prop_assert!(caps.iter().any(|id| ledger.usage(*id).0 == ledger.usage(*id).1));
                }
            }
        }
    }
}
