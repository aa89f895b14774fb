//! The health monitor of one transport: takes what sessions report to its machine and what that makes of it back to them.
//!
//! Permanent child of the supervisor `health`, which stands last in the tree and is given up when its children fail for good: whatever
//! happens here ends no session. A restart begins with empty records and learns them anew from the next reports, which also say whom
//! to answer. The correlator, shared by the monitors of all transports, outlives it.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use actix::{Actor, Handler, Recipient};
use bowline_messages::event::EventKind;
use bowline_messages::health::{HealthReport, LinkName, LinkOpinion};
use bowline_messages::{PeerId, TransportKind};

use super::correlation::Correlator;
use super::machine::{HealthConfig, HealthOutput, TransportHealth};
use crate::clock;
use crate::pump::{self, Pump, Pumped};
use crate::supervision::Context;

/// The way to a transport's monitor. It counts what waits there.
#[derive(Clone)]
pub struct HealthPort {
    recipient: Recipient<HealthReport>,
    waiting: Rc<Cell<usize>>,
}

impl HealthPort {
    /// The way to a monitor that was made with this counter.
    pub fn new(recipient: Recipient<HealthReport>, waiting: Rc<Cell<usize>>) -> Self {
        Self { recipient, waiting }
    }

    /// Hands a report over. What finds no room is dropped and counted: the next one says as much.
    pub fn report(&self, report: HealthReport) {
        match self.recipient.try_send(report) {
            Ok(()) => self.waiting.set(self.waiting.get() + 1),
            Err(_) => metrics::counter!("bowline_health_reports_dropped_total").increment(1),
        }
    }
}

/// What a monitor is made from, again after every restart.
#[derive(Clone)]
pub struct HealthParts {
    /// The transport.
    pub transport: TransportKind,
    /// How it behaves.
    pub config: HealthConfig,
    /// Places in its mailbox.
    pub mailbox: usize,
    /// How many reports wait there.
    pub waiting: Rc<Cell<usize>>,
    /// Shared by the monitors of all transports.
    pub correlator: Rc<RefCell<Correlator<LinkName>>>,
    /// Is told what happened.
    pub events: Rc<dyn Fn(EventKind)>,
}

/// The health monitor of one transport.
pub struct HealthActor {
    parts: HealthParts,
    machine: TransportHealth,
    replies: BTreeMap<PeerId, Recipient<LinkOpinion>>,
    pump: Pump,
}

impl HealthActor {
    /// A monitor that knows nothing yet.
    pub fn new(parts: HealthParts) -> Self {
        let machine = TransportHealth::new(parts.transport.clone(), parts.config);
        Self { machine, parts, replies: BTreeMap::new(), pump: Pump::new() }
    }

    fn carry_out(&mut self, ctx: &mut Context<Self>) {
        while let Some(output) = self.machine.poll_output() {
            match output {
                HealthOutput::Emit(event) => (self.parts.events)(event),
                HealthOutput::Found(layer) => {
                    let layer = format!("{layer:?}").to_lowercase();
                    let transport = self.parts.transport.to_string();
                    metrics::counter!("bowline_health_findings_total", "layer" => layer, "transport" => transport)
                        .increment(1);
                }
                HealthOutput::Tell(peer, opinion) => {
                    // A session that is too busy to take it gets the next one; one that is gone is forgotten.
                    if let Some(reply) = self.replies.get(&peer)
                        && matches!(reply.try_send(*opinion), Err(actix::prelude::SendError::Closed(_)))
                    {
                        self.replies.remove(&peer);
                    }
                }
            }
        }
        let deadline = self.machine.deadline();
        pump::arm(self, ctx, deadline);
    }
}

impl Actor for HealthActor {
    type Context = Context<Self>;
}

impl Pumped for HealthActor {
    fn pump(&mut self) -> &mut Pump {
        &mut self.pump
    }

    fn on_deadline(&mut self, ctx: &mut Self::Context) {
        self.machine.on_timeout(clock::now(), &mut self.parts.correlator.borrow_mut());
        let machine = &self.machine;
        self.replies.retain(|peer, _| machine.knows(peer));
        self.carry_out(ctx);
    }
}

impl Handler<HealthReport> for HealthActor {
    type Result = ();

    fn handle(&mut self, report: HealthReport, ctx: &mut Self::Context) {
        let waiting = self.parts.waiting.get().saturating_sub(1);
        self.parts.waiting.set(waiting);
        self.machine.on_mailbox(waiting, self.parts.mailbox);
        self.machine.on_report(clock::now(), &report, &mut self.parts.correlator.borrow_mut());
        if let Some(reply) = report.reply.filter(|_| self.machine.knows(&report.peer)) {
            self.replies.insert(report.peer, reply);
        }
        self.carry_out(ctx);
    }
}
