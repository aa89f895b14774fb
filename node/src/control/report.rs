//! Sessions and links as `status`, `peers` and `why` report them: flat, with the unit in the name of every number.
//! `null` means: not measured yet.

use std::time::Duration;

use bowline_messages::health::{Evidence, Finding, Layer, LinkOpinion, Quality};
use bowline_messages::link::{FailedLink, LinkState, LinkStats};
use bowline_messages::session::{ClassScore, LinkChoice, LinkStatus, SessionStatus};
use bowline_messages::{EndpointAddress, LinkId, MessageClass, PeerId, PolicyName};
use serde::{Deserialize, Serialize};

/// One session.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct SessionReport {
    /// The peer.
    pub(crate) peer: PeerId,
    /// Its name in the peer book.
    pub(crate) name: Option<String>,
    /// Whether a link carries it now.
    pub(crate) connected: bool,
    /// Its links, usable or not.
    pub(crate) links: Vec<LinkReport>,
    /// Links that died and stand not again yet.
    #[serde(default)]
    pub(crate) failed: Vec<FailedLink>,
    /// For each class, the links that would carry the next message, and the rule that says so.
    pub(crate) choices: Vec<ChoiceReport>,
    /// Where the peer says it can be reached.
    pub(crate) peer_addresses: Vec<EndpointAddress>,
    /// This side's incarnation.
    pub(crate) incarnation: u64,
    /// The peer's.
    pub(crate) peer_incarnation: Option<u64>,
    /// Messages accepted and not final.
    pub(crate) queued_messages: usize,
    /// Bytes of those.
    pub(crate) queued_bytes: usize,
    /// Messages accepted since the session began.
    pub(crate) messages_accepted: u64,
    /// Messages that the peer's application has.
    pub(crate) messages_acknowledged: u64,
    /// Messages given to the application here.
    pub(crate) messages_delivered: u64,
    /// Duplicates that arrived and were dropped.
    pub(crate) duplicates_dropped: u64,
    /// Failovers since the session began.
    pub(crate) failovers: u64,
    /// What is thought of the peer, 0 (the worst) to 1.
    pub(crate) score: f64,
}

/// One link.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct LinkReport {
    /// Its number within the session.
    pub(crate) id: LinkId,
    /// The transport.
    pub(crate) transport: String,
    /// This side's end.
    pub(crate) local: EndpointAddress,
    /// The peer's end.
    pub(crate) remote: EndpointAddress,
    /// The interface it runs over.
    pub(crate) interface: Option<String>,
    /// Whether this side dialled.
    pub(crate) initiator: bool,
    /// Where it is in its life.
    pub(crate) state: LinkState,
    /// Smoothed round-trip time.
    pub(crate) rtt_us: Option<u64>,
    /// Smallest round-trip time seen lately.
    pub(crate) rtt_min_us: Option<u64>,
    /// Mean deviation of the round-trip time.
    pub(crate) jitter_us: Option<u64>,
    /// Share of records lost lately.
    pub(crate) loss_ratio: Option<f64>,
    /// Rate at which the peer acknowledges.
    pub(crate) delivery_bytes_per_s: Option<f64>,
    /// What it is worth to the policy of each class.
    #[serde(default)]
    pub(crate) scores: Vec<ClassScore>,
    /// Expected time to delivery, with an allowance for variation.
    pub(crate) expected_delay_us: Option<u64>,
    /// The penalty for having failed lately, 0 to 1, decaying.
    pub(crate) flap_penalty: f64,
    /// Bytes sealed for it and not acknowledged.
    pub(crate) in_flight_bytes: usize,
    /// Bytes that may be in flight on it.
    pub(crate) window_bytes: usize,
    /// Bytes handed to the transport.
    pub(crate) bytes_sent: u64,
    /// Bytes received from the transport.
    pub(crate) bytes_received: u64,
    /// Records sealed for it.
    pub(crate) records_sent: u64,
    /// Records received and opened.
    pub(crate) records_received: u64,
    /// Records received and dropped.
    pub(crate) records_rejected: u64,
    /// Records declared lost.
    pub(crate) records_lost: u64,
    /// Frames sent again over another link.
    pub(crate) frames_rerouted: u64,
    /// What was measured over the last 100 samples; `null` for a link without traffic.
    pub(crate) quality: Option<Quality>,
    /// What the health monitor thinks of it; `null` for a link without traffic.
    pub(crate) opinion: Option<LinkOpinion>,
    /// From what its state was concluded last, where it was.
    pub(crate) evidence: Option<Evidence>,
    /// The surest of what was found last.
    pub(crate) last_finding: Option<Finding>,
}

/// Which links a class uses now, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ChoiceReport {
    /// The class.
    pub(crate) class: MessageClass,
    /// The policy in force for it.
    pub(crate) policy: PolicyName,
    /// The links, best first.
    pub(crate) links: Vec<LinkId>,
    /// The rule that decided.
    pub(crate) rule: String,
}

impl SessionReport {
    /// The report of a session whose peer the user calls `name`; `score`: what is thought of it.
    pub(crate) fn new(status: SessionStatus, name: Option<String>, score: f64) -> Self {
        let links: Vec<LinkReport> = status.links.into_iter().map(LinkReport::from).collect();
        Self {
            peer: status.peer,
            name,
            connected: links.iter().any(|link| link.state.is_usable()),
            links,
            failed: status.failed,
            choices: status.choices.into_iter().map(ChoiceReport::from).collect(),
            peer_addresses: status.peer_addresses,
            incarnation: status.incarnation.0,
            peer_incarnation: status.peer_incarnation.map(|incarnation| incarnation.0),
            queued_messages: status.queued_messages,
            queued_bytes: status.queued_bytes,
            messages_accepted: status.messages_accepted,
            messages_acknowledged: status.messages_acknowledged,
            messages_delivered: status.messages_delivered,
            duplicates_dropped: status.duplicates_dropped,
            failovers: status.failovers,
            score,
        }
    }

    /// Whether the peer has answered on a link that carries the session now. Whoever dials has a link before the other side has
    /// looked at who it is, and may lose it again at once.
    pub(crate) fn is_confirmed(&self) -> bool {
        self.links.iter().any(|link| link.state.is_usable() && link.records_received > 0)
    }

    /// What the user calls the peer: its name, or the beginning of its id.
    pub(crate) fn label(&self) -> String {
        self.name.clone().unwrap_or_else(|| self.peer.short())
    }

    /// The link that the next message of a class would take.
    pub(crate) fn preferred(&self, class: MessageClass) -> Option<&LinkReport> {
        let choice = self.choices.iter().find(|choice| choice.class == class)?;
        let first = choice.links.first()?;
        self.links.iter().find(|link| link.id == *first)
    }
}

impl From<LinkStatus> for LinkReport {
    fn from(status: LinkStatus) -> Self {
        let LinkStats {
            bytes_sent,
            bytes_received,
            records_sent,
            records_received,
            records_rejected,
            records_lost,
            frames_rerouted,
            rtt,
            rtt_min,
            rtt_variation,
            loss,
            delivery_rate,
        } = status.stats;
        Self {
            id: status.info.id,
            transport: status.info.transport.to_string(),
            local: status.info.local,
            remote: status.info.remote,
            interface: status.info.interface.map(|interface| interface.name),
            initiator: status.info.initiator,
            state: status.state,
            rtt_us: rtt.map(micros),
            rtt_min_us: rtt_min.map(micros),
            jitter_us: rtt_variation.map(micros),
            loss_ratio: loss,
            delivery_bytes_per_s: delivery_rate,
            expected_delay_us: status.expected_delay.and_then(|s| Duration::try_from_secs_f64(s).ok()).map(micros),
            scores: status.scores,
            flap_penalty: status.flap_penalty,
            in_flight_bytes: status.in_flight_bytes,
            window_bytes: status.window_bytes,
            bytes_sent,
            bytes_received,
            records_sent,
            records_received,
            records_rejected,
            records_lost,
            frames_rerouted,
            quality: status.opinion.as_ref().map(|opinion| opinion.quality),
            last_finding: last_finding(status.opinion.as_deref(), status.evidence.as_deref()),
            opinion: status.opinion.map(|opinion| *opinion),
            evidence: status.evidence.map(|evidence| *evidence),
        }
    }
}

/// The surest of what is found now, or else of what was found when the link changed its state.
fn last_finding(opinion: Option<&LinkOpinion>, evidence: Option<&Evidence>) -> Option<Finding> {
    let now = opinion.into_iter().flat_map(|opinion| &opinion.findings);
    let before = evidence.into_iter().flat_map(|evidence| &evidence.findings);
    now.chain(before).find(|finding| finding.confidence.value() > 0.0 && finding.layer != Layer::Arrivals).cloned()
}

impl From<LinkChoice> for ChoiceReport {
    fn from(choice: LinkChoice) -> Self {
        Self { class: choice.class, policy: choice.policy, links: choice.links, rule: choice.rule }
    }
}

/// A duration in whole microseconds.
pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
