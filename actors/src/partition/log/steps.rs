//! What the consensus wants done, done: entries get their contents, messages become packets, what is committed is given out.

use std::time::Instant;

use bowline_messages::PeerId;
use noraft::{Action, LogEntries, LogEntry, Message, NodeId, Term};

use super::super::state::transfer::digest;
use super::wire::{Entry, HEAD_BYTES_MAX, Membership, Offer, PACKET_BYTES_MAX, Packet, encode};
use super::{Log, LogOutput, Persist, Snapshot, ours, roster};

/// Heartbeats for which entries that were sent to a follower count as under way.
const HEARTBEATS_UNDER_WAY: u32 = 2;

/// An entry as the consensus knows it, which has no contents.
pub(super) fn consensus_entry(entry: &Entry) -> LogEntry {
    match entry {
        Entry::Term(term) => LogEntry::Term(Term::new(*term)),
        Entry::Membership(membership) => LogEntry::ClusterConfig(roster::config(membership)),
        Entry::Command(_) => LogEntry::Command,
    }
}

impl Log {
    /// Carries out whatever the consensus wants, gives out what is committed, and says who leads if that changed.
    pub(super) fn carry_out(&mut self, now: Instant) {
        let term = self.node.current_term().get();
        if self.node.role().is_leader() && self.led != Some(term) {
            self.led = Some(term);
            let membership = self.membership();
            self.election.lead(now, &membership);
            self.flow.begin();
        }
        let mut vote_changed = false;
        while let Some(action) = self.node.actions_mut().next() {
            if matches!(action, Action::SaveCurrentTerm | Action::SaveVotedFor) {
                vote_changed = true;
                continue;
            }
            if matches!(action, Action::SetElectionTimeout) {
                if self.node.role().is_leader() {
                    self.election.beat(now);
                } else {
                    self.election.wait(now, &mut self.rng);
                }
                continue;
            }
            self.persist_vote(&mut vote_changed);
            self.act(now, action);
        }
        self.persist_vote(&mut vote_changed);
        self.incoming.clear();
        let membership = self.membership();
        if membership != self.said_membership {
            self.said_membership = membership.clone();
            self.outputs.push_back(LogOutput::Counting(membership));
        }
        self.give_out();
        self.say_leader();
        if self.roster.len() > 4 * self.config.participants_max {
            let entries = self.node.log().entries().iter().collect::<Vec<_>>();
            let configs = entries.iter().filter_map(|entry| match entry {
                LogEntry::ClusterConfig(config) => Some(config),
                LogEntry::Term(_) | LogEntry::Command => None,
            });
            self.roster.keep(configs.chain([self.node.log().snapshot_config()]), self.id);
        }
    }

    fn persist_vote(&mut self, changed: &mut bool) {
        if std::mem::take(changed) {
            let voted_for = self.node.voted_for().and_then(|id| self.roster.peer(id));
            let term = self.node.current_term().get();
            self.outputs.push_back(LogOutput::Persist(Persist::Vote { term, voted_for }));
        }
    }

    fn act(&mut self, now: Instant, action: Action) {
        match action {
            Action::SetElectionTimeout | Action::SaveCurrentTerm | Action::SaveVotedFor => {}
            Action::AppendLogEntries(entries) => self.append(&entries),
            Action::BroadcastMessage(message) => {
                let membership = self.membership();
                for peer in membership.everybody() {
                    let votes_only = matches!(message, Message::RequestVoteCall { .. });
                    if peer != self.me && (!votes_only || membership.votes(&peer)) {
                        let sent = self.say(peer, &message);
                        if let Some((prev, last)) = sent {
                            self.flow.on_new(now, &peer, prev, last);
                        }
                    }
                }
            }
            Action::SendMessage(to, message) => {
                if let Some(peer) = self.roster.peer(to).filter(|peer| self.is_due(now, peer, &message)) {
                    let sent = self.say(peer, &message);
                    if let Some((prev, last)) = sent.filter(|(prev, last)| last > prev) {
                        self.flow.on_sent(now, peer, prev, last);
                    }
                }
            }
            Action::InstallSnapshot(to) => self.offer_snapshot(to),
        }
    }

    fn append(&mut self, entries: &LogEntries) {
        let prev = ours(entries.prev_position());
        let stale = self.entries.split_off(&(prev.index + 1));
        self.held_bytes -= stale.values().map(|entry| entry.bytes() as u64).sum::<u64>();
        let mut added = Vec::new();
        for (position, entry) in entries.iter_with_positions() {
            let index = position.index.get();
            // What was given out stays what it was, whatever it is said to be now.
            let kept = stale.get(&index).filter(|_| index <= self.delivered).cloned();
            let entry = kept.unwrap_or_else(|| match entry {
                LogEntry::Term(term) => Entry::Term(term.get()),
                LogEntry::ClusterConfig(config) => Entry::Membership(self.roster.membership(&config)),
                // There always is one: commands come from `propose` and from packets, which both put it there.
                LogEntry::Command => self.incoming.remove(&index).unwrap_or(Entry::Command(bytes::Bytes::new())),
            });
            self.held_bytes += entry.bytes() as u64;
            self.entries.insert(index, entry.clone());
            added.push(entry);
        }
        self.outputs.push_back(LogOutput::Persist(Persist::Append { prev, entries: added }));
    }

    /// Whether a message to one peer is worth sending: what it brings may be under way already.
    fn is_due(&self, now: Instant, to: &PeerId, message: &Message) -> bool {
        match message {
            Message::AppendEntriesCall { entries, .. } if !entries.is_empty() => {
                let patience = self.config.heartbeat * HEARTBEATS_UNDER_WAY;
                self.flow.is_due(now, to, ours(entries.prev_position()).index, patience)
            }
            Message::AppendEntriesCall { .. }
            | Message::AppendEntriesReply { .. }
            | Message::RequestVoteCall { .. }
            | Message::RequestVoteReply { .. } => true,
        }
    }

    /// Sends a message of the consensus; of entries as many as fit, the rest follows when these have been answered. Gives what the entries follow, and the
    /// last of them.
    fn say(&mut self, to: PeerId, message: &Message) -> Option<(u64, u64)> {
        let mut said = None;
        let packet = match message {
            Message::RequestVoteCall { term, last_position, .. } => {
                Packet::Stand { term: term.get(), last: ours(*last_position) }
            }
            Message::RequestVoteReply { term, vote_granted, .. } => {
                Packet::Vote { term: term.get(), granted: *vote_granted }
            }
            Message::AppendEntriesCall { term, commit_index, entries, .. } => {
                let (prev, last) = (ours(entries.prev_position()), entries.last_position().index.get());
                let mut room = PACKET_BYTES_MAX - HEAD_BYTES_MAX;
                let fits = |(index, entry): &(&u64, &Entry)| {
                    if **index > last {
                        return false;
                    }
                    let left = room.checked_sub(entry.bytes());
                    room = left.unwrap_or(0);
                    left.is_some()
                };
                let sent = self.entries.range(prev.index + 1..).take_while(fits);
                let entries: Vec<Entry> = sent.map(|(_, entry)| entry.clone()).collect();
                said = Some((prev.index, prev.index + entries.len() as u64));
                Packet::Append { term: term.get(), commit: commit_index.get(), prev, entries }
            }
            Message::AppendEntriesReply { term, last_position, .. } => {
                Packet::Appended { term: term.get(), last: ours(*last_position) }
            }
        };
        self.send(to, &packet);
        said
    }

    pub(super) fn send(&mut self, to: PeerId, packet: &Packet) {
        self.outputs.push_back(LogOutput::Send { to, payload: encode(packet) });
    }

    fn offer_snapshot(&mut self, to: NodeId) {
        let Some(peer) = self.roster.peer(to) else { return };
        let offer = Offer {
            position: self.snapshot.position,
            membership: self.snapshot.membership.clone(),
            bytes: self.snapshot.state.len() as u64,
            digest: self.snapshot_digest,
        };
        self.send(peer, &Packet::Offer { term: self.node.current_term().get(), offer });
    }

    /// Keeps a snapshot, and of the entries only those behind it.
    pub(super) fn take_snapshot(&mut self, snapshot: Snapshot) {
        let kept = self.entries.split_off(&(snapshot.position.index + 1));
        let gone = std::mem::replace(&mut self.entries, kept);
        self.held_bytes -= gone.values().map(|entry| entry.bytes() as u64).sum::<u64>();
        // The consensus may have thrown away more: then what is left here was never committed.
        let stale = self.entries.split_off(&(self.last().index + 1));
        self.held_bytes -= stale.values().map(|entry| entry.bytes() as u64).sum::<u64>();
        self.previous = Some((self.snapshot_digest, std::mem::take(&mut self.snapshot.state)));
        self.snapshot_digest = digest(&snapshot.state);
        self.snapshot = snapshot.clone();
        self.outputs.push_back(LogOutput::Persist(Persist::Snapshot(snapshot)));
    }

    fn give_out(&mut self) {
        let commit = self.node.commit_index().get();
        while self.delivered < commit {
            let Some(entry) = self.entries.get(&(self.delivered + 1)) else { break };
            self.delivered += 1;
            let position = self.committed();
            match entry.clone() {
                Entry::Term(_) => {}
                Entry::Membership(membership) => self.outputs.push_back(LogOutput::Members { position, membership }),
                Entry::Command(bytes) => {
                    let (index, term) = (position.index, position.term);
                    self.outputs.push_back(LogOutput::Committed { index, term, bytes });
                }
            }
        }
        let behind = self.delivered - self.snapshot.position.index;
        let many =
            behind >= self.config.snapshot_after as u64 || self.held_bytes > self.config.bytes_max / 2 && behind > 0;
        if many && !self.snapshot_wanted {
            self.snapshot_wanted = true;
            self.outputs.push_back(LogOutput::SnapshotWanted { index: self.delivered });
        }
    }

    fn say_leader(&mut self) {
        let said = (self.node.current_term().get(), self.leader());
        if self.said_leader != said {
            self.said_leader = said;
            let (term, peer) = said;
            self.outputs.push_back(LogOutput::Leader { term, peer });
        }
    }

    /// The voters are asked whether they would vote for this node.
    pub(super) fn ask(&mut self, now: Instant) {
        let membership: Membership = self.membership();
        self.led_by = None;
        if !membership.votes(&self.me) {
            self.election.wait(now, &mut self.rng);
            return;
        }
        let term = self.node.current_term().get() + 1;
        self.election.ask(now, self.me, term, &mut self.rng);
        if self.election.on_granted(self.me, term, &membership) {
            self.node.handle_election_timeout();
            return;
        }
        let last = self.last();
        for peer in membership.everybody() {
            if peer != self.me && membership.votes(&peer) {
                self.send(peer, &Packet::Ask { term, last });
            }
        }
    }

    /// Leads no more, in the same term: as after a restart, but for what it knows to be committed.
    pub(super) fn step_down(&mut self, now: Instant) {
        let (term, voted_for) = (self.node.current_term(), self.node.voted_for());
        self.node = noraft::Node::restart(self.id, term, voted_for, self.node.log().clone());
        self.election.wait(now, &mut self.rng);
    }
}
