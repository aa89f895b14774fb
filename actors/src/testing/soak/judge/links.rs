//! Which links each node has and what it thinks of them, from its events. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use bowline_messages::LinkId;

use super::super::media::{MEDIA_COUNT, MediumIndex};

/// One side of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Side {
    /// Whose.
    pub node: usize,
    /// With whom.
    pub peer: usize,
    /// Over what.
    pub medium: MediumIndex,
}

#[derive(Debug, Clone, Copy)]
struct Record {
    medium: MediumIndex,
    up_since: Duration,
    usable: bool,
    /// Something vanished on it, so that nothing arrives any more whatever the path is like: it is rightly called unusable until then.
    broken_until: Duration,
}

/// A link became unusable for a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fallen {
    /// Which.
    pub side: Side,
    /// Whether something had vanished on it.
    pub broken: bool,
}

/// All links.
#[derive(Debug, Clone, Default)]
pub struct LinkBook {
    records: BTreeMap<(usize, usize, LinkId), Record>,
    lived: Duration,
}

impl LinkBook {
    /// A link joined its session, or joined it again because the session's actor was restarted. `broken_until`: what it was made over
    /// is cut.
    pub fn on_up(
        &mut self,
        now: Duration,
        node: usize,
        peer: usize,
        link: LinkId,
        medium: MediumIndex,
        broken_until: Duration,
    ) {
        let fresh = Record { medium, up_since: now, usable: true, broken_until };
        self.records.entry((node, peer, link)).or_insert(fresh).usable = true;
    }

    /// The transport of a link.
    pub fn medium(&self, node: usize, peer: usize, link: LinkId) -> Option<MediumIndex> {
        self.records.get(&(node, peer, link)).map(|record| record.medium)
    }

    /// A node says that a link is usable or not, or `gone`. Gives it when it was usable until now and is not any more.
    pub fn on_state(
        &mut self,
        now: Duration,
        node: usize,
        peer: usize,
        link: LinkId,
        usable: bool,
        gone: bool,
    ) -> Option<Fallen> {
        let record = self.records.get_mut(&(node, peer, link))?;
        let fell = record.usable && !usable;
        record.usable = usable;
        let (medium, broken) = (record.medium, now < record.broken_until);
        if gone {
            self.lived += now.saturating_sub(record.up_since);
            self.records.remove(&(node, peer, link));
        }
        fell.then_some(Fallen { side: Side { node, peer, medium }, broken })
    }

    /// A session is over, and its links with it.
    pub fn on_session_down(&mut self, now: Duration, node: usize, peer: usize) {
        let ended = self.records.extract_if(.., |(of, with, _), _| (*of, *with) == (node, peer));
        let lived: Duration = ended.map(|(_, record)| now.saturating_sub(record.up_since)).sum();
        self.lived += lived;
    }

    /// Something vanishes on a transport between two nodes: its links are broken, and have to be found so by then.
    pub fn on_vanished(&mut self, pair: (usize, usize), medium: MediumIndex, until: Duration) {
        for ((node, peer, _), record) in &mut self.records {
            let of_pair = super::super::schedule::same_pair(pair, (*node, *peer));
            if of_pair && record.medium == medium {
                record.broken_until = record.broken_until.max(until);
            }
        }
    }

    /// Which transports a node has a usable link over.
    pub fn usable(&self, node: usize, peer: usize) -> [bool; MEDIA_COUNT] {
        let mut usable = [false; MEDIA_COUNT];
        let links = self.records.range((node, peer, LinkId(0))..=(node, peer, LinkId(u32::MAX)));
        for (_, record) in links {
            usable[record.medium] |= record.usable;
        }
        usable
    }

    /// Hours that links lived, each side counted.
    pub fn hours(&self, now: Duration) -> f64 {
        let living: Duration = self.records.values().map(|record| now.saturating_sub(record.up_since)).sum();
        (self.lived + living).as_secs_f64() / 3600.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_falls_once_and_lives_until_it_is_gone() {
        let (mut book, second) = (LinkBook::default(), Duration::from_secs(1));
        book.on_up(second, 0, 1, LinkId(7), 2, Duration::ZERO);
        assert_eq!(book.usable(0, 1), [false, false, true, false]);
        book.on_vanished((1, 0), 2, 3 * second);
        let side = Side { node: 0, peer: 1, medium: 2 };
        let fell = book.on_state(2 * second, 0, 1, LinkId(7), false, false);
        assert_eq!(fell, Some(Fallen { side, broken: true }));
        assert_eq!(book.usable(0, 1), [false; 4]);
        // The session's actor starts again and takes the link for a good one.
        book.on_up(2 * second, 0, 1, LinkId(7), 2, Duration::ZERO);
        assert_eq!(book.on_state(2 * second, 0, 1, LinkId(7), false, false), Some(Fallen { side, broken: true }));
        book.on_state(2 * second, 0, 1, LinkId(7), true, false);
        assert_eq!(book.on_state(3 * second, 0, 1, LinkId(7), false, false), Some(Fallen { side, broken: false }));
        assert_eq!(book.on_state(3 * second, 0, 1, LinkId(7), false, true), None);
        assert_eq!(book.medium(0, 1, LinkId(7)), None);
        book.on_up(3 * second, 0, 1, LinkId(8), 2, Duration::ZERO);
        book.on_session_down(5 * second, 0, 1);
        assert!((book.hours(9 * second) - 4.0 / 3600.0).abs() < 1e-9);
    }
}
