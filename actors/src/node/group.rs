//! A node's part in a group that keeps a state together.

use std::path::PathBuf;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use actix::{Addr, Recipient};
use bowline_messages::PeerId;
use bowline_messages::event::EventKind;
use bowline_messages::network::Concern;
use bowline_messages::partition::PartitionEvent;
use bowline_messages::supervision::{Restart, Strategy, SupervisionEvent};
use bytes::Bytes;

use super::carrier::PORT_MAILBOX;
use super::peers::ConnectPeer;
use super::services::Services;
use super::{NodeError, NodeParts};
use crate::partition::actor::{CommandError, GroupActor, GroupApplication, GroupParts, GroupQuery, Pardon, Submit};
use crate::partition::group::{Durable, GroupConfig, GroupReport};
use crate::partition::medium::Medium;
use crate::supervision::{ChildSpec, OnExceeded, SupervisorSpec};

/// How a node takes part in a group.
#[derive(Clone)]
pub struct GroupSetup {
    /// Who takes part at the very beginning, this node included; the same on all of them.
    pub participants: Vec<PeerId>,
    /// Times and bounds.
    pub config: GroupConfig,
    /// What the group keeps together.
    pub application: GroupApplication,
    /// Where it keeps what it must not forget. `None`: in memory, so a node that is started again has to be the only one that was
    /// stopped.
    pub folder: Option<PathBuf>,
    /// A clock that goes on while the machine sleeps, since any moment: leases must not outlive a sleep. `None`: the machine never does.
    pub awake: Option<fn() -> Duration>,
}

/// A running node's part in its group. Cheap to clone; stays on its thread.
#[derive(Clone)]
pub struct GroupHandle {
    participant: Addr<GroupActor>,
    services: Rc<Services>,
}

/// Why a peer is excluded that the group's proofs exclude: a pardon lifts an exclusion for this reason and for no other.
const PROVEN: &str = "its group has proofs against it";

impl GroupHandle {
    /// Has a command carried out, once, on every participant, in the same order everywhere. Gives the application's answer.
    ///
    /// # Errors
    /// [`CommandError`].
    pub async fn submit(&self, command: Bytes) -> Result<Bytes, CommandError> {
        if !self.participant.connected() {
            return Err(CommandError::Gone);
        }
        // An actor that ended meanwhile may have accepted it.
        self.participant.send(Submit(command)).await.unwrap_or(Err(CommandError::Unknown))
    }

    /// How it stands.
    ///
    /// # Errors
    /// [`NodeError::Gone`]: the group is given up on this node.
    pub async fn report(&self) -> Result<GroupReport, NodeError> {
        self.participant.send(GroupQuery).await?.ok_or(NodeError::Gone)
    }

    /// Forgets the proofs against a peer, and lets it back in if it was excluded for them. It takes part again only when the group is told so.
    ///
    /// # Errors
    /// [`NodeError::Gone`].
    pub async fn pardon(&self, peer: PeerId) -> Result<(), NodeError> {
        self.participant.send(Pardon(peer)).await?;
        let mut trust = self.services.trust.borrow_mut();
        if trust.exclusion(&peer) == Some(PROVEN) {
            trust.readmit(&peer);
        }
        Ok(())
    }

    /// The actor, for scripts and embedders that go deeper.
    pub const fn actor(&self) -> &Addr<GroupActor> {
        &self.participant
    }
}

/// The actor of the group under a supervisor of its own: whatever the application does in there ends no session.
pub(super) fn make(
    setup: &GroupSetup,
    services: &Rc<Services>,
    peers: Recipient<ConnectPeer>,
    parts: &NodeParts,
    events: Recipient<SupervisionEvent>,
) -> Result<(ChildSpec, GroupHandle), NodeError> {
    let beginning = Durable::new(setup.participants.iter().copied());
    let medium = match &setup.folder {
        Some(folder) => Medium::folder(folder, beginning)?,
        None => Medium::memory(beginning),
    };
    let carrier = Rc::clone(&services.carrier);
    let (seeking, emitting) = (Rc::clone(&carrier), Rc::clone(services));
    let seed = parts.seed;
    let parts = GroupParts {
        identity: Arc::clone(&services.identity),
        incarnation: services.incarnation,
        participants: setup.participants.clone(),
        config: setup.config.clone(),
        application: setup.application.clone(),
        medium: Arc::new(Mutex::new(medium)),
        carrier: Rc::clone(&carrier),
        seek: Rc::new(move |peer| {
            if seeking.neighbours().iter().all(|known| known.peer != peer) {
                // When there is no room it is sought a little later.
                let _ = peers.try_send(ConnectPeer { peer, addresses: Vec::new() });
            }
        }),
        events: Rc::new(move |event| {
            if let EventKind::Partition { what: PartitionEvent::Excluded { peer } } = &event
                && *peer != emitting.local()
            {
                emitting.exclude(*peer, PROVEN);
            }
            emitting.emit(event);
        }),
        awake: setup.awake,
        entropy: Rc::clone(&parts.entropy),
    };
    let (spec, address) = ChildSpec::new("participant", move || GroupActor::new(parts.clone()));
    let concerns = [Concern::Partition, Concern::Log, Concern::State, Concern::Command];
    carrier.set_port(&concerns, address.clone().recipient());
    let handle = GroupHandle { participant: address, services: Rc::clone(services) };
    let supervisor = SupervisorSpec::new("group", Strategy::OneForOne)
        .seed(seed)
        .events(events)
        .child(spec.mailbox(PORT_MAILBOX))
        .on_exceeded(OnExceeded::EndGroup);
    Ok((supervisor.into_child().0.restart(Restart::Temporary), handle))
}
