//! One timer per actor, kept in step with its machine's `deadline()`.
//!
//! An actor calls [`arm`] after every handler. The timer is set again only when the deadline moved *earlier* than the
//! one armed: a deadline that moves later lets the old timer fire, which does no harm, because the machine's `on_timeout`
//! ignores early calls and the actor arms again afterwards. So on the hot path, where an acknowledgement pushes the
//! deadline back a thousand times a second, [`arm`] is one comparison.

use std::time::{Duration, Instant};

use actix::{Actor, AsyncContext, SpawnHandle};

use crate::clock;

/// The timer of one actor; a field of it.
#[derive(Debug, Default)]
pub struct Pump {
    armed: Option<(Instant, SpawnHandle)>,
    late_ms: u32,
}

impl Pump {
    /// A pump without a timer.
    #[must_use]
    pub const fn new() -> Self {
        Self { armed: None, late_ms: 0 }
    }

    /// When the timer will fire; none when there is none.
    #[must_use]
    pub fn armed(&self) -> Option<Instant> {
        self.armed.map(|(at, _)| at)
    }

    /// How late the timer fired the last time, to the millisecond: a node that is starved sees it here.
    #[must_use]
    pub fn late(&self) -> Duration {
        Duration::from_millis(self.late_ms.into())
    }
}

/// An actor whose machine has a deadline.
pub trait Pumped: Actor
where
    Self::Context: AsyncContext<Self>,
{
    /// The actor's pump.
    fn pump(&mut self) -> &mut Pump;

    /// The timer fired: call the machine's `on_timeout`, carry its outputs out and [`arm`] again.
    ///
    /// It may come late, and early when the deadline has moved back meanwhile.
    fn on_deadline(&mut self, ctx: &mut Self::Context);
}

/// Makes sure that `actor` is called no later than `deadline` (as exactly as tokio's timer, one millisecond).
#[inline]
pub fn arm<A>(actor: &mut A, ctx: &mut A::Context, deadline: Option<Instant>)
where
    A: Pumped,
    A::Context: AsyncContext<A>,
{
    let Some(deadline) = deadline else { return };
    match actor.pump().armed {
        Some((armed, _)) if armed <= deadline => {}
        earlier => set_timer(actor, ctx, deadline, earlier.map(|(_, handle)| handle)),
    }
}

/// The rare half of [`arm`], kept out of line.
#[cold]
fn set_timer<A>(actor: &mut A, ctx: &mut A::Context, deadline: Instant, old: Option<SpawnHandle>)
where
    A: Pumped,
    A::Context: AsyncContext<A>,
{
    if let Some(old) = old {
        ctx.cancel_future(old);
    }
    let wait = deadline.saturating_duration_since(clock::now());
    let handle = ctx.run_later(wait, move |actor, ctx| {
        let late = clock::now().saturating_duration_since(deadline).as_millis();
        *actor.pump() = Pump { armed: None, late_ms: u32::try_from(late).unwrap_or(u32::MAX) };
        actor.on_deadline(ctx);
    });
    actor.pump().armed = Some((deadline, handle));
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use actix::prelude::*;

    use super::{Pump, Pumped, arm};
    use crate::clock;

    const MS: Duration = Duration::from_millis(1);

    #[actix::test]
    async fn fires_at_the_deadline_and_only_then() {
        tokio::time::pause();
        let start = clock::now();
        let probe = Probe::default().start();
        assert_eq!(probe.send(Move(Some(start + 50 * MS))).await, Ok(1));
        tokio::time::sleep(49 * MS).await;
        assert_eq!(probe.send(Fired).await, Ok(vec![]));
        tokio::time::sleep(3 * MS).await;
        let fired = probe.send(Fired).await.unwrap_or_default();
        assert_eq!(fired.len(), 1);
        assert!(fired[0] >= start + 50 * MS);
    }

    #[actix::test]
    async fn a_later_deadline_costs_no_timer_and_is_kept() {
        tokio::time::pause();
        let start = clock::now();
        let probe = Probe::default().start();
        for step in 0..100 {
            let deadline = start + (50 + step) * MS;
            assert_eq!(probe.send(Move(Some(deadline))).await, Ok(1), "set again");
        }
        tokio::time::sleep(200 * MS).await;
        let fired = probe.send(Fired).await.unwrap_or_default();
        assert_eq!(fired.len(), 1, "the early call is ignored by the machine");
        assert!(fired[0] >= start + 149 * MS);
    }

    #[actix::test]
    async fn an_earlier_deadline_replaces_the_timer() {
        tokio::time::pause();
        let start = clock::now();
        let probe = Probe::default().start();
        assert_eq!(probe.send(Move(Some(start + 500 * MS))).await, Ok(1));
        assert_eq!(probe.send(Move(Some(start + 20 * MS))).await, Ok(2));
        tokio::time::sleep(25 * MS).await;
        assert_eq!(probe.send(Fired).await.unwrap_or_default().len(), 1);
        tokio::time::sleep(600 * MS).await;
        assert_eq!(probe.send(Fired).await.unwrap_or_default().len(), 1);
    }

    #[actix::test]
    async fn no_deadline_leaves_a_harmless_timer() {
        tokio::time::pause();
        let start = clock::now();
        let probe = Probe::default().start();
        assert_eq!(probe.send(Move(Some(start + 20 * MS))).await, Ok(1));
        assert_eq!(probe.send(Move(None)).await, Ok(1));
        tokio::time::sleep(100 * MS).await;
        assert_eq!(probe.send(Fired).await, Ok(vec![]));
        assert_eq!(probe.send(Move(Some(start + 120 * MS))).await, Ok(2));
    }

    /// An actor whose machine is one deadline and the list of times it was due.
    #[derive(Default)]
    struct Probe {
        pump: Pump,
        deadline: Option<Instant>,
        fired: Vec<Instant>,
        timers: u32,
    }

    impl Actor for Probe {
        type Context = Context<Self>;
    }

    impl Pumped for Probe {
        fn pump(&mut self) -> &mut Pump {
            &mut self.pump
        }

        fn on_deadline(&mut self, ctx: &mut Context<Self>) {
            let now = clock::now();
            if self.deadline.is_some_and(|deadline| deadline <= now) {
                self.deadline = None;
                self.fired.push(now);
            }
            arm(self, ctx, self.deadline);
        }
    }

    /// Sets the deadline; the answer is how many timers were set so far.
    #[derive(Message)]
    #[rtype(result = "u32")]
    struct Move(Option<Instant>);

    impl Handler<Move> for Probe {
        type Result = u32;

        fn handle(&mut self, Move(deadline): Move, ctx: &mut Context<Self>) -> u32 {
            self.deadline = deadline;
            let before = self.pump.armed();
            arm(self, ctx, deadline);
            if self.pump.armed() != before {
                self.timers += 1;
            }
            self.timers
        }
    }

    #[derive(Message)]
    #[rtype(result = "Vec<Instant>")]
    struct Fired;

    impl Handler<Fired> for Probe {
        type Result = Vec<Instant>;

        fn handle(&mut self, _: Fired, _: &mut Context<Self>) -> Vec<Instant> {
            self.fired.clone()
        }
    }
}
