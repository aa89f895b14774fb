//! All of a node's part in partitions, put together.
//!
//! | what comes | who looks at it |
//! |---|---|
//! | packets | [`super::wire`]: signed by their origin? [`super::evidence`]: does it contradict itself? |
//! | whom others hear | [`super::views`] |
//! | silence | [`super::detector`]: suspected, split, healed |
//! | a split, a failure | [`super::strategy`]: what is done, how often, what next |
//! | grants | [`super::lease`]: alone decides whether this node is active |
//! | being active again | [`super::recovery`]: states are made one before the application goes on |
//!
//! The application is told to pause as soon as this side seems to be a minority, while its lease lasts, so that it can finish what it began;
//! it says when it has. It is told to resume when the recovery has come to its last step. Whatever it answers, [`Partition::token`] is what
//! it may act under, and nothing without.

mod inbound;
mod recovering;
#[cfg(test)]
mod tests;

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bowline_messages::PeerId;
use bowline_messages::config::PartitionConfig;
use bowline_messages::membership::FailureKind;
use bowline_messages::partition::{
    PartitionEvent, PartitionMetrics, PartitionReport, PauseReason, RecoveryStep, Side, Standing, Strategy, Term, Token,
};
use bytes::Bytes;

use super::detector::{Detector, DetectorOutput};
use super::evidence::{Evidence, EvidenceSnapshot, Proof};
use super::lease::{Configuration, Contest, ContestOutput, FenceError, LeaseTiming, Memory, Pacing, VersionError};
use super::metrics;
use super::recovery::Recovery;
use super::strategy::{self, Escalation, EscalationOutput, Order, Patience};
use super::views::{Number, View, Views};
use super::wire::{Signed, Signer, Statement};

/// Views of others that are passed on with each own one, while the group seems to be split. More spread news faster and cost more.
const RELAYED: usize = 8;

/// Proofs told to one who lacks them, with each own view. What is lacking then is told with the next one.
const PROOFS_TOLD: usize = 4;
/// How often one is told who granted this node a term that it asks for, or holds, too: packets may get lost.
const GRANTS_TOLD: u32 = 4;

/// What the machine wants done, in order.
#[derive(Debug, Clone, PartialEq)]
pub enum PartitionOutput {
    /// Write this down before anything after it is sent.
    PersistLease(Memory),
    /// Write this down, soon.
    PersistEvidence(EvidenceSnapshot),
    /// Send this to a participant; it may be lost.
    Send {
        /// To whom.
        to: PeerId,
        /// What.
        payload: Bytes,
    },
    /// Tell everybody who listens.
    Emit(PartitionEvent),
    /// The application is to take on nothing new, and to say [`Partition::on_paused`] when it has finished what it began.
    Pause {
        /// Why.
        reason: PauseReason,
        /// How long it may still act; zero when it may not.
        grace: Duration,
    },
    /// The application may go on, and says [`Partition::on_resumed`].
    Resume {
        /// Under this lease.
        token: Token,
    },
    /// Do what a strategy orders.
    Order(Order),
    /// Do this step of a recovery, and say [`Partition::on_step_done`] or [`Partition::on_step_failed`].
    Recover(RecoveryStep),
}

/// How the application stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Application {
    /// It was told to pause, and has not said that it did.
    Pausing(PauseReason),
    /// It does nothing.
    Paused(PauseReason),
    /// It was told to go on, and has not said that it does.
    Resuming,
    /// It is at work.
    Running,
}

/// What a node has to find again after a restart.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Remembered {
    /// The last [`PartitionOutput::PersistLease`]; none when there is no such file.
    pub lease: Option<Memory>,
    /// The last [`PartitionOutput::PersistEvidence`].
    pub evidence: EvidenceSnapshot,
}

/// One node's part in partitions.
#[derive(Debug)]
pub struct Partition {
    me: PeerId,
    config: PartitionConfig,
    signer: Rc<dyn Signer>,
    /// Of the last statement.
    number: Number,
    contest: Contest,
    detector: Detector,
    views: Views,
    evidence: Evidence,
    /// The newest view of each participant, to be passed on.
    newest: BTreeMap<PeerId, Signed>,
    /// After whom the next ones are passed on.
    relayed: Option<PeerId>,
    /// Whose view is passed on to whom, while the group is whole.
    turn: usize,
    /// Who asked for, or holds, a term that was granted to this node, too; and how often it is still told so.
    rivals: BTreeMap<PeerId, (Term, u32)>,
    /// Participants that go by another list of the same version. What they say does not count.
    others: BTreeSet<PeerId>,
    /// Participants that go by an older version, since they said so last; and how many proofs they were told, against those who are gone meanwhile.
    behind: BTreeMap<PeerId, (bool, usize)>,
    beat: Instant,
    escalation: Option<Escalation>,
    /// Where this node seems to be, while the group is split.
    side: Side,
    recovery: Option<Recovery>,
    /// When a recovery that failed is tried again.
    retry_at: Option<Instant>,
    application: Application,
    metrics: PartitionMetrics,
    outputs: Vec<PartitionOutput>,
}

impl Partition {
    /// A node that starts. `incarnation` is one that this node never had before, `seed` is random.
    #[expect(clippy::too_many_arguments, reason = "each is known to the caller alone, once, at the start")]
    pub fn new(
        me: PeerId,
        config: PartitionConfig,
        configuration: Arc<Configuration>,
        remembered: &Remembered,
        signer: Rc<dyn Signer>,
        incarnation: u64,
        seed: u64,
        now: Instant,
    ) -> Self {
        let timing = LeaseTiming { duration: config.lease, drift_ppm: config.clock_drift_ppm };
        let pacing = Pacing { renew: config.renew, answer: config.answer, spread: config.spread };
        let mut evidence = Evidence::new(config.strikes, config.evidence_max);
        evidence.restore(&*signer, &remembered.evidence);
        let detector = Detector::new(me, config.clone(), &configuration, now);
        Self {
            me,
            signer,
            number: Number { incarnation, count: 0 },
            contest: Contest::new(me, configuration, timing, pacing, remembered.lease, seed, now),
            detector,
            views: Views::new(config.view_expiry),
            evidence,
            newest: BTreeMap::new(),
            relayed: None,
            // Nodes that start together pass on different ones.
            turn: me.as_bytes().iter().fold(0, |turn: usize, byte| turn.wrapping_mul(31).wrapping_add((*byte).into())),
            rivals: BTreeMap::new(),
            others: BTreeSet::new(),
            behind: BTreeMap::new(),
            beat: now,
            escalation: None,
            side: Side::Minority,
            recovery: None,
            retry_at: None,
            application: Application::Paused(PauseReason::Starting),
            metrics: PartitionMetrics::default(),
            outputs: Vec::new(),
            config,
        }
    }

    /// The membership, or the transport, is sure that a participant is gone, and why. A single one that crashed or is too slow is sought.
    pub fn on_lost(&mut self, now: Instant, peer: PeerId, kind: FailureKind) -> Vec<PartitionOutput> {
        self.detector.on_lost(peer);
        if kind != FailureKind::NetworkPartition && self.escalation.is_none() && self.configuration().contains(&peer) {
            self.side = self.side_now(now);
            self.escalate(now, strategy::choose(kind, self.side));
        }
        self.finish(now)
    }

    /// Looks at something that was done under a lease, before it is acted upon. See [`Contest::admit`]. What names a term that is not known here is counted as
    /// refused.
    ///
    /// # Errors
    /// [`FenceError`]: it must not be acted upon.
    pub fn admit(&mut self, now: Instant, from: PeerId, token: Token) -> Result<Vec<PartitionOutput>, FenceError> {
        let admitted = self.contest.admit(now, from, token);
        if matches!(admitted, Err(FenceError::Unknown(_) | FenceError::Leap(_))) {
            self.count_refused();
        }
        let outputs = admitted?;
        self.on_contest(now, outputs);
        Ok(self.finish(now))
    }

    /// Something was committed under this term. See [`super::lease::Lease::on_fence`].
    pub fn on_fence(&mut self, fence: Term) {
        self.contest.on_fence(fence);
    }

    /// A change of the participants came into the log and is not committed yet. See [`super::lease::Lease::prepare`].
    pub const fn prepare(&mut self) {
        self.contest.prepare();
    }

    /// It was taken out of the log again.
    pub const fn keep(&mut self) {
        self.contest.keep();
    }

    /// It is committed. See [`super::lease::Lease::adopt`].
    ///
    /// # Errors
    /// [`VersionError`] for a version that is not newer.
    pub fn adopt(&mut self, now: Instant, to: Arc<Configuration>) -> Result<Vec<PartitionOutput>, VersionError> {
        let outputs = self.contest.adopt(now, Arc::clone(&to))?;
        self.detector.adopt(now, &to);
        self.views.adopt(&to);
        self.evidence.retain(|peer| to.contains(peer));
        self.newest.retain(|peer, _| to.contains(peer));
        self.rivals.retain(|peer, _| to.contains(peer));
        self.behind.retain(|peer, _| to.contains(peer));
        // They say so again.
        self.others.clear();
        self.on_contest(now, outputs);
        let gone = self.evidence.excluded().iter().all(|peer| !to.contains(peer));
        if gone && self.strategy() == Some(Strategy::ByzantineExclusion) {
            self.helped();
        }
        Ok(self.finish(now))
    }

    /// The machine was suspended, or its clock cannot be trusted for what was.
    pub fn doubt_clock(&mut self, now: Instant) -> Vec<PartitionOutput> {
        let outputs = self.contest.doubt_clock(now);
        self.on_contest(now, outputs);
        self.finish(now)
    }

    /// Does what is due.
    pub fn on_timeout(&mut self, now: Instant) -> Vec<PartitionOutput> {
        if self.contest.deadline(now) <= now {
            let outputs = self.contest.on_timeout(now);
            self.on_contest(now, outputs);
        }
        if self.beat <= now {
            self.beat = now + self.config.renew;
            self.say_view(now);
        }
        if let Some(escalation) = &mut self.escalation {
            let outputs = escalation.on_timeout(now);
            self.on_escalation(now, outputs);
        }
        self.recovery_timeout(now);
        self.finish(now)
    }

    /// When [`Partition::on_timeout`] is next due.
    pub fn deadline(&self, now: Instant) -> Instant {
        let others = [
            self.detector.deadline(now, self.configuration()),
            self.escalation.as_ref().map(Escalation::deadline),
            self.recovery.as_ref().and_then(Recovery::deadline),
            self.retry_at.filter(|at| *at > now),
        ];
        others.into_iter().flatten().fold(self.contest.deadline(now).min(self.beat), Instant::min)
    }

    /// Under which lease this node may act now. To be asked right before each action, and to go with it.
    pub fn token(&self, now: Instant) -> Option<Token> {
        self.contest.token(now).filter(|_| !self.evidence.is_excluded(&self.me))
    }

    /// The participants.
    pub fn configuration(&self) -> &Arc<Configuration> {
        self.contest.lease().configuration()
    }

    /// The proofs, for `bowline partition explain` and for pardons.
    pub const fn evidence(&self) -> &Evidence {
        &self.evidence
    }

    /// Whether the group is held to be split, and that is acted upon.
    pub const fn is_split(&self) -> bool {
        self.detector.is_split()
    }

    /// Something came that its origin did not sign.
    pub const fn count_refused(&mut self) {
        self.metrics.refused += 1;
    }

    /// Forgets the proofs against a peer: the decision of a person.
    pub fn pardon(&mut self, now: Instant, peer: &PeerId) -> Vec<PartitionOutput> {
        if self.evidence.pardon(peer) {
            self.outputs.push(PartitionOutput::PersistEvidence(self.evidence.snapshot()));
        }
        self.finish(now)
    }

    /// What this node can say of partitions.
    pub fn report(&self, now: Instant) -> PartitionReport {
        let missing = self.detector.missing(now);
        PartitionReport {
            standing: if self.token(now).is_some() { self.contest.standing(now) } else { Standing::Paused },
            term: self.contest.lease().memory().term,
            shape: self.detector.is_suspected().then(|| self.detector.shape(now, &missing, &self.views)),
            missing: missing.into_iter().collect(),
            split: self.detector.is_split(),
            strategy: self.escalation.as_ref().and_then(Escalation::current),
            recovery: self.recovery.as_ref().map(Recovery::step),
            evidence: self.evidence.counts(),
            proofs: self.evidence.report(),
            excluded: self.evidence.excluded().into_iter().collect(),
            others: self.others.iter().copied().collect(),
            metrics: self.metrics.clone(),
        }
    }

    /// Looks at how all stands after anything happened, and gives what is to be done.
    fn finish(&mut self, now: Instant) -> Vec<PartitionOutput> {
        let configuration = Arc::clone(self.configuration());
        for output in self.detector.on_timeout(now, &configuration, &self.views) {
            self.on_detector(now, output);
        }
        self.follow_side(now);
        self.steer_application(now);
        std::mem::take(&mut self.outputs)
    }

    /// More may get lost, or come back, while the group is split: then something else is to be done.
    fn follow_side(&mut self, now: Instant) {
        if self.detector.missing(now).is_empty() && self.is_seeking() {
            self.helped();
        }
        let side = self.side_now(now);
        if !self.detector.is_suspected() || side == self.side {
            return;
        }
        self.side = side;
        // Who was in the minority and sees more again is on its way back: what it has to take over is still to be taken over.
        let comes_back = side == Side::Majority && self.strategy() == Some(Strategy::SplitBrainResolution);
        if self.detector.is_split() && !comes_back {
            self.escalate(now, strategy::choose(FailureKind::NetworkPartition, side));
        }
    }

    fn on_detector(&mut self, now: Instant, output: DetectorOutput) {
        match output {
            DetectorOutput::Suspected { missing, shape } => {
                self.side = self.side_now(now);
                self.emit(PartitionEvent::Suspected { missing: missing.into_iter().collect(), shape });
            }
            DetectorOutput::Cleared { suspected } => {
                self.metrics.suspicions_cleared += 1;
                self.emit(PartitionEvent::Cleared { suspected });
            }
            DetectorOutput::Split { missing, shape, side } => {
                self.metrics.splits += 1;
                self.side = side;
                self.emit(PartitionEvent::Split { missing: missing.into_iter().collect(), shape, side });
                self.escalate(now, strategy::choose(FailureKind::NetworkPartition, side));
                self.split_again();
            }
            DetectorOutput::Healed { lasted, false_alarm } => {
                self.metrics.split_time += lasted;
                self.metrics.false_positives += u64::from(false_alarm);
                self.emit(PartitionEvent::Healed { lasted });
                // Those who went on compare states too: they have what the others lack.
                self.recover(now);
            }
        }
    }

    fn on_contest(&mut self, now: Instant, outputs: Vec<ContestOutput>) {
        for output in outputs {
            match output {
                ContestOutput::Persist(memory) => self.outputs.push(PartitionOutput::PersistLease(memory)),
                ContestOutput::Send { to, packet } => self.say(&[to], &Statement::Lease { to, packet }),
                ContestOutput::Active(token) => {
                    self.emit(PartitionEvent::Active { token });
                    if self.strategy() == Some(Strategy::MajorityRule) {
                        self.helped();
                    }
                    if matches!(self.application, Application::Paused(_) | Application::Pausing(_)) {
                        self.recover(now);
                    }
                }
                ContestOutput::Paused => self.emit(PartitionEvent::Paused { reason: PauseReason::NoLease }),
            }
        }
    }

    fn escalate(&mut self, now: Instant, strategy: Strategy) {
        let patience = Patience { attempt: self.config.attempt_timeout, attempts: self.config.attempts };
        let (escalation, output) = Escalation::start(now, patience, strategy);
        self.escalation = Some(escalation);
        self.on_escalation(now, vec![output]);
    }

    fn on_escalation(&mut self, now: Instant, outputs: Vec<EscalationOutput>) {
        for output in outputs {
            match output {
                EscalationOutput::Attempt { strategy, attempt } => {
                    metrics::attempted(&mut self.metrics, strategy);
                    self.emit(PartitionEvent::Strategy { strategy, attempt });
                    self.outputs.push(PartitionOutput::Order(strategy::order(strategy, self.side)));
                }
                EscalationOutput::Failed(_) => {}
                EscalationOutput::Exhausted => self.emit(PartitionEvent::Exhausted),
            }
        }
        // Whoever is active already has what majority rule is for: it goes on without those who are gone.
        if self.strategy() == Some(Strategy::MajorityRule) && self.contest.token(now).is_some() {
            self.helped();
        }
    }

    /// What is tried has helped.
    fn helped(&mut self) {
        if let Some((strategy, _)) = self.escalation.take().and_then(|escalation| escalation.current()) {
            metrics::succeeded(&mut self.metrics, strategy);
        }
    }

    fn strategy(&self) -> Option<Strategy> {
        self.escalation.as_ref()?.current().map(|(strategy, _)| strategy)
    }

    /// Whether those out of reach are waited for or sought, and nothing else is done.
    fn is_seeking(&self) -> bool {
        matches!(self.strategy(), Some(Strategy::WaitForHeal | Strategy::ActiveReconnection))
    }

    fn side_now(&self, now: Instant) -> Side {
        let hears = self.detector.hears(now, self.configuration());
        if self.configuration().is_quorum(&hears) { Side::Majority } else { Side::Minority }
    }

    /// Tells everybody whom this node hears, and passes on what others said: all of it while the group seems to be split, so that views come around.
    fn say_view(&mut self, now: Instant) {
        let configuration = Arc::clone(self.configuration());
        let everybody: Vec<PeerId> = configuration.participants().iter().copied().collect();
        let heard = self.detector.hears(now, &configuration);
        let split = self.detector.is_split();
        self.say(&everybody, &Statement::View(View::new(&configuration, &heard, split, &self.evidence.known())));
        self.tell_proofs(now, &everybody);
        self.tell_those_behind();
        self.tell_grants();
        if !self.detector.is_suspected() && self.views.reporters(now).next().is_none() {
            return self.pass_one_on(&everybody);
        }
        for peer in self.next_relayed() {
            if let Some(Ok(payload)) = self.newest.get(&peer).map(Signed::encode) {
                self.say(&everybody, &Statement::Relay(payload));
            }
        }
    }

    /// Whoever lacks proofs that this node has was down, or cut off, when they were made: it is told them, by and by.
    fn tell_proofs(&mut self, now: Instant, everybody: &[PeerId]) {
        let excluded = self.evidence.excluded();
        for peer in everybody.iter().filter(|peer| !excluded.contains(*peer)) {
            let Some(theirs) = self.views.proofs_of(now, peer) else { continue };
            let configuration = self.contest.lease().configuration();
            let lacked = self.evidence.lacked(theirs, |peer| configuration.contains(peer));
            let told: Vec<Proof> = lacked.into_iter().take(PROOFS_TOLD).cloned().collect();
            for proof in told {
                self.say(&[*peer], &Statement::Proof(proof));
            }
        }
    }

    /// Whoever was away while somebody was taken out has to have the proofs itself before it follows. What it says by its own version tells nothing of which it
    /// has, so it is told all, one after another, as long as it is behind.
    fn tell_those_behind(&mut self) {
        let configuration = Arc::clone(self.configuration());
        let gone = self.evidence.excluded().into_iter().filter(|peer| !configuration.contains(peer));
        let strikes = usize::try_from(self.config.strikes).unwrap_or(usize::MAX);
        let proofs: Vec<Proof> =
            gone.flat_map(|peer| self.evidence.against(&peer).take(strikes).cloned().collect::<Vec<_>>()).collect();
        let due: Vec<(PeerId, usize)> =
            self.behind.iter().filter(|(_, (due, _))| *due).map(|(peer, (_, told))| (*peer, *told)).collect();
        for (peer, told) in due {
            let count = proofs.len().min(PROOFS_TOLD);
            for proof in proofs.iter().cycle().skip(told).take(count) {
                self.say(&[peer], &Statement::Proof(proof.clone()));
            }
            self.behind.insert(peer, (false, (told + count) % proofs.len().max(1)));
        }
    }

    /// Notes by which list somebody goes. Of another version nothing can be told.
    fn note_list(&mut self, origin: PeerId, version: u64, list: u64) {
        let configuration = self.contest.lease().configuration();
        match version.cmp(&configuration.version()) {
            Ordering::Less => self.behind.entry(origin).or_default().0 = true,
            Ordering::Equal if list == configuration.list() => {
                self.behind.remove(&origin);
                self.others.remove(&origin);
            }
            Ordering::Equal => _ = self.others.insert(origin),
            Ordering::Greater => {}
        }
    }

    /// Whether a participant goes by another list of participants.
    pub fn goes_by_another_list(&self, peer: &PeerId) -> bool {
        self.others.contains(peer)
    }

    /// Somebody asks for a term, or holds it, that others granted to this node. A grant goes to one candidate only, so whoever granted it to both is found
    /// out when one candidate sees the grants of the other.
    fn on_rival(&mut self, peer: PeerId, term: Term) {
        let known = self.rivals.get(&peer).is_some_and(|(known, _)| *known == term);
        if !known && self.evidence.grants_to(self.me, term).next().is_some() {
            self.rivals.insert(peer, (term, GRANTS_TOLD));
        }
    }

    fn tell_grants(&mut self) {
        let due = self.rivals.iter_mut().filter(|(_, (_, left))| *left > 0);
        let due = due.map(|(peer, (term, left))| {
            *left -= 1;
            (*peer, *term)
        });
        for (peer, term) in due.collect::<Vec<_>>() {
            let grants: Vec<Signed> = self.evidence.grants_to(self.me, term).cloned().collect();
            for payload in grants.iter().filter_map(|grant| grant.encode().ok()) {
                self.say(&[peer], &Statement::Relay(payload));
            }
        }
    }

    /// While the group is whole, one view goes to one other participant each time, in turn, however large the group: whoever says one thing to one and another
    /// to another is found out.
    fn pass_one_on(&mut self, everybody: &[PeerId]) {
        self.turn = self.turn.wrapping_add(1);
        let (count, newest) = (everybody.len().max(1), self.newest.len().max(1));
        let Some(to) = everybody.get(self.turn % count) else { return };
        let passed = self.newest.iter().nth(self.turn / count % newest).filter(|(origin, _)| *origin != to);
        if let Some(Ok(payload)) = passed.map(|(_, signed)| signed.encode()) {
            self.say(&[*to], &Statement::Relay(payload));
        }
    }

    /// Whose views are passed on now: in turn.
    fn next_relayed(&mut self) -> Vec<PeerId> {
        let after = self.newest.keys().filter(|peer| self.relayed.is_none_or(|last| **peer > last));
        let before = self.newest.keys().filter(|peer| self.relayed.is_some_and(|last| **peer <= last));
        let next: Vec<PeerId> = after.chain(before).take(RELAYED).copied().collect();
        self.relayed = next.last().copied();
        next
    }

    /// Makes a statement to these, but not to this node itself.
    fn say(&mut self, to: &[PeerId], statement: &Statement) {
        self.number.count += 1;
        let signed = Signed::new(&*self.signer, self.me, self.number, statement);
        // Nothing that this node says is too long: views and grants are short, and of statements in proofs any two fit into a payload.
        let Ok(payload) = signed.and_then(|signed| signed.encode()) else { return };
        let payload = Bytes::from(payload);
        for peer in to.iter().filter(|peer| **peer != self.me) {
            self.outputs.push(PartitionOutput::Send { to: *peer, payload: payload.clone() });
        }
    }

    fn emit(&mut self, event: PartitionEvent) {
        self.outputs.push(PartitionOutput::Emit(event));
    }
}
