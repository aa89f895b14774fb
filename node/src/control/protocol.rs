//! What commands and the running node say to each other: JSON over HTTP, one version for all of it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use bowline_actors::partition::group::GroupReport;
use bowline_messages::config::{TrustPolicy, duration};
use bowline_messages::membership::MemberInfo;
use bowline_messages::repair::RepairStatus;
use bowline_messages::topology::{HealthReport, NetworkGraph};
use bowline_messages::transport::TransportStatus;
use bowline_messages::{EndpointAddress, MessageClass, PeerId, TransportKind};
use serde::{Deserialize, Serialize};

use super::report::SessionReport;
use crate::exit::{Exit, Failure};

/// Something went wrong: the body of an answer that is no success, or the last line of a stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ErrorReport {
    error: ErrorFields,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct ErrorFields {
    code: u8,
    message: String,
    hint: Option<String>,
}

impl From<Failure> for ErrorReport {
    fn from(failure: Failure) -> Self {
        Self { error: ErrorFields { code: failure.exit as u8, message: failure.message, hint: failure.hint } }
    }
}

impl From<ErrorReport> for Failure {
    fn from(ErrorReport { error }: ErrorReport) -> Self {
        let known =
            [Exit::False, Exit::Usage, Exit::TimedOut, Exit::NodeNotReachable, Exit::Permission, Exit::Configuration];
        let exit = known.into_iter().find(|exit| *exit as u8 == error.code).unwrap_or(Exit::GaveUp);
        Self { exit, message: error.message, hint: error.hint }
    }
}

/// Whom a command is about, as the user wrote it, and where else it may be reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PeerAsked {
    /// A peer id, the beginning of one, a name in the peer book, or a ticket.
    pub(crate) peer: String,
    /// Addresses besides those that are known.
    #[serde(default)]
    pub(crate) to: Vec<EndpointAddress>,
    /// How long to wait for a link.
    #[serde(with = "duration")]
    pub(crate) timeout: Duration,
}

/// `GET /v1/node`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NodeReport {
    /// The node's name.
    pub(crate) peer: PeerId,
    /// Its process.
    pub(crate) pid: u32,
    /// Its version.
    pub(crate) version: String,
    /// Time since it started.
    #[serde(with = "duration")]
    pub(crate) uptime: Duration,
    /// Where it listens.
    pub(crate) listening: Vec<EndpointAddress>,
    /// Where it tells peers to reach it.
    pub(crate) advertised: Vec<EndpointAddress>,
    /// Its configuration file, when there is one.
    pub(crate) config_file: Option<PathBuf>,
    /// Its state directory.
    pub(crate) state_dir: PathBuf,
}

/// `GET /v1/status`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct StatusReport {
    /// The node.
    pub(crate) node: NodeReport,
    /// Its sessions, by name.
    pub(crate) sessions: Vec<SessionReport>,
    /// Its transports with their listeners and breakers; one that does not answer is left out.
    #[serde(default)]
    pub(crate) transports: Vec<TransportStatus>,
    /// Transports that did not answer in time.
    #[serde(default)]
    pub(crate) transports_silent: Vec<TransportKind>,
    /// What was repaired lately.
    #[serde(default)]
    pub(crate) repairs: Vec<RepairStatus>,
}

/// `GET /v1/why`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct WhyReport {
    /// The session.
    #[serde(flatten)]
    pub(crate) session: SessionReport,
    /// Where the peer is dialled as long as more links are wanted.
    #[serde(default)]
    pub(crate) dials: Vec<DialReport>,
    /// Ways to it through others, best first.
    #[serde(default)]
    pub(crate) routes: Vec<RouteReport>,
}

/// How dials of one address stand. `null`: there was none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DialReport {
    /// The address.
    pub(crate) address: EndpointAddress,
    /// Whether an attempt is under way.
    pub(crate) under_way: bool,
    /// Attempts that failed since one succeeded.
    pub(crate) failures: u32,
    /// How long until the next attempt, when none is under way.
    pub(crate) next_in_us: Option<u64>,
    /// How long ago the last one failed, when the node still remembers.
    pub(crate) failed_ago_us: Option<u64>,
    /// Why.
    pub(crate) error: Option<String>,
}

/// One line of `GET /v1/peers`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct PeerReport {
    /// The peer.
    pub(crate) peer: PeerId,
    /// Its name in the peer book.
    pub(crate) name: Option<String>,
    /// Whether there is a usable link to it.
    pub(crate) connected: bool,
    /// Whether there is a session with it.
    pub(crate) session: bool,
    /// Usable links.
    pub(crate) links: usize,
    /// Where it can be reached, as far as is known.
    pub(crate) addresses: Vec<EndpointAddress>,
    /// What is thought of it, 0 (the worst) to 1.
    pub(crate) score: f64,
    /// Why it is excluded, if it is.
    pub(crate) excluded: Option<String>,
}

/// `GET /v1/topology`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct TopologyReport {
    /// How the network is.
    pub(crate) health: HealthReport,
    /// Who is connected to whom.
    pub(crate) graph: NetworkGraph,
    /// What the user calls peers.
    pub(crate) names: BTreeMap<PeerId, String>,
}

/// One line of `GET /v1/members`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct MemberReport {
    /// Its name in the peer book.
    pub(crate) name: Option<String>,
    /// The member.
    #[serde(flatten)]
    pub(crate) member: MemberInfo,
}

/// A way to a peer through others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RouteReport {
    /// Whom it passes, the peer included.
    pub(crate) hops: Vec<PeerId>,
    /// What it costs, in tenths of a millisecond.
    pub(crate) cost: u64,
}

/// `GET /v1/group`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct GroupStatus {
    /// The node that says this.
    pub(crate) me: PeerId,
    /// How its part in the group stands.
    #[serde(flatten)]
    pub(crate) report: GroupReport,
    /// What the user calls peers.
    pub(crate) names: BTreeMap<PeerId, String>,
}

/// `GET /v1/trust`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct TrustReport {
    /// What happens to peers that nobody has named.
    pub(crate) policy: TrustPolicy,
    /// Peers of whom something is known that the configuration does not say.
    pub(crate) peers: Vec<TrustedPeer>,
}

/// What is known of a peer. Also the answer to `POST /v1/trust/readmit` and `POST /v1/trust/forget`: what is known after it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct TrustedPeer {
    /// The peer.
    pub(crate) peer: PeerId,
    /// Its name in the peer book.
    pub(crate) name: Option<String>,
    /// What is thought of it, 0 (the worst) to 1.
    pub(crate) score: f64,
    /// Whether it may have a session now.
    pub(crate) accepted: bool,
    /// Why it is excluded, if it is.
    pub(crate) excluded: Option<String>,
    /// Whether a command accepted it, until the node ends.
    pub(crate) named: bool,
    /// Whether it was met under trust on first use.
    pub(crate) met: bool,
}

/// `POST /v1/trust/readmit` and `POST /v1/trust/forget`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TrustAsked {
    /// A peer as in [`PeerAsked`].
    pub(crate) peer: String,
}

/// `POST /v1/connect`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Connected {
    /// The peer.
    pub(crate) peer: PeerId,
    /// The links, as addresses of the peer. Empty: it is accepted from now on, no address of it is known, and it has not dialled yet.
    pub(crate) links: Vec<EndpointAddress>,
    /// How long it took.
    pub(crate) took_us: u64,
}

/// `POST /v1/ping`, answered by a line for each [`Pong`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PingAsked {
    /// Whom.
    #[serde(flatten)]
    pub(crate) peer: PeerAsked,
    /// How often.
    pub(crate) count: u32,
    /// Time from one to the next.
    #[serde(with = "duration")]
    pub(crate) interval: Duration,
    /// Bytes in each.
    pub(crate) size: usize,
}

/// One ping and its answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Pong {
    /// The peer.
    pub(crate) peer: PeerId,
    /// Its number, from 1.
    pub(crate) seq: u32,
    /// From sending it to its answer; `None` when none came in time.
    pub(crate) rtt_us: Option<u64>,
    /// The peer's end of the link that is preferred now.
    pub(crate) via: Option<EndpointAddress>,
}

/// `POST /v1/send?…`, the file in the body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SendAsked {
    /// Whom, as JSON of [`PeerAsked`] (a query has no structure).
    pub(crate) peer: String,
    /// What the file is called.
    pub(crate) name: String,
    /// Its size, when it is known.
    pub(crate) bytes: Option<u64>,
}

/// A file that the peer has, complete.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sent {
    /// The peer.
    pub(crate) peer: PeerId,
    /// What the file is called over there.
    pub(crate) name: String,
    /// Its size.
    pub(crate) bytes: u64,
    /// Its BLAKE3 digest.
    pub(crate) blake3: String,
    /// How long it took.
    pub(crate) took_us: u64,
}

/// `POST /v1/receive`, answered by a line for each [`ReceiveLine`] until the command ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ReceiveAsked {
    /// The folder.
    pub(crate) dir: PathBuf,
    /// The largest file; the configured size when absent.
    pub(crate) bytes_max: Option<u64>,
    /// Whether files may be replaced; as configured when absent.
    pub(crate) overwrite: Option<bool>,
}

/// One line of the answer to `POST /v1/receive`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum ReceiveLine {
    /// Files are received from now on.
    Ready {
        /// Into this folder.
        ready: PathBuf,
    },
    /// Something happened to a file.
    File(FileEvent),
}

/// What happens to a file that a peer sends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FileEvent {
    /// Which transfer, so that several at once can be told apart.
    pub(crate) transfer: u64,
    /// The peer.
    pub(crate) peer: PeerId,
    /// What the peer calls it.
    pub(crate) name: String,
    /// What happened.
    #[serde(flatten)]
    pub(crate) kind: FileEventKind,
}

/// What happened to a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum FileEventKind {
    /// It begins.
    Begun {
        /// Its size as announced.
        bytes: Option<u64>,
    },
    /// So much of it is here.
    Progress {
        /// Bytes.
        bytes: u64,
    },
    /// It is complete.
    Stored {
        /// Where.
        path: PathBuf,
        /// Its size.
        bytes: u64,
        /// Its BLAKE3 digest.
        blake3: String,
    },
    /// It was thrown away.
    Failed {
        /// Why.
        reason: String,
    },
}

/// `POST /v1/forward`, answered by a line for each [`ForwardEvent`] until the command ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ForwardAsked {
    /// Whom.
    #[serde(flatten)]
    pub(crate) peer: PeerAsked,
    /// Where to listen here.
    pub(crate) listen: std::net::SocketAddr,
    /// The port over there.
    pub(crate) port: u16,
}

/// What happens to forwarded connections.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum ForwardEvent {
    /// Connections are taken from now on.
    Listening {
        /// Here.
        address: std::net::SocketAddr,
    },
    /// One came.
    Opened {
        /// From here.
        from: std::net::SocketAddr,
    },
    /// One ended.
    Closed {
        /// From here.
        from: std::net::SocketAddr,
        /// Bytes sent to the peer.
        sent: u64,
        /// Bytes received from the peer.
        received: u64,
    },
    /// One broke, or was not taken by the peer.
    Failed {
        /// From here.
        from: std::net::SocketAddr,
        /// Why.
        reason: String,
    },
}

/// `POST /v1/broadcast`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BroadcastAsked {
    /// What to send.
    pub(crate) text: String,
    /// As what.
    pub(crate) class: MessageClass,
    /// How long to wait for acknowledgements.
    #[serde(with = "duration")]
    pub(crate) timeout: Duration,
}

/// What became of a broadcast at one peer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BroadcastResult {
    /// The peer.
    pub(crate) peer: PeerId,
    /// Whether its application has the message.
    pub(crate) acknowledged: bool,
    /// Why not, or what is not known.
    pub(crate) error: Option<String>,
}

/// `POST /v1/reload`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Reloaded {
    /// The file that was read.
    pub(crate) file: Option<PathBuf>,
    /// Whether anything changed.
    pub(crate) changed: bool,
    /// Sections whose changes wait for a restart.
    pub(crate) needs_restart: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_keeps_its_exit_code_on_its_way_through_the_socket() {
        for exit in [Exit::False, Exit::TimedOut, Exit::Permission, Exit::Configuration, Exit::GaveUp] {
            let failure = Failure::new(exit, "x").hint("y");
            assert_eq!(Failure::from(ErrorReport::from(failure.clone())), failure);
        }
    }
}
