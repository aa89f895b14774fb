//! What a supervisor is made from, and the handle of a running tree.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use actix::prelude::{Addr, Recipient};
use bowline_messages::supervision::{ExitReason, Shutdown, ShutdownMode, Strategy, SupervisionEvent};
use tokio::sync::watch;

use super::cell::{Report, Reporter};
use super::child_spec::ChildSpec;
use super::rules::{Backoff, Intensity, OnExceeded, Rules};
use super::supervisor::SupervisorActor;

/// Bound of a supervisor's mailbox: orders from outside; reports of children are not bounded by it.
const MAILBOX: usize = 64;

/// Specification of a supervisor: its rules, and the children it starts with.
#[derive(Debug)]
pub struct SupervisorSpec {
    pub(super) id: String,
    pub(super) rules: Rules,
    pub(super) seed: u64,
    pub(super) events: Option<Recipient<SupervisionEvent>>,
    pub(super) children: Vec<ChildSpec>,
}

impl SupervisorSpec {
    /// A supervisor without children yet. Defaults: five restarts in sixty seconds, back-off 100 ms to 30 s, escalates.
    pub fn new(id: impl Into<String>, strategy: Strategy) -> Self {
        Self {
            id: id.into(),
            rules: Rules {
                strategy,
                intensity: Intensity::default(),
                backoff: Backoff::default(),
                on_exceeded: OnExceeded::default(),
            },
            seed: 0,
            events: None,
            children: Vec::new(),
        }
    }

    /// Sets how many restarts within which period are too many.
    #[must_use]
    pub fn intensity(mut self, intensity: Intensity) -> Self {
        self.rules.intensity = intensity;
        self
    }

    /// Sets the wait before restarts.
    #[must_use]
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.rules.backoff = backoff;
        self
    }

    /// Sets what happens when the intensity is exceeded.
    #[must_use]
    pub fn on_exceeded(mut self, on_exceeded: OnExceeded) -> Self {
        self.rules.on_exceeded = on_exceeded;
        self
    }

    /// Sets the seed of the jitter between restarts; the same seed gives the same waits.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Sends an event for every start, exit, restart and escalation among the children. It is sent with `try_send`: one
    /// that finds the mailbox full is counted in `bowline_supervision_events_dropped_total` and dropped.
    #[must_use]
    pub fn events(mut self, recipient: Recipient<SupervisionEvent>) -> Self {
        self.events = Some(recipient);
        self
    }

    /// Adds a child; they start in the order they were added.
    ///
    /// # Panics
    /// When a child of that id was added before: a mistake in the program.
    #[must_use]
    pub fn child(mut self, child: ChildSpec) -> Self {
        let taken = self.children.iter().any(|other| other.id() == child.id());
        assert!(!taken, "child `{}` is there already", child.id());
        self.children.push(child);
        self
    }

    /// Makes this supervisor a child of another: permanent, and given as long as it needs to stop.
    #[must_use]
    pub fn into_child(self) -> (ChildSpec, Addr<SupervisorActor>) {
        let id = self.id.clone();
        let plan = Rc::new(Plan { spec: self, lives: Cell::new(0) });
        let start_from = Rc::clone(&plan);
        let (spec, address) = ChildSpec::new(id, move || SupervisorActor::new(&start_from));
        let mut spec = spec.shutdown(ShutdownMode::Infinity).mailbox(MAILBOX);
        spec.supervisor = Some(Rc::new(Below { address: address.clone(), plan }));
        (spec, address)
    }

    /// Starts this supervisor as the root of a tree, on the present arbiter.
    #[must_use]
    pub fn start_root(self) -> RootHandle {
        let (spec, address) = self.into_child();
        let (told, exit) = watch::channel(None);
        let handle = RefCell::new(Some(Rc::clone(&spec.handle)));
        let reporter: Reporter = Rc::new(move |report| match report {
            Report::Started { .. } => {}
            Report::Exited { reason, .. } => {
                // Letting go of the handle ends the root's task and closes its address.
                drop(handle.borrow_mut().take());
                told.send_replace(Some(reason));
            }
        });
        spec.handle.0.start(0, 1, &Rc::from(""), &reporter);
        RootHandle { address, exit }
    }
}

/// A running tree.
#[derive(Debug, Clone)]
pub struct RootHandle {
    address: Addr<SupervisorActor>,
    exit: watch::Receiver<Option<ExitReason>>,
}

impl RootHandle {
    /// The root supervisor.
    #[must_use]
    pub fn address(&self) -> &Addr<SupervisorActor> {
        &self.address
    }

    /// Waits for the end of the tree. A node turns the reason into its exit code with [`ExitReason::exit_code`].
    pub async fn wait(&self) -> ExitReason {
        let mut exit = self.exit.clone();
        let ended = exit.wait_for(Option::is_some).await;
        // The sender is dropped without a word only when the runtime dies with the tree running.
        ended.map_or(ExitReason::Killed, |reason| reason.clone().unwrap_or(ExitReason::Killed))
    }

    /// Stops the tree in good order, children in reverse order of their start, and waits for the end.
    pub async fn shutdown(&self) -> ExitReason {
        self.address.do_send(Shutdown);
        self.wait().await
    }
}

/// What every life of a supervisor starts from.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(super) spec: SupervisorSpec,
    pub(super) lives: Cell<u32>,
}

/// A supervisor as its parent knows it.
#[derive(Debug)]
pub(crate) struct Below {
    pub(crate) address: Addr<SupervisorActor>,
    plan: Rc<Plan>,
}

impl Below {
    /// The supervisor stays down, and so do its children: they drop their messages too.
    pub(super) fn park(&self) {
        for child in &self.plan.spec.children {
            child.handle.0.park();
            if let Some(below) = &child.supervisor {
                below.park();
            }
        }
    }
}
