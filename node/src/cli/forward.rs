//! `bowline forward`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use hyper::Method;

use super::output::{line, with_schema};
use super::peer::ToArgs;
use super::{Global, human};
use crate::control::client::Content;
use crate::control::protocol::{ForwardAsked, ForwardEvent};
use crate::exit::{Exit, Failure};

/// Make a TCP port of a peer reachable here, until interrupted
///
/// The peer's node has to allow it, in the section [forward] of its configuration.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where to listen: a port (on loopback), or ADDRESS:PORT; port 0 is any free one
    #[arg(value_name = "LOCAL", value_parser = parse_local)]
    local: SocketAddr,
    /// The peer and its port, as in laptop:22
    #[arg(value_name = "PEER:PORT", value_parser = parse_target)]
    target: (String, u16),
    #[command(flatten)]
    to: ToArgs,
}

fn parse_local(text: &str) -> Result<SocketAddr, String> {
    let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
    text.parse::<u16>()
        .map(|port| SocketAddr::new(loopback, port))
        .or_else(|_| text.parse())
        .map_err(|_| "write a port, as in 2222, or an address and a port, as in 127.0.0.1:2222".to_owned())
}

fn parse_target(text: &str) -> Result<(String, u16), String> {
    let split = text.rsplit_once(':').filter(|(peer, _)| !peer.is_empty());
    let port = split.and_then(|(peer, port)| Some((peer, port.parse::<u16>().ok().filter(|port| *port != 0)?)));
    port.map(|(peer, port)| (peer.to_owned(), port))
        .ok_or_else(|| "write a peer and a port, as in laptop:22".to_owned())
}

pub(crate) fn run(args: Args, global: &Global) -> Result<Exit, Failure> {
    let (peer, port) = args.target;
    let asked = ForwardAsked { peer: args.to.asked(&peer, global), listen: args.local, port };
    global.block_on(async {
        let client = global.client().await?;
        let mut lines =
            client.lines(Method::POST, "/v1/forward", Content::json(&asked)?, Some(asked.peer.timeout)).await?;
        while let Some(event) = lines.next::<ForwardEvent>().await? {
            if global.json {
                line(&with_schema("forward", &event)?.to_string())?;
                continue;
            }
            match event {
                ForwardEvent::Listening { address } => {
                    line(&format!("{address} leads to port {port} of {peer}; Ctrl-C to end"))?;
                }
                ForwardEvent::Opened { from } => global.output().remark(&format!("{from} connected")),
                ForwardEvent::Closed { from, sent, received } => {
                    let (sent, received) = (human::bytes(sent), human::bytes(received));
                    global.output().remark(&format!("{from} done: {sent} sent, {received} received"));
                }
                ForwardEvent::Failed { from, reason } => {
                    global.output().remark(&format!("{from} failed: {}", human::harmless(&reason)));
                }
            }
        }
        Ok(Exit::Ok)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_written_as_people_write_them() {
        assert_eq!(parse_local("2222"), Ok("127.0.0.1:2222".parse().unwrap_or_else(|_| unreachable!())));
        assert_eq!(parse_local("[::1]:1").map(|address| address.is_ipv6()), Ok(true));
        assert!(parse_local("ssh").is_err());
        assert_eq!(parse_target("laptop:22"), Ok(("laptop".into(), 22)));
        for wrong in ["laptop", ":22", "laptop:", "laptop:0", "laptop:x"] {
            assert!(parse_target(wrong).is_err(), "{wrong}");
        }
    }
}
