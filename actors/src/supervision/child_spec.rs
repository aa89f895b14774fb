//! Child specifications: what to start, when to start it again, how to stop it.

use std::any::type_name;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;
use std::thread::{self, ThreadId};
use std::time::Duration;

use actix::{Actor, Addr, Message};
use bowline_messages::supervision::{ChildError, Restart, ShutdownMode};

use super::cell::{ChildCell, ChildHandle};
use super::context::{Context, Mailbox};
use super::rules::ChildRules;
use super::supervisor_spec::Below;
use super::task::ChildTask;

/// Default bound of a child's mailbox, in messages; actix's own default.
pub const MAILBOX_DEFAULT: usize = 16;

/// Default time a worker has to stop.
pub const SHUTDOWN_DEFAULT: Duration = Duration::from_secs(5);

/// Specification of one child, made with its address: siblings can be wired to each other before any of them runs.
///
/// The address and the mailbox belong to the child and not to one life of it: they stay valid through restarts, also
/// those of its supervisor, until the supervisor forgets the child. The factory holds the start arguments and gives a
/// fresh actor for every life; the value of the life before is dropped, never handed on.
///
/// Defaults: permanent, five seconds to stop, a mailbox of 16 messages.
#[derive(Debug)]
pub struct ChildSpec {
    pub(crate) handle: Rc<ChildHandle>,
    pub(crate) rules: ChildRules,
    pub(crate) supervisor: Option<Rc<Below>>,
}

impl ChildSpec {
    /// A child made by `factory`, and its address. `id` is unique below its supervisor; a `/` in it becomes `_`.
    pub fn new<A, F>(id: impl Into<String>, factory: F) -> (Self, Addr<A>)
    where
        A: Actor<Context = Context<A>>,
        F: FnMut() -> A + 'static,
    {
        let (mailbox, address) = Mailbox::new(MAILBOX_DEFAULT);
        let own = Rc::new(address.clone());
        let launcher = Box::new(move |cell: Rc<ChildCell>| ChildTask::spawn(cell, factory, mailbox, own));
        let cell = ChildCell::new(id.into(), label::<A>(), MAILBOX_DEFAULT, launcher);
        let spec = Self {
            handle: Rc::new(ChildHandle(Rc::new(cell))),
            rules: ChildRules {
                restart: Restart::Permanent,
                shutdown: ShutdownMode::Timeout(SHUTDOWN_DEFAULT),
                significant: false,
            },
            supervisor: None,
        };
        (spec, address)
    }

    /// A temporary child with a single life, whose start arguments can be given away (a connected socket, say).
    pub fn once<A, F>(id: impl Into<String>, factory: F) -> (Self, Addr<A>)
    where
        A: Actor<Context = Context<A>>,
        F: FnOnce() -> A + 'static,
    {
        let mut factory = Some(factory);
        let (spec, address) = Self::new(id, move || {
            // A temporary child is never started twice; were it, the panic is contained and reported.
            let factory = factory.take();
            factory.expect("a temporary child has one life")()
        });
        (spec.restart(Restart::Temporary), address)
    }

    /// Sets when the child is restarted.
    #[must_use]
    pub fn restart(mut self, restart: Restart) -> Self {
        self.rules.restart = restart;
        self
    }

    /// Sets how the child is stopped.
    #[must_use]
    pub fn shutdown(mut self, shutdown: ShutdownMode) -> Self {
        self.rules.shutdown = shutdown;
        self
    }

    /// Sets the bound of the child's mailbox in messages, at least 1. `do_send` ignores it, `try_send` keeps it.
    #[must_use]
    pub fn mailbox(self, messages: usize) -> Self {
        self.handle.0.set_capacity(messages);
        self
    }

    /// When this child ends for good, its supervisor stops the others and ends with
    /// [`ExitReason::GroupEnded`](bowline_messages::supervision::ExitReason::GroupEnded) (OTP's `significant` child).
    #[must_use]
    pub fn significant(mut self) -> Self {
        self.rules.significant = true;
        self
    }

    /// The child's id.
    #[must_use]
    pub fn id(&self) -> &str {
        self.handle.0.id()
    }

    /// Another view of the same child, for the next life of its supervisor.
    pub(crate) fn share(&self) -> Self {
        Self { handle: Rc::clone(&self.handle), rules: self.rules, supervisor: self.supervisor.clone() }
    }
}

/// Last part of the actor's type name: `SessionActor` of `bowline_actors::session::SessionActor`.
fn label<A>() -> &'static str {
    let full = type_name::<A>();
    let plain = full.split('<').next().unwrap_or(full);
    plain.rsplit("::").next().unwrap_or(plain)
}

/// To a supervisor: start one more child, behind all others. Answered at once; the address is good already.
///
/// A specification holds things that stay on their thread, so the message carries a claim on it: send it to a supervisor
/// on the thread that made it, or use [`StartChild::from_elsewhere`].
#[derive(Debug, Message)]
#[rtype(result = "Result<(), ChildError>")]
pub struct StartChild {
    content: Content,
}

enum Content {
    Here(Claim),
    Elsewhere(Box<dyn FnOnce() -> ChildSpec + Send>),
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Here(claim) => claim.fmt(f),
            Self::Elsewhere(_) => f.write_str("Elsewhere"),
        }
    }
}

impl StartChild {
    /// Starts this child.
    #[must_use]
    pub fn new(spec: ChildSpec) -> Self {
        Self { content: Content::Here(Claim::new(spec)) }
    }

    /// Starts the child whose specification `make` makes on the supervisor's thread.
    pub fn from_elsewhere(make: impl FnOnce() -> ChildSpec + Send + 'static) -> Self {
        Self { content: Content::Elsewhere(Box::new(make)) }
    }

    /// The specification; none when it was made on another thread.
    pub(crate) fn take(self) -> Option<ChildSpec> {
        match self.content {
            Content::Here(claim) => claim.take(),
            Content::Elsewhere(make) => Some(make()),
        }
    }
}

thread_local! {
    static CLAIMED: RefCell<BTreeMap<u64, ChildSpec>> = const { RefCell::new(BTreeMap::new()) };
    static NEXT_CLAIM: Cell<u64> = const { Cell::new(0) };
}

/// A specification left on its thread while a message about it travels.
#[derive(Debug)]
struct Claim {
    thread: ThreadId,
    number: u64,
}

impl Claim {
    fn new(spec: ChildSpec) -> Self {
        let number = NEXT_CLAIM.get();
        NEXT_CLAIM.set(number + 1);
        CLAIMED.with_borrow_mut(|claimed| claimed.insert(number, spec));
        Self { thread: thread::current().id(), number }
    }

    fn take(&self) -> Option<ChildSpec> {
        if self.thread != thread::current().id() {
            return None;
        }
        CLAIMED.try_with(|claimed| claimed.borrow_mut().remove(&self.number)).ok().flatten()
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // The message was dropped unhandled: the specification goes with it, and the child's address closes.
        drop(self.take());
    }
}
