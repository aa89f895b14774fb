//! Requests and answers, and what is passed on for others.

use std::time::Instant;

use bowline_messages::PeerId;
use bowline_messages::topology::{HealingPurpose, HealingStep, LinkRefusal};
use bytes::Bytes;

use super::machine::{Healing, HealingOutput, Made, Open};
use super::plan::Need;
use super::wire::{self, Body, Refused, Routed, Say};

impl Healing {
    /// A datagram of a neighbour.
    pub fn on_packet(&mut self, now: Instant, from: PeerId, payload: &Bytes) {
        if let Err(refused) = self.receive(now, from, payload) {
            *self.refused.entry(refused).or_default() += 1;
        }
    }

    /// Asks a peer for a link, within the budgets of this node.
    pub(super) fn ask(&mut self, now: Instant, peer: PeerId, purpose: HealingPurpose) {
        let busy = self.open.len() >= self.config.requests_open || self.spare() == 0;
        let known = self.open.contains_key(&peer) || self.links.contains_key(&peer) || self.neighbours.contains(&peer);
        let unwanted = self.avoided.contains_key(&peer) || self.undone.contains_key(&peer);
        if busy || known || unwanted {
            return;
        }
        let Some((own, other)) = self.outline.number(&self.own).zip(self.outline.number(&peer)) else { return };
        let Some(path) = self.outline.path(own, other).filter(|path| path.len() <= self.config.path_max) else {
            return;
        };
        let path: Vec<PeerId> = path.into_iter().map(|node| self.outline.peers[node as usize]).collect();
        let say = Say::Ask { purpose: wire::purpose_code(purpose), addresses: self.addresses.clone() };
        let stamp = self.say(&path, say);
        let before = self.figures.by(purpose);
        self.open.insert(peer, Open { purpose, stamp, before, until: now + self.config.answer_timeout });
        self.step(peer, purpose, HealingStep::Asked);
    }

    /// Sends something along a way from this node to another.
    pub(super) fn say(&mut self, path: &[PeerId], say: Say) -> (u64, u64) {
        self.stamp.1 += 1;
        let (Some(to), Some(next)) = (path.last(), path.get(1)) else { return self.stamp };
        let body = Body { from: *self.own.as_bytes(), to: *to.as_bytes(), stamp: self.stamp, say };
        let body = wire::encode_body(&body);
        let signature = self.authority.sign(&body);
        let names = path.iter().map(|peer| *peer.as_bytes()).collect();
        let payload = wire::encode(&Routed::new(names, body, &signature));
        self.outputs.push_back(HealingOutput::Send { to: *next, payload });
        self.stamp
    }

    fn receive(&mut self, now: Instant, from: PeerId, payload: &Bytes) -> Result<(), Refused> {
        if !self.neighbours.contains(&from) {
            return Err(Refused::Stranger);
        }
        if payload.len() as u64 > self.config.request_bytes_max {
            return Err(Refused::Oversized);
        }
        let mut routed = wire::decode(payload).map_err(|_| Refused::Malformed)?;
        let next = routed.check(&self.own, &from, &self.config)?;
        let budget = self.budgets.get_mut(&from).ok_or(Refused::Stranger)?;
        let budget = if next.is_some() { &mut budget.passed_on } else { &mut budget.heard };
        if !budget.take(now, 1.0) {
            return Err(Refused::Flooded);
        }
        match next {
            Some(next) => {
                if !self.neighbours.contains(&next) {
                    return Err(Refused::Broken);
                }
                routed.at += 1;
                self.outputs.push_back(HealingOutput::Send { to: next, payload: wire::encode(&routed) });
                Ok(())
            }
            None => self.hear(now, &routed),
        }
    }

    /// Something for this node.
    fn hear(&mut self, now: Instant, routed: &Routed) -> Result<(), Refused> {
        let body = wire::decode_body(&routed.body).map_err(|_| Refused::Malformed)?;
        let peer = PeerId::from_bytes(body.from);
        if body.to != *self.own.as_bytes() || routed.path.first() != Some(&body.from) {
            return Err(Refused::Contradictory);
        }
        if self.outline.number(&peer).is_none() {
            return Err(Refused::Unknown);
        }
        if !self.heard.is_new(&peer, body.stamp) {
            return Err(Refused::Replayed);
        }
        if !self.authority.verify(&peer, &routed.body, &routed.signature()) {
            return Err(Refused::Forged);
        }
        self.heard.note(peer, body.stamp);
        match body.say {
            Say::Ask { purpose, addresses } => {
                let back: Vec<PeerId> = routed.path.iter().rev().map(|name| PeerId::from_bytes(*name)).collect();
                self.on_ask(now, &back, body.stamp, purpose, addresses)
            }
            Say::Grant { stamp, addresses } => {
                let open = self.answered(peer, stamp)?;
                let addresses = checked(addresses)?;
                let made = self.made(now, open.purpose, true, open.before);
                self.links.insert(peer, made);
                self.step(peer, open.purpose, HealingStep::Granted);
                self.outputs.push_back(HealingOutput::Connect { peer, addresses });
                Ok(())
            }
            Say::Refuse { stamp, reason } => {
                let open = self.answered(peer, stamp)?;
                self.avoid(now, peer);
                self.step(peer, open.purpose, HealingStep::Refused(wire::refusal(reason)));
                Ok(())
            }
            Say::Undo => {
                let made = self.links.get(&peer).filter(|made| !made.asked).ok_or(Refused::Unasked)?;
                let purpose = made.purpose;
                self.let_go(now, peer, purpose);
                Ok(())
            }
        }
    }

    fn answered(&mut self, peer: PeerId, stamp: (u64, u64)) -> Result<Open, Refused> {
        if self.open.get(&peer).is_none_or(|open| open.stamp != stamp) {
            return Err(Refused::Unasked);
        }
        self.open.remove(&peer).ok_or(Refused::Unasked)
    }

    fn on_ask(
        &mut self,
        now: Instant,
        back: &[PeerId],
        stamp: (u64, u64),
        purpose: u8,
        addresses: Vec<String>,
    ) -> Result<(), Refused> {
        let peer = *back.last().ok_or(Refused::Contradictory)?;
        let addresses = checked(addresses)?;
        let Some(purpose) = wire::purpose(purpose) else { return Err(Refused::Malformed) };
        if let Err(reason) = self.agree(now, &peer, purpose) {
            self.say(back, Say::Refuse { stamp, reason: wire::refusal_code(reason) });
            return Ok(());
        }
        let made = self.made(now, purpose, false, self.figures.by(purpose));
        self.links.insert(peer, made);
        self.say(back, Say::Grant { stamp, addresses: self.addresses.clone() });
        self.step(peer, purpose, HealingStep::Granted);
        self.outputs.push_back(HealingOutput::Connect { peer, addresses });
        Ok(())
    }

    /// Whether this node takes on a link that it is asked for.
    fn agree(&self, now: Instant, peer: &PeerId, purpose: HealingPurpose) -> Result<(), LinkRefusal> {
        if !self.config.enabled {
            return Err(LinkRefusal::Disabled);
        }
        if self.neighbours.contains(peer) || self.links.contains_key(peer) {
            return Err(LinkRefusal::Linked);
        }
        if self.power < self.config.power_least {
            return Err(LinkRefusal::Power);
        }
        // Both ask each other at the same time: the request of the smaller name counts.
        if self.open.contains_key(peer) && self.own < *peer {
            return Err(LinkRefusal::Busy);
        }
        if self.undone.get(peer).is_some_and(|until| *until > now) {
            return Err(LinkRefusal::Useless);
        }
        // Else whoever asks and never comes could hold all places for ever.
        if self.lapsed.get(peer).is_some_and(|until| *until > now) {
            return Err(LinkRefusal::Busy);
        }
        // Whoever asks for what nobody needs only wants the places that others may need.
        if !self.needs.iter().any(|need| Need::purpose(need) == purpose) {
            return Err(LinkRefusal::NotNeeded);
        }
        if self.links.len() + self.open.len() >= self.config.links_max {
            return Err(LinkRefusal::Links);
        }
        if self.spare() == 0 {
            return Err(LinkRefusal::Degree);
        }
        let coming = self.links.values().filter(|made| made.until.is_some()).count();
        if coming >= self.config.requests_open { Err(LinkRefusal::Busy) } else { Ok(()) }
    }

    fn made(&self, now: Instant, purpose: HealingPurpose, asked: bool, before: f64) -> Made {
        let around = self.needs.iter().find_map(|need| match need {
            Need::Redundancy(around) | Need::Relief(around) => Some(*around),
            Need::Shortcut | Need::Local => None,
        });
        let until = Some(now + self.config.link_timeout);
        Made { purpose, asked, before, around, until, measure_at: None, useless_since: None, leaving: false }
    }

    /// Lets a link go that is of no use.
    pub(super) fn let_go(&mut self, now: Instant, peer: PeerId, purpose: HealingPurpose) {
        self.links.remove(&peer);
        if self.undone.len() <= self.outline.len() {
            self.undone.insert(peer, now + self.config.useless_pause);
        }
        self.step(peer, purpose, HealingStep::Undone);
        self.outputs.push_back(HealingOutput::Release { peer });
    }
}

/// Addresses of a peer, unless they are too many or too long.
fn checked(addresses: Vec<String>) -> Result<Vec<String>, Refused> {
    let fits = addresses.len() <= wire::ADDRESSES_MAX
        && addresses.iter().all(|address| address.len() <= wire::ADDRESS_BYTES_MAX);
    if fits { Ok(addresses) } else { Err(Refused::Oversized) }
}
