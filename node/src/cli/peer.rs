//! Arguments that name a peer.

use std::time::Duration;

use bowline_messages::EndpointAddress;

use super::Global;
use crate::control::protocol::PeerAsked;

/// How long commands wait for a link when they are not told.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A peer, and where else it may be reached.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct PeerArgs {
    /// The peer: its id, the first 8 or more characters of the id of a known one, its name in the peer book, or a ticket
    #[arg(value_name = "PEER")]
    peer: String,
    #[command(flatten)]
    to: ToArgs,
}

/// Where else a peer may be reached.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct ToArgs {
    /// Where it can be reached, besides what is known; may be repeated
    #[arg(long = "to", value_name = "URI")]
    to: Vec<EndpointAddress>,
}

impl PeerArgs {
    /// What the node is asked.
    pub(crate) fn asked(&self, global: &Global) -> PeerAsked {
        self.to.asked(&self.peer, global)
    }
}

impl ToArgs {
    /// What the node is asked, for a peer that was written elsewhere.
    pub(crate) fn asked(&self, peer: &str, global: &Global) -> PeerAsked {
        let timeout = global.timeout.unwrap_or(CONNECT_TIMEOUT);
        PeerAsked { peer: peer.to_owned(), to: self.to.clone(), timeout }
    }
}
