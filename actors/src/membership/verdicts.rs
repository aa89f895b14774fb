//! What is concluded: suspicion, exclusion, return, and what this node does when it is accused or excluded itself.

use std::time::{Duration, Instant};

use bowline_messages::health::Confidence;
use bowline_messages::membership::{Failure, FailureKind, MemberState, MembershipEvent, Offence};
use bowline_messages::{Incarnation, PeerId};
use foca::State;

use super::classify::{Evidence, classify, revise};
use super::machine::Membership;
use super::roster::{Gone, Pace, Record};
use super::suspicion::Suspicion;
use super::swim::Want;
use super::wire::{Claim, Node, Statement};

impl Membership {
    /// This node says that a member does not answer, to everybody and to that member first.
    pub(super) fn accuse(&mut self, now: Instant, peer: PeerId) {
        let Some(record) = self.roster.get(&peer).filter(|known| known.state().is_active()) else { return };
        if record.suspicion.as_ref().is_some_and(|known| known.is_accuser(&self.node.peer)) {
            return;
        }
        let (node, number, me, limits) = (record.node, record.number, self.node.peer, self.accusing(true));
        let Some(record) = self.roster.get_mut(&peer) else { return };
        if record.accusers.may_accuse(me, (node, number), now, limits) != Pace::Fit {
            return;
        }
        let statement = self.sign(Claim::Accuse { accused: node, number, accuser: self.node.peer });
        self.suspect(now, peer, self.node.peer, statement);
        self.tell(now, statement);
        self.remind(now, node);
    }

    /// A member is suspected, by one more.
    pub(super) fn suspect(&mut self, now: Instant, peer: PeerId, accuser: PeerId, statement: Statement) {
        let accusers_max = self.config.confirmations + 1;
        let Some(record) = self.roster.get_mut(&peer) else { return };
        let suspicion = record.suspicion.get_or_insert_with(|| Suspicion::new(now));
        suspicion.add(accuser, statement, accusers_max);
        if record.state() == MemberState::Alive {
            let (node, number) = (record.node, record.number);
            self.roster.set_state(&peer, MemberState::Suspect);
            let wants = self.swim.learn(node, number, State::Suspect);
            self.process(now, wants, None);
            self.emit(MembershipEvent::Suspected { peer, by: accuser });
            self.set_question(now);
        }
    }

    /// A member has a greater number than before: what it was accused of is answered.
    pub(super) fn on_answered(&mut self, now: Instant, peer: &PeerId, number: u16) {
        let memory = self.config.forget_after;
        let Some(record) = self.roster.get_mut(peer).filter(|known| known.state() == MemberState::Suspect) else {
            return;
        };
        let since = record.suspicion.as_ref().map_or(now, |suspicion| suspicion.since);
        record.number = number;
        record.history.recent(now, memory).cleared += 1;
        self.roster.set_state(peer, MemberState::Alive);
        self.news.drop_accusations(*peer);
        self.emit(MembershipEvent::Cleared { peer: *peer, suspected: now.saturating_duration_since(since) });
    }

    /// A suspicion was not answered in time.
    pub(super) fn exclude(&mut self, now: Instant, peer: PeerId) {
        let window = self.limits().max;
        let lost_together = self.lost_together(now, &peer, window);
        let (members, doubt, memory) = (self.roster.active(), self.doubt.share(), self.config.forget_after);
        let Some(record) = self.roster.get_mut(&peer) else { return };
        let history = record.history.recent(now, memory).clone();
        let Some(suspicion) = record.suspicion.take() else { return };
        let evidence = Evidence {
            members,
            lost_together,
            accusers: suspicion.accusers(),
            late_answers: history.late_answers,
            helped_answers: history.helped_answers,
            cleared: history.cleared,
            offences: history.offences(),
            doubt,
        };
        let failure = classify(&evidence);
        let (node, number) = (record.node, record.number);
        record.gone = Some(Gone { since: now, life: node.life, failure: Some(failure) });
        self.roster.set_state(&peer, MemberState::Down);
        let wants = self.swim.learn(node, number, State::Down);
        self.process(now, wants, None);
        self.emit(MembershipEvent::Down {
            peer,
            incarnation: Incarnation(node.life),
            failure,
            accusers: suspicion.accusers(),
            suspected: now.saturating_duration_since(suspicion.since),
        });
    }

    /// How many others are suspected, or were excluded a moment ago.
    fn lost_together(&self, now: Instant, peer: &PeerId, window: Duration) -> usize {
        let lately = |gone: &Gone| gone.failure.is_some() && now.saturating_duration_since(gone.since) <= window;
        let lost = |state, gone: Option<Gone>| match state {
            MemberState::Suspect => true,
            MemberState::Down => gone.as_ref().is_some_and(lately),
            MemberState::Alive | MemberState::Left => false,
        };
        self.roster.records().iter().filter(|(other, known)| *other != peer && lost(known.state(), known.gone)).count()
    }

    /// Others may be members than before. Who may not is nobody here from now on, and nothing is passed on about it.
    pub fn on_admission_changed(&mut self, now: Instant) {
        self.note_time(now);
        let known = self.roster.records().values().map(|record| record.node);
        let refused: Vec<Node> = known.filter(|node| !self.keys.admits(&node.peer)).collect();
        for node in refused {
            self.shut_out(now, node);
        }
        let keys = &self.keys;
        self.seeds.retain(|peer, _| keys.admits(peer));
    }

    fn shut_out(&mut self, now: Instant, node: Node) {
        let peer = node.peer;
        let Some(record) = self.roster.remove(&peer) else { return };
        let _ = self.swim.learn(node, record.number, State::Down);
        self.forget_all_about(now, node);
        if record.state().is_active() {
            self.emit(MembershipEvent::ShutOut { peer });
        }
    }

    /// A member that never was heard has made room for one that was.
    pub(super) fn on_evicted(&mut self, now: Instant, evicted: &Record) {
        let node = evicted.node;
        let _ = self.swim.learn(node, evicted.number, State::Down);
        self.forget_all_about(now, node);
        self.emit(MembershipEvent::Evicted { peer: node.peer });
    }

    /// Somebody has no record any more: nothing is told about it or awaited from it.
    fn forget_all_about(&mut self, now: Instant, node: Node) {
        let peer = node.peer;
        self.swim.forget(node);
        self.news.drop_subject(peer);
        // That it does not answer any more is no reason for doubt.
        self.probe.take_if(|probe| probe.peer == peer);
        self.invited.retain(|asked| *asked != peer);
        if self.sync_with == Some(peer) {
            self.end_sync(now);
        }
    }

    /// A member said good-bye.
    pub(super) fn on_left(&mut self, now: Instant, node: Node) {
        let peer = node.peer;
        let Some(record) = self.roster.get_mut(&peer) else { return };
        record.node = node;
        record.gone = Some(Gone { since: now, life: node.life, failure: None });
        let number = record.number;
        self.roster.set_state(&peer, MemberState::Left);
        self.news.drop_accusations(peer);
        let _ = self.swim.learn(node, number, State::Down);
        self.emit(MembershipEvent::Left { peer, incarnation: Incarnation(node.life) });
    }

    /// A member is there that was not.
    pub(super) fn on_up(&mut self, now: Instant, node: Node) {
        let peer = node.peer;
        let Some(record) = self.roster.get_mut(&peer) else { return };
        record.node = node;
        let gone = record.gone.take();
        self.roster.set_state(&peer, MemberState::Alive);
        self.seeds.remove(&peer);
        let incarnation = Incarnation(node.life);
        self.emit(match gone {
            None => MembershipEvent::Joined { peer, incarnation },
            Some(gone) => {
                let restarted = gone.life != node.life;
                let away = now.saturating_duration_since(gone.since);
                let failure = gone.failure.map(|failure| revise(failure, restarted));
                MembershipEvent::Returned { peer, incarnation, restarted, away, failure }
            }
        });
        self.set_gossip(now);
        self.sync_soon(now);
    }

    /// A member has a new name.
    pub(super) fn on_renamed(&mut self, now: Instant, from: Node, to: Node) {
        let peer = to.peer;
        let Some(record) = self.roster.get_mut(&peer) else { return };
        record.node = to;
        let state = record.state();
        if !state.is_active() {
            // If it is there now, that is said next.
            return;
        }
        let since = record.suspicion.as_ref().map(|suspicion| suspicion.since);
        self.roster.set_state(&peer, MemberState::Alive);
        self.news.drop_accusations(peer);
        if from.life != to.life {
            let failure = Some(Failure { kind: FailureKind::CrashFailure, confidence: Confidence::CERTAIN });
            let incarnation = Incarnation(to.life);
            self.emit(MembershipEvent::Returned { peer, incarnation, restarted: true, away: Duration::ZERO, failure });
        } else if let Some(since) = since {
            self.emit(MembershipEvent::Cleared { peer, suspected: now.saturating_duration_since(since) });
        }
    }

    /// This node is accused: from now on it has a greater number, and says so to the accuser and to him who told it first.
    /// `doubted`: it is a reason to doubt oneself as well.
    pub(super) fn answer_charge(&mut self, now: Instant, from: PeerId, accuser: PeerId, doubted: bool) {
        if doubted {
            self.doubt.on_accused();
        }
        let wants = self.raise_number(now);
        for peer in std::iter::once(from).chain((accuser != from).then_some(accuser)) {
            if let Some(node) = self.roster.get(&peer).map(|known| known.node) {
                self.introduce(now, node);
            }
        }
        self.process(now, wants, Some(from));
    }

    /// This node was not running for so long that it will have been accused. To answer that at once spares others the wait, and itself the case
    /// that it is stopped again before the accusation comes.
    pub(super) fn answer_beforehand(&mut self, now: Instant) {
        if self.roster.active() > 0 {
            let wants = self.raise_number(now);
            self.process(now, wants, None);
        }
    }

    /// From now on this node has a greater number. The protocol tells a few members at once; a packet to each of them carries the statement.
    fn raise_number(&mut self, now: Instant) -> Vec<Want> {
        let wants = self.swim.learn(self.node, self.number, State::Suspect);
        if self.swim.node() == &self.node {
            self.number = self.number.saturating_add(1);
            self.raised = Some(now);
            self.own = self.sign(Claim::Alive { node: self.node, number: self.number });
            self.tell(now, self.own);
        }
        wants
    }

    /// Whether this node believes somebody that it was excluded: a member, and not again and again.
    ///
    /// A renewal ends the question that is open without an answer. So there is none before one was brought to its end since the last: however many
    /// say so, every other question is. And nobody honest says it twice within the shortest time that it takes to exclude somebody: it has to
    /// hear the new name first, and to suspect that.
    pub(super) fn may_renew(&mut self, now: Instant, by: PeerId) -> bool {
        if self.roster.get(&by).is_none_or(|known| known.state() == MemberState::Left) {
            return false;
        }
        let (interval, longest) = (self.config.probe_interval, self.limits().max);
        let asks = self.roster.active() > 0;
        let rested = self.renewed.is_none_or(|last| {
            let since = now.saturating_duration_since(last);
            // The longest wait is for the case that no question comes to its end.
            since >= interval && (self.concluded || !asks || since >= longest)
        });
        let shortest = interval * self.config.suspicion_min;
        let honest = rested && self.allowance(now, &by).is_some_and(|allowance| allowance.renews(now, shortest));
        if rested && !honest {
            self.on_offence(now, by, Offence::RenewalFlood);
        }
        honest
    }

    /// This node was excluded and has a new name.
    pub(super) fn on_renewed(&mut self, now: Instant, node: Node, by: Option<PeerId>) {
        (self.node, self.number, self.renewed) = (node, 0, Some(now));
        (self.probe, self.concluded) = (None, false);
        let next_question = self.concludes_at();
        self.own = self.sign(Claim::Alive { node, number: 0 });
        self.tell(now, self.own);
        if let Some(by) = by {
            if let Some(known) = self.roster.get(&by).map(|known| known.node) {
                self.announce(now, known);
            }
            self.emit(MembershipEvent::Excluded { by });
        }
        let wants = self.swim.go_on();
        self.process(now, wants, None);
        // The next question comes when it would have come: nobody puts it off by what it says of this node.
        if let Some(at) = next_question {
            self.conclude_by(at);
        }
    }
}
