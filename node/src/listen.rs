//! Opens the listeners of a configuration.

use bowline_actors::node::{NodeError, NodeHandle};
use bowline_messages::EndpointAddress;
use bowline_messages::config::ListenConfig;

use crate::exit::{Exit, Failure};

/// Opens every listener of the section. One whose port is taken gets a free one where that is allowed, the same one for all
/// listeners that wanted the same; one on every IPv6 interface listens on IPv4 where the machine has no IPv6. One that cannot be had
/// all the same is done without, as long as there is another.
///
/// # Errors
/// [`Exit::Configuration`] when listeners were asked for and none could be opened.
pub(crate) async fn open(node: &NodeHandle, config: &ListenConfig) -> Result<Vec<EndpointAddress>, Failure> {
    let mut open = Vec::new();
    let mut moved: Option<(u16, u16)> = None;
    let mut failure = None;
    for asked in &config.addresses {
        let mut last = None;
        for candidate in candidates(asked, config.port_fallback, moved) {
            match node.listen(candidate.clone()).await {
                Ok(addresses) => {
                    let got = addresses.iter().find_map(EndpointAddress::port).unwrap_or(0);
                    let wanted = asked.port().unwrap_or(0);
                    if wanted != 0 && wanted != got {
                        tracing::warn!(%asked, port = got, "the port is taken; listening on another");
                        moved = moved.or(Some((wanted, got)));
                    }
                    open.extend(addresses);
                    last = None;
                    break;
                }
                Err(error @ NodeError::Gone) => return Err(Failure::new(Exit::GaveUp, error)),
                Err(error) => last = last.or(Some(error)),
            }
        }
        if let Some(error) = last {
            tracing::warn!(%asked, %error, "not listening there");
            failure = failure.or(Some(error));
        }
    }
    match failure {
        Some(error) if open.is_empty() => {
            Err(Failure::new(Exit::Configuration, error).hint("change listen.addresses, or allow listen.port_fallback"))
        }
        _ => Ok(open),
    }
}

/// What is tried for an address, in order.
fn candidates(asked: &EndpointAddress, fallback: bool, moved: Option<(u16, u16)>) -> Vec<EndpointAddress> {
    let mut hosts = vec![asked.clone()];
    if asked.host() == "::" {
        hosts.push(EndpointAddress::new(asked.kind().clone(), "0.0.0.0", asked.port(), asked.path()));
    }
    let mut all = Vec::new();
    let port = asked.port().unwrap_or(0);
    // Once one listener had to move, the others move with it: one number for all is easier to open in a firewall.
    if let Some((_, to)) = moved.filter(|(from, _)| *from == port && fallback) {
        all.extend(hosts.iter().map(|host| host.with_port(to)));
    }
    all.extend(hosts.iter().cloned());
    if fallback && port != 0 {
        all.extend(hosts.iter().map(|host| host.with_port(0)));
    }
    all
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn tried(asked: &str, fallback: bool, moved: Option<(u16, u16)>) -> Vec<String> {
        candidates(&asked.parse().unwrap(), fallback, moved).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_port_that_was_asked_for_is_tried_first_and_a_free_one_last() {
        assert_eq!(tried("tcp://127.0.0.1:8765", true, None), ["tcp://127.0.0.1:8765", "tcp://127.0.0.1:0"]);
        assert_eq!(tried("tcp://127.0.0.1:8765", false, None), ["tcp://127.0.0.1:8765"]);
        assert_eq!(tried("tcp://127.0.0.1:0", true, None), ["tcp://127.0.0.1:0"]);
    }

    #[test]
    fn a_machine_without_ipv6_listens_on_ipv4() {
        assert_eq!(tried("tcp://[::]:1", false, None), ["tcp://[::]:1", "tcp://0.0.0.0:1"]);
    }

    #[test]
    fn listeners_move_together() {
        let tried = tried("quic://127.0.0.1:8765", true, Some((8765, 40_000)));
        assert_eq!(tried[0], "quic://127.0.0.1:40000");
    }
}
