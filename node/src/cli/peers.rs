//! `bowline peers`.

use hyper::Method;

use super::Global;
use super::output::Table;
use crate::control::client::Content;
use crate::control::protocol::PeerReport;
use crate::exit::{Exit, Failure};

/// List the peers that the running node knows
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(_args: Args, global: &Global) -> Result<Exit, Failure> {
    let peers: Vec<PeerReport> = global.call(Method::GET, "/v1/peers", Content::Nothing, None)?;
    let value = serde_json::json!({ "peers": peers });
    global.output().result("peers", &value, || {
        let mut table = Table::new(["name", "peer", "links", "score", "addresses"]);
        for peer in &peers {
            let addresses: Vec<String> = peer.addresses.iter().map(ToString::to_string).collect();
            let links = if peer.session { peer.links.to_string() } else { "-".to_owned() };
            let score = if peer.excluded.is_some() { "excluded".to_owned() } else { format!("{:.2}", peer.score) };
            table.row([
                peer.name.clone().unwrap_or_else(|| "-".into()),
                peer.peer.to_string(),
                links,
                score,
                addresses.join(" "),
            ]);
        }
        if table.is_empty() { "no peers".to_owned() } else { table.print() }
    })?;
    Ok(Exit::Ok)
}
