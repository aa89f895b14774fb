//! Opens the listeners of a configuration.

use bowline_actors::node::{NodeError, NodeHandle};
use bowline_messages::EndpointAddress;
use bowline_messages::config::ListenConfig;
use bowline_messages::transport::ListenCause;

use crate::exit::{Exit, Failure};

/// Opens every listener of the section. One whose port is taken gets a free one where that is allowed, the same one for all
/// listeners that wanted the same; one on every IPv6 interface listens on IPv4 where the machine has no IPv6. One that cannot be had
/// all the same is done without, as long as there is another.
///
/// # Errors
/// When listeners were asked for and none could be opened, what kept the first of them: [`Exit::False`] when somebody else listens
/// there, [`Exit::Permission`], otherwise [`Exit::Configuration`].
pub(crate) async fn open(node: &NodeHandle, config: &ListenConfig) -> Result<Vec<EndpointAddress>, Failure> {
    let mut open = Vec::new();
    let mut moved: Option<(u16, u16)> = None;
    let mut failures = Vec::new();
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
        failures.extend(last);
    }
    match failures.first() {
        Some(first) if open.is_empty() => Err(explained(first, failures.len())),
        _ => {
            for error in failures {
                tracing::warn!(%error, "going on without that listener");
            }
            Ok(open)
        }
    }
}

/// Why there is no listener at all: what kept the first of so many that were asked for, and what can be done about it.
fn explained(error: &NodeError, of: usize) -> Failure {
    // What else can go wrong is the configuration's fault.
    let cause = if let NodeError::Listen { source, .. } = error { source.cause } else { ListenCause::Other };
    let (exit, hint) = match cause {
        ListenCause::InUse => (
            Exit::False,
            "something listens there already: end it, choose another port with --listen, or take any free one with \
             --set listen.port_fallback=true",
        ),
        ListenCause::NotPermitted => {
            (Exit::Permission, "ports below 1024 are for root: choose another port with --listen")
        }
        ListenCause::NotHere => (
            Exit::Configuration,
            "no interface of this machine has that address: listen on one that it has, or on [::] for all of them",
        ),
        ListenCause::Other => (Exit::Configuration, "change listen.addresses or --listen"),
    };
    let more = if of > 1 { format!(" (and {} more could not be opened either)", of - 1) } else { String::new() };
    Failure::new(exit, format_args!("{error}{more}")).hint(hint)
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
    use bowline_messages::transport::ListenError;

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
    fn what_kept_the_listener_decides_about_the_exit_code_and_the_hint() {
        let failed = |cause| NodeError::Listen {
            address: "tcp://127.0.0.1:80".parse().unwrap(),
            source: ListenError { cause, reason: "no".into() },
        };
        let explained = |cause| explained(&failed(cause), 1);
        let in_use = explained(ListenCause::InUse);
        assert_eq!(in_use.exit, Exit::False);
        assert!(in_use.to_string().starts_with("cannot listen on tcp://127.0.0.1:80: no; something listens there"));
        assert_eq!(explained(ListenCause::NotPermitted).exit, Exit::Permission);
        assert_eq!(explained(ListenCause::NotHere).exit, Exit::Configuration);
        assert_eq!(explained(ListenCause::Other).exit, Exit::Configuration);
        assert!(!super::explained(&failed(ListenCause::Other), 1).message.contains("more"));
        assert!(super::explained(&failed(ListenCause::Other), 3).message.contains("and 2 more"));
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
