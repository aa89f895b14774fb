//! `bowline ticket`.

use bowline_actors::session::keyfile;
use bowline_messages::{EndpointAddress, Ticket};
use clap::Subcommand;
use hyper::Method;
use serde_json::json;

use super::Global;
use super::id::key_failure;
use crate::control::client::Content;
use crate::control::protocol::NodeReport;
use crate::exit::{Exit, Failure};

/// Make and read tickets: a peer's key and addresses in one text to paste
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Make a ticket of this node's key with the given addresses; no node has to run
    New {
        /// Where peers can reach this node; may be repeated
        #[arg(long = "to", value_name = "URI")]
        to: Vec<EndpointAddress>,
    },
    /// Show the ticket of the running node: its key and the addresses it tells its peers
    Show,
    /// Show what a ticket says
    Parse {
        /// The ticket
        ticket: String,
    },
}

pub(crate) fn run(args: Args, global: &Global) -> Result<Exit, Failure> {
    match args.action {
        Action::New { to } => {
            let key = keyfile::load(&global.load()?.key_file()).map_err(|error| key_failure(&error))?;
            print(&Ticket::new(key.peer_id(), to), global)
        }
        Action::Show => {
            let node: NodeReport = global.call(Method::GET, "/v1/node", Content::Nothing, None)?;
            let addresses = if node.advertised.is_empty() { node.listening } else { node.advertised };
            print(&Ticket::new(node.peer, addresses), global)
        }
        Action::Parse { ticket } => {
            let ticket: Ticket = ticket.parse().map_err(|error| Failure::new(Exit::Usage, error))?;
            let value = json!({ "peer": ticket.peer, "addresses": ticket.addresses });
            global.output().result("ticket", &value, || {
                let addresses = ticket.addresses.iter().map(|address| format!("\n  {address}"));
                format!("{}{}", ticket.peer, addresses.collect::<String>())
            })?;
            Ok(Exit::Ok)
        }
    }
}

fn print(ticket: &Ticket, global: &Global) -> Result<Exit, Failure> {
    let value = json!({ "ticket": ticket.to_string(), "peer": ticket.peer, "addresses": ticket.addresses });
    global.output().result("ticket", &value, || ticket.to_string())?;
    Ok(Exit::Ok)
}
