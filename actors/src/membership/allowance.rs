//! What one member may have this node do, so that none keeps it from its work for the others.

use std::time::{Duration, Instant};

use bowline_messages::config::MembershipConfig;

use crate::bucket::Bucket;

/// Packets from one member in an interval of gossip. An honest one sends news, a reminder and what answers an accusation once in it at most.
const PACKETS_IN_GOSSIP: f64 = 8.0;
/// Besides, in an interval of questions: its question, those that it passes on for others, answers to this node's own, a page of a list.
const PACKETS_IN_PROBE: f64 = 10.0;
/// Packets in a row: what an honest member sends in so many seconds. A node that was stopped finds all of it in its mailbox.
const SECONDS_IN_A_ROW: f64 = 10.0;
/// Requests for help in an interval of questions. An honest member asks once in it, and what was late comes all at once.
const HELP_IN_PROBE: f64 = 2.0;
/// Requests for help in a row: those of some intervals that this node was stopped for.
const HELP_IN_A_ROW: f64 = 8.0;

/// What is left of it for one member.
#[derive(Debug, Clone)]
pub(super) struct Allowance {
    packets: Bucket,
    help: Bucket,
    /// When it was told news last with an answer to something that it sent.
    told: Option<Instant>,
    /// When an accusation of its gave this node reason to doubt itself.
    doubted: Option<Instant>,
    /// When it had this node renew its membership.
    renewed: Option<Instant>,
}

impl Allowance {
    /// All of it. Packets in a row are at least as many as half of the places: a list of members is compared in so many, one straight after the other.
    #[allow(clippy::cast_precision_loss)]
    pub(super) fn new(now: Instant, config: &MembershipConfig) -> Self {
        let (gossip, probe) = (config.gossip_interval.as_secs_f64(), config.probe_interval.as_secs_f64());
        let per_second = PACKETS_IN_GOSSIP / gossip + PACKETS_IN_PROBE / probe;
        let in_a_row = (config.members_max as f64 / 2.0).max(per_second * SECONDS_IN_A_ROW);
        Self {
            packets: Bucket::new(now, per_second, in_a_row),
            help: Bucket::new(now, HELP_IN_PROBE / probe, HELP_IN_A_ROW),
            told: None,
            doubted: None,
            renewed: None,
        }
    }

    /// Whether one more packet of its is looked at.
    pub(super) fn takes_packet(&mut self, now: Instant) -> bool {
        self.packets.take(now, 1.0)
    }

    /// Whether somebody is asked for it once more.
    pub(super) fn gets_help(&mut self, now: Instant) -> bool {
        self.help.take(now, 1.0)
    }

    /// Whether an answer to it brings it news; notes that it does.
    pub(super) fn is_told(&mut self, now: Instant, pause: Duration) -> bool {
        has_rested(&mut self.told, now, pause)
    }

    /// Whether its accusation is a reason for doubt; notes that it is.
    pub(super) fn raises_doubt(&mut self, now: Instant, pause: Duration) -> bool {
        has_rested(&mut self.doubted, now, pause)
    }

    /// Whether this node renews its membership on its word; notes that it does.
    pub(super) fn renews(&mut self, now: Instant, pause: Duration) -> bool {
        has_rested(&mut self.renewed, now, pause)
    }
}

fn has_rested(last: &mut Option<Instant>, now: Instant, pause: Duration) -> bool {
    let rested = last.is_none_or(|last| now.saturating_duration_since(last) >= pause);
    if rested {
        *last = Some(now);
    }
    rested
}
