//! The actor of migrations: streams, time and the application's answers on one side, the machine on the other.
//!
//! Permanent child of the supervisor `migration`, which is given up when it fails for good: whatever happens here ends no session. A restart keeps
//! what [`Kept`] holds: the machine with the state under way, what is registered, and who waits for an outcome. Its streams are lost and
//! opened again; what the application was doing is done again, or rolled back.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;

use actix::{
    Actor, ActorFutureExt, Addr, AsyncContext, Handler, Message, MessageResult, Recipient, ResponseFuture, SpawnHandle,
    WrapFuture,
};
use bowline_messages::config::MigrationConfig;
use bowline_messages::event::EventKind;
use bowline_messages::migration::{MigrationId, RollbackReason};
use bowline_messages::{Incarnation, PeerId};
use futures_util::FutureExt;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{Notify, oneshot};

use super::machine::{Key, Migrations, Next, Output, StreamId};
use super::receiver::PIECE_BYTES_MAX;
use super::wire::{Frame, FrameBuffer, FrameError, LABEL, NAME_BYTES_MAX, frame_bytes_max};
use super::{Migratable, Migrated, Migration, MigrationError, Registered, Work};
use crate::clock;
use crate::node::FindPeer;
use crate::pump::{self, Pump, Pumped};
use crate::session::stream::{IncomingStream, SessionStream};
use crate::supervision::Context;

/// Bytes that are read from a stream at once.
const READ_BYTES: usize = 16 * 1024;
/// What the application's error says when it panicked.
const PANICKED: &str = "the application panicked";

/// What outlives the actor.
pub struct Kept {
    machine: RefCell<Migrations>,
    registered: RefCell<Registered>,
    waiting: RefCell<BTreeMap<Key, oneshot::Sender<Result<Migrated, RollbackReason>>>>,
    /// Migrations and streams are numbered; no two lives of the actor give the same number.
    numbers: Cell<u64>,
}

impl Kept {
    /// Nothing registered, nothing under way.
    pub fn new(config: &MigrationConfig) -> Self {
        Self {
            machine: RefCell::new(Migrations::new(config.clone())),
            registered: RefCell::default(),
            waiting: RefCell::default(),
            numbers: Cell::new(0),
        }
    }

    /// Makes a state movable under a name; what was registered under it before is replaced.
    pub fn register(&self, name: String, state: Rc<dyn Migratable>) {
        self.registered.borrow_mut().insert(name, state);
    }

    fn find(&self, name: &str) -> Option<Rc<dyn Migratable>> {
        self.registered.borrow().get(name).cloned()
    }

    fn number(&self) -> u64 {
        self.numbers.set(self.numbers.get() + 1);
        self.numbers.get()
    }
}

/// What the actor is made from, again after every restart.
#[derive(Clone)]
pub struct MigrationParts {
    /// What outlives it.
    pub kept: Rc<Kept>,
    /// The life of this process, so that no two lives number a migration alike.
    pub incarnation: Incarnation,
    /// Finds the session with a peer.
    pub sessions: Recipient<FindPeer>,
    /// Is told what happened.
    pub events: Rc<dyn Fn(EventKind)>,
}

/// Moves a registered state to a peer. The answer comes when it is over.
#[derive(Debug, Clone, PartialEq, Eq, Message)]
#[rtype(result = "Result<Migrated, MigrationError>")]
pub struct Migrate {
    /// To whom.
    pub peer: PeerId,
    /// The name of the state.
    pub name: String,
}

/// Calls the move of a state off. The answer says whether that was possible: not once the peer was told to take it over.
#[derive(Debug, Clone, PartialEq, Eq, Message)]
#[rtype(result = "bool")]
pub struct AbortMigration {
    /// The name of the state.
    pub name: String,
    /// Why, for the peer to read.
    pub why: String,
}

/// A frame came on a stream. The answer says whether to read on.
#[derive(Debug, Message)]
#[rtype(result = "bool")]
struct FrameCame(StreamId, Result<Frame, FrameError>);

/// What is to be written next on a stream?
#[derive(Debug, Message)]
#[rtype(result = "Next")]
struct NextFrame(StreamId);

/// The actor of migrations.
pub struct MigrationActor {
    parts: MigrationParts,
    /// Wakes the writer of a stream.
    writers: BTreeMap<StreamId, Rc<Notify>>,
    /// What the application is doing.
    at_work: BTreeMap<Key, SpawnHandle>,
    pump: Pump,
}

impl MigrationActor {
    /// An actor that takes up what an earlier life left.
    pub fn new(parts: MigrationParts) -> Self {
        Self { parts, writers: BTreeMap::new(), at_work: BTreeMap::new(), pump: Pump::new() }
    }

    /// Lets the machine work and carries out what it wants.
    fn with_machine<R>(&mut self, ctx: &mut Context<Self>, work: impl FnOnce(&mut Migrations) -> R) -> R {
        let kept = Rc::clone(&self.parts.kept);
        let result = work(&mut kept.machine.borrow_mut());
        loop {
            // Not held while it is carried out: the application may ask for something meanwhile.
            let output = kept.machine.borrow_mut().poll_output();
            let Some(output) = output else { break };
            self.carry_out(output, ctx);
        }
        let deadline = kept.machine.borrow().deadline();
        pump::arm(self, ctx, deadline);
        result
    }

    fn carry_out(&mut self, output: Output, ctx: &mut Context<Self>) {
        match output {
            Output::Connect(key) => self.connect(key, ctx),
            Output::Capture(about) => {
                let work = self.ask(&about, |state| state.capture(&about));
                self.spawn(Key::of(&about), work, Migrations::on_captured, ctx);
            }
            Output::Verify(about, state) => {
                let work = self.ask(&about, |application| application.verify(&about, state));
                self.spawn(Key::of(&about), work, Migrations::on_verified, ctx);
            }
            Output::Apply(about, state) => {
                let work = self.ask(&about, |application| application.apply(&about, state));
                self.spawn(Key::of(&about), work, Migrations::on_applied, ctx);
            }
            Output::Ended(about, outcome) => self.on_ended(&about, &outcome, ctx),
            Output::Answer(key, outcome) => {
                if let Some(waiting) = self.parts.kept.waiting.borrow_mut().remove(&key) {
                    // Whoever ordered it may have lost interest.
                    let _ = waiting.send(outcome);
                }
            }
            Output::Ready(stream) => {
                if let Some(writer) = self.writers.get(&stream) {
                    writer.notify_one();
                }
            }
            Output::Emit(event) => (self.parts.events)(event),
        }
    }

    /// Has the application begin something. Its panics are its errors.
    fn ask<T: 'static>(&self, about: &Migration, begin: impl FnOnce(&dyn Migratable) -> Work<T>) -> Work<T> {
        let Some(state) = self.parts.kept.find(&about.name) else {
            let name = about.name.clone();
            return Box::pin(async move { Err(format!("nothing is registered as `{name}`")) });
        };
        let begun = std::panic::catch_unwind(AssertUnwindSafe(|| begin(&*state)));
        let contained = async move {
            let Ok(work) = begun else { return Err(PANICKED.to_owned()) };
            let done = AssertUnwindSafe(work).catch_unwind().await;
            done.unwrap_or_else(|_| Err(PANICKED.to_owned()))
        };
        Box::pin(contained)
    }

    fn spawn<T: 'static>(
        &mut self,
        key: Key,
        work: Work<T>,
        answer: fn(&mut Migrations, std::time::Instant, Key, Result<T, String>),
        ctx: &mut Context<Self>,
    ) {
        let answered = work.into_actor(self).map(move |result, actor: &mut Self, ctx: &mut Context<Self>| {
            actor.at_work.remove(&key);
            actor.with_machine(ctx, |machine| answer(machine, clock::now(), key, result));
        });
        let handle = ctx.spawn(answered);
        self.at_work.insert(key, handle);
    }

    fn on_ended(&mut self, about: &Migration, outcome: &Result<(), RollbackReason>, ctx: &mut Context<Self>) {
        if let Some(handle) = self.at_work.remove(&Key::of(about)) {
            ctx.cancel_future(handle);
        }
        let Some(state) = self.parts.kept.find(&about.name) else { return };
        let told = std::panic::catch_unwind(AssertUnwindSafe(|| match outcome {
            Ok(()) => state.completed(about),
            Err(reason) => state.rolled_back(about, reason),
        }));
        if told.is_err() {
            tracing::error!(name = about.name, id = %about.id, "the application panicked when it was told how a migration ended");
        }
    }

    fn connect(&mut self, key: Key, ctx: &mut Context<Self>) {
        let session = self.parts.sessions.send(FindPeer(key.peer));
        let opened = async move { session.await.ok().flatten().and_then(|session| session.open_stream(LABEL).ok()) };
        ctx.spawn(opened.into_actor(self).map(move |opened, actor: &mut Self, ctx: &mut Context<Self>| match opened {
            Some(stream) => {
                let number = actor.drive(stream, ctx);
                actor.with_machine(ctx, |machine| machine.on_connected(clock::now(), key, number));
            }
            None => actor.with_machine(ctx, |machine| machine.on_not_connected(clock::now(), key)),
        }));
    }

    /// Reads and writes a stream from now on.
    fn drive(&mut self, stream: SessionStream, ctx: &mut Context<Self>) -> StreamId {
        let number = self.parts.kept.number();
        let ready = Rc::new(Notify::new());
        self.writers.insert(number, Rc::clone(&ready));
        let driven = drive(number, stream, ctx.address(), ready).into_actor(self);
        ctx.spawn(driven.map(move |(), actor: &mut Self, ctx: &mut Context<Self>| {
            actor.writers.remove(&number);
            actor.with_machine(ctx, |machine| machine.on_disconnected(clock::now(), number));
        }));
        number
    }
}

/// Reads frames and writes those that are due, until either is over; then what is still to be said is.
async fn drive(number: StreamId, stream: SessionStream, actor: Addr<MigrationActor>, ready: Rc<Notify>) {
    let (read, mut write) = tokio::io::split(stream);
    let finished = tokio::select! {
        () = read_frames(number, read, &actor) => false,
        finished = write_frames(number, &mut write, &actor, Some(&ready)) => finished,
    };
    if !finished {
        write_frames(number, &mut write, &actor, None).await;
    }
}

async fn read_frames(number: StreamId, mut read: impl AsyncRead + Unpin, actor: &Addr<MigrationActor>) {
    let mut frames = FrameBuffer::new(frame_bytes_max(PIECE_BYTES_MAX));
    let mut buffer = vec![0; READ_BYTES];
    loop {
        match read.read(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(count) => frames.push(&buffer[..count]),
        }
        while let Some(frame) = frames.take().transpose() {
            if !matches!(actor.send(FrameCame(number, frame)).await, Ok(true)) {
                return;
            }
        }
    }
}

/// Writes what is due; without `ready` it does not wait for more. Says whether the stream is over.
async fn write_frames(
    number: StreamId,
    write: &mut (impl AsyncWrite + Unpin),
    actor: &Addr<MigrationActor>,
    ready: Option<&Notify>,
) -> bool {
    loop {
        match (actor.send(NextFrame(number)).await, ready) {
            (Ok(Next::Write(frame)), _) => {
                if write.write_all(&frame.encode()).await.is_err() {
                    return true;
                }
            }
            (Ok(Next::Wait), Some(ready)) => ready.notified().await,
            (Ok(Next::Wait), None) => return false,
            (Ok(Next::Finish) | Err(_), _) => {
                // Broken or not, there is nothing more to say.
                let _ = write.shutdown().await;
                return true;
            }
        }
    }
}

impl Actor for MigrationActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        if ctx.restarts() > 0 {
            self.with_machine(ctx, |machine| machine.on_restarted(clock::now()));
        }
    }
}

impl Pumped for MigrationActor {
    fn pump(&mut self) -> &mut Pump {
        &mut self.pump
    }

    fn on_deadline(&mut self, ctx: &mut Self::Context) {
        self.with_machine(ctx, |machine| machine.on_timeout(clock::now()));
    }
}

impl Handler<Migrate> for MigrationActor {
    type Result = ResponseFuture<Result<Migrated, MigrationError>>;

    fn handle(&mut self, Migrate { peer, name }: Migrate, ctx: &mut Self::Context) -> Self::Result {
        let kept = Rc::clone(&self.parts.kept);
        if name.len() > NAME_BYTES_MAX {
            return Box::pin(std::future::ready(Err(MigrationError::NameTooLong)));
        }
        if kept.find(&name).is_none() {
            return Box::pin(std::future::ready(Err(MigrationError::NotRegistered(name))));
        }
        let id = MigrationId((self.parts.incarnation.0 << 32) | (kept.number() & 0xffff_ffff));
        let (answer, answered) = oneshot::channel();
        let begun: Result<(), MigrationError> = self.with_machine(ctx, |machine| {
            let key = machine.begin(clock::now(), peer, &name, id)?;
            kept.waiting.borrow_mut().insert(key, answer);
            Ok(())
        });
        Box::pin(async move {
            begun?;
            // Only ever dropped together with the node.
            let outcome = answered.await.unwrap_or(Err(RollbackReason::Interrupted));
            outcome.map_err(MigrationError::RolledBack)
        })
    }
}

impl Handler<AbortMigration> for MigrationActor {
    type Result = bool;

    fn handle(&mut self, abort: AbortMigration, ctx: &mut Self::Context) -> bool {
        self.with_machine(ctx, |machine| machine.abort(clock::now(), &abort.name, &abort.why))
    }
}

impl Handler<IncomingStream> for MigrationActor {
    type Result = ();

    fn handle(&mut self, IncomingStream { peer, stream, .. }: IncomingStream, ctx: &mut Self::Context) {
        let number = self.drive(stream, ctx);
        self.with_machine(ctx, |machine| machine.on_stream(clock::now(), peer, number));
    }
}

impl Handler<FrameCame> for MigrationActor {
    type Result = bool;

    fn handle(&mut self, FrameCame(stream, frame): FrameCame, ctx: &mut Self::Context) -> bool {
        let kept = Rc::clone(&self.parts.kept);
        let accept = move |about: &Migration, bytes| {
            let state = kept.find(&about.name).ok_or_else(|| "there is no such state here".to_owned())?;
            let asked = std::panic::catch_unwind(AssertUnwindSafe(|| state.accept(about, bytes)));
            asked.unwrap_or_else(|_| Err(PANICKED.to_owned()))
        };
        self.with_machine(ctx, |machine| machine.on_frame(clock::now(), stream, frame, accept))
    }
}

impl Handler<NextFrame> for MigrationActor {
    type Result = MessageResult<NextFrame>;

    fn handle(&mut self, NextFrame(stream): NextFrame, ctx: &mut Self::Context) -> Self::Result {
        MessageResult(self.with_machine(ctx, |machine| machine.next(stream)))
    }
}
