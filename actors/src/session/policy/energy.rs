//! The link that costs least energy.

use bowline_messages::PolicyName;
use bowline_messages::link::Medium;

use super::{Candidate, Policy, Request, Score, Worth, terms};
use crate::health::quality::power_efficiency;

/// Below so many bytes Bluetooth is preferred, from there on WiFi.
const SMALL_BYTES: usize = 1_000;

/// Small messages go over Bluetooth, larger ones over WiFi, where there is such a link; else where a byte costs least.
pub(super) struct EnergyEfficient;

fn preferred(bytes: Option<usize>, medium: Medium) -> bool {
    match medium {
        Medium::Bluetooth => bytes.is_some_and(|bytes| bytes < SMALL_BYTES),
        Medium::Wifi | Medium::WifiDirect => bytes.is_none_or(|bytes| bytes >= SMALL_BYTES),
        Medium::Ethernet | Medium::Cellular | Medium::Loopback | Medium::Mesh | Medium::Unknown => false,
    }
}

impl Policy for EnergyEfficient {
    fn name(&self) -> PolicyName {
        PolicyName::EnergyEfficient
    }

    fn rule(&self) -> &'static str {
        "least energy for a message of this size"
    }

    fn worth(&self, request: &Request<'_>, links: &[Candidate], at: usize) -> Worth {
        let candidate = &links[at];
        // A link that loses half has to send twice.
        let delivered = terms::share(candidate.reliability);
        let energy = power_efficiency(candidate.medium).unwrap_or(0.5) / 2.0;
        let preference = if preferred(request.bytes, candidate.medium) { 0.5 } else { 0.0 };
        Worth::of(candidate, delivered.map(|delivered| Score::new(delivered * (preference + energy))))
    }

    fn choose(&self, request: &Request<'_>, links: &[Candidate]) -> super::Choice {
        // Messages of different sizes prefer different links: what stood for the last one is an argument only if it is for this size as well.
        let suits = |candidate: &Candidate| preferred(request.bytes, candidate.medium);
        let some = links.iter().any(suits);
        let stood = |link| links.iter().any(|candidate| candidate.link == link && (suits(candidate) || !some));
        let request = Request { standing: request.standing.filter(|standing| stood(standing.link)), ..*request };
        super::damping::settle(&request, links, self.rule(), |at| self.worth(&request, links, at))
    }
}
