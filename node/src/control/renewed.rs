//! Something that ends and is made anew when it is asked for: the session that forwarded connections go over.
//!
//! One attempt is made at a time. It is a task of its own: whoever waits for it may go away without ending it, and all who wait share
//! how it ended, a failure too. However many ask while the peer is off, one attempt after another is made, and no two at once.

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::exit::{Exit, Failure};

/// How an attempt ended; `None` while it goes on.
type Outcome<T> = watch::Receiver<Option<Result<T, Failure>>>;

struct State<T> {
    /// What was made last. It may have ended since.
    made: T,
    attempt: Option<Outcome<T>>,
}

/// Something that is made anew when it has ended. Clones are the same one.
#[derive(Clone)]
pub(super) struct Renewed<T>(Arc<Mutex<State<T>>>);

impl<T: Clone + Send + Sync + 'static> Renewed<T> {
    /// One that is there already.
    pub(super) fn new(made: T) -> Self {
        Self(Arc::new(Mutex::new(State { made, attempt: None })))
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What there is if it is `good`, otherwise what the attempt under way gives, otherwise what a new one does: `make`.
    ///
    /// # Errors
    /// How the attempt failed.
    pub(super) async fn get<W>(&self, good: impl FnOnce(&T) -> bool, make: impl FnOnce() -> W) -> Result<T, Failure>
    where
        W: Future<Output = Result<T, Failure>> + 'static,
    {
        let mut attempt = {
            let mut state = self.state();
            if good(&state.made) {
                return Ok(state.made.clone());
            }
            match &state.attempt {
                Some(attempt) => attempt.clone(),
                None => state.attempt.insert(self.begin(make())).clone(),
            }
        };
        let ended = attempt.wait_for(Option::is_some).await.ok().and_then(|outcome| outcome.clone());
        // An attempt ends with an outcome unless the whole thread does.
        ended.unwrap_or_else(|| Err(Failure::new(Exit::NodeNotReachable, "the node is ending")))
    }

    /// Begins an attempt.
    fn begin(&self, work: impl Future<Output = Result<T, Failure>> + 'static) -> Outcome<T> {
        let (tell, outcome) = watch::channel(None);
        let renewed = self.clone();
        actix_rt::spawn(async move {
            let made = work.await;
            {
                let mut state = renewed.state();
                state.attempt = None;
                if let Ok(made) = &made {
                    state.made = made.clone();
                }
            }
            // Nobody may be waiting any more.
            tell.send_replace(Some(made));
        });
        outcome
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::cell::Cell;
    use std::rc::Rc;

    use futures_util::FutureExt as _;
    use futures_util::future::join_all;
    use tokio::sync::oneshot;

    use super::*;

    /// Attempts that end when the test says how.
    #[derive(Default)]
    struct Attempts {
        begun: Cell<usize>,
        under_way: Cell<Option<oneshot::Sender<Result<u32, Failure>>>>,
    }

    impl Attempts {
        fn make(self: &Rc<Self>) -> impl Future<Output = Result<u32, Failure>> + 'static {
            let (end, ended) = oneshot::channel();
            self.begun.set(self.begun.get() + 1);
            self.under_way.set(Some(end));
            async move { ended.await.unwrap() }
        }

        fn end(&self, how: Result<u32, Failure>) {
            self.under_way.take().unwrap().send(how).unwrap();
        }
    }

    #[test]
    fn all_who_wait_share_one_attempt_and_its_failure_and_the_next_one_makes_another() {
        actix_rt::System::new().block_on(async {
            let attempts = Rc::new(Attempts::default());
            let renewed = Renewed::new(0);
            let ask = || renewed.get(|made| *made != 0, || attempts.make());
            let mut waiting = Box::pin(join_all((0..100).map(|_| ask())));
            assert!(waiting.as_mut().now_or_never().is_none());
            assert_eq!(attempts.begun.get(), 1);
            attempts.end(Err(Failure::new(Exit::TimedOut, "no link")));
            let failures = waiting.await;
            assert_eq!(failures.len(), 100);
            assert!(failures.iter().all(|failure| failure.as_ref().is_err_and(|f| f.exit == Exit::TimedOut)));
            assert_eq!(attempts.begun.get(), 1, "none of them tried anew");

            let mut next = Box::pin(ask());
            assert!(next.as_mut().now_or_never().is_none());
            attempts.end(Ok(7));
            assert_eq!((next.await, ask().await, attempts.begun.get()), (Ok(7), Ok(7), 2));
        });
    }

    #[test]
    fn who_goes_away_does_not_make_room_for_another_attempt() {
        actix_rt::System::new().block_on(async {
            let attempts = Rc::new(Attempts::default());
            let renewed = Renewed::new(0);
            for _ in 0..100 {
                let gone = renewed.get(|made| *made != 0, || attempts.make());
                assert!(gone.now_or_never().is_none());
            }
            assert_eq!(attempts.begun.get(), 1);
            attempts.end(Ok(7));
            assert_eq!(renewed.get(|made| *made != 0, || attempts.make()).await, Ok(7));
        });
    }
}
