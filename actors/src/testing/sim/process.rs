//! A process that can be stopped and continued, or killed: all tasks of one node.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Poll, Waker};

use tokio::task::LocalSet;

/// All tasks of one life of one node.
///
/// They run in a `LocalSet` of their own, which is polled by one task of the simulation: not polling it is what `SIGSTOP` does, and
/// dropping it what `SIGKILL` does.
#[derive(Clone, Default)]
pub(crate) struct Process(Rc<RefCell<State>>);

#[derive(Default)]
struct State {
    tasks: Option<LocalSet>,
    paused: bool,
    killed: bool,
    waker: Option<Waker>,
}

impl Process {
    /// A process in which nothing runs yet.
    pub(crate) fn spawn() -> Self {
        let process = Self(Rc::new(RefCell::new(State { tasks: Some(LocalSet::new()), ..State::default() })));
        let driven = process.clone();
        actix_rt::spawn(poll_fn(move |cx| {
            let tasks = {
                let mut state = driven.0.borrow_mut();
                state.waker = Some(cx.waker().clone());
                if state.killed {
                    return Poll::Ready(());
                }
                if state.paused {
                    return Poll::Pending;
                }
                state.tasks.take()
            };
            let Some(mut tasks) = tasks else { return Poll::Ready(()) };
            // Taken out while it is polled: what runs in it may stop the process.
            let _ = Pin::new(&mut tasks).poll(cx);
            let killed = driven.0.borrow().killed;
            if killed {
                drop(tasks);
                return Poll::Ready(());
            }
            driven.0.borrow_mut().tasks = Some(tasks);
            Poll::Pending
        }));
        process
    }

    /// Does something as this process: what it spawns belongs to it.
    pub(crate) fn enter<T>(&self, work: impl FnOnce() -> T) -> T {
        let tasks = self.0.borrow_mut().tasks.take();
        let done = match &tasks {
            Some(set) => {
                let _entered = set.enter();
                work()
            }
            None => work(),
        };
        let mut state = self.0.borrow_mut();
        state.tasks = tasks;
        if let Some(waker) = &state.waker {
            waker.wake_by_ref();
        }
        done
    }

    /// Stops or continues it.
    pub(crate) fn set_paused(&self, paused: bool) {
        let mut state = self.0.borrow_mut();
        state.paused = paused;
        if let Some(waker) = &state.waker {
            waker.wake_by_ref();
        }
    }

    /// Ends it at once.
    pub(crate) fn kill(&self) {
        let tasks = {
            let mut state = self.0.borrow_mut();
            state.killed = true;
            if let Some(waker) = &state.waker {
                waker.wake_by_ref();
            }
            state.tasks.take()
        };
        drop(tasks);
    }
}
