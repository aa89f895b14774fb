//! What happens to an announcement that arrives: cheap checks first, the signature last.

use std::time::{Duration, Instant};

use bowline_messages::PeerId;
use bytes::Bytes;
use rand::RngExt as _;

use super::announcement::Announcement;
use super::database::{Acquaintance, Carried};
use super::machine::{LinkState, LinkStateOutput};
use super::refusal::Refusal;
use super::wire::{self, Signed};
use crate::bucket::Bucket;

impl LinkState {
    /// Looks at one announcement that a neighbour sent.
    pub(super) fn on_announcement(&mut self, now: Instant, from: PeerId, signed: &Signed) -> Result<(), Refusal> {
        if signed.body.len() > self.config.announcement_bytes_max as usize {
            return Err(Refusal::Oversized);
        }
        let announcement = wire::decode_body(&signed.body).map_err(|_| Refusal::Malformed)?;
        let origin = announcement.origin;
        if origin == self.own {
            return self.on_own(now, from, &announcement, signed);
        }
        if self.excluded.contains(&origin) {
            return Err(Refusal::Excluded);
        }
        announcement.check(&self.config)?;
        let newest = self.database.newest(now, &origin);
        if Some(announcement.stamp) < newest {
            self.send_back(now, from, origin);
            return Err(Refusal::Old);
        }
        if Some(announcement.stamp) == newest {
            return self.on_same_stamp(from, &announcement, signed);
        }
        let remaining = Duration::from_secs(signed.remaining_s.into()).min(announcement.lifetime);
        if remaining.is_zero() {
            return Err(Refusal::Expired);
        }
        let mut pace = self.pace_of(now, &origin);
        if !pace.take(now, 1.0) {
            return Err(Refusal::Hasty);
        }
        let as_a = self.acquaintance(&origin);
        if !self.database.has_room(&self.config, &origin, signed.body.len(), as_a) {
            return Err(Refusal::Full);
        }
        let signature = signed.signature();
        if !self.authority.verify(&origin, &signed.body, &signature) {
            return Err(Refusal::Forged);
        }
        // Of its own, so that the datagram it came in is not kept.
        let body = Bytes::copy_from_slice(&signed.body);
        let refreshed = self.database.has_links_of(&announcement);
        self.database.make_room(&self.config, &origin, body.len(), PeerId::from_bytes(self.rng.random()));
        self.database.put(now, announcement, Carried { body, signature, remaining: Some(remaining), pace, as_a });
        if refreshed {
            self.refresh(now, origin, from);
        } else {
            self.flood(now, origin, Some(from));
        }
        Ok(())
    }

    /// An announcement with the number of the one that is known: as a rule the same one, on another way.
    fn on_same_stamp(&mut self, from: PeerId, announcement: &Announcement, signed: &Signed) -> Result<(), Refusal> {
        let origin = announcement.origin;
        // Known from the time before it expired only: brought back too late.
        let Some(known) = self.database.get(&origin) else { return Err(Refusal::Old) };
        if known.body == signed.body {
            self.is_known_by(&from, &origin);
            return Ok(());
        }
        let (said, first) = (known.two_faced, Signed::new(known.body.clone(), &known.signature, 0));
        if !self.authority.verify(&origin, &signed.body, &signed.signature()) {
            return Err(Refusal::Forged);
        }
        if !said {
            if let Some(known) = self.database.get_mut(&origin) {
                known.two_faced = true;
            }
            let second = Signed { body: Bytes::copy_from_slice(&signed.body), ..*signed };
            self.outputs.push_back(LinkStateOutput::TwoFaced { origin, first, second });
        }
        Err(Refusal::TwoFaced)
    }

    /// This node's own announcement came back. One with a higher number is from a life of this node of which it kept nothing: it goes on from there.
    fn on_own(
        &mut self,
        now: Instant,
        from: PeerId,
        announcement: &Announcement,
        signed: &Signed,
    ) -> Result<(), Refusal> {
        let own = self.own;
        let other =
            announcement.stamp == self.stamp && self.database.get(&own).is_some_and(|own| own.body != signed.body);
        if announcement.stamp < self.stamp {
            self.send_back(now, from, own);
            return Err(Refusal::Old);
        }
        if announcement.stamp == self.stamp && !other {
            self.is_known_by(&from, &own);
            return Ok(());
        }
        if !self.authority.verify(&own, &signed.body, &signed.signature()) {
            return Err(Refusal::Forged);
        }
        self.stamp = announcement.stamp;
        self.origination.on_change();
        Ok(())
    }

    /// The sender is behind: it gets what is known here.
    fn send_back(&mut self, now: Instant, to: PeerId, origin: PeerId) {
        if self.database.get(&origin).is_some() {
            self.owe(now, to, origin);
        }
    }

    fn acquaintance(&self, peer: &PeerId) -> Acquaintance {
        if self.neighbours.contains_key(peer) {
            Acquaintance::Neighbour
        } else if (self.is_member)(peer) {
            Acquaintance::Member
        } else {
            Acquaintance::Stranger
        }
    }

    fn pace_of(&self, now: Instant, origin: &PeerId) -> Bucket {
        let fresh = || {
            let per_second = 1.0 / self.config.hold_least.as_secs_f64();
            Bucket::new(now, per_second, f64::from(self.config.hasty_burst))
        };
        self.database.get(origin).map_or_else(fresh, |entry| entry.pace)
    }
}
