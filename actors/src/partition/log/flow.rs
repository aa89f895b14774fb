//! What a leader has sent to each follower and was not answered yet. The consensus sends everything that is missing with each answer of a follower that is behind;
//! over a slow way there are many answers under way at once, and each would bring the same entries again, which makes the way slower still.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bowline_messages::PeerId;

/// One follower.
#[derive(Debug, Clone, Copy)]
struct Sent {
    /// Entries up to here were sent.
    through: u64,
    /// It said that it has entries up to here.
    has: u64,
    /// When it last got on, or was sent something that it had not got on with.
    since: Instant,
}

/// All followers.
#[derive(Debug, Clone, Default)]
pub(super) struct Flow(BTreeMap<PeerId, Sent>);

impl Flow {
    /// This node begins to lead: what was sent in other terms counts no more.
    pub(super) fn begin(&mut self) {
        self.0.clear();
    }

    /// A follower says that it has entries up to here.
    pub(super) fn on_answer(&mut self, now: Instant, from: &PeerId, has: u64) {
        if let Some(sent) = self.0.get_mut(from).filter(|sent| has > sent.has) {
            (sent.has, sent.since) = (has, now);
        }
    }

    /// A new entry was sent to a follower: to one that was sent all before it, it goes on from there.
    pub(super) fn on_new(&mut self, now: Instant, to: &PeerId, prev: u64, last: u64) {
        if let Some(sent) = self.0.get_mut(to).filter(|sent| sent.through == prev) {
            if sent.has >= prev {
                sent.since = now;
            }
            sent.through = last;
        }
    }

    /// Whether a follower that has entries up to here is to be sent those behind it now: not while they may be under way, for so long.
    pub(super) fn is_due(&self, now: Instant, to: &PeerId, has: u64, patience: Duration) -> bool {
        self.0.get(to).is_none_or(|sent| sent.through <= has || now >= sent.since + patience)
    }

    /// They were sent, up to `through`.
    pub(super) fn on_sent(&mut self, now: Instant, to: PeerId, has: u64, through: u64) {
        self.0.insert(to, Sent { through, has, since: now });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_millis(500);

    #[test]
    fn the_same_is_sent_again_only_when_nothing_gets_on() {
        let (now, to) = (crate::clock::now(), PeerId::from_bytes([1; 32]));
        let ms = Duration::from_millis;
        let mut flow = Flow::default();
        assert!(flow.is_due(now, &to, 10, PATIENCE), "nothing was sent");
        flow.on_sent(now, to, 10, 40);
        flow.on_new(now + ms(10), &to, 40, 41);
        flow.on_new(now + ms(20), &to, 42, 43);
        assert!(!flow.is_due(now + ms(400), &to, 10, PATIENCE), "under way");
        flow.on_answer(now + ms(400), &to, 20);
        assert!(!flow.is_due(now + ms(600), &to, 20, PATIENCE), "it gets on");
        assert!(flow.is_due(now + ms(900), &to, 20, PATIENCE), "lost");
        flow.on_answer(now + ms(700), &to, 41);
        assert!(flow.is_due(now + ms(700), &to, 41, PATIENCE), "what came in between was not sent from there on");
        flow.begin();
        assert!(flow.is_due(now, &to, 10, PATIENCE));
    }
}
