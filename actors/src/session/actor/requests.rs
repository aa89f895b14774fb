//! What is asked of a session actor.

use super::*;

/// More addresses at which the peer can be reached. To the session actor.
#[derive(Debug, Clone, PartialEq, Eq, Message, Serialize, Deserialize)]
#[rtype(result = "()")]
pub struct AddAddresses(pub Vec<(EndpointAddress, Binding)>);

/// The user asks for the peer at these addresses: they are dialled now, whatever failed before. To the session actor.
#[derive(Debug, Clone, PartialEq, Eq, Message)]
#[rtype(result = "()")]
pub struct TryAtOnce(pub Vec<EndpointAddress>);

/// The peer can be reached through others: a link there is made while no direct one works. To the session actor.
#[derive(Debug, Clone, PartialEq, Eq, Message)]
#[rtype(result = "()")]
pub struct FallbackAddress(pub EndpointAddress);

/// The peer is to be sought at these addresses and at no others besides those that it tells itself. To the session actor.
#[derive(Debug, Clone, PartialEq, Eq, Message)]
#[rtype(result = "()")]
pub struct GivenAddresses(pub Vec<(EndpointAddress, Binding)>);

/// This node can be reached elsewhere now. To the session actor.
#[derive(Debug, Clone, PartialEq, Eq, Message)]
#[rtype(result = "()")]
pub struct OwnAddresses(pub SignedAddresses);

/// An interface of this machine went down or came up. To the session actor.
#[derive(Debug, Clone, PartialEq, Eq, Message, Serialize, Deserialize)]
#[rtype(result = "()")]
pub struct InterfaceState {
    /// Its name.
    pub name: String,
    /// Whether it can carry traffic.
    pub up: bool,
}

/// End the session: the peer is told on every link. To the session actor; it is stopped by its group afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Message, Serialize, Deserialize)]
#[rtype(result = "()")]
pub struct CloseSession(pub CloseCode);

/// Asks for a report. To the session actor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Message, Serialize, Deserialize)]
#[rtype(result = "SessionStatus")]
pub struct StatusQuery;

/// Finds the link actor of a link: for scripts and tests, which talk to it directly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Message, Serialize, Deserialize)]
#[rtype(result = "Option<Addr<LinkActor>>")]
pub struct FindLinkActor(pub LinkId);
