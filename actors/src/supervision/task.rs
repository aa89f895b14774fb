//! The task of one child: begins lives, contains their panics, reports their ends.
//!
//! Everything of the actor runs inside [`contain`]: the factory, `started`, handlers, timers, streams, futures,
//! `stopping`, `stopped` and the `Drop` of the actor and of what it spawned. Only a panic during unwinding (a `Drop` that
//! panics while another panic passes) cannot be contained; Rust aborts the process then.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{self, Poll};

use actix::{Actor, Addr};
use bowline_messages::supervision::ExitReason;

use super::cell::{ChildCell, Orders, Report};
use super::contain::contain;
use super::context::{Context, Life, Mailbox};
use super::policy::Key;

/// A child's task; it lives as long as the child is known, through all its lives.
pub(crate) struct ChildTask<A: Actor<Context = Context<A>>, F> {
    cell: Rc<ChildCell>,
    factory: F,
    address: Rc<Addr<A>>,
    mailbox: Mailbox<A>,
    life: Option<Life<A>>,
    /// Key and number of the present life, or of the last.
    present: (Key, u32),
    /// The start of the present life was reported.
    announced: bool,
    asked_to_stop: bool,
    parked: bool,
}

impl<A, F> ChildTask<A, F>
where
    A: Actor<Context = Context<A>>,
    F: FnMut() -> A + 'static,
{
    pub(crate) fn spawn(cell: Rc<ChildCell>, factory: F, mut mailbox: Mailbox<A>, address: Rc<Addr<A>>) {
        mailbox.set_capacity(cell.capacity());
        actix::spawn(Self {
            cell,
            factory,
            address,
            mailbox,
            life: None,
            present: (0, 0),
            announced: false,
            asked_to_stop: false,
            parked: false,
        });
    }

    fn carry_out(&mut self, orders: Orders, cx: &mut task::Context<'_>) {
        if orders.kill || orders.start.is_some() {
            self.end_life(ExitReason::Killed);
        }
        if let Some((key, life)) = orders.start {
            self.begin_life(key, life);
        }
        if orders.crash && self.life.is_some() {
            // The real thing: unwinding from within the containment, as from a handler.
            let crashed: Result<(), String> = contain(|| panic!("killed by request"));
            if let Err(message) = crashed {
                self.end_life(ExitReason::Panicked { message });
            }
        }
        if orders.stop
            && let Some(life) = &mut self.life
        {
            self.asked_to_stop = true;
            life.stop();
        }
        self.parked = orders.park;
        for answer in self.cell.take_depth_questions() {
            // Whoever asked may have stopped waiting.
            let _ = answer.send(self.mailbox.depth(cx));
        }
    }

    fn begin_life(&mut self, key: Key, life: u32) {
        self.present = (key, life);
        self.announced = false;
        self.asked_to_stop = false;
        self.cell.count_life();
        let context = Context::new(Rc::clone(&self.address), Some(Rc::clone(&self.cell)));
        let factory = &mut self.factory;
        match contain(|| Life::new(factory(), context)) {
            Ok(life) => self.life = Some(life),
            Err(message) => self.report_end(ExitReason::Panicked { message }),
        }
    }

    /// Drops the life, if there is one, and reports its end.
    fn end_life(&mut self, reason: ExitReason) {
        if let Some(life) = self.life.take() {
            let reason = match contain(|| drop(life)) {
                Ok(()) => reason,
                Err(message) if reason.is_abnormal() => {
                    tracing::error!(actor = %self.cell.path(), "panic while dropping a dead actor: {message}");
                    reason
                }
                Err(message) => ExitReason::Panicked { message },
            };
            self.report_end(reason);
        }
    }

    fn report_end(&mut self, reason: ExitReason) {
        if reason.is_abnormal() {
            let actor = self.cell.path();
            tracing::error!(%actor, kind = self.cell.label(), "actor {reason}");
        }
        let (key, life) = self.present;
        self.cell.report(Report::Exited { key, life, reason });
    }

    fn drive(&mut self, cx: &mut task::Context<'_>) {
        let Some(life) = &mut self.life else {
            if self.parked {
                let mailbox = &mut self.mailbox;
                if let Err(message) = contain(|| mailbox.refuse_all(cx)) {
                    let actor = self.cell.path();
                    tracing::error!(%actor, "panic while dropping a message: {message}");
                }
            }
            return;
        };
        let mailbox = &mut self.mailbox;
        let polled = contain(|| life.poll(mailbox, cx));
        if !self.announced && polled.is_ok() && life.has_started() {
            self.announced = true;
            let (key, life) = self.present;
            self.cell.report(Report::Started { key, life });
        }
        match polled {
            Ok(Poll::Pending) => {}
            Ok(Poll::Ready(())) => {
                let reason = self.life.as_mut().and_then(Life::take_exit);
                let otherwise = if self.asked_to_stop { ExitReason::Shutdown } else { ExitReason::Normal };
                self.end_life(reason.unwrap_or(otherwise));
            }
            Err(message) => self.end_life(ExitReason::Panicked { message }),
        }
    }
}

/// Nothing in it is ever pinned in place: the actor and the factory are only used by reference.
impl<A: Actor<Context = Context<A>>, F> Unpin for ChildTask<A, F> {}

impl<A, F> Future for ChildTask<A, F>
where
    A: Actor<Context = Context<A>>,
    F: FnMut() -> A + 'static,
{
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        this.cell.register(cx.waker());
        if let Some(orders) = this.cell.take_orders() {
            this.carry_out(orders, cx);
        }
        if this.cell.is_closed() {
            this.end_life(ExitReason::Killed);
            return Poll::Ready(());
        }
        this.drive(cx);
        Poll::Pending
    }
}

impl<A: Actor<Context = Context<A>>, F> Drop for ChildTask<A, F> {
    fn drop(&mut self) {
        // The runtime shuts down with the actor alive: its `Drop` is still foreign code.
        if let Some(life) = self.life.take()
            && let Err(message) = contain(|| drop(life))
        {
            tracing::error!(actor = %self.cell.path(), "panic while dropping an actor: {message}");
        }
    }
}
