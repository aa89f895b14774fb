//! The context of a supervised actor, and one life of it.
//!
//! [`Context`] offers what `actix::Context` does (`spawn`, `wait`, `run_later`, `add_stream`, `stop`, `address`, ...) and
//! keeps its semantics: `started` first; messages before futures; nothing else while a `wait` future runs; `stopping`
//! may answer `Running::Continue`. It differs where supervision needs it:
//!
//! - the mailbox belongs to the supervised task and not to the life, so that it survives the life, a new life gets an
//!   actor fresh from the factory (there is no old value to keep), and its depth can be counted;
//! - a life that handled [`MESSAGES_PER_TURN`] messages lets the other actors of the thread have their turn;
//! - an actor does not stop because nobody holds its address: only itself or its supervisor stops it.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use std::task;
use std::task::Poll;

use actix::dev::channel::{AddressReceiver, channel};
use actix::dev::{Envelope, EnvelopeProxy, OneshotSender, ToEnvelope};
use actix::{Actor, ActorContext, ActorFuture, ActorState, Addr, AsyncContext, Handler, Message, Running, SpawnHandle};
use bowline_messages::supervision::ExitReason;
use futures_util::Stream;

use super::cell::ChildCell;

/// Messages one life handles before it yields to the other actors of its thread.
const MESSAGES_PER_TURN: u32 = 128;

/// Messages counted at most when a mailbox's depth is asked for.
const DEPTH_MAX: usize = 65_536;

type BoxedFuture<A> = Pin<Box<dyn ActorFuture<A, Output = ()>>>;

/// The execution context of a supervised actor.
pub struct Context<A>
where
    A: Actor<Context = Self>,
{
    /// Shared with the task: each clone of an actix address costs two allocations.
    address: Rc<Addr<A>>,
    cell: Option<Rc<ChildCell>>,
    state: ActorState,
    last_handle: SpawnHandle,
    futures: Vec<(SpawnHandle, BoxedFuture<A>)>,
    waits: Vec<BoxedFuture<A>>,
    cancelled: Vec<SpawnHandle>,
    handled: u64,
    exit: Option<ExitReason>,
}

impl<A: Actor<Context = Self>> fmt::Debug for Context<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").field("state", &self.state).finish_non_exhaustive()
    }
}

impl<A: Actor<Context = Self>> Context<A> {
    pub(crate) fn new(address: Rc<Addr<A>>, cell: Option<Rc<ChildCell>>) -> Self {
        Self {
            address,
            cell,
            state: ActorState::Started,
            last_handle: SpawnHandle::default(),
            futures: Vec::new(),
            waits: Vec::new(),
            cancelled: Vec::new(),
            handled: 0,
            exit: None,
        }
    }

    /// Runs an actor without a supervisor, for tests and tools, on the present arbiter: a panic ends it for good,
    /// and otherwise it runs until it stops itself. `mailbox` is the bound of its mailbox in messages.
    pub fn run(mailbox: usize, actor: A) -> Addr<A> {
        let (mut mailbox, address) = Mailbox::new(mailbox);
        let mut life = Life::new(actor, Self::new(Rc::new(address.clone()), None));
        actix::spawn(std::future::poll_fn(move |cx| life.poll(&mut mailbox, cx)));
        address
    }

    /// Where the actor stands in the supervision tree, ids parted by `/`; empty without a supervisor.
    #[must_use]
    pub fn path(&self) -> String {
        self.cell.as_ref().map_or_else(String::new, |cell| cell.path())
    }

    /// How often the actor was started before this life.
    #[must_use]
    pub fn restarts(&self) -> u32 {
        self.cell.as_ref().map_or(0, |cell| cell.restarts())
    }

    /// How many messages this life was given. What futures and timers of the actor did does not count.
    #[must_use]
    pub fn handled(&self) -> u64 {
        self.handled
    }

    /// Stops like [`ActorContext::stop`], and tells the supervisor this reason instead of `Normal`.
    pub fn stop_with(&mut self, reason: ExitReason) {
        self.exit = Some(reason);
        self.stop();
    }

    pub(crate) fn cell(&self) -> Option<&Rc<ChildCell>> {
        self.cell.as_ref()
    }

    fn stopping(&self) -> bool {
        self.state.stopping()
    }
}

impl<A: Actor<Context = Self>> ActorContext for Context<A> {
    fn stop(&mut self) {
        if self.state.alive() {
            self.state = ActorState::Stopping;
        }
    }

    fn terminate(&mut self) {
        self.state = ActorState::Stopped;
    }

    fn state(&self) -> ActorState {
        self.state
    }
}

impl<A: Actor<Context = Self>> AsyncContext<A> for Context<A> {
    fn address(&self) -> Addr<A> {
        Addr::clone(&self.address)
    }

    fn spawn<F>(&mut self, future: F) -> SpawnHandle
    where
        F: ActorFuture<A, Output = ()> + 'static,
    {
        self.last_handle = self.last_handle.next();
        self.futures.push((self.last_handle, Box::pin(future)));
        self.last_handle
    }

    fn wait<F>(&mut self, future: F)
    where
        F: ActorFuture<A, Output = ()> + 'static,
    {
        self.waits.push(Box::pin(future));
    }

    fn waiting(&self) -> bool {
        !self.waits.is_empty() || self.stopping()
    }

    fn cancel_future(&mut self, handle: SpawnHandle) -> bool {
        self.cancelled.push(handle);
        true
    }
}

impl<A, M> ToEnvelope<A, M> for Context<A>
where
    A: Actor<Context = Self> + Handler<M>,
    M: Message + Send + 'static,
    M::Result: Send,
{
    fn pack(message: M, answer: Option<OneshotSender<M::Result>>) -> Envelope<A> {
        Envelope::new(message, answer)
    }
}

/// The queue of one actor, which outlives its lives.
pub(crate) struct Mailbox<A: Actor> {
    receiver: AddressReceiver<A>,
    /// Messages taken out of the channel to be counted, oldest first; handled before the channel's.
    counted: VecDeque<Envelope<A>>,
    capacity: usize,
}

impl<A: Actor> Mailbox<A> {
    pub(crate) fn new(capacity: usize) -> (Self, Addr<A>) {
        let capacity = capacity.max(1);
        let (sender, receiver) = channel(capacity);
        let mailbox = Self { receiver, counted: VecDeque::new(), capacity };
        (mailbox, Addr::new(sender))
    }

    pub(crate) fn set_capacity(&mut self, capacity: usize) {
        self.capacity = capacity.max(1);
        self.receiver.set_capacity(self.capacity);
    }

    #[inline]
    fn poll_next(&mut self, cx: &mut task::Context<'_>) -> Poll<Option<Envelope<A>>> {
        if self.counted.is_empty() {
            return Pin::new(&mut self.receiver).poll_next(cx);
        }
        let next = self.counted.pop_front();
        if self.counted.is_empty() {
            self.counted = VecDeque::new();
            self.receiver.set_capacity(self.capacity);
        }
        Poll::Ready(next)
    }

    /// Counts the messages that wait. actix has no way to ask, so they are taken out of the channel and kept in order;
    /// the channel's capacity shrinks by as many meanwhile, so that senders still meet the same bound.
    pub(crate) fn depth(&mut self, cx: &mut task::Context<'_>) -> usize {
        while self.counted.len() < DEPTH_MAX
            && let Poll::Ready(Some(message)) = Pin::new(&mut self.receiver).poll_next(cx)
        {
            self.counted.push_back(message);
        }
        if !self.counted.is_empty() {
            let left = self.capacity.saturating_sub(self.counted.len()).max(1);
            self.receiver.set_capacity(left);
        }
        self.counted.len()
    }

    /// Drops whatever waits: nobody is there to handle it. Callers see their request end at once.
    pub(crate) fn refuse_all(&mut self, cx: &mut task::Context<'_>) {
        while let Poll::Ready(Some(message)) = self.poll_next(cx) {
            drop(message);
        }
    }
}

/// One life of an actor: its value, its context, and what it spawned.
pub(crate) struct Life<A: Actor<Context = Context<A>>> {
    actor: A,
    ctx: Context<A>,
    futures: Vec<(SpawnHandle, BoxedFuture<A>)>,
    waits: Vec<BoxedFuture<A>>,
}

/// Whether a pass over something ran to its end.
enum Pass {
    Done,
    /// A `wait` future was begun: start over with it.
    Again,
}

impl<A: Actor<Context = Context<A>>> Life<A> {
    pub(crate) fn new(actor: A, ctx: Context<A>) -> Self {
        Self { actor, ctx, futures: Vec::new(), waits: Vec::new() }
    }

    /// Asks the actor to stop, as `ctx.stop()` does.
    pub(crate) fn stop(&mut self) {
        self.ctx.stop();
    }

    /// Whether `started` has returned.
    pub(crate) fn has_started(&self) -> bool {
        self.ctx.state != ActorState::Started
    }

    /// The reason the actor gave for its stop.
    pub(crate) fn take_exit(&mut self) -> Option<ExitReason> {
        self.ctx.exit.take()
    }

    /// Drives the life; ready when the actor has stopped.
    pub(crate) fn poll(&mut self, mailbox: &mut Mailbox<A>, cx: &mut task::Context<'_>) -> Poll<()> {
        if self.ctx.state == ActorState::Started {
            self.actor.started(&mut self.ctx);
            if self.ctx.state == ActorState::Started {
                self.ctx.state = ActorState::Running;
            }
        }
        let mut budget = MESSAGES_PER_TURN;
        loop {
            self.adopt();
            if self.poll_waits(cx).is_pending() {
                return Poll::Pending;
            }
            let more = self.handle_messages(mailbox, &mut budget, cx);
            self.adopt();
            if !self.waits.is_empty() && !self.ctx.stopping() {
                continue;
            }
            match self.poll_futures(cx) {
                Pass::Again => continue,
                Pass::Done => {}
            }
            if self.adopt() && !self.ctx.stopping() {
                continue;
            }
            if self.ctx.stopping() {
                if self.finish() {
                    return Poll::Ready(());
                }
                continue;
            }
            if more {
                cx.waker().wake_by_ref();
            }
            return Poll::Pending;
        }
    }

    /// Takes over what the actor spawned and cancelled; true when there was something.
    fn adopt(&mut self) -> bool {
        let ctx = &mut self.ctx;
        if ctx.futures.is_empty() && ctx.waits.is_empty() && ctx.cancelled.is_empty() {
            return false;
        }
        self.futures.append(&mut ctx.futures);
        self.waits.append(&mut ctx.waits);
        // Dropping a future runs foreign code, which has no access to the context: the list cannot grow meanwhile.
        for handle in std::mem::take(&mut ctx.cancelled) {
            self.futures.retain(|(other, _)| *other != handle);
        }
        true
    }

    /// The `wait` futures, youngest first; pending while one is.
    fn poll_waits(&mut self, cx: &mut task::Context<'_>) -> Poll<()> {
        while !self.ctx.stopping()
            && let Some(youngest) = self.waits.last_mut()
        {
            task::ready!(youngest.as_mut().poll(&mut self.actor, &mut self.ctx, cx));
            self.waits.pop();
            self.adopt();
        }
        Poll::Ready(())
    }

    /// Handles messages; true when some may be left because the budget is spent.
    #[inline]
    fn handle_messages(&mut self, mailbox: &mut Mailbox<A>, budget: &mut u32, cx: &mut task::Context<'_>) -> bool {
        while !self.ctx.waiting() {
            if *budget == 0 {
                return true;
            }
            let Poll::Ready(Some(mut message)) = mailbox.poll_next(cx) else {
                return false;
            };
            *budget -= 1;
            self.ctx.handled += 1;
            message.handle(&mut self.actor, &mut self.ctx);
        }
        false
    }

    /// Polls every spawned future once.
    fn poll_futures(&mut self, cx: &mut task::Context<'_>) -> Pass {
        let mut index = 0;
        while index < self.futures.len() && !self.ctx.stopping() {
            let (_, future) = &mut self.futures[index];
            match future.as_mut().poll(&mut self.actor, &mut self.ctx, cx) {
                Poll::Pending => index += 1,
                Poll::Ready(()) => drop(self.futures.swap_remove(index)),
            }
            if !self.ctx.waits.is_empty() || !self.ctx.cancelled.is_empty() {
                // The others come first next time, or a future that always waits would starve them.
                if let Some(last) = self.futures.len().checked_sub(1)
                    && index > 0
                {
                    self.futures.swap(index - 1, last);
                }
                self.adopt();
                return Pass::Again;
            }
        }
        Pass::Done
    }

    /// The actor is stopping: true when it has stopped, false when it wants to go on.
    fn finish(&mut self) -> bool {
        if self.ctx.state == ActorState::Stopping && self.actor.stopping(&mut self.ctx) == Running::Continue {
            self.ctx.state = ActorState::Running;
            return false;
        }
        self.ctx.state = ActorState::Stopped;
        self.actor.stopped(&mut self.ctx);
        true
    }
}
