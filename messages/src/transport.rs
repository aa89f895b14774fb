//! What is asked of the actor of a transport.

use actix::Message;
use serde::{Deserialize, Serialize};

use crate::address::{EndpointAddress, TransportKind};
use crate::repair::BreakerState;

/// Opens a listener and keeps it open: a listener that breaks is opened again, also after the actor was restarted. From the node
/// or `bowline` to a transport's actor. The answer says where it can be reached, or why it could not be opened; then
/// nothing is kept.
#[derive(Debug, Clone, PartialEq, Eq, Message, Serialize, Deserialize)]
#[rtype(result = "Result<Vec<EndpointAddress>, ListenError>")]
pub struct Listen {
    /// Where to listen; port 0 means any free port, and the same one again when it has to be opened again.
    pub address: EndpointAddress,
}

/// Why a listener could not be opened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{reason}")]
pub struct ListenError {
    /// Whose fault it is.
    pub cause: ListenCause,
    /// In words.
    pub reason: String,
}

/// Whose fault it is that a listener could not be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ListenCause {
    /// Somebody else listens there.
    InUse,
    /// This process may not.
    NotPermitted,
    /// No interface of this machine has the address.
    NotHere,
    /// Anything else.
    Other,
}

/// Closes a listener. From the node or `bowline` to a transport's actor. The answer says whether there was one.
#[derive(Debug, Clone, PartialEq, Eq, Message, Serialize, Deserialize)]
#[rtype(result = "bool")]
pub struct Unlisten {
    /// The address as it was asked for, or one of those it listens on.
    pub address: EndpointAddress,
}

/// Asks a transport's actor where it listens now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Message, Serialize, Deserialize)]
#[rtype(result = "Vec<EndpointAddress>")]
pub struct ListenAddresses;

/// Asks a transport's actor how it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Message, Serialize, Deserialize)]
#[rtype(result = "TransportStatus")]
pub struct TransportStatusQuery;

/// One listener as `status` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListenerStatus {
    /// The address that was asked for.
    pub asked: EndpointAddress,
    /// Where it can be reached; empty while it is broken.
    pub open: Vec<EndpointAddress>,
    /// Why it is not open, while it is not.
    pub error: Option<String>,
}

/// How a transport is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransportStatus {
    /// Which one.
    pub kind: TransportKind,
    /// Its listeners.
    pub listeners: Vec<ListenerStatus>,
    /// Links it carries, those in their handshake included.
    pub connections: usize,
    /// Handshakes of inbound connections that go on.
    pub handshakes_inbound: usize,
    /// Dials that go on, their handshakes included.
    pub dials: usize,
    /// The breaker of the transport as a whole: open when this side could not even try.
    #[serde(default)]
    pub breaker: BreakerState,
    /// Remote hosts that are left alone because they failed several times in a row.
    pub hosts_paused: Vec<String>,
    /// Inbound connections turned away since the node started.
    pub refused: u64,
}
