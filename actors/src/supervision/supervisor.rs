//! The supervisor actor: carries out what the [policy](super::policy) decides.
//!
//! It owns the records of its children; their tasks own the actors. A supervisor is itself a child of another, or the
//! root. A restart of it keeps the specifications it was made with and thereby the addresses and mailboxes of those
//! children, each of which begins a new life; children added at run time end with the life of the supervisor.

use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;
use std::time::Instant;

use actix::prelude::{Actor, AsyncContext, Handler, Message, Recipient, ResponseFuture, Running};
use bowline_messages::supervision::{
    ChildError, ChildState, DeleteChild, Down, ExitReason, Kill, Monitor, Restart, RestartChild, Shutdown,
    SupervisionEvent, TerminateChild,
};
use tokio::sync::oneshot;

use super::cell::{ChildHandle, Report, Reporter};
use super::child_spec::{ChildSpec, StartChild};
use super::context::Context;
use super::policy::{Key, Named, Output, Policy};
use super::rules::OnExceeded;
use super::supervisor_spec::{Below, Plan};
use crate::clock;
use crate::pump::{Pump, Pumped, arm};

/// What a supervisor keeps with each child.
pub(crate) struct Child {
    pub(crate) handle: Rc<ChildHandle>,
    pub(crate) restart: Restart,
    /// Set for children that are supervisors.
    pub(crate) below: Option<Rc<Below>>,
    pub(crate) last_error: Option<Box<str>>,
    /// Label of the reason its last life ended for.
    last_exit: &'static str,
    /// Who watches the present life, with the path they asked for.
    monitors: Vec<Watch>,
}

type Watch = (Box<str>, Recipient<Down>);

impl Child {
    fn new(spec: ChildSpec) -> Self {
        Self {
            handle: spec.handle,
            restart: spec.rules.restart,
            below: spec.supervisor,
            last_error: None,
            last_exit: "",
            monitors: Vec::new(),
        }
    }

    fn path(&self) -> String {
        self.handle.0.path()
    }

    /// The present life ended: remember why, tell who watched it.
    fn life_ended(&mut self, reason: &ExitReason) {
        self.last_exit = reason.label();
        if reason.is_abnormal() {
            self.last_error = Some(reason.to_string().into_boxed_str());
        }
        for (path, recipient) in std::mem::take(&mut self.monitors) {
            let reason = reason.clone();
            let path = path.into_string();
            // One message for each request: the requests bound it.
            recipient.do_send(Down { path, reason });
        }
    }
}

impl Named for Child {
    fn id(&self) -> &str {
        self.handle.0.id()
    }
}

/// A supervisor.
pub struct SupervisorActor {
    pub(crate) policy: Policy<Child>,
    pub(crate) since: Instant,
    keys: BTreeMap<Rc<str>, Key>,
    to_start: Vec<ChildSpec>,
    path: Rc<str>,
    reporter: Option<Reporter>,
    events: Option<Recipient<SupervisionEvent>>,
    /// Who waits for a child to be down.
    waiting: BTreeMap<Key, Vec<oneshot::Sender<()>>>,
    random: u64,
    ended: bool,
    pump: Pump,
}

impl fmt::Debug for SupervisorActor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SupervisorActor")
            .field("path", &self.path)
            .field("children", &self.policy.len())
            .finish_non_exhaustive()
    }
}

impl SupervisorActor {
    pub(super) fn new(plan: &Plan) -> Self {
        let life = plan.lives.get();
        plan.lives.set(life.wrapping_add(1));
        let first_key = u64::from(life) << 32;
        Self {
            policy: Policy::new(plan.spec.rules, first_key),
            since: clock::now(),
            keys: BTreeMap::new(),
            to_start: plan.spec.children.iter().map(ChildSpec::share).collect(),
            path: Rc::from(""),
            reporter: None,
            events: plan.spec.events.clone(),
            waiting: BTreeMap::new(),
            random: plan.spec.seed ^ first_key,
            ended: false,
            pump: Pump::new(),
        }
    }
}

impl Actor for SupervisorActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        self.path = Rc::from(ctx.path());
        let own = ctx.address();
        self.reporter = Some(Rc::new(move |report| own.do_send(report)));
        let children: Vec<_> =
            std::mem::take(&mut self.to_start).into_iter().map(|spec| (spec.rules, Child::new(spec))).collect();
        let outputs = self.policy.on_start(clock::now(), children);
        for (key, child) in self.policy.iter() {
            self.keys.insert(Rc::from(child.id()), key);
        }
        self.carry_out(outputs, ctx);
    }

    /// A supervisor that is asked to stop first stops its children.
    fn stopping(&mut self, ctx: &mut Context<Self>) -> Running {
        if !self.ended {
            let outputs = self.policy.on_shutdown(clock::now(), ExitReason::Shutdown);
            self.carry_out(outputs, ctx);
        }
        if self.ended { Running::Stop } else { Running::Continue }
    }
}

impl Drop for SupervisorActor {
    /// A supervisor that crashes, or is cut off, takes its children with it.
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        let keys: Vec<Key> = self.policy.iter().map(|(key, _)| key).collect();
        for key in keys.into_iter().rev() {
            if let Some(child) = self.policy.get_mut(key) {
                child.handle.0.kill();
                child.life_ended(&ExitReason::Killed);
            }
        }
    }
}

impl Pumped for SupervisorActor {
    fn pump(&mut self) -> &mut Pump {
        &mut self.pump
    }

    fn on_deadline(&mut self, ctx: &mut Context<Self>) {
        let outputs = self.policy.on_timeout(clock::now());
        self.carry_out(outputs, ctx);
    }
}

impl Message for Report {
    type Result = ();
}

impl Handler<Report> for SupervisorActor {
    type Result = ();

    fn handle(&mut self, report: Report, ctx: &mut Context<Self>) {
        let now = clock::now();
        let outputs = match report {
            Report::Started { key, life } => {
                if self.policy.is_alive(key, life) {
                    self.tell(key, |child| SupervisionEvent::ChildStarted {
                        path: child.path(),
                        restarts: child.handle.0.restarts(),
                    });
                }
                self.policy.on_started(now, key, life)
            }
            Report::Exited { key, life, reason } => {
                if self.policy.is_alive(key, life) {
                    self.life_ended(key, &reason);
                }
                let random = self.next_random();
                self.policy.on_exit(now, key, life, &reason, random)
            }
        };
        self.carry_out(outputs, ctx);
    }
}

impl Handler<StartChild> for SupervisorActor {
    type Result = Result<(), ChildError>;

    fn handle(&mut self, message: StartChild, ctx: &mut Context<Self>) -> Self::Result {
        let Some(spec) = message.take() else {
            tracing::error!(supervisor = %self.path, "StartChild::new was sent to another thread");
            return Err(ChildError::NotFound { id: String::new() });
        };
        let id: Rc<str> = Rc::from(spec.id());
        if self.keys.contains_key(&id) {
            return Err(ChildError::AlreadyPresent { id: id.to_string() });
        }
        let rules = spec.rules;
        let added = self.policy.on_add(clock::now(), rules, Child::new(spec));
        let (key, outputs) = added.ok_or(ChildError::ShuttingDown)?;
        self.keys.insert(id, key);
        self.carry_out(outputs, ctx);
        Ok(())
    }
}

impl Handler<TerminateChild> for SupervisorActor {
    type Result = ResponseFuture<Result<(), ChildError>>;

    fn handle(&mut self, message: TerminateChild, ctx: &mut Context<Self>) -> Self::Result {
        let ordered = self.key(&message.id).and_then(|key| {
            let (answer, down) = oneshot::channel();
            self.waiting.entry(key).or_default().push(answer);
            let outputs = self.policy.on_terminate(clock::now(), key)?;
            self.carry_out(outputs, ctx);
            Ok(down)
        });
        Box::pin(async move { ordered?.await.map_err(|_| ChildError::ShuttingDown) })
    }
}

impl Handler<RestartChild> for SupervisorActor {
    type Result = Result<(), ChildError>;

    fn handle(&mut self, message: RestartChild, ctx: &mut Context<Self>) -> Self::Result {
        let key = self.key(&message.id)?;
        let outputs = self.policy.on_restart(clock::now(), key)?;
        self.carry_out(outputs, ctx);
        Ok(())
    }
}

impl Handler<DeleteChild> for SupervisorActor {
    type Result = Result<(), ChildError>;

    fn handle(&mut self, message: DeleteChild, ctx: &mut Context<Self>) -> Self::Result {
        let key = self.key(&message.id)?;
        let outputs = self.policy.on_delete(key)?;
        self.carry_out(outputs, ctx);
        Ok(())
    }
}

impl Handler<Shutdown> for SupervisorActor {
    type Result = ();

    fn handle(&mut self, _: Shutdown, ctx: &mut Context<Self>) {
        let outputs = self.policy.on_shutdown(clock::now(), ExitReason::Shutdown);
        self.carry_out(outputs, ctx);
    }
}

impl Handler<Kill> for SupervisorActor {
    type Result = ResponseFuture<Result<(), ChildError>>;

    fn handle(&mut self, Kill { path }: Kill, _: &mut Context<Self>) -> Self::Result {
        let (id, rest) = split(&path);
        let child = self.running(id);
        match (child, rest) {
            (Ok(child), None) => {
                child.handle.0.crash();
                Box::pin(async { Ok(()) })
            }
            (Ok(child), Some(rest)) => match &child.below {
                Some(below) => {
                    let path = rest.to_owned();
                    let forwarded = below.address.send(Kill { path });
                    Box::pin(async { forwarded.await.unwrap_or(Err(ChildError::ShuttingDown)) })
                }
                None => Box::pin(async { Err(ChildError::NotFound { id: path }) }),
            },
            (Err(error), _) => Box::pin(async { Err(error) }),
        }
    }
}

impl Handler<Monitor> for SupervisorActor {
    type Result = ();

    fn handle(&mut self, message: Monitor, _: &mut Context<Self>) {
        let rest = message.path.clone();
        self.watch(&rest, (message.path.into_boxed_str(), message.recipient));
    }
}

/// A [`Monitor`] on its way down: the rest of the path, and the request.
struct WatchBelow {
    rest: String,
    watch: Watch,
}

impl Message for WatchBelow {
    type Result = ();
}

impl Handler<WatchBelow> for SupervisorActor {
    type Result = ();

    fn handle(&mut self, message: WatchBelow, _: &mut Context<Self>) {
        self.watch(&message.rest, message.watch);
    }
}

impl SupervisorActor {
    /// Carries out what the policy decided, and keeps its timer.
    fn carry_out(&mut self, outputs: Vec<Output<Child>>, ctx: &mut Context<Self>) {
        for output in outputs {
            match output {
                Output::Start { key, life } => self.start_child(key, life),
                Output::Stop { key } => self.with(key, |child| child.handle.0.stop()),
                Output::Kill { key } => self.with(key, |child| child.handle.0.kill()),
                Output::Park { key } => {
                    self.with(key, park);
                    self.answer_waiting(key);
                }
                Output::Removed { key, data } => {
                    // One of the specification stays known to it, for the supervisor's next life: its address is open.
                    park(&data);
                    self.keys.remove(data.id());
                    self.answer_waiting(key);
                }
                Output::Abandoned { key } => {
                    let path = self.policy.get(key).map(Child::path).unwrap_or_default();
                    tracing::error!(actor = %path, "actor hangs: cut off, and still not ended");
                    self.life_ended(key, &ExitReason::Killed);
                }
                Output::WillRestart { key, delay } => {
                    self.tell(key, |child| SupervisionEvent::ChildRestarting { path: child.path(), delay });
                }
                Output::Exceeded { key } => self.exceeded(key),
                Output::Exit(reason) => {
                    self.ended = true;
                    ctx.stop_with(reason);
                }
            }
        }
        let deadline = self.policy.deadline();
        arm(self, ctx, deadline);
    }

    fn start_child(&mut self, key: Key, life: u32) {
        let Some(reporter) = &self.reporter else {
            return;
        };
        if let Some(child) = self.policy.get(key) {
            let cell = &child.handle.0;
            if !child.last_exit.is_empty() {
                let labels = [("actor", cell.label()), ("reason", child.last_exit)];
                metrics::counter!("bowline_actor_restarts_total", &labels).increment(1);
            }
            cell.start(key, life, &self.path, reporter);
        }
    }

    fn life_ended(&mut self, key: Key, reason: &ExitReason) {
        if let Some(child) = self.policy.get_mut(key) {
            child.life_ended(reason);
        }
        self.tell(key, |child| SupervisionEvent::ChildExited { path: child.path(), reason: reason.clone() });
    }

    fn exceeded(&self, key: Key) {
        let escalates = self.policy.rules().on_exceeded == OnExceeded::Escalate;
        let child = self.policy.get(key).map_or("", |child| child.id());
        tracing::error!(supervisor = %self.path, child, escalates, "restart intensity exceeded");
        self.tell(key, |child| SupervisionEvent::IntensityExceeded {
            path: self.path.to_string(),
            child: child.id().to_owned(),
            escalates,
        });
    }

    fn tell(&self, key: Key, event: impl FnOnce(&Child) -> SupervisionEvent) {
        let Some(events) = &self.events else { return };
        if let Some(child) = self.policy.get(key)
            && events.try_send(event(child)).is_err()
        {
            metrics::counter!("bowline_supervision_events_dropped_total").increment(1);
        }
    }

    fn with(&self, key: Key, order: impl FnOnce(&Child)) {
        if let Some(child) = self.policy.get(key) {
            order(child);
        }
    }

    fn answer_waiting(&mut self, key: Key) {
        for answer in self.waiting.remove(&key).unwrap_or_default() {
            // Whoever asked may have stopped waiting.
            let _ = answer.send(());
        }
    }

    fn watch(&mut self, path: &str, watch: Watch) {
        let (id, rest) = split(path);
        let key = self.running(id).and_then(|_| self.key(id));
        let child = key.ok().and_then(|key| self.policy.get_mut(key));
        match (child, rest) {
            (Some(child), None) => child.monitors.push(watch),
            (Some(child), Some(rest)) if child.below.is_some() => {
                let rest = rest.to_owned();
                if let Some(below) = &child.below {
                    below.address.do_send(WatchBelow { rest, watch });
                }
            }
            (Some(_) | None, _) => {
                let (path, recipient) = watch;
                recipient.do_send(Down { path: path.into_string(), reason: ExitReason::NoActor });
            }
        }
    }

    fn key(&self, id: &str) -> Result<Key, ChildError> {
        let key = self.keys.get(id).copied();
        key.ok_or_else(|| ChildError::NotFound { id: id.to_owned() })
    }

    /// The child, if it has a life.
    fn running(&self, id: &str) -> Result<&Child, ChildError> {
        let key = self.key(id)?;
        let not_running = || ChildError::NotRunning { id: id.to_owned() };
        match self.policy.state(key) {
            Some(ChildState::Starting | ChildState::Running | ChildState::Stopping) => {
                self.policy.get(key).ok_or_else(not_running)
            }
            Some(ChildState::Restarting | ChildState::Down) | None => Err(not_running()),
        }
    }

    /// The next number of a splitmix64 sequence: jitter needs to be repeatable and spread out, no more.
    fn next_random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }
}

fn park(child: &Child) {
    child.handle.0.park();
    if let Some(below) = &child.below {
        below.park();
    }
}

/// First id of a path, and the rest.
fn split(path: &str) -> (&str, Option<&str>) {
    path.split_once('/').map_or((path, None), |(id, rest)| (id, Some(rest)))
}
