//! The application of a simulated node: collects what peers send, writes it to the log, and can stop reading.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

use actix::{Actor, AsyncContext, Handler, Message, WrapFuture};
use bowline_messages::event::{Event, EventKind};
use bowline_messages::session::{Inbox, Received};
use bowline_messages::{ChannelId, PeerId};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;

use crate::session::stream::IncomingStream;
use crate::supervision::Context;
use crate::testing::log::{Log, camel};

/// What the applications of all lives of a node have in common.
pub(super) struct AppShared {
    pub(super) node: String,
    pub(super) log: Rc<Log>,
    pub(super) received: RefCell<Vec<(PeerId, Received)>>,
    /// The last number that came in each channel of each session.
    last: RefCell<BTreeMap<(PeerId, ChannelId), u64>>,
    /// What broke the promise of "once, in order".
    pub(super) violations: RefCell<Vec<String>>,
    pub(super) reading: Cell<bool>,
    pub(super) waiting: RefCell<Vec<Waker>>,
}

impl AppShared {
    pub(super) fn new(node: &str, log: &Rc<Log>) -> Rc<Self> {
        Rc::new(Self {
            node: node.to_owned(),
            log: Rc::clone(log),
            received: RefCell::default(),
            last: RefCell::default(),
            violations: RefCell::default(),
            reading: Cell::new(true),
            waiting: RefCell::default(),
        })
    }

    /// Numbers of channels start over: a process or a session began anew.
    pub(super) fn forget_numbers(&self, peer: Option<PeerId>) {
        self.last.borrow_mut().retain(|(known, _), _| peer.is_some_and(|peer| peer != *known));
    }

    fn take(&self, peer: PeerId, message: Received, via: &str) {
        let mut last = self.last.borrow_mut();
        let before = last.insert((peer, message.channel), message.sequence);
        if before.is_some_and(|before| before >= message.sequence) {
            let (channel, sequence) = (message.channel.0, message.sequence);
            let text = format!("{} got {sequence} after {before:?} on channel {channel}", self.node);
            self.violations.borrow_mut().push(text);
        }
        let app = format!("{}.app", self.node);
        let fields = json!({
            "peer": peer, "channel": message.channel, "sequence": message.sequence, "class": message.class,
            "payload": shown(&message.payload), "via": via,
        });
        self.log.add_value(&format!("{}.session", self.node), &app, "Received", &fields);
        self.received.borrow_mut().push((peer, message));
    }
}

/// Content as the log shows it.
fn shown(payload: &[u8]) -> Value {
    match std::str::from_utf8(payload) {
        Ok(text) if text.len() <= 64 && text.chars().all(|c| !c.is_control()) => Value::String(text.into()),
        _ => Value::String(format!("({} bytes)", payload.len())),
    }
}

/// The application.
pub(crate) struct App(pub(super) Rc<AppShared>);

impl Actor for App {
    type Context = Context<Self>;
}

impl App {
    /// Writes to the log what the node's group told it.
    pub(super) fn note(&self, name: &str, fields: &Value) {
        let node = &self.0.node;
        self.0.log.add_value(&format!("{node}.group"), &format!("{node}.app"), name, fields);
    }
}

impl Handler<Inbox> for App {
    type Result = ();

    fn handle(&mut self, inbox: Inbox, _: &mut Self::Context) {
        let via = inbox.via.transport.to_string();
        for message in inbox.messages {
            self.0.take(inbox.peer, message, &via);
        }
    }
}

/// Stop reading until told otherwise.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct StopReading;

impl Handler<StopReading> for App {
    type Result = ();

    fn handle(&mut self, _: StopReading, ctx: &mut Self::Context) {
        let shared = Rc::clone(&self.0);
        let resumed = poll_fn(move |cx| {
            if shared.reading.get() {
                return Poll::Ready(());
            }
            shared.waiting.borrow_mut().push(cx.waker().clone());
            Poll::Pending
        });
        ctx.wait(resumed.into_actor(self));
    }
}

impl Handler<IncomingStream> for App {
    type Result = ();

    fn handle(&mut self, incoming: IncomingStream, ctx: &mut Self::Context) {
        let shared = Rc::clone(&self.0);
        let label = String::from_utf8_lossy(&incoming.label).into_owned();
        let (from, to) = (format!("{}.session", shared.node), format!("{}.app", shared.node));
        shared.log.add_value(&from, &to, "StreamOpened", &json!({ "peer": incoming.peer, "label": label }));
        let read = async move {
            let (mut stream, mut bytes, mut intact) = (incoming.stream, 0_u64, true);
            let mut buffer = vec![0; 16 * 1024];
            let end = loop {
                match stream.read(&mut buffer).await {
                    Ok(0) => break "finished".to_owned(),
                    Ok(count) => {
                        for byte in &buffer[..count] {
                            intact &= *byte == pattern(bytes);
                            bytes += 1;
                        }
                    }
                    Err(error) => break error.to_string(),
                }
            };
            let fields = json!({ "peer": incoming.peer, "label": label, "bytes": bytes, "intact": intact, "end": end });
            shared.log.add_value(&from, &to, "StreamEnded", &fields);
        };
        ctx.spawn(read.into_actor(self));
    }
}

/// The byte at a position of every stream that a simulation writes.
pub(super) fn pattern(position: u64) -> u8 {
    u8::try_from(position % 251).unwrap_or(0)
}

/// Writes the events of a node to the log.
pub(super) struct Recorder(pub(super) Rc<AppShared>);

impl Actor for Recorder {
    type Context = Context<Self>;
}

impl Handler<Event> for Recorder {
    type Result = ();

    fn handle(&mut self, event: Event, _: &mut Self::Context) {
        let shared = &self.0;
        if let EventKind::LinkUp { link, .. } = &event.kind {
            shared.log.name_link(&shared.node, link.id.0.into(), link.transport.as_str());
        }
        if let EventKind::SessionDown { peer, .. } | EventKind::PeerRestarted { peer, .. } = &event.kind {
            shared.forget_numbers(Some(*peer));
        }
        let Ok(Value::Object(mut fields)) = serde_json::to_value(&event.kind) else { return };
        let name = fields.remove("event").and_then(|name| name.as_str().map(camel)).unwrap_or_default();
        shared.log.add_value(&format!("{}.journal", shared.node), "log", &name, &Value::Object(fields));
    }
}
