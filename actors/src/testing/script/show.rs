//! Reports that scripts record: only what is the same in every run.

use std::collections::BTreeMap;

use bowline_messages::supervision::TreeNode;

use super::value::Pattern;
use crate::testing::sim::Simulation;

/// What `show NODE WHAT` prints.
///
/// # Errors
/// In words.
pub(super) async fn node(simulation: &Simulation, node: &str, what: &str) -> Result<Vec<String>, String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    match what {
        "received" => received(simulation, node),
        "receipts" => Ok(receipts(simulation, node)),
        "tree" => {
            let handle = simulation.handle(node).map_err(|e| text(&e))?;
            let tree = handle.tree().await.map_err(|e| text(&e))?;
            let mut lines = Vec::new();
            branch(simulation, &tree, 0, &mut lines);
            Ok(lines)
        }
        "links" | "sessions" | "choices" => {
            let handle = simulation.handle(node).map_err(|e| text(&e))?;
            let mut lines = Vec::new();
            for status in handle.sessions(None).await.map_err(|e| text(&e))? {
                let peer = simulation.log().renamed(&status.peer.to_string());
                match what {
                    "sessions" => lines.push(format!(
                        "{peer}: accepted={} acknowledged={} delivered={} queued={} failovers={}",
                        status.messages_accepted,
                        status.messages_acknowledged,
                        status.messages_delivered,
                        status.queued_messages,
                        status.failovers
                    )),
                    "choices" => {
                        for choice in &status.choices {
                            let name = |id| status.links.iter().find(|link| link.info.id == id);
                            let links = choice.links.iter().filter_map(|id| name(*id));
                            let links: Vec<_> = links.map(|link| link.info.transport.to_string()).collect();
                            let policy = choice.policy;
                            lines.push(format!("{peer} {:?} {policy:?}: {}", choice.class, links.join(" ")));
                        }
                    }
                    _ => {
                        let mut links: Vec<_> = status
                            .links
                            .iter()
                            .map(|link| {
                                let dialled = if link.info.initiator { "dialled" } else { "accepted" };
                                format!("{peer} {} {:?} {dialled}", link.info.transport, link.state)
                            })
                            .collect();
                        links.sort();
                        lines.extend(links);
                    }
                }
            }
            Ok(lines)
        }
        other => Err(format!("cannot show `{other}`: links sessions choices tree receipts received, or `show log …`")),
    }
}

/// What `show log PATTERN` prints.
pub(super) fn log(simulation: &Simulation, first: usize, pattern: &Pattern) -> Vec<String> {
    let entries = simulation.log().since(first);
    entries.iter().filter(|entry| pattern.matches(entry)).map(|entry| entry.to_string().trim().to_owned()).collect()
}

fn receipts(simulation: &Simulation, node: &str) -> Vec<String> {
    let mut states: BTreeMap<String, usize> = BTreeMap::new();
    let session = format!("{node}.session");
    for entry in simulation.log().since(0) {
        if entry.from == session && entry.name == "Receipt" {
            let state = entry.fields.iter().find(|(key, _)| key == "state").map_or("", |(_, value)| value);
            *states.entry(state.to_owned()).or_default() += 1;
        }
    }
    states.into_iter().map(|(state, count)| format!("{state} {count}")).collect()
}

fn received(simulation: &Simulation, node: &str) -> Result<Vec<String>, String> {
    let received = simulation.received(node).map_err(|error| error.to_string())?;
    let shown = received.iter().map(|(peer, message)| {
        let peer = simulation.log().renamed(&peer.to_string());
        format!("{peer}: {}", String::from_utf8_lossy(&message.payload))
    });
    Ok(shown.collect())
}

fn branch(simulation: &Simulation, tree: &TreeNode, depth: usize, into: &mut Vec<String>) {
    let id = simulation.log().renamed(&tree.id);
    into.push(format!("{:indent$}{id} {:?} restarts={}", "", tree.state, tree.restarts, indent = depth * 2));
    for child in &tree.children {
        branch(simulation, child, depth + 1, into);
    }
}
