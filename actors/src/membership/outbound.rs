//! What goes out: every packet carries what its receiver should know first, and then the news that fits.

use std::time::Instant;

use bowline_messages::PeerId;
use bowline_messages::membership::MemberState;
use foca::{Header, Message};
use rand::RngExt;

use super::machine::{Membership, Probe};
use super::roster::Record;
use super::swim::probe_number;
use super::wire::{Draft, Node, Statement};

/// How much more seldom joining a peer is tried that does not answer, at worst, in retry intervals.
const JOIN_WAIT_MAX: u32 = 32;
/// How often in a row a member that is heard anyway is not asked.
const SPARED_IN_A_ROW: u8 = 2;
/// A comparison with one member takes so many of the intervals between comparisons at most.
const ENDLESS_AFTER: u32 = 4;
/// How many peers are tried to be joined at once.
const JOINS_AT_ONCE: usize = 3;

impl Membership {
    /// Sends what the protocol wants sent.
    pub(super) fn transmit(&mut self, header: &Header<Node>, now: Instant) {
        if let Some(number) = probe_number(&header.message) {
            self.probe = Some(Probe { peer: header.dst.peer, number, answered: false });
            if self.spares(now, &header.dst) {
                self.take_as_answered(now, header.dst, number);
                return;
            }
        }
        match header.message {
            Message::Feed => self.send_page(header),
            Message::Announce => {
                let after = self.sync_after.filter(|_| self.sync_with == Some(header.dst.peer));
                self.send_with(header, after, vec![self.own], false);
            }
            Message::Ping(_)
            | Message::Ack(_)
            | Message::PingReq { .. }
            | Message::IndirectPing { .. }
            | Message::IndirectAck { .. }
            | Message::ForwardedAck { .. }
            | Message::Gossip
            | Message::Broadcast
            | Message::TurnUndead => {
                let charges = self.charges(now, &header.dst.peer);
                let news = is_unasked(&header.message) || self.tells_with_answer(now, &header.dst);
                self.send_with(header, None, charges, news);
            }
        }
    }

    /// Whether an answer has room for news. Nobody has everything told to itself by asking all the time: what was told often enough is told nobody else.
    fn tells_with_answer(&mut self, now: Instant, to: &Node) -> bool {
        let pause = self.config.gossip_interval;
        self.allowance(now, &to.peer).is_some_and(|allowance| allowance.is_told(now, pause))
    }

    /// Whether a member need not be asked in its turn: something that it said came within the last interval. Not too often in a row, since that it is
    /// heard here does not say that it hears this node.
    fn spares(&mut self, now: Instant, node: &Node) -> bool {
        let (recent, sure) = (self.config.probe_interval, self.doubt.times() == 1);
        let Some(record) = self.roster.get_mut(&node.peer) else { return false };
        let heard = record.heard().is_some_and(|heard| now.saturating_duration_since(heard) < recent);
        let spares = sure && heard && record.spared < SPARED_IN_A_ROW && is_trusted(record) && record.node == *node;
        record.spared = if spares { record.spared + 1 } else { 0 };
        spares
    }

    /// What a member said without being asked counts as its answer.
    fn take_as_answered(&mut self, now: Instant, by: Node, number: u8) {
        let Some(record) = self.roster.get(&by.peer) else { return };
        let answer = Header { src: by, src_incarnation: record.number, dst: self.node, message: Message::Ack(number) };
        self.note_answer(now, by.peer, &answer.message);
        let wants = self.swim.on_message(&answer).unwrap_or_default();
        self.process(now, wants, Some(by.peer));
    }

    /// Tells a suspect that it is one, unless it was told a moment ago.
    pub(super) fn remind(&mut self, now: Instant, to: Node) {
        let pause = self.config.probe_timeout;
        let told = self.roster.get(&to.peer).and_then(|record| record.told);
        if told.is_some_and(|told| now.saturating_duration_since(told) < pause) {
            return;
        }
        let charges = self.charges(now, &to.peer);
        if !charges.is_empty() {
            let header = self.message(to, Message::Gossip);
            self.send_with(&header, None, charges, true);
        }
    }

    /// Tells somebody this node's name and number.
    pub(super) fn introduce(&mut self, now: Instant, to: Node) {
        self.correct(now, to, vec![self.own]);
    }

    /// Asks somebody to take this node in, and for members from the first one on.
    pub(super) fn announce(&mut self, now: Instant, to: Node) {
        self.invited.push_back(to.peer);
        if self.invited.len() > JOINS_AT_ONCE {
            self.invited.pop_front();
        }
        self.ask(now, to);
    }

    /// Asks for members, and in a comparison of lists with that one for those from where that is.
    fn ask(&mut self, now: Instant, to: Node) {
        let wants = self.swim.announce(to);
        self.process(now, wants, None);
    }

    /// Passes news on to a few members.
    pub(super) fn gossip(&mut self, now: Instant) {
        if self.news.is_empty() {
            return;
        }
        // Suspects are told what they are accused of; news that only they get may be lost.
        let trusted = self.roster.trusted() > 0;
        for to in self.choose(self.config.gossip_members, |record| !trusted || is_trusted(record)) {
            let charges = self.charges(now, &to.peer);
            let header = self.message(to, Message::Gossip);
            self.send_with(&header, None, charges, true);
        }
        let times = self.times();
        self.news.retain_untold(times);
    }

    /// Tells one member at random who is suspected: if it knows an answer that has not come here, it passes it on. And tells those whom this
    /// node accuses itself, a few at a time, in case it was lost.
    pub(super) fn question(&mut self, now: Instant) {
        let suspects: Vec<PeerId> = self.roster.suspects().iter().copied().collect();
        if suspects.is_empty() {
            return;
        }
        // Not always the same ones first when they are too many for one packet.
        let start = self.rng.random_range(0..suspects.len());
        let turned = || suspects.iter().cycle().skip(start).take(suspects.len());
        let charges: Vec<Statement> = turned().filter_map(|peer| self.charge(peer)).collect();
        if let Some(to) = self.choose(1, is_trusted).first() {
            let header = self.message(*to, Message::Gossip);
            self.send_with(&header, None, charges, true);
        }
        let me = self.node.peer;
        let mine = |record: &&Record| record.suspicion.as_ref().is_some_and(|known| known.is_accuser(&me));
        let accused = turned().filter_map(|peer| self.roster.get(peer)).filter(mine).map(|record| record.node);
        let accused: Vec<Node> = accused.take(self.config.helpers).collect();
        for node in accused {
            self.remind(now, node);
        }
    }

    /// Passes statements on to somebody who does not know them.
    pub(super) fn correct(&mut self, now: Instant, to: Node, statements: Vec<Statement>) {
        let header = self.message(to, Message::Gossip);
        let news = self.tells_with_answer(now, &to);
        self.send_with(&header, None, statements, news);
    }

    /// Asks a member for its list; or for the rest of one, when who was asked before does not answer any more.
    pub(super) fn sync(&mut self, now: Instant) {
        // What this one has before that place is asked for soon.
        self.sync_again |= self.sync_after.is_some();
        match self.choose(1, is_trusted).first() {
            Some(to) => {
                self.begin_sync(now, to.peer);
                self.ask(now, *to);
            }
            None => self.end_sync(now),
        }
    }

    pub(super) fn end_sync(&mut self, now: Instant) {
        (self.sync_with, self.sync_after) = (None, None);
        self.set_sync(now + self.config.sync_interval);
        if std::mem::take(&mut self.sync_again) {
            self.sync_soon(now);
        }
    }

    fn begin_sync(&mut self, now: Instant, with: PeerId) {
        (self.sync_with, self.sync_since) = (Some(with), now);
        self.await_page(now);
    }

    /// Another member is asked when no answer comes. As with questions, a node that is slow itself waits longer.
    fn await_page(&mut self, now: Instant) {
        self.set_sync(now + self.config.probe_interval * self.doubt.times());
    }

    /// A part of somebody's list came. There may be more of it that this node does not know.
    pub(super) fn on_page(&mut self, now: Instant, from: Node, after: Option<PeerId>) {
        match self.sync_with {
            Some(peer) if peer == from.peer => {}
            None if after.is_some() && self.invited.contains(&from.peer) => {
                // Once: the next list is that of somebody who is chosen here.
                self.invited.retain(|peer| *peer != from.peer);
                self.begin_sync(now, from.peer);
            }
            // Others were asked too, and some were not asked at all.
            Some(_) | None => return,
        }
        // Nobody keeps this node from the lists of others with parts without end.
        let endless = now.saturating_duration_since(self.sync_since) >= self.config.sync_interval * ENDLESS_AFTER;
        if after.is_none() || endless {
            self.end_sync(now);
        } else if after > self.sync_after {
            // Later parts follow each other, so it ends. One that came before was asked for twice.
            self.sync_after = after;
            self.await_page(now);
            self.ask(now, from);
        }
    }

    /// Tries to join, and whether one of the excluded members is back. Forgets those that are gone for long.
    pub(super) fn retry(&mut self, now: Instant) {
        self.forget_gone(now);
        let wait_max = self.config.retry_interval * JOIN_WAIT_MAX;
        let due: Vec<PeerId> =
            self.seeds.iter().filter(|(_, seed)| seed.next <= now).map(|(peer, _)| *peer).take(JOINS_AT_ONCE).collect();
        for peer in due {
            if let Some(seed) = self.seeds.get_mut(&peer) {
                seed.wait = (seed.wait * 2).min(wait_max);
                seed.next = now + seed.wait;
            }
            self.announce(now, Node { peer, life: 0, renewal: 0 });
        }
        let down = |state: MemberState| state == MemberState::Down;
        let excluded: Vec<Node> =
            self.roster.records().values().filter(|record| down(record.state())).map(|record| record.node).collect();
        if !excluded.is_empty() {
            let chosen = excluded[self.rng.random_range(0..excluded.len())];
            self.announce(now, chosen);
        }
    }

    /// Forgets those that are gone for long, and the longest gone of too many.
    pub(super) fn forget_gone(&mut self, now: Instant) {
        for node in self.roster.stale(now, self.config.forget_after) {
            self.swim.forget(node);
            self.roster.remove(&node.peer);
        }
    }

    /// Members at random, of a kind.
    fn choose(&mut self, count: usize, which: impl Fn(&Record) -> bool) -> Vec<Node> {
        let mut chosen: Vec<Node> = Vec::with_capacity(count);
        for (seen, (_, record)) in self.roster.members().filter(|(_, record)| which(record)).enumerate() {
            if chosen.len() < count {
                chosen.push(record.node);
            } else {
                let place = self.rng.random_range(0..=seen);
                if let Some(slot) = chosen.get_mut(place) {
                    *slot = record.node;
                }
            }
        }
        chosen
    }

    /// What a suspect is accused of.
    fn charges(&mut self, now: Instant, peer: &PeerId) -> Vec<Statement> {
        let charge = self.charge(peer);
        if let Some(record) = self.roster.get_mut(peer).filter(|_| charge.is_some()) {
            record.told = Some(now);
        }
        charge.into_iter().collect()
    }

    fn charge(&self, peer: &PeerId) -> Option<Statement> {
        let suspicion = self.roster.get(peer)?.suspicion.as_ref()?;
        // What this node says itself is what others may not know.
        let own = suspicion.statements().find(|statement| statement.claim.author() == self.node.peer);
        own.or_else(|| suspicion.statements().next()).copied()
    }

    /// Answers with what differs of the list: members in the order of their names, from where the question wants them.
    fn send_page(&mut self, header: &Header<Node>) {
        let (after, known) = self.asked;
        let own = self.roster.digests(&self.node);
        let differs = |node: &Node| {
            let (part, _) = node.digest();
            known.is_none_or(|known| known.get(part) != own.get(part))
        };
        let page: Vec<Statement> = self
            .roster
            .members()
            .filter(|(peer, record)| **peer != header.dst.peer && differs(&record.node))
            .filter(|(peer, _)| after.is_none_or(|after| **peer > after))
            .filter_map(|(_, record)| record.statement())
            .take(self.config.packet_bytes / super::wire::SIGNATURE_BYTES)
            .collect();
        let more = Some(header.dst.peer);
        let mut trial = Draft::new(header.clone(), self.sequence, more, None, self.config.packet_bytes);
        trial.push(&self.own);
        let fitting = page.iter().take_while(|statement| trial.push(statement)).count();
        let next = page.get(..fitting).filter(|fitting| fitting.len() < page.len()).and_then(<[Statement]>::last);
        let next = next.map(|last| last.claim.subject());
        let statements = std::iter::once(self.own).chain(page.into_iter().take(fitting)).collect();
        self.send_with(header, next, statements, false);
    }

    fn send_with(&mut self, header: &Header<Node>, after: Option<PeerId>, first: Vec<Statement>, news: bool) {
        self.sequence += 1;
        let to = header.dst.peer;
        let digests = matches!(header.message, Message::Announce).then(|| self.roster.digests(&self.node));
        let mut draft = Draft::new(header.clone(), self.sequence, after, digests, self.config.packet_bytes);
        for statement in &first {
            draft.push(statement);
        }
        if news {
            let times = self.times();
            self.news.fill(&mut draft, to, times);
        }
        self.send(to, draft.unsigned());
    }

    /// How often a piece of news is passed on in a group of this size.
    fn times(&self) -> u32 {
        #[allow(clippy::cast_precision_loss)]
        let scale = ((self.roster.active() + 1) as f64).log10().max(1.0);
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let times = (f64::from(self.config.gossip_times) * scale).ceil() as u32;
        times
    }
}

/// Whether this node says something of itself, and not because somebody had it do so.
const fn is_unasked(message: &Message<Node>) -> bool {
    match message {
        Message::Ping(_) | Message::PingReq { .. } | Message::Gossip | Message::Broadcast => true,
        Message::Ack(_)
        | Message::IndirectPing { .. }
        | Message::IndirectAck { .. }
        | Message::ForwardedAck { .. }
        | Message::Announce
        | Message::Feed
        | Message::TurnUndead => false,
    }
}

fn is_trusted(record: &Record) -> bool {
    record.state() == MemberState::Alive
}
