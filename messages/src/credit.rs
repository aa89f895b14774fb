//! Flow control between two actors without an answer to every message: a message carries a credit, and whoever is done with the
//! message drops it.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Waker;

#[derive(Debug, Default)]
struct Shared {
    outstanding: AtomicUsize,
    waiting: Mutex<Option<Waker>>,
}

/// The sender's side: so many messages of its may be unhandled at a time.
#[derive(Debug)]
pub struct Credits {
    shared: Arc<Shared>,
    most: usize,
}

impl Credits {
    /// Credits for `most` unhandled messages.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self { shared: Arc::default(), most }
    }

    /// Whether another message may be sent. If not, `waker` is called once one may.
    pub fn ready(&self, waker: &Waker) -> bool {
        if self.shared.outstanding.load(Ordering::Acquire) < self.most {
            return true;
        }
        {
            let mut waiting = self.shared.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            if waiting.as_ref().is_none_or(|known| !known.will_wake(waker)) {
                *waiting = Some(waker.clone());
            }
        }
        // The last one may have come back before the waker was there.
        self.shared.outstanding.load(Ordering::Acquire) < self.most
    }

    /// A credit for one message. Whether there is one is for [`Credits::ready`] to say.
    #[must_use]
    pub fn take(&self) -> Credit {
        self.shared.outstanding.fetch_add(1, Ordering::AcqRel);
        Credit(Some(self.shared.clone()))
    }
}

/// Comes with a message and goes back to its sender when it is dropped, however the handling of the message ended.
///
/// A copy of a message, or one made from text, carries an empty one.
#[derive(Default)]
pub struct Credit(Option<Arc<Shared>>);

impl Drop for Credit {
    fn drop(&mut self) {
        let Some(shared) = &self.0 else { return };
        shared.outstanding.fetch_sub(1, Ordering::AcqRel);
        let waiting = shared.waiting.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(waker) = waiting {
            waker.wake();
        }
    }
}

impl Clone for Credit {
    fn clone(&self) -> Self {
        Self(None)
    }
}

/// Two messages with the same content are the same, whoever waits for them.
impl PartialEq for Credit {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Credit {}

impl fmt::Debug for Credit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Credit" } else { "Credit(empty)" })
    }
}

#[cfg(test)]
mod tests {
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn the_sender_is_woken_when_a_credit_comes_back_and_only_if_it_waits() {
        let count = Arc::new(Count::default());
        let waker = Waker::from(count.clone());
        let credits = Credits::new(2);
        assert!(credits.ready(&waker));
        let first = credits.take();
        drop(credits.take());
        assert_eq!(count.0.load(Ordering::Relaxed), 0, "it does not wait");
        let second = credits.take();
        assert!(!credits.ready(&waker));
        drop(first.clone());
        assert!(!credits.ready(&waker), "a copy gives nothing back");
        drop(second);
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
        assert!(credits.ready(&waker));
        drop(first);
    }
}
