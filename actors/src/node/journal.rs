//! Keeps the last events and passes them on to whoever subscribed.
//!
//! Child of the root. A restart forgets the events and keeps the subscribers, which the factory captured.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Instant;

use actix::{Actor, Handler, Message, MessageResult, Recipient};
use bowline_messages::event::{Event, EventKind};
use bowline_messages::supervision::{ExitReason, SupervisionEvent};
use serde::{Deserialize, Serialize};

use crate::clock;
use crate::supervision::Context;

/// Events that are kept.
const EVENTS_KEPT: usize = 1024;

/// Reports what happened. From every part to the journal.
#[derive(Debug, Clone, PartialEq, Message, Serialize, Deserialize)]
#[rtype(result = "()")]
pub struct Record(pub EventKind);

/// From now on events go to this recipient as well, by `try_send`: what it has no room for it does not get.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Subscribe(pub Recipient<Event>);

/// Asks for the last events, oldest first, at most so many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Message, Serialize, Deserialize)]
#[rtype(result = "Vec<Event>")]
pub struct RecentEvents(pub usize);

/// The subscribers, which outlive a restart.
pub type Subscribers = Rc<RefCell<Vec<Recipient<Event>>>>;

/// The journal.
pub struct JournalActor {
    started: Instant,
    events: VecDeque<Event>,
    subscribers: Subscribers,
}

impl JournalActor {
    /// An empty journal of a node that started at `started`.
    pub fn new(started: Instant, subscribers: Subscribers) -> Self {
        Self { started, events: VecDeque::new(), subscribers }
    }
}

impl Actor for JournalActor {
    type Context = Context<Self>;
}

impl Handler<Record> for JournalActor {
    type Result = ();

    fn handle(&mut self, Record(kind): Record, _: &mut Self::Context) {
        let event = Event { at: clock::now().saturating_duration_since(self.started), kind };
        // Whoever asked for a listener, or opens it again, says in the log itself that it failed.
        if matches!(event.kind, EventKind::ListenFailed { .. }) {
            tracing::debug!(target: "bowline::event", event = %EventText(&event));
        } else {
            tracing::info!(target: "bowline::event", event = %EventText(&event));
        }
        self.subscribers.borrow_mut().retain(|subscriber| {
            let full = matches!(subscriber.try_send(event.clone()), Err(actix::prelude::SendError::Closed(_)));
            !full
        });
        if self.events.len() == EVENTS_KEPT {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }
}

impl Handler<SupervisionEvent> for JournalActor {
    type Result = ();

    /// Restarts and exits that were no orderly end are worth a line.
    fn handle(&mut self, event: SupervisionEvent, ctx: &mut Self::Context) {
        let kind = match event {
            SupervisionEvent::ChildStarted { path, restarts } if restarts > 0 => {
                EventKind::ChildRestarted { path, restarts: restarts.into() }
            }
            SupervisionEvent::ChildExited { path, reason }
                if reason.is_abnormal() || matches!(reason, ExitReason::GroupEnded { .. }) =>
            {
                EventKind::ChildExited { path, reason: reason.to_string() }
            }
            SupervisionEvent::ChildStarted { .. }
            | SupervisionEvent::ChildExited { .. }
            | SupervisionEvent::ChildRestarting { .. }
            | SupervisionEvent::IntensityExceeded { .. } => return,
        };
        self.handle(Record(kind), ctx);
    }
}

impl Handler<Subscribe> for JournalActor {
    type Result = ();

    fn handle(&mut self, Subscribe(recipient): Subscribe, _: &mut Self::Context) {
        self.subscribers.borrow_mut().push(recipient);
    }
}

impl Handler<RecentEvents> for JournalActor {
    type Result = MessageResult<RecentEvents>;

    fn handle(&mut self, RecentEvents(most): RecentEvents, _: &mut Self::Context) -> Self::Result {
        let skip = self.events.len().saturating_sub(most);
        MessageResult(self.events.iter().skip(skip).cloned().collect())
    }
}

/// An event on one line, as JSON: only built when the log wants it.
struct EventText<'a>(&'a Event);

impl std::fmt::Display for EventText<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match serde_json::to_string(self.0) {
            Ok(text) => f.write_str(&text),
            Err(_) => write!(f, "{:?}", self.0),
        }
    }
}
