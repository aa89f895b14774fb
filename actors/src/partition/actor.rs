//! The actor of a group: datagrams, time, the medium and the application on one side, [`Group`] on the other.
//!
//! Permanent child of the supervisor `group`, which is given up when it fails for good: sessions do without it. A restart goes on from what is durable, as a
//! restart of the process does. Whoever waits for an answer then is told that it is unknown.

use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use actix::{
    Actor, ActorFutureExt as _, AsyncContext as _, Handler, Message, MessageResult, Recipient, ResponseFuture,
    WrapFuture as _,
};
use bowline_messages::event::{Event, EventKind};
use bowline_messages::membership::MembershipEvent;
use bowline_messages::network::{Concern, GroupPacket};
use bowline_messages::partition::{PartitionMetrics, PauseApplication, PauseReason, ResumeApplication, Token};
use bowline_messages::supervision::ExitReason;
use bowline_messages::{Incarnation, MessageClass, PeerId};
use bytes::Bytes;
use rand::Rng as _;
use tokio::sync::oneshot;

use super::group::{CommandId, Group, GroupConfig, GroupOutput, GroupReport, Participant, StateMachine, SubmitError};
use super::medium::Medium;
use super::metrics;
use super::state::RollbackReason;
use super::strategy::Order;
use super::wire::{SIGNATURE_BYTES, Signer};
use crate::clock;
use crate::node::Carrier;
use crate::pump::{self, Pump, Pumped};
use crate::session::handshake::{Entropy, HandshakeError};
use crate::session::identity::{Identity, SigningContext};
use crate::supervision::Context;

/// By how much a clock that goes on while the machine sleeps may run ahead of the one that does not: more is a sleep.
const NODDED_OFF: Duration = Duration::from_millis(500);
/// Restarts of the actor in one life of the process that have numbers of their own.
const LIVES: u64 = 1 << 16;

/// Makes the application's state as it is at the very beginning.
pub type MakeMachine = Rc<dyn Fn() -> Box<dyn StateMachine>>;

/// What the group keeps together, and who is told when it may act.
#[derive(Clone)]
pub struct GroupApplication {
    /// Makes its state.
    pub machine: MakeMachine,
    /// Is told to take on nothing new, and answers when it has finished what it began. Without it, it has at once.
    pub pause: Option<Recipient<PauseApplication>>,
    /// Is told that it may go on, and answers whether it does. Without it, it does.
    pub resume: Option<Recipient<ResumeApplication>>,
}

/// What the actor is made from, again after every restart.
#[derive(Clone)]
pub struct GroupParts {
    /// This node.
    pub identity: Arc<Identity>,
    /// The life of this process.
    pub incarnation: Incarnation,
    /// Who takes part at the very beginning, this node included.
    pub participants: Vec<PeerId>,
    /// Times and bounds.
    pub config: GroupConfig,
    /// The application.
    pub application: GroupApplication,
    /// What it must not forget.
    pub medium: Arc<Mutex<Medium>>,
    /// Brings packets to those with whom there is a session.
    pub carrier: Rc<Carrier>,
    /// Sees to a session with a participant: one that is there already is left alone.
    pub seek: Rc<dyn Fn(PeerId)>,
    /// Hears of what happens.
    pub events: Rc<dyn Fn(EventKind)>,
    /// A clock that goes on while the machine sleeps.
    pub awake: Option<fn() -> Duration>,
    /// Where the number of a life comes from, and all jitter. No two lives may have the same: counts and keys come back with a copy of the disk.
    pub entropy: Rc<dyn Fn() -> Result<Entropy, HandshakeError>>,
}

/// A command for the group: it is carried out on every participant once, in the same order. The answer comes when that is certain.
#[derive(Debug, Clone, PartialEq, Eq, Message)]
#[rtype(result = "Result<Bytes, CommandError>")]
pub struct Submit(pub Bytes);

/// Asks how this node's part in the group stands; nothing when it could not begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Message)]
#[rtype(result = "Option<GroupReport>")]
pub struct GroupQuery;

/// Forgets the proofs against a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Message)]
#[rtype(result = "()")]
pub struct Pardon(pub PeerId);

/// Why there is no answer to a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CommandError {
    /// It was not accepted: nothing happened.
    #[error(transparent)]
    NotAccepted(#[from] SubmitError),
    /// It was accepted, and it cannot be told whether it was carried out: look at the state.
    #[error("it is not known whether the command was carried out")]
    Unknown,
    /// This node could not begin its part in the group. Nothing happened.
    #[error("this node has no part in a group")]
    Gone,
}

/// What the application said.
#[derive(Debug, Clone, Copy)]
enum Said {
    Paused,
    Resumed(bool),
}

/// The actor of a group.
pub struct GroupActor {
    parts: GroupParts,
    group: Option<Group<Box<dyn StateMachine>>>,
    pump: Pump,
    asked: BTreeMap<CommandId, oneshot::Sender<Result<Bytes, CommandError>>>,
    /// When it is looked again whether there are sessions with all participants.
    seek_at: Instant,
    /// What metrics were told.
    told: PartitionMetrics,
    /// Of the medium's lives, this one.
    life: u64,
    /// Whether the medium never blocks. Nothing but what is written asks for the medium itself: a thread that writes may have it for as long as a disk takes.
    in_memory: bool,
    /// Proofs that were given to the medium in this life.
    proofs: u64,
    /// Pauses and resumptions so far: only the answer to the last one counts.
    orders: u64,
    /// Both clocks, when they were looked at last.
    looked: Option<(Instant, Duration)>,
    /// Whether the last thing that the application was told is that nobody answers for it.
    told_to_wait: bool,
}

/// Signs and checks statements about partitions.
struct IdentitySigner(Arc<Identity>);

impl fmt::Debug for IdentitySigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("IdentitySigner").field(&self.0.peer_id()).finish()
    }
}

impl Signer for IdentitySigner {
    fn sign(&self, bytes: &[u8]) -> [u8; SIGNATURE_BYTES] {
        self.0.sign(SigningContext::Partition, bytes)
    }

    fn verify(&self, peer: &PeerId, bytes: &[u8], signature: &[u8; SIGNATURE_BYTES]) -> bool {
        Identity::verify(peer, SigningContext::Partition, bytes, signature).is_ok()
    }
}

impl GroupActor {
    /// An actor that is yet to begin.
    pub fn new(parts: GroupParts) -> Self {
        let (asked, told) = (BTreeMap::new(), PartitionMetrics::default());
        let (life, proofs, orders, looked) = (0, 0, 0, None);
        let (pump, seek_at) = (Pump::new(), clock::now());
        let (group, in_memory, told_to_wait) = (None, false, false);
        Self { parts, group, pump, asked, seek_at, told, life, in_memory, proofs, orders, looked, told_to_wait }
    }

    /// Tells the application that it may do nothing: there is no group behind it, or one that only begins and knows nothing of what the one before allowed.
    fn tell_to_wait(&mut self) {
        if let Some(to) = self.parts.application.pause.as_ref().filter(|_| !self.told_to_wait) {
            to.do_send(PauseApplication { reason: PauseReason::Starting, grace: Duration::ZERO });
        }
        self.told_to_wait = true;
    }

    fn begin(&mut self, restarts: u32) -> Result<(), String> {
        self.tell_to_wait();
        let parts = &self.parts;
        let seed = (parts.entropy)().map_err(|error| error.to_string())?.into_rng().next_u64();
        let life = parts.incarnation.0.saturating_mul(LIVES).saturating_add(u64::from(restarts) % LIVES);
        let me = parts.identity.peer_id();
        let signer = Rc::new(IdentitySigner(Arc::clone(&parts.identity)));
        let mut medium = parts.medium.lock().unwrap_or_else(PoisonError::into_inner);
        let begun = medium.begin();
        self.in_memory = medium.is_memory();
        drop(medium);
        let (of_medium, durable) = begun.map_err(|error| error.to_string())?;
        self.life = of_medium;
        let group = Group::new(
            clock::now(),
            Participant { me, life, seed },
            parts.participants.iter().copied(),
            parts.config.clone(),
            &durable,
            signer,
            (parts.application.machine)(),
        );
        self.group = Some(group.map_err(|error| error.to_string())?);
        Ok(())
    }

    /// Lets the group work, and carries out what it wants.
    fn work(&mut self, ctx: &mut Context<Self>, work: impl FnOnce(&mut Group<Box<dyn StateMachine>>, Instant)) {
        let now = clock::now();
        let slept = self.has_slept(now);
        let Some(group) = &mut self.group else { return };
        if slept {
            group.doubt_clock(now);
        }
        work(group, now);
        while let Some(output) = self.group.as_mut().and_then(|group| group.poll_output(now)) {
            self.carry_out(ctx, output);
        }
        let deadline = self.group.as_ref().map(|group| group.deadline(now).min(self.seek_at));
        pump::arm(self, ctx, deadline);
    }

    /// Whether the machine was asleep since this was asked last.
    fn has_slept(&mut self, now: Instant) -> bool {
        let Some(awake) = self.parts.awake.map(|awake| awake()) else { return false };
        let before = self.looked.replace((now, awake));
        before.is_some_and(|(then, was)| awake.saturating_sub(was) > now.saturating_duration_since(then) + NODDED_OFF)
    }

    fn carry_out(&mut self, ctx: &mut Context<Self>, output: GroupOutput) {
        let life = self.life;
        match output {
            GroupOutput::Write(records) => self.write(ctx, move |medium| medium.write(life, records), true),
            GroupOutput::WriteEvidence(proofs) => {
                self.proofs += 1;
                let number = self.proofs;
                self.write(ctx, move |medium| medium.write_evidence(life, number, proofs), false);
            }
            GroupOutput::Send { to, concern, payload } => self.send(&to, concern, payload),
            GroupOutput::Emit(what) => (self.parts.events)(EventKind::Partition { what }),
            GroupOutput::Pause { reason, grace } => self.pause(ctx, reason, grace),
            GroupOutput::Resume { token } => self.resume(ctx, token),
            GroupOutput::Order(Order::Reconnect) => self.seek(),
            GroupOutput::Answer { id, answer } => self.answer(&id, Ok(answer)),
            GroupOutput::Lost { id } => self.answer(&id, Err(CommandError::Unknown)),
            GroupOutput::RolledBack(RollbackReason::InDoubt(why)) => {
                self.fail(ctx, format!("the state is in doubt: {why}"));
            }
            GroupOutput::SnapshotRefused(why) => tracing::warn!(%why, "the log cannot be made shorter"),
            GroupOutput::RolledBack(reason) => tracing::warn!(%reason, "a chosen state was not kept"),
            GroupOutput::Order(_)
            | GroupOutput::Committed { .. }
            | GroupOutput::Leader { .. }
            | GroupOutput::Adopted
            | GroupOutput::Unresolved => {}
        }
    }

    fn send(&self, to: &PeerId, concern: Concern, payload: Bytes) {
        let class = match concern {
            // A lease hangs on it.
            Concern::Partition => MessageClass::Critical,
            Concern::Log | Concern::Command => MessageClass::Realtime,
            Concern::State | Concern::LinkState | Concern::Healing | Concern::Membership | Concern::Mesh => {
                MessageClass::Background
            }
        };
        // What is lost is said again, or not worth saying any more.
        let _ = self.parts.carrier.send(to, concern, class, payload, self.parts.config.partition.answer);
    }

    /// Writes on a thread that may block. With memory there is nothing to wait for.
    fn write(
        &mut self,
        ctx: &mut Context<Self>,
        write: impl FnOnce(&mut Medium) -> Result<(), super::medium::MediumError> + Send + 'static,
        then_goes_on: bool,
    ) {
        let medium = Arc::clone(&self.parts.medium);
        let work = move || write(&mut medium.lock().unwrap_or_else(PoisonError::into_inner));
        if self.in_memory {
            let written = work();
            match (written, &mut self.group) {
                (Ok(()), Some(group)) if then_goes_on => group.on_written(),
                (Ok(()), _) => {}
                (Err(error), _) => self.fail(ctx, error.to_string()),
            }
            return;
        }
        let written = async move { tokio::task::spawn_blocking(work).await };
        ctx.spawn(written.into_actor(self).map(move |written, actor: &mut Self, ctx| match written {
            Ok(Ok(())) if then_goes_on => actor.work(ctx, |group, _| group.on_written()),
            Ok(Ok(())) => {}
            // Whoever cannot write keeps no promise: it begins anew from what is there, or is given up.
            Ok(Err(error)) => actor.fail(ctx, error.to_string()),
            Err(error) => actor.fail(ctx, error.to_string()),
        }));
    }

    fn pause(&mut self, ctx: &mut Context<Self>, reason: PauseReason, grace: Duration) {
        let asked = self.parts.application.pause.as_ref().map(|to| to.send(PauseApplication { reason, grace }));
        let answer = async move {
            if let Some(asked) = asked {
                // An application that is gone does nothing.
                let _ = asked.await;
            }
            Said::Paused
        };
        self.await_answer(ctx, answer);
    }

    fn resume(&mut self, ctx: &mut Context<Self>, token: Token) {
        self.told_to_wait = false;
        let asked = self.parts.application.resume.as_ref().map(|to| to.send(ResumeApplication { token }));
        let answer = async move {
            match asked {
                Some(asked) => Said::Resumed(asked.await.unwrap_or(false)),
                None => Said::Resumed(true),
            }
        };
        self.await_answer(ctx, answer);
    }

    /// An application that is slow may answer what it was told before it hears the next thing: that is no answer to the next one.
    fn await_answer(&mut self, ctx: &mut Context<Self>, answer: impl Future<Output = Said> + 'static) {
        self.orders += 1;
        let order = self.orders;
        ctx.spawn(answer.into_actor(self).map(move |said, actor: &mut Self, ctx| {
            if actor.orders == order {
                actor.work(ctx, |group, now| match said {
                    Said::Paused => group.on_paused(now),
                    Said::Resumed(goes_on) => group.on_resumed(now, goes_on),
                });
            }
        }));
    }

    fn answer(&mut self, id: &CommandId, answer: Result<Bytes, CommandError>) {
        if let Some(asked) = self.asked.remove(id) {
            // Who asked may have gone.
            let _ = asked.send(answer);
        }
    }

    /// Sees to sessions with all participants.
    fn seek(&self) {
        let Some(group) = &self.group else { return };
        let me = self.parts.identity.peer_id();
        group.participants().iter().filter(|peer| **peer != me).for_each(|peer| (self.parts.seek)(*peer));
    }

    /// This life is over: nothing is answered any more, and the supervisor decides whether there is another one.
    fn fail(&mut self, ctx: &mut Context<Self>, message: String) {
        tracing::error!(%message, "the group's state cannot be kept");
        self.group = None;
        self.tell_to_wait();
        ctx.stop_with(ExitReason::Failed { message });
    }

    fn count(&mut self, now: Instant) {
        let Some(group) = &self.group else { return };
        let report = group.report(now);
        metrics::tell(&report, &self.told);
        self.told = report.partition.metrics;
    }
}

impl Drop for GroupActor {
    /// However it ends, by a panic or since it is given up, too: the application does not go on under what it was told before, nor do figures show it.
    fn drop(&mut self) {
        self.tell_to_wait();
        metrics::tell_gone();
    }
}

impl fmt::Debug for GroupActor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GroupActor").field("group", &self.group).finish_non_exhaustive()
    }
}

impl Actor for GroupActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        match self.begin(ctx.restarts()) {
            Ok(()) => self.work(ctx, |_, _| {}),
            Err(message) => self.fail(ctx, message),
        }
    }
}

impl Pumped for GroupActor {
    fn pump(&mut self) -> &mut Pump {
        &mut self.pump
    }

    fn on_deadline(&mut self, ctx: &mut Self::Context) {
        let now = clock::now();
        if self.seek_at <= now {
            self.seek_at = now + self.parts.config.partition.stable;
            self.seek();
            self.count(now);
        }
        self.work(ctx, |group, now| group.on_timeout(now));
    }
}

impl Handler<GroupPacket> for GroupActor {
    type Result = ();

    fn handle(&mut self, GroupPacket { from, concern, payload }: GroupPacket, ctx: &mut Self::Context) {
        self.work(ctx, |group, now| {
            if let Err(why) = group.on_packet(now, from, concern, &payload) {
                tracing::debug!(peer = %from, concern = concern.as_str(), %why, "a packet was refused");
            }
        });
    }
}

impl Handler<Submit> for GroupActor {
    type Result = ResponseFuture<Result<Bytes, CommandError>>;

    fn handle(&mut self, Submit(content): Submit, ctx: &mut Self::Context) -> Self::Result {
        let (answer, answered) = oneshot::channel();
        let Some(group) = &mut self.group else { return Box::pin(async { Err(CommandError::Gone) }) };
        match group.submit(clock::now(), content) {
            Ok(id) => {
                self.asked.insert(id, answer);
                self.work(ctx, |_, _| {});
                Box::pin(async move { answered.await.unwrap_or(Err(CommandError::Unknown)) })
            }
            Err(error) => Box::pin(async move { Err(error.into()) }),
        }
    }
}

impl Handler<GroupQuery> for GroupActor {
    type Result = MessageResult<GroupQuery>;

    fn handle(&mut self, _: GroupQuery, _: &mut Self::Context) -> Self::Result {
        let now = clock::now();
        MessageResult(self.group.as_ref().map(|group| group.report(now)))
    }
}

impl Handler<Pardon> for GroupActor {
    type Result = ();

    fn handle(&mut self, Pardon(peer): Pardon, ctx: &mut Self::Context) {
        self.work(ctx, |group, now| group.pardon(now, &peer));
    }
}

impl Handler<Event> for GroupActor {
    type Result = ();

    /// The membership is sure that somebody is gone.
    fn handle(&mut self, event: Event, ctx: &mut Self::Context) {
        if let EventKind::Membership { what: MembershipEvent::Down { peer, failure, .. } } = event.kind {
            self.work(ctx, |group, now| group.on_lost(now, peer, failure.kind));
        }
    }
}
