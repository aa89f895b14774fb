//! `bowline connect`.

use hyper::Method;

use super::peer::PeerArgs;
use super::{Global, human};
use crate::control::client::Content;
use crate::control::protocol::Connected;
use crate::exit::{Exit, Failure};

/// Connect to a peer and keep the session; it is accepted from now on
///
/// A peer of whom no address is known is accepted and may dial.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    peer: PeerArgs,
}

pub(crate) fn run(args: Args, global: &Global) -> Result<Exit, Failure> {
    let asked = args.peer.asked(global);
    let connected: Connected = global.call(Method::POST, "/v1/connect", Content::json(&asked)?, Some(asked.timeout))?;
    global.output().result("connect", &connected, || {
        if connected.links.is_empty() {
            return format!("accepted {}; no address of it is known: waiting for it to dial", connected.peer);
        }
        let links: Vec<String> = connected.links.iter().map(ToString::to_string).collect();
        format!("connected to {} over {} in {}", connected.peer, links.join(", "), human::micros(connected.took_us))
    })?;
    Ok(Exit::Ok)
}
