//! Passing a value that stays on its thread through an actor message, which has to be `Send`.
//!
//! All actors of a node share one thread, and a connected socket of a simulated network, say, cannot leave it. The value waits on a
//! shelf of its thread; the message carries the claim to it.

use std::any::Any;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::thread::{self, ThreadId};

#[derive(Default)]
struct Shelf {
    next: u64,
    values: BTreeMap<u64, Box<dyn Any>>,
}

thread_local! {
    static SHELF: RefCell<Shelf> = RefCell::default();
}

/// The claim to a value that waits on the thread on which it was made. Dropping it there drops the value.
pub struct Handover<T> {
    key: u64,
    thread: ThreadId,
    kind: PhantomData<fn() -> T>,
}

impl<T: 'static> Handover<T> {
    /// Puts a value on the shelf of this thread.
    pub fn new(value: T) -> Self {
        let key = SHELF.with_borrow_mut(|shelf| {
            shelf.next += 1;
            shelf.values.insert(shelf.next, Box::new(value));
            shelf.next
        });
        Self { key, thread: thread::current().id(), kind: PhantomData }
    }

    /// Takes the value; `None` on another thread than the one where it was put.
    pub fn take(self) -> Option<T> {
        let value = self.remove()?;
        value.downcast().ok().map(|value| *value)
    }
}

impl<T> Handover<T> {
    fn remove(&self) -> Option<Box<dyn Any>> {
        if thread::current().id() != self.thread {
            return None;
        }
        // The shelf is gone only when the thread ends; then the value went with it.
        SHELF.try_with(|shelf| shelf.try_borrow_mut().ok()?.values.remove(&self.key)).ok().flatten()
    }
}

impl<T> Drop for Handover<T> {
    fn drop(&mut self) {
        drop(self.remove());
    }
}

impl<T> fmt::Debug for Handover<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Handover({})", self.key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::rc::Rc;

    #[test]
    fn the_value_is_handed_over_on_its_thread_only() {
        let value = Rc::new(7);
        assert_eq!(Handover::new(value.clone()).take(), Some(value.clone()));
        let elsewhere = Handover::new(value.clone());
        let taken = thread::spawn(move || elsewhere.take().map(|value: Rc<i32>| *value)).join();
        assert!(matches!(taken, Ok(None)));
    }

    #[test]
    fn a_claim_that_is_dropped_drops_the_value() {
        let value = Rc::new(());
        drop(Handover::new(value.clone()));
        assert_eq!(Rc::strong_count(&value), 1);
    }
}
