//! What becomes of each packet.

use std::time::Instant;

use bowline_messages::PeerId;
use bytes::Bytes;
use noraft::{LogEntries, LogIndex, Message, Term};

use super::super::state::transfer::{Fetch, Limits, Piece, Want, answer};
use super::super::terms::{LEAP_MAX, Rises};
use super::guard;
use super::roster::{self, number};
use super::steps::consensus_entry;
use super::wire::{Entry, HEAD_BYTES_MAX, Membership, Offer, PACKET_BYTES_MAX, Packet, Position, decode};
use super::{Log, LogOutput, Refused, Snapshot, raft};

/// Pieces of a snapshot asked for at once: a full window is a quarter of a megabyte, little enough not to crowd out heartbeats.
const WINDOW: u32 = 16;
/// How many election time-outs one transfer of a snapshot may take.
const TRANSFER_TIMEOUTS: u32 = 60;

impl Log {
    /// A packet arrived, authenticated as coming from this neighbour.
    ///
    /// # Errors
    /// [`Refused`]; it is counted in [`LogStatus::refused`](super::LogStatus::refused), too.
    pub fn on_packet(&mut self, now: Instant, from: PeerId, bytes: &[u8]) -> Result<(), Refused> {
        let taken = self.take(now, from, bytes);
        self.refused += u64::from(taken.is_err());
        self.carry_out(now);
        taken
    }

    fn take(&mut self, now: Instant, from: PeerId, bytes: &[u8]) -> Result<(), Refused> {
        // One that shares the number of another, this node for example, must not speak in its name.
        if self.roster.peer(number(&from)) != Some(from) || from == self.me {
            return Err(Refused::Stranger);
        }
        let packet = decode(bytes)?;
        let taken = match packet {
            Packet::Ask { term, last } => self.on_ask(now, from, term, last),
            Packet::Answer { term, granted, current } => self.on_answer(now, from, term, granted, current),
            Packet::Stand { term, last } => self.on_stand(now, from, term, last),
            Packet::Vote { term, granted } => self.on_vote(now, from, term, granted),
            Packet::Append { term, commit, prev, entries } => self.on_append(now, from, (term, commit, prev), entries),
            Packet::Appended { term, last } => self.on_appended(now, from, term, last),
            Packet::Offer { term, offer } => self.on_offer(now, from, term, offer),
            Packet::Want(want) => {
                self.on_want(from, &want);
                Ok(())
            }
            Packet::Piece(piece) => {
                self.on_piece(now, from, &piece);
                Ok(())
            }
        };
        taken.map_err(Refused::Impossible)
    }

    /// Gives a message to the consensus. What it calls an error is excluded by the guard.
    fn step(&mut self, message: &Message) {
        let stepped = self.node.handle_message(message);
        debug_assert!(stepped.is_ok(), "the guard lets nothing through that contradicts what is committed");
    }

    /// Whether a term may be followed. One that is too far above is followed as far as it may be, and nothing else that comes with it: so whoever was away for
    /// long comes up to the others in steps, and nobody uses terms up.
    fn reach(&mut self, now: Instant, from: PeerId, term: u64) -> Result<(), guard::Impossible> {
        let current = self.node.current_term().get();
        if term <= current {
            return Ok(());
        }
        let every = self.config.heartbeat;
        if !self.rises.entry(from).or_insert_with(|| Rises::new(now, every)).take(now) {
            return Err("terms rise too fast");
        }
        if term - current <= LEAP_MAX {
            return Ok(());
        }
        self.rise(from, current + LEAP_MAX);
        Err("a term out of reach")
    }

    /// Takes over a term, and nothing else.
    fn rise(&mut self, from: PeerId, term: u64) {
        let (from, term) = (number(&from), Term::new(term));
        self.step(&Message::RequestVoteReply { from, term, vote_granted: false });
    }

    fn on_ask(&mut self, now: Instant, from: PeerId, term: u64, last: Position) -> Result<(), guard::Impossible> {
        guard::place(term, last)?;
        let current = self.node.current_term().get();
        let led = self.node.role().is_leader() || self.election.has_leader(now);
        let granted = !led && term > current && last >= self.last();
        self.send(from, &Packet::Answer { term, granted, current });
        Ok(())
    }

    fn on_answer(
        &mut self,
        now: Instant,
        from: PeerId,
        term: u64,
        granted: bool,
        current: u64,
    ) -> Result<(), guard::Impossible> {
        guard::place(current, Position::default())?;
        // What nobody asked deposes nobody.
        if !self.election.is_asked(term) {
            return Ok(());
        }
        if granted {
            let membership = self.membership();
            if !self.node.role().is_leader() && self.election.on_granted(from, term, &membership) {
                self.node.handle_election_timeout();
            }
        } else if current > self.node.current_term().get() {
            // Who is behind learns the term, so that its next question is worth asking.
            self.reach(now, from, current)?;
            self.rise(from, current);
        }
        Ok(())
    }

    /// A vote is for who stands; whoever does not learns nothing by it.
    fn on_vote(&mut self, now: Instant, from: PeerId, term: u64, granted: bool) -> Result<(), guard::Impossible> {
        guard::place(term, Position::default())?;
        if self.node.role().is_candidate() {
            self.reach(now, from, term)?;
            let (from, term) = (number(&from), Term::new(term));
            self.step(&Message::RequestVoteReply { from, term, vote_granted: granted });
        }
        Ok(())
    }

    fn on_stand(&mut self, now: Instant, from: PeerId, term: u64, last: Position) -> Result<(), guard::Impossible> {
        guard::place(term, last)?;
        // Whoever hears a leader needs no other one: a node that was cut off, or taken out, disturbs nobody.
        if !self.election.has_leader(now) {
            self.reach(now, from, term)?;
            self.step(&Message::RequestVoteCall {
                from: number(&from),
                term: Term::new(term),
                last_position: raft(last),
            });
        }
        Ok(())
    }

    fn on_append(
        &mut self,
        now: Instant,
        from: PeerId,
        (term, commit, prev): (u64, u64, Position),
        mut entries: Vec<Entry>,
    ) -> Result<(), guard::Impossible> {
        self.keep_lawful(prev, &mut entries);
        let committed = self.delivered;
        guard::append((&self.node, committed), (term, commit, prev), &entries, (&mut self.roster, &self.config))?;
        self.reach(now, from, term)?;
        let mut bytes = 0;
        let fitting = entries.iter().enumerate().take_while(|(count, entry)| {
            bytes += entry.bytes() as u64;
            self.has_room_for(entry, term, count + 1, bytes)
        });
        let fitting = fitting.count();
        entries.truncate(fitting);
        let new = LogEntries::from_iter(raft(prev), entries.iter().map(consensus_entry));
        self.incoming = (prev.index + 1..).zip(entries).collect();
        self.follow(now, from, term);
        let (from, term, commit_index) = (number(&from), Term::new(term), LogIndex::new(commit));
        self.step(&Message::AppendEntriesCall { from, term, commit_index, entries: new });
        Ok(())
    }

    /// Leaves out what may not become of the participants, and all behind it. The leader is followed all the same: the proofs may be on their way, and it sends
    /// the rest again.
    fn keep_lawful(&mut self, prev: Position, entries: &mut Vec<Entry>) {
        let Some(may_go) = &self.may_go else { return };
        let before = self.membership_at(prev.index).unwrap_or_else(|| self.membership());
        let lawful = guard::lawful(before, entries, may_go);
        if lawful < entries.len() {
            entries.truncate(lawful);
            self.refused += 1;
        }
    }

    fn membership_at(&self, index: u64) -> Option<Membership> {
        let at = self.node.log().get_position_and_config(LogIndex::new(index));
        at.map(|(_, config)| self.roster.membership(config))
    }

    /// Somebody leads in this term: notes it, unless the term is over.
    fn follow(&mut self, now: Instant, from: PeerId, term: u64) {
        if term >= self.node.current_term().get() {
            self.election.on_leader(now);
            if term > self.node.current_term().get() {
                // The term is taken over by itself, so that the leader is one of the new term.
                self.rise(from, term);
            }
            self.led_by = Some((term, from));
        }
    }

    fn on_appended(&mut self, now: Instant, from: PeerId, term: u64, last: Position) -> Result<(), guard::Impossible> {
        guard::place(term, last)?;
        // Whoever leads no more has sent nothing that this would be the answer to.
        if !self.node.role().is_leader() {
            return Ok(());
        }
        self.reach(now, from, term)?;
        if term == self.node.current_term().get() {
            let membership = self.membership();
            self.election.on_follower(now, from, &membership);
            self.flow.on_answer(now, &from, last.index);
        }
        let from = number(&from);
        self.step(&Message::AppendEntriesReply { from, term: Term::new(term), last_position: raft(last) });
        Ok(())
    }

    fn limits(&self) -> Limits {
        Limits {
            bytes_max: self.config.snapshot_bytes_max,
            piece_bytes: u32::try_from((PACKET_BYTES_MAX - HEAD_BYTES_MAX) / 2).unwrap_or(u32::MAX),
            window: WINDOW,
            retry: self.config.heartbeat,
            timeout: self.config.election_timeout * TRANSFER_TIMEOUTS,
        }
    }

    fn on_offer(&mut self, now: Instant, from: PeerId, term: u64, offer: Offer) -> Result<(), guard::Impossible> {
        let committed = self.delivered;
        if let Some(may_go) = &self.may_go {
            let before = self.membership_at(committed).unwrap_or_else(|| self.membership());
            if !guard::only_loses(&before, &offer.membership, may_go) {
                return Err("participants are gone against whom nothing is proven");
            }
        }
        guard::offer((&self.node, committed), (term, &offer), (&mut self.roster, &self.config))?;
        self.reach(now, from, term)?;
        self.follow(now, from, term);
        if term < self.node.current_term().get() || offer.position.index <= self.delivered {
            return Ok(());
        }
        self.election.wait(now, &mut self.rng);
        let busy = self.fetch.as_ref().is_some_and(|(fetch, _)| {
            fetch.source() == from && (fetch.digest() == offer.digest || !fetch.is_stuck(now))
        });
        if !busy {
            // Its size is within the limit: the guard has compared it.
            let fetch = Fetch::new(now, from, offer.digest, offer.bytes, self.limits());
            self.fetch = fetch.ok().map(|fetch| (fetch, offer));
            self.go_on_fetching(now);
        }
        Ok(())
    }

    fn go_on_fetching(&mut self, now: Instant) {
        let Some((fetch, _)) = &mut self.fetch else { return };
        match fetch.whole() {
            Ok(Some(state)) => self.install(now, state),
            Ok(None) => {
                let source = fetch.source();
                if let Some(want) = fetch.ask(now) {
                    self.send(source, &Packet::Want(want));
                }
            }
            Err(_) => self.fetch = None,
        }
    }

    pub(super) fn on_fetch_timeout(&mut self, now: Instant) {
        if self.fetch.as_ref().is_some_and(|(fetch, _)| fetch.is_late(now)) {
            self.fetch = None;
        }
        self.go_on_fetching(now);
    }

    fn on_want(&mut self, from: PeerId, want: &Want) {
        let state = if want.digest == self.snapshot_digest {
            self.snapshot.state.clone()
        } else {
            match &self.previous {
                Some((digest, state)) if *digest == want.digest => state.clone(),
                Some(_) | None => return,
            }
        };
        for piece in answer(&state, want.digest, want, &self.limits()) {
            self.send(from, &Packet::Piece(piece));
        }
    }

    fn on_piece(&mut self, now: Instant, from: PeerId, piece: &Piece) {
        let Some((fetch, _)) = &mut self.fetch else { return };
        match fetch.on_piece(now, from, piece) {
            Ok(Some(state)) => self.install(now, state),
            Ok(None) => self.go_on_fetching(now),
            // The leader offers it again.
            Err(_) => {
                self.fetch = None;
                self.refused += 1;
            }
        }
    }

    /// A snapshot of the leader is here and intact: it replaces what this node has.
    fn install(&mut self, now: Instant, state: Bytes) {
        let Some((fetch, offer)) = self.fetch.take() else { return };
        let config = roster::config(&offer.membership);
        if offer.position.index <= self.delivered || !self.node.handle_snapshot_installed(raft(offer.position), config)
        {
            return;
        }
        self.delivered = offer.position.index;
        self.take_snapshot(Snapshot { position: offer.position, membership: offer.membership, state: state.clone() });
        self.outputs.push_back(LogOutput::Restore { position: offer.position, state });
        self.election.wait(now, &mut self.rng);
        let (term, last) = (self.node.current_term().get(), self.last());
        self.send(fetch.source(), &Packet::Appended { term, last });
    }
}
