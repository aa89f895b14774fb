//! The health monitors of a node: one for each transport, under a supervisor of their own.
//!
//! They stand last in the tree, so that their restarts restart nobody else, and are given up when they fail for good: sessions find
//! dead links without them.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use actix::Recipient;
use bowline_messages::TransportKind;
use bowline_messages::config::SessionConfig;
use bowline_messages::health::LinkName;
use bowline_messages::supervision::{Restart, Strategy, SupervisionEvent};

use super::services::Services;
use crate::health::correlation::Correlator;
use crate::health::{HealthActor, HealthConfig, HealthParts, HealthPort};
use crate::supervision::{ChildSpec, OnExceeded, SupervisorSpec};

/// The mailbox of a monitor, in reports: that many sessions may report at once.
const MONITOR_MAILBOX: usize = 1_024;

/// The monitors of a node that is being put together.
pub(super) struct Monitors {
    config: HealthConfig,
    services: Rc<Services>,
    correlator: Rc<RefCell<Correlator<LinkName>>>,
    children: Vec<ChildSpec>,
}

impl Monitors {
    /// None yet.
    pub(super) fn new(session: &SessionConfig, services: &Rc<Services>) -> Self {
        let mut config = HealthConfig::default();
        config.judge.leave = session.leave_above;
        let correlator = Rc::new(RefCell::new(Correlator::new(config.together, config.common_cause)));
        Self { config, services: Rc::clone(services), correlator, children: Vec::new() }
    }

    /// Adds that of a transport; sessions find it from now on.
    pub(super) fn add(&mut self, transport: &TransportKind) {
        let (waiting, events) = (Rc::new(Cell::new(0)), Rc::clone(&self.services));
        let parts = HealthParts {
            transport: transport.clone(),
            config: self.config,
            mailbox: MONITOR_MAILBOX,
            waiting: Rc::clone(&waiting),
            correlator: Rc::clone(&self.correlator),
            events: Rc::new(move |event| events.emit(event)),
        };
        let (spec, address) = ChildSpec::new(transport.as_str(), move || HealthActor::new(parts.clone()));
        self.services.add_health(transport.clone(), HealthPort::new(address.recipient(), waiting));
        self.children.push(spec.mailbox(MONITOR_MAILBOX));
    }

    /// Adds another child beside them.
    pub(super) fn add_child(&mut self, child: ChildSpec) {
        self.children.push(child.mailbox(MONITOR_MAILBOX));
    }

    /// The supervisor over all of them.
    pub(super) fn into_child(self, seed: u64, events: Recipient<SupervisionEvent>) -> ChildSpec {
        let empty = SupervisorSpec::new("health", Strategy::OneForOne).seed(seed).events(events);
        let supervisor = self.children.into_iter().fold(empty, SupervisorSpec::child);
        supervisor.on_exceeded(OnExceeded::EndGroup).into_child().0.restart(Restart::Temporary)
    }
}
