//! Which address of a name is in which of its slots, as the answers of a resolver come in. Pure.
//!
//! Each slot stands for a host. What is known of a host, and the servers there, belong to its slot, so:
//!
//! - An address that an answer has again keeps its slot, wherever in the answer it is.
//! - One that an answer lacks is asked about once more, unless its host is down: answers come in part. Lacking
//!   twice it is left: nothing is opened there any more, and what is under way there may end. The slot is free
//!   when nothing is left in it.
//! - The primary is not left as long as it is that, and the answer has others of its cluster: writers have no other
//!   place to go, and a name may list only those that are ready, or some of all.
//! - One address of each family are two ways to one host, as with `localhost`. Where there are more, those of one
//!   family are the hosts, and those of the other count only once none of these can be reached.

use std::sync::Arc;

use crate::net::resolve::Address;

/// Addresses of a name that are used. Others are left out.
pub const ADDRESSES_MOST: usize = 8;

/// Places for these, and as many again for those that are being left.
pub const SLOTS: usize = 2 * ADDRESSES_MOST;

/// Addresses of one host, the preferred one first.
pub type Ways = Arc<[Address]>;

/// A place for a host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Slot {
    #[default]
    Free,
    Held {
        ways: Ways,
        /// The last answer did not have it.
        is_missed: bool,
    },
    /// No answer has it any more.
    Leaving {
        ways: Ways,
        /// Which of those that were left it was.
        number: u64,
        /// What is under way there is ended: the slot is needed.
        is_evicted: bool,
    },
}

impl Slot {
    const fn held(&self) -> Option<&Ways> {
        match self {
            Self::Held { ways, .. } => Some(ways),
            Self::Free | Self::Leaving { .. } => None,
        }
    }

    fn has_left_from(&self, host: &Ways) -> bool {
        matches!(self, Self::Leaving { ways, .. } if is_same(ways, host))
    }
}

/// The slots of a name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Slots {
    all: [Slot; SLOTS],
    /// How many have been left so far.
    left: u64,
}

/// What is known of the host in a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rank {
    /// It cannot be reached.
    Down,
    /// The primary of some domain.
    Primary,
    Other,
}

/// What an answer has come to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Some host has come, or has gone, or is reached otherwise.
    pub is_other: bool,
    /// It lacks something that is better asked for once more soon.
    pub is_doubtful: bool,
    /// A host was left that is not down.
    pub has_left_one_up: bool,
    /// Hosts that it has beyond those that are used.
    pub left_out: usize,
    /// Hosts that it has, and for which no slot is free.
    pub put_off: usize,
}

impl Slots {
    pub fn iter(&self) -> impl Iterator<Item = &Slot> {
        self.all.iter()
    }

    /// Slots that hold an address which the name leads to.
    pub fn count_held(&self) -> usize {
        self.all.iter().filter(|slot| slot.held().is_some()).count()
    }

    /// Takes in an answer with at least one address. `rank`: of the host in that slot.
    pub fn on_answer(&mut self, answer: &[Address], rank: impl Fn(usize) -> Rank) -> Outcome {
        let mut hosts = self.hosts(answer, &|index| rank(index) == Rank::Down);
        let is_known =
            |host: &Ways| self.all.iter().filter_map(Slot::held).any(|it| is_same(it, host));
        let has_others = hosts.iter().any(is_known);
        let mut outcome = Outcome::default();
        for (index, slot) in self.all.iter_mut().enumerate() {
            let Slot::Held { ways, is_missed } = slot else { continue };
            if let Some(at) = hosts.iter().position(|host| is_same(ways, host)) {
                let host = hosts.remove(at);
                outcome.is_other |= *ways != host;
                *slot = Slot::Held { ways: host, is_missed: false };
                continue;
            }
            let rank = rank(index);
            let is_needed = rank == Rank::Primary && has_others;
            if rank != Rank::Down && (!*is_missed || is_needed) {
                *is_missed = true;
                outcome.is_doubtful = true;
            } else {
                self.left += 1;
                *slot =
                    Slot::Leaving { ways: Arc::clone(ways), number: self.left, is_evicted: false };
                outcome.is_other = true;
                outcome.has_left_one_up |= rank != Rank::Down;
            }
        }
        let is_kept = |slot: &Slot| matches!(slot, Slot::Held { is_missed: false, .. });
        if outcome.is_doubtful && !self.all.iter().any(is_kept) {
            // It has moved altogether, if it has. To be at both for a moment would make two hosts of one.
            return outcome;
        }
        for host in hosts {
            if self.count_held() + outcome.put_off >= ADDRESSES_MOST {
                outcome.left_out += 1;
            } else if self.take(host) {
                outcome.is_other = true;
            } else {
                outcome.put_off += 1;
            }
        }
        outcome
    }

    /// Has so many slots become free: those that were left first. False if that many do already.
    pub fn evict(&mut self, count: usize) -> bool {
        let mut left: Vec<_> = self
            .all
            .iter_mut()
            .filter_map(|slot| match slot {
                Slot::Leaving { number, is_evicted, .. } => Some((*number, is_evicted)),
                Slot::Free | Slot::Held { .. } => None,
            })
            .collect();
        let under_way = left.iter().filter(|(_, is_evicted)| **is_evicted).count();
        left.retain(|(_, is_evicted)| !**is_evicted);
        left.sort_unstable_by_key(|(number, _)| *number);
        let mut has_more = false;
        for (_, is_evicted) in left.into_iter().take(count.saturating_sub(under_way)) {
            *is_evicted = true;
            has_more = true;
        }
        has_more
    }

    /// Nothing is left in the slot.
    pub fn vacate(&mut self, index: usize) {
        if let Some(slot @ Slot::Leaving { .. }) = self.all.get_mut(index) {
            *slot = Slot::Free;
        }
    }

    /// Gives `host` a slot: the one that it is just leaving, else a free one. False if there is none.
    fn take(&mut self, host: Ways) -> bool {
        let own = self.all.iter().position(|slot| slot.has_left_from(&host));
        let free = || self.all.iter().position(|slot| *slot == Slot::Free);
        let slot = own.or_else(free).and_then(|index| self.all.get_mut(index));
        let Some(slot) = slot else { return false };
        *slot = Slot::Held { ways: host, is_missed: false };
        true
    }

    /// The hosts that an answer tells of.
    fn hosts(&self, answer: &[Address], is_down: &impl Fn(usize) -> bool) -> Vec<Ways> {
        let mut all: Vec<Address> = Vec::new();
        for address in answer {
            if !all.contains(address) {
                all.push(*address);
            }
        }
        let of = |is_v6: bool| all.iter().filter(move |address| address.is_ipv6() == is_v6);
        let count = [of(false).count(), of(true).count()];
        if count.iter().all(|count| *count <= 1) {
            return vec![all.into()];
        }
        let is_v6 = self.family(&all, count, is_down);
        of(is_v6).map(|address| Arc::new([*address]) as Ways).collect()
    }

    /// Whether the hosts are the addresses of IPv6, of which an answer has so many as of IPv4: the ones that it has
    /// been as long as one of them can be reached, else those of which there are more, else the preferred ones.
    fn family(&self, all: &[Address], count: [usize; 2], is_down: &impl Fn(usize) -> bool) -> bool {
        let [v4, v6] = count;
        let has = |is_v6: bool| if is_v6 { v6 > 0 } else { v4 > 0 };
        let usual = match v6.cmp(&v4) {
            std::cmp::Ordering::Greater => true,
            std::cmp::Ordering::Less => false,
            std::cmp::Ordering::Equal => all.first().is_some_and(Address::is_ipv6),
        };
        let held = || self.all.iter().filter_map(Slot::held).flat_map(|ways| ways.iter());
        let Some(is_v6) = held().map(Address::is_ipv6).next() else { return usual };
        if !has(is_v6) || held().any(|address| address.is_ipv6() != is_v6) {
            return usual;
        }
        let mut hosts = self.all.iter().enumerate().filter(|(_, slot)| slot.held().is_some());
        if hosts.all(|(index, _)| is_down(index)) && has(!is_v6) { !is_v6 } else { is_v6 }
    }
}

/// True if the two are of the same host.
fn is_same(a: &Ways, b: &Ways) -> bool {
    a.iter().any(|address| b.contains(address))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const UP: fn(usize) -> Rank = |_| Rank::Other;
    const DOWN: fn(usize) -> Rank = |_| Rank::Down;

    fn down(is_so: impl Fn(usize) -> bool) -> impl Fn(usize) -> Rank {
        move |slot| if is_so(slot) { Rank::Down } else { Rank::Other }
    }

    fn answer(addresses: &[&str]) -> Vec<Address> {
        addresses.iter().map(|ip| Address::new(ip.parse().unwrap(), 5432)).collect()
    }

    /// What the slots hold up to the last that is not free: `-` is a free one, `x/` one that is being left.
    fn shown(slots: &Slots) -> String {
        let mut text: Vec<_> = slots
            .iter()
            .map(|slot| {
                let (ways, mark) = match slot {
                    Slot::Free => return "-".to_owned(),
                    Slot::Held { ways, .. } => (ways, ""),
                    Slot::Leaving { ways, .. } => (ways, "/"),
                };
                let ways: Vec<_> = ways.iter().map(|way| way.ip().to_string()).collect();
                format!("{}{mark}", ways.join("+"))
            })
            .collect();
        while text.last().is_some_and(|slot| slot == "-") {
            text.pop();
        }
        text.join(" ")
    }

    fn after(answers: &[&[&str]]) -> Slots {
        let mut slots = Slots::default();
        for addresses in answers {
            slots.on_answer(&answer(addresses), UP);
        }
        slots
    }

    #[test]
    fn each_address_is_a_host_and_keeps_its_slot_whatever_the_order() {
        let slots = after(&[&["10.0.0.1", "10.0.0.2"], &["10.0.0.2", "10.0.0.1"]]);
        assert_eq!(shown(&slots), "10.0.0.1 10.0.0.2");
        let slots = after(&[&["10.0.0.1", "10.0.0.1"]]);
        assert_eq!(shown(&slots), "10.0.0.1", "said twice");
        let slots = after(&[&["10.0.0.1"], &["10.0.0.2", "10.0.0.1"]]);
        assert_eq!(shown(&slots), "10.0.0.1 10.0.0.2", "one more");
    }

    /// P42: an answer may have lost a part on its way.
    #[test]
    fn an_address_is_left_only_when_two_answers_lack_it() {
        let mut slots = after(&[&["10.0.0.1", "10.0.0.2"]]);
        let outcome = slots.on_answer(&answer(&["10.0.0.2"]), UP);
        assert!(outcome.is_doubtful);
        assert_eq!(shown(&slots), "10.0.0.1 10.0.0.2");
        assert_eq!(slots.on_answer(&answer(&["10.0.0.1", "10.0.0.2"]), UP), Outcome::default());
        slots.on_answer(&answer(&["10.0.0.2"]), UP);
        assert_eq!(shown(&slots), "10.0.0.1 10.0.0.2", "not in a row");
        let left = Outcome { is_other: true, has_left_one_up: true, ..Outcome::default() };
        assert_eq!(slots.on_answer(&answer(&["10.0.0.2"]), UP), left);
        assert_eq!((shown(&slots).as_str(), slots.count_held()), ("10.0.0.1/ 10.0.0.2", 1));
        slots.on_answer(&answer(&["10.0.0.2", "10.0.0.3"]), UP);
        assert_eq!(shown(&slots), "10.0.0.1/ 10.0.0.2 10.0.0.3", "it is not free yet");
        slots.vacate(0);
        slots.vacate(1);
        slots.on_answer(&answer(&["10.0.0.2", "10.0.0.3", "10.0.0.4"]), UP);
        assert_eq!(shown(&slots), "10.0.0.4 10.0.0.2 10.0.0.3");
    }

    #[test]
    fn one_that_is_down_is_left_at_once() {
        let mut slots = after(&[&["10.0.0.1", "10.0.0.2"]]);
        let outcome = slots.on_answer(&answer(&["10.0.0.2"]), down(|slot| slot == 0));
        assert_eq!(outcome, Outcome { is_other: true, ..Outcome::default() });
        assert_eq!(shown(&slots), "10.0.0.1/ 10.0.0.2");
    }

    #[test]
    fn the_primary_is_kept_until_it_is_down_or_another_is_it_or_all_have_moved() {
        let first = |slot: usize| if slot == 0 { Rank::Primary } else { Rank::Other };
        let mut slots = after(&[&["10.0.0.1", "10.0.0.2"]]);
        for _ in 0..3 {
            let outcome = slots.on_answer(&answer(&["10.0.0.2", "10.0.0.3"]), first);
            assert!(outcome.is_doubtful, "it is asked for again");
            assert_eq!(shown(&slots), "10.0.0.1 10.0.0.2 10.0.0.3");
        }
        for gone in [UP, DOWN] {
            let mut slots = slots.clone();
            slots.on_answer(&answer(&["10.0.0.2", "10.0.0.3"]), gone);
            assert_eq!(shown(&slots), "10.0.0.1/ 10.0.0.2 10.0.0.3");
        }
        for _ in 0..2 {
            slots.on_answer(&answer(&["10.0.1.1"]), first);
        }
        assert_eq!(shown(&slots), "10.0.0.1/ 10.0.0.2/ 10.0.0.3/ 10.0.1.1");
    }

    /// P42: a name of one host that is turned over to another is of one host all the time.
    #[test]
    fn a_name_that_moves_is_at_both_places_at_no_time() {
        let mut slots = after(&[&["10.0.0.1"], &["10.0.0.2"]]);
        assert_eq!(shown(&slots), "10.0.0.1", "it is asked again");
        slots.on_answer(&answer(&["10.0.0.2"]), UP);
        assert_eq!(shown(&slots), "10.0.0.1/ 10.0.0.2");
        slots.on_answer(&answer(&["10.0.0.1"]), DOWN);
        assert_eq!(shown(&slots), "10.0.0.1 10.0.0.2/", "it goes back to its own");
    }

    #[test]
    fn an_address_of_each_family_are_two_ways_to_one_host() {
        let slots = after(&[&["::1", "127.0.0.1"]]);
        assert_eq!((shown(&slots).as_str(), slots.count_held()), ("::1+127.0.0.1", 1));
        let slots = after(&[&["::1", "127.0.0.1"], &["127.0.0.1"], &["127.0.0.1"]]);
        assert_eq!(shown(&slots), "127.0.0.1", "one way less to it");
    }

    #[test]
    fn of_two_families_one_is_used_as_long_as_it_can_be_reached() {
        let both = ["fd00::1", "10.0.0.1", "fd00::2", "10.0.0.2"];
        let mut slots = after(&[&both]);
        assert_eq!(shown(&slots), "fd00::1 fd00::2", "the preferred one");
        slots.on_answer(
            &answer(&["10.0.0.1", "10.0.0.2", "fd00::2", "fd00::1"]),
            down(|slot| slot == 0),
        );
        assert_eq!(shown(&slots), "fd00::1 fd00::2", "one of them is there");
        slots.on_answer(&answer(&both), down(|slot| slot < 2));
        assert_eq!(shown(&slots), "fd00::1/ fd00::2/ 10.0.0.1 10.0.0.2");
        slots.on_answer(&answer(&both), down(|slot| slot < 2));
        assert_eq!(shown(&slots), "fd00::1/ fd00::2/ 10.0.0.1 10.0.0.2", "and stays there");
        let slots = after(&[&["fd00::1", "10.0.0.1", "10.0.0.2"]]);
        assert_eq!(shown(&slots), "10.0.0.1 10.0.0.2", "of which there are more");
        let slots = after(&[&["fd00::1", "10.0.0.1"], &["fd00::1", "10.0.0.1", "10.0.0.2"]]);
        assert_eq!(shown(&slots), "10.0.0.1 10.0.0.2", "the first is the host that it was");
    }

    /// P41: what is too much is left out, and what is used stays what it was.
    #[test]
    fn more_addresses_than_are_used_are_left_out() {
        let all: Vec<_> = (1..=64).map(|last| format!("10.0.0.{last}")).collect();
        let all: Vec<_> = all.iter().map(String::as_str).collect();
        let mut slots = Slots::default();
        assert_eq!(slots.on_answer(&answer(&all), UP).left_out, 64 - ADDRESSES_MOST);
        let before = slots.clone();
        let turned: Vec<_> = all.iter().rev().copied().collect();
        assert_eq!(slots.on_answer(&answer(&turned), UP).left_out, 64 - ADDRESSES_MOST);
        assert_eq!(slots, before);
    }

    #[test]
    fn all_addresses_may_be_replaced_at_once() {
        let old: Vec<_> = (1..=8).map(|last| format!("10.0.0.{last}")).collect();
        let new: Vec<_> = (1..=8).map(|last| format!("10.0.1.{last}")).collect();
        let [old, new] = [&old, &new].map(|all| all.iter().map(String::as_str).collect::<Vec<_>>());
        let slots = after(&[&old, &new, &new]);
        let leaving = slots.iter().filter(|slot| matches!(slot, Slot::Leaving { .. })).count();
        assert_eq!((slots.count_held(), leaving), (8, 8));
    }

    /// Something is under way at each of them, and goes on for days.
    #[test]
    fn where_no_slot_is_free_what_was_left_first_is_ended() {
        let mut slots = Slots::default();
        for last in 1..=SLOTS {
            let ip = format!("10.0.0.{last}");
            for _ in 0..2 {
                slots.on_answer(&answer(&[&ip]), UP);
            }
        }
        let evicted = |slots: &Slots| -> Vec<usize> {
            let is_so = |slot: &Slot| matches!(slot, Slot::Leaving { is_evicted: true, .. });
            let all = slots.iter().enumerate().filter(|(_, slot)| is_so(slot));
            all.map(|(index, _)| index).collect()
        };
        assert_eq!(evicted(&slots), [0; 0]);

        slots.on_answer(&answer(&["10.0.1.1"]), UP);
        let outcome = slots.on_answer(&answer(&["10.0.1.1"]), UP);
        assert_eq!((outcome.put_off, outcome.left_out), (1, 0));
        assert_eq!(evicted(&slots), [0; 0], "that is for others to say");
        assert!(slots.evict(outcome.put_off));
        assert_eq!(evicted(&slots), [0]);
        assert!(!slots.evict(1), "it is under way");
        assert_eq!(evicted(&slots), [0], "one is enough");
        slots.vacate(0);
        let outcome = slots.on_answer(&answer(&["10.0.1.1"]), UP);
        assert_eq!((outcome.put_off, outcome.is_other, slots.count_held()), (0, true, 1));
        assert!(shown(&slots).starts_with("10.0.1.1 10.0.0.2/"), "{}", shown(&slots));
    }

    proptest! {
        #[test]
        fn no_address_is_in_two_slots_and_some_host_is_always_held(
            answers in prop::collection::vec(prop::collection::vec(1..20_u8, 1..12), 1..40),
            downs in any::<[bool; SLOTS]>(),
        ) {
            let mut slots = Slots::default();
            for (round, last) in answers.iter().enumerate() {
                let ips: Vec<_> = last
                    .iter()
                    .map(|last| {
                        if last % 3 == 0 { format!("fd00::{last}") } else { format!("10.0.0.{last}") }
                    })
                    .collect();
                let ips: Vec<_> = ips.iter().map(String::as_str).collect();
                let outcome = slots.on_answer(&answer(&ips), down(|slot| downs[slot]));
                let mut all: Vec<_> = slots
                    .iter()
                    .filter_map(|slot| match slot {
                        Slot::Held { ways, is_missed: false } => Some(ways.to_vec()),
                        Slot::Free | Slot::Held { .. } | Slot::Leaving { .. } => None,
                    })
                    .flatten()
                    .collect();
                let count = all.len();
                all.sort();
                all.dedup();
                prop_assert_eq!(all.len(), count, "{}", shown(&slots));
                prop_assert!(slots.count_held() >= 1 || outcome.put_off > 0);
                // Whoever was at work there may be gone by now.
                if round % 3 == 0 {
                    (0..SLOTS).for_each(|index| slots.vacate(index));
                }
            }
        }
    }
}
