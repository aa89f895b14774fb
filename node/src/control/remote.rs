//! The way from the threads of the control interface to the node's own thread: work is sent over and its result comes back.
//!
//! The actor is a child of `app`, permanent. A restart forgets nothing; work under way is lost, and who waits for it is told so.

use std::future::Future;
use std::rc::Rc;

use actix::{Actor, Addr, AsyncContext as _, Handler, Message, WrapFuture as _};
use bowline_actors::supervision::Context;
use futures_util::future::LocalBoxFuture;
use tokio::sync::oneshot;

use super::running::Running;
use crate::exit::{Exit, Failure};

/// Work waiting for the node's thread, at most.
pub(crate) const MAILBOX: usize = 256;

/// Does work on the node's thread.
pub(crate) struct ControlActor {
    running: Rc<Running>,
}

impl ControlActor {
    /// An actor that works on this node.
    pub(crate) fn new(running: Rc<Running>) -> Self {
        Self { running }
    }
}

impl Actor for ControlActor {
    type Context = Context<Self>;
}

type Work = Box<dyn FnOnce(Rc<Running>) -> LocalBoxFuture<'static, ()> + Send>;

/// Work to be done.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Run(Work);

impl Handler<Run> for ControlActor {
    type Result = ();

    fn handle(&mut self, Run(work): Run, ctx: &mut Self::Context) {
        ctx.spawn(work(self.running.clone()).into_actor(self));
    }
}

/// Reaches the node's thread from any other. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Remote {
    actor: Addr<ControlActor>,
}

impl Remote {
    /// The way to this actor.
    pub(crate) fn new(actor: Addr<ControlActor>) -> Self {
        Self { actor }
    }

    /// Does work on the node's thread and waits for its result. Dropping the future does not stop the work.
    ///
    /// # Errors
    /// What the work gives; [`Exit::NodeNotReachable`] when the node is shutting down or too busy.
    pub(crate) async fn run<T, F, W>(&self, work: F) -> Result<T, Failure>
    where
        T: Send + 'static,
        F: FnOnce(Rc<Running>) -> W + Send + 'static,
        W: Future<Output = Result<T, Failure>> + 'static,
    {
        let (done, result) = oneshot::channel();
        let work: Work = Box::new(move |running| {
            Box::pin(async move {
                // Whoever asked may have given up.
                let _ = done.send(work(running).await);
            })
        });
        self.actor
            .try_send(Run(work))
            .map_err(|_| Failure::new(Exit::NodeNotReachable, "the node is too busy, or ending"))?;
        result.await.map_err(|_| Failure::new(Exit::NodeNotReachable, "the node is ending"))?
    }
}
