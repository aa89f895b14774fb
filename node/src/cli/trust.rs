//! `bowline trust`.

use clap::Subcommand;
use hyper::Method;

use super::Global;
use super::human::harmless;
use super::output::Table;
use crate::control::client::Content;
use crate::control::protocol::{TrustAsked, TrustReport, TrustedPeer};
use crate::exit::{Exit, Failure};

/// Show what the running node thinks of its peers, and let an excluded one back in
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List scores, exclusions and peers met on first use (the default)
    List,
    /// Let an excluded peer back in; its score starts anew
    Readmit {
        /// The peer: its id, the first 8 or more characters of it, its name in the peer book, or a ticket
        peer: String,
    },
    /// Forget that a peer was met on first use: its key is a stranger's again
    Forget {
        /// The peer: its id, the first 8 or more characters of it, its name in the peer book, or a ticket
        peer: String,
    },
}

pub(crate) fn run(args: Args, global: &Global) -> Result<Exit, Failure> {
    match args.action.unwrap_or(Action::List) {
        Action::List => {
            let report: TrustReport = global.call(Method::GET, "/v1/trust", Content::Nothing, None)?;
            global.output().result("trust", &report, || table(&report))?;
        }
        Action::Readmit { peer } => {
            let content = Content::json(&TrustAsked { peer })?;
            let peer: TrustedPeer = global.call(Method::POST, "/v1/trust/readmit", content, None)?;
            global.output().result("trust-peer", &peer, || {
                let still = if peer.accepted { "" } else { "; it is not accepted before somebody names it" };
                format!("{} is not excluded any more{still}", peer.peer)
            })?;
        }
        Action::Forget { peer } => {
            let content = Content::json(&TrustAsked { peer })?;
            let peer: TrustedPeer = global.call(Method::POST, "/v1/trust/forget", content, None)?;
            global.output().result("trust-peer", &peer, || format!("{} is forgotten", peer.peer))?;
        }
    }
    Ok(Exit::Ok)
}

fn table(report: &TrustReport) -> String {
    let mut table = Table::new(["name", "peer", "score", "accepted", "because"]);
    for peer in &report.peers {
        let mut because: Vec<String> =
            peer.excluded.iter().map(|reason| format!("excluded: {}", harmless(reason))).collect();
        because.extend(peer.named.then(|| "named by a command".to_owned()));
        because.extend(peer.met.then(|| "met on first use".to_owned()));
        table.row([
            peer.name.clone().unwrap_or_else(|| "-".into()),
            peer.peer.to_string(),
            format!("{:.2}", peer.score),
            if peer.accepted { "yes" } else { "no" }.to_owned(),
            because.join(", "),
        ]);
    }
    if table.is_empty() { "nothing is known of any peer".to_owned() } else { table.print() }
}
