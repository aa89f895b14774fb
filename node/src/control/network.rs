//! What the control interface tells of the network as a whole.

use bowline_actors::node::NetworkHandle;
use bowline_messages::PeerId;

use super::protocol::{MemberReport, RouteReport, TopologyReport};
use super::running::{Running, gone};
use crate::exit::{Exit, Failure};

impl Running {
    fn network(&self) -> Result<&NetworkHandle, Failure> {
        self.node.network().ok_or_else(|| {
            let off = Failure::new(Exit::False, "this node takes no part in the network beyond its own sessions");
            off.hint("`network.enabled` in the configuration is false; without it, or with true, the node takes part")
        })
    }

    /// `GET /v1/topology`.
    ///
    /// # Errors
    /// [`Exit::False`] when that is turned off.
    pub(crate) async fn topology(&self) -> Result<TopologyReport, Failure> {
        let network = self.network()?;
        let (health, graph) = (network.health().await.map_err(gone)?, network.graph().await.map_err(gone)?);
        let names = graph.nodes.iter().filter_map(|node| Some((node.peer, self.name_of(&node.peer)?))).collect();
        Ok(TopologyReport { health, graph, names })
    }

    /// `GET /v1/members`: in ascending order.
    ///
    /// # Errors
    /// [`Exit::False`] when that is turned off.
    pub(crate) async fn members(&self) -> Result<Vec<MemberReport>, Failure> {
        let members = self.network()?.members().await.map_err(gone)?;
        Ok(members.into_iter().map(|member| MemberReport { name: self.name_of(&member.peer), member }).collect())
    }

    /// The ways to a peer through others, best first.
    pub(crate) async fn routes(&self, peer: PeerId) -> Result<Vec<RouteReport>, Failure> {
        let report = self.network()?.routes(peer).await.map_err(gone)?;
        // The direct link is among the session's links.
        let through_others = report.routes.into_iter().filter(|(hops, _)| hops.len() > 1);
        Ok(through_others.map(|(hops, cost)| RouteReport { hops, cost }).collect())
    }
}
