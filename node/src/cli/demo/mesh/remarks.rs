//! What of all that happens in a node is worth a line, and how it is said. Pure.

use bowline_messages::PeerId;
use bowline_messages::event::EventKind;
use bowline_messages::membership::MembershipEvent;
use bowline_messages::partition::{PartitionEvent, PauseReason, Side};
use bowline_messages::topology::HealingStep;

/// An event as a line, told of the node that says it; `None`: not worth one.
#[allow(clippy::wildcard_enum_match_arm, reason = "the lists of events are open; these are the ones to be told")]
pub(super) fn remark(event: &EventKind, name: impl Fn(&PeerId) -> String) -> Option<String> {
    match event {
        EventKind::HealingLink { peer, step, .. } => healing(*step, &name(peer)),
        EventKind::Membership { what } => match what {
            MembershipEvent::Down { peer, failure, .. } => Some(format!("{} is gone: {}", name(peer), failure.kind)),
            MembershipEvent::Returned { peer, .. } => Some(format!("{} is back", name(peer))),
            _ => None,
        },
        EventKind::Partition { what } => match what {
            PartitionEvent::Split { missing, side, .. } => {
                let names: Vec<String> = missing.iter().map(&name).collect();
                let side = match side {
                    Side::Majority => "the majority is here",
                    Side::Minority => "the minority is here",
                };
                Some(format!("a split: {} out of reach, {side}", names.join(" ")))
            }
            PartitionEvent::Active { token } => {
                Some(format!("may act, lease {} of {}", token.term.0, name(&token.holder)))
            }
            PartitionEvent::Paused { reason: PauseReason::NoLease } => Some("paused: no majority in reach".into()),
            PartitionEvent::Healed { lasted } => Some(format!("together again after {:.0} s", lasted.as_secs_f64())),
            PartitionEvent::Evidence { peer, .. } => Some(format!("{} was proven to misbehave", name(peer))),
            _ => None,
        },
        _ => None,
    }
}

fn healing(step: HealingStep, peer: &str) -> Option<String> {
    match step {
        HealingStep::Asked => Some(format!("asks {peer} for a link that the network needs")),
        HealingStep::Refused(why) => Some(format!("is refused a link by {peer}: {why}")),
        HealingStep::Undone => Some(format!("needs the link to {peer} no more")),
        HealingStep::TimedOut => Some(format!("gets no link to {peer}")),
        HealingStep::Granted | HealingStep::Linked | HealingStep::Lost => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bowline_messages::partition::{Term, Token};
    use bowline_messages::topology::HealingPurpose;

    #[test]
    fn peers_are_called_by_their_names() {
        let peer = PeerId::from_bytes([7; 32]);
        let name = |_: &PeerId| "X".to_owned();
        let purpose = HealingPurpose::Redundancy;
        let asked = EventKind::HealingLink { peer, purpose, step: HealingStep::Asked };
        assert_eq!(remark(&asked, name).as_deref(), Some("asks X for a link that the network needs"));
        let linked = EventKind::HealingLink { peer, purpose, step: HealingStep::Linked };
        assert_eq!(remark(&linked, name), None);
        let what = PartitionEvent::Active { token: Token { term: Term(3), holder: peer } };
        assert_eq!(remark(&EventKind::Partition { what }, name).as_deref(), Some("may act, lease 3 of X"));
    }
}
