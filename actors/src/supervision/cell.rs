//! What a supervisor and the task of one child share: orders down, reports up.
//!
//! Everything of one supervision tree lives on one thread, so this is plain `Cell`s: giving an order is a store and a
//! wake-up, and an idle child costs no message.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;
use std::task::Waker;

use bowline_messages::supervision::ExitReason;
use tokio::sync::oneshot;

use super::policy::Key;

/// What a child's task tells its supervisor.
#[derive(Debug)]
pub(crate) enum Report {
    /// Factory and `started` have returned.
    Started { key: Key, life: u32 },
    /// The life is over.
    Exited { key: Key, life: u32, reason: ExitReason },
}

/// Where reports go; one per life of a supervisor, shared by its children.
pub(crate) type Reporter = Rc<dyn Fn(Report)>;

/// Spawns the child's task.
pub(crate) type Launcher = Box<dyn FnOnce(Rc<ChildCell>)>;

/// Orders that a child's task has not carried out yet.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Orders {
    /// End the life at once.
    pub(crate) kill: bool,
    /// Panic in the actor's context.
    pub(crate) crash: bool,
    /// Ask the actor to stop.
    pub(crate) stop: bool,
    /// While down, drop messages instead of keeping them.
    pub(crate) park: bool,
    /// Begin this life.
    pub(crate) start: Option<(Key, u32)>,
}

/// The shared part.
pub(crate) struct ChildCell {
    id: Box<str>,
    /// Type name of the actor, for metrics: bounded, unlike ids.
    label: &'static str,
    parent: RefCell<Rc<str>>,
    capacity: Cell<usize>,
    launcher: RefCell<Option<Launcher>>,
    orders: Cell<Orders>,
    pending: Cell<bool>,
    closed: Cell<bool>,
    /// Who asked how many messages wait.
    depth: RefCell<Vec<oneshot::Sender<usize>>>,
    reporter: RefCell<Option<Reporter>>,
    waker: RefCell<Option<Waker>>,
    lives: Cell<u32>,
}

impl fmt::Debug for ChildCell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChildCell").field("id", &self.id).field("lives", &self.lives).finish_non_exhaustive()
    }
}

impl ChildCell {
    pub(crate) fn new(id: String, label: &'static str, capacity: usize, launcher: Launcher) -> Self {
        // Paths part ids by `/`.
        let id = if id.contains('/') { id.replace('/', "_") } else { id };
        Self {
            id: id.into_boxed_str(),
            label,
            parent: RefCell::new(Rc::from("")),
            capacity: Cell::new(capacity),
            launcher: RefCell::new(Some(launcher)),
            orders: Cell::default(),
            pending: Cell::new(false),
            closed: Cell::new(false),
            depth: RefCell::new(Vec::new()),
            reporter: RefCell::new(None),
            waker: RefCell::new(None),
            lives: Cell::new(0),
        }
    }

    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    pub(crate) fn label(&self) -> &'static str {
        self.label
    }

    /// Ids from the root down, parted by `/`.
    pub(crate) fn path(&self) -> String {
        let parent = self.parent.borrow();
        if parent.is_empty() { self.id.to_string() } else { format!("{parent}/{}", self.id) }
    }

    /// How often a life was begun again.
    pub(crate) fn restarts(&self) -> u32 {
        self.lives.get().saturating_sub(1)
    }

    pub(crate) fn capacity(&self) -> usize {
        self.capacity.get()
    }

    pub(crate) fn set_capacity(&self, capacity: usize) {
        self.capacity.set(capacity);
    }

    // Orders, from the supervisor.

    /// Begin a life; the first time this also spawns the task.
    pub(crate) fn start(self: &Rc<Self>, key: Key, life: u32, parent: &Rc<str>, to: &Reporter) {
        *self.parent.borrow_mut() = Rc::clone(parent);
        *self.reporter.borrow_mut() = Some(Rc::clone(to));
        self.order(|orders| {
            orders.start = Some((key, life));
            orders.stop = false;
            orders.park = false;
        });
        let launcher = self.launcher.borrow_mut().take();
        if let Some(launch) = launcher {
            launch(Rc::clone(self));
        }
    }

    pub(crate) fn stop(&self) {
        self.order(|orders| orders.stop = true);
    }

    pub(crate) fn kill(&self) {
        let mut never_began = None;
        self.order(|orders| {
            orders.kill = true;
            never_began = orders.start.take();
        });
        if let Some((key, life)) = never_began {
            let reason = ExitReason::Killed;
            self.report(Report::Exited { key, life, reason });
        }
    }

    pub(crate) fn crash(&self) {
        self.order(|orders| orders.crash = true);
    }

    pub(crate) fn park(&self) {
        self.order(|orders| orders.park = true);
    }

    /// The child is never started again: its task ends and its address closes.
    pub(crate) fn close(&self) {
        self.closed.set(true);
        drop(self.launcher.borrow_mut().take());
        self.wake();
    }

    /// Asks for the number of messages that wait; no answer when the task is gone or was never spawned.
    pub(crate) fn ask_depth(&self) -> Option<oneshot::Receiver<usize>> {
        if self.launcher.borrow().is_some() || self.closed.get() {
            return None;
        }
        let (answer, receiver) = oneshot::channel();
        self.depth.borrow_mut().push(answer);
        self.pending.set(true);
        self.wake();
        Some(receiver)
    }

    fn order(&self, change: impl FnOnce(&mut Orders)) {
        let mut orders = self.orders.get();
        change(&mut orders);
        self.orders.set(orders);
        self.pending.set(true);
        self.wake();
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.borrow().as_ref() {
            waker.wake_by_ref();
        }
    }

    // The child's task.

    #[inline]
    pub(crate) fn register(&self, waker: &Waker) {
        let mut slot = self.waker.borrow_mut();
        match slot.as_ref() {
            Some(known) if known.will_wake(waker) => {}
            Some(_) | None => *slot = Some(waker.clone()),
        }
    }

    #[inline]
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.get()
    }

    /// Orders given since the last call; `None` nearly always.
    #[inline]
    pub(crate) fn take_orders(&self) -> Option<Orders> {
        if !self.pending.replace(false) {
            return None;
        }
        let orders = self.orders.get();
        self.orders.set(Orders { park: orders.park, ..Orders::default() });
        Some(orders)
    }

    pub(crate) fn take_depth_questions(&self) -> Vec<oneshot::Sender<usize>> {
        self.depth.take()
    }

    pub(crate) fn count_life(&self) {
        self.lives.set(self.lives.get().saturating_add(1));
    }

    pub(crate) fn report(&self, report: Report) {
        let reporter = self.reporter.borrow().clone();
        if let Some(report_to) = reporter {
            report_to(report);
        }
    }
}

/// Keeps a child's task and address open; the last one dropped closes them.
#[derive(Debug)]
pub(crate) struct ChildHandle(pub(crate) Rc<ChildCell>);

impl Drop for ChildHandle {
    fn drop(&mut self) {
        self.0.close();
    }
}
