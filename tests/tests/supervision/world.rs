//! Workers that write down what happens to them, and those who watch.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use actix::prelude::*;
use bowline_actors::supervision::{ChildSpec, Context, RootHandle, SupervisorActor, SupervisorSpec};
use bowline_messages::supervision::{
    ChildState, Down, ExitReason, Kill, Monitor, Strategy, SupervisionEvent, WhichChildren,
};

pub(crate) const MS: Duration = Duration::from_millis(1);
pub(crate) const SECOND: Duration = Duration::from_secs(1);

/// Where a worker is told to go wrong, or to end.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Where {
    Handler,
    Timer,
    Interval,
    Stream,
    Future,
    Wait,
    Stop,
    Fail,
}

/// A stage of a life in which a worker panics.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Stage {
    Factory,
    Started,
    Stopping,
    Stopped,
    Drop,
}

/// What happened, in order, and the workers that write it.
#[derive(Clone, Default)]
pub(crate) struct World {
    pub(crate) log: Rc<RefCell<Vec<String>>>,
    pub(crate) lives: Rc<Cell<u32>>,
}

impl World {
    pub(crate) fn new() -> Self {
        tokio::time::pause();
        Self::default()
    }

    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.log.borrow_mut())
    }

    pub(crate) fn root(&self, strategy: Strategy, ids: &[&'static str]) -> RootHandle {
        let spec = SupervisorSpec::new("node", strategy);
        ids.iter().fold(spec, |spec, id| spec.child(self.spec(id).0)).start_root()
    }

    pub(crate) fn spec(&self, id: &'static str) -> (ChildSpec, Addr<Worker>) {
        self.worker(id, |_| {})
    }

    pub(crate) fn worker(&self, id: &'static str, change: impl Fn(&mut Worker) + 'static) -> (ChildSpec, Addr<Worker>) {
        ChildSpec::new(id, self.factory(id, change))
    }

    pub(crate) fn factory<F: Fn(&mut Worker) + 'static>(
        &self,
        id: &'static str,
        change: F,
    ) -> impl FnMut() -> Worker + use<F> {
        let world = self.clone();
        let mut life = 0;
        move || {
            world.lives.set(world.lives.get() + 1);
            let mut worker = Worker {
                id,
                world: world.clone(),
                life,
                pings: 0,
                linger: None,
                panic_in: None,
                panic_in_life: None,
                stopped: false,
            };
            change(&mut worker);
            life += 1;
            worker.log("new");
            if worker.fails(Stage::Factory) {
                worker.stopped = true;
                panic!("fault in the factory");
            }
            worker
        }
    }

    /// Kills a child and lets what follows at once happen.
    pub(crate) async fn crash(&self, root: &RootHandle, path: &str) {
        self.kill(root, path).await;
        settle().await;
    }

    pub(crate) async fn kill(&self, root: &RootHandle, path: &str) {
        while root.address().send(Kill { path: path.into() }).await.unwrap().is_err() {
            tokio::time::sleep(5 * MS).await;
        }
        // The child panics, and its supervisor hears of it.
        for _ in 0..5 {
            tokio::task::yield_now().await;
        }
    }

    pub(crate) async fn state(&self, root: &RootHandle, id: &str) -> ChildState {
        let children = root.address().send(WhichChildren).await.unwrap();
        children.iter().find(|child| child.id == id).unwrap().state
    }

    pub(crate) async fn watch(&self, root: &RootHandle, path: &str) -> Downs {
        let (sender, receiver) = tokio::sync::mpsc::channel(16);
        let recipient = Context::run(16, Watcher(sender)).recipient();
        let path = path.to_string();
        root.address().send(Monitor { path, recipient }).await.unwrap();
        Downs(receiver)
    }
}

pub(crate) async fn settle() {
    tokio::time::sleep(2 * MS).await;
}

pub(crate) async fn ids(root: &RootHandle) -> Vec<String> {
    let children = root.address().send(WhichChildren).await.unwrap();
    children.into_iter().map(|child| child.id).collect()
}

pub(crate) fn one(child: ChildSpec) -> RootHandle {
    SupervisorSpec::new("node", Strategy::OneForOne).child(child).start_root()
}

pub(crate) struct Downs(pub(crate) tokio::sync::mpsc::Receiver<Down>);

impl Downs {
    pub(crate) async fn next(&mut self) -> Down {
        self.0.recv().await.unwrap()
    }

    pub(crate) async fn next_reason(&mut self) -> ExitReason {
        self.next().await.reason
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

pub(crate) struct Watcher(pub(crate) tokio::sync::mpsc::Sender<Down>);

impl Actor for Watcher {
    type Context = Context<Self>;
}

impl Handler<Down> for Watcher {
    type Result = ();

    fn handle(&mut self, down: Down, _: &mut Context<Self>) {
        self.0.try_send(down).unwrap();
    }
}

pub(crate) struct Sink(pub(crate) Rc<RefCell<Vec<SupervisionEvent>>>);

impl Sink {
    pub(crate) fn start() -> (Recipient<SupervisionEvent>, Rc<RefCell<Vec<SupervisionEvent>>>) {
        let events = Rc::default();
        (Context::run(64, Self(Rc::clone(&events))).recipient(), events)
    }
}

impl Actor for Sink {
    type Context = Context<Self>;
}

impl Handler<SupervisionEvent> for Sink {
    type Result = ();

    fn handle(&mut self, event: SupervisionEvent, _: &mut Context<Self>) {
        self.0.borrow_mut().push(event);
    }
}

pub(crate) struct Plain;

impl Actor for Plain {
    type Context = Context<Self>;
}

/// An actor that writes down what happens to it.
pub(crate) struct Worker {
    pub(crate) id: &'static str,
    pub(crate) world: World,
    pub(crate) life: u32,
    pub(crate) pings: u32,
    pub(crate) linger: Option<Duration>,
    pub(crate) panic_in: Option<Stage>,
    pub(crate) panic_in_life: Option<(u32, Stage)>,
    pub(crate) stopped: bool,
}

impl Worker {
    pub(crate) fn log(&self, what: &str) {
        self.world.log.borrow_mut().push(format!("{} {what}", self.id));
    }

    pub(crate) fn fails(&self, stage: Stage) -> bool {
        self.panic_in == Some(stage) || self.panic_in_life == Some((self.life, stage))
    }
}

impl Actor for Worker {
    type Context = Context<Self>;

    fn started(&mut self, _: &mut Context<Self>) {
        assert!(!self.fails(Stage::Started), "fault in started");
        self.log("started");
    }

    fn stopping(&mut self, ctx: &mut Context<Self>) -> Running {
        assert!(!self.fails(Stage::Stopping), "fault in stopping");
        match self.linger.take() {
            Some(time) => {
                self.log("lingers");
                ctx.run_later(time, |_, ctx| ctx.stop());
                Running::Continue
            }
            None => Running::Stop,
        }
    }

    fn stopped(&mut self, _: &mut Context<Self>) {
        assert!(!self.fails(Stage::Stopped), "fault in stopped");
        self.stopped = true;
        self.log("stopped");
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if !self.stopped {
            self.log("dropped");
        }
        if !std::thread::panicking() {
            assert!(!self.fails(Stage::Drop), "fault in drop");
        }
    }
}

#[derive(Message)]
#[rtype(result = "u32")]
pub(crate) struct Ping;

impl Handler<Ping> for Worker {
    type Result = u32;

    fn handle(&mut self, _: Ping, _: &mut Context<Self>) -> u32 {
        self.pings += 1;
        self.pings
    }
}

#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Stop;

impl Handler<Stop> for Worker {
    type Result = ();

    fn handle(&mut self, _: Stop, ctx: &mut Context<Self>) {
        ctx.stop();
    }
}

#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Fail;

impl Handler<Fail> for Worker {
    type Result = ();

    fn handle(&mut self, _: Fail, ctx: &mut Context<Self>) {
        ctx.stop_with(ExitReason::Failed { message: "no luck".into() });
    }
}

#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Note(pub(crate) &'static str);

impl Handler<Note> for Worker {
    type Result = ();

    fn handle(&mut self, Note(text): Note, _: &mut Context<Self>) {
        self.world.log.borrow_mut().push(format!("{}: {text}", self.id));
    }
}

/// Handle nothing else for this long.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Hold(pub(crate) Duration);

impl Handler<Hold> for Worker {
    type Result = ();

    fn handle(&mut self, Hold(time): Hold, ctx: &mut Context<Self>) {
        ctx.wait(tokio::time::sleep(time).into_actor(self));
    }
}

/// Write something down later.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Later(pub(crate) Duration);

impl Handler<Later> for Worker {
    type Result = ();

    fn handle(&mut self, Later(time): Later, ctx: &mut Context<Self>) {
        ctx.run_later(time, |worker, _| worker.log("timer"));
        ctx.run_interval(time, |worker, _| worker.log("interval"));
        ctx.spawn(tokio::time::sleep(time).into_actor(self).map(|(), worker, _| worker.log("future")));
    }
}

/// Answer in an hour.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Slow;

impl Handler<Slow> for Worker {
    type Result = ResponseActFuture<Self, ()>;

    fn handle(&mut self, _: Slow, _: &mut Context<Self>) -> Self::Result {
        Box::pin(tokio::time::sleep(3600 * SECOND).into_actor(self))
    }
}

#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Fault(pub(crate) Where);

impl Handler<Fault> for Worker {
    type Result = ();

    fn handle(&mut self, Fault(place): Fault, ctx: &mut Context<Self>) {
        match place {
            Where::Handler => panic!("fault in a handler"),
            Where::Timer => {
                ctx.run_later(MS, |_, _| panic!("fault in a timer"));
            }
            Where::Interval => {
                ctx.run_interval(MS, |_, _| panic!("fault in an interval"));
            }
            Where::Stream => {
                ctx.add_stream(futures_util::stream::iter([1]));
            }
            Where::Future => {
                ctx.spawn(async { panic!("fault in a future") }.into_actor(self));
            }
            Where::Wait => ctx.wait(async { panic!("fault in a wait future") }.into_actor(self)),
            Where::Stop => ctx.stop(),
            Where::Fail => ctx.stop_with(ExitReason::Failed { message: "told to".into() }),
        }
    }
}

impl StreamHandler<i32> for Worker {
    fn handle(&mut self, _: i32, _: &mut Context<Self>) {
        panic!("fault in a stream");
    }
}

/// The addresses of supervisors can be kept and sent anywhere.
#[allow(dead_code)]
pub(crate) fn addresses_are_send(address: Addr<SupervisorActor>, root: RootHandle) -> impl Send {
    (address, root)
}
