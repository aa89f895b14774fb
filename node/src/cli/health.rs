//! What is thought of links, for people: `bowline status` and `bowline why`.

use bowline_messages::health::{Advice, Evidence, Finding, Layer, Rule};

use crate::control::report::LinkReport;

/// The quality of a link in a few words.
pub(crate) fn quality(link: &LinkReport) -> String {
    let Some(quality) = &link.quality else { return "-".into() };
    let mut parts = Vec::new();
    parts.extend(quality.latency_ms.map(|ms| format!("{ms:.1} ms")));
    parts.extend(quality.loss.map(missed));
    parts.extend(quality.stability.map(|steady| format!("steady {steady:.2}")));
    if parts.is_empty() { "-".into() } else { parts.join(", ") }
}

/// An estimated share. Estimates swing around zero; less than none is none.
fn missed(share: f64) -> String {
    let percent = if share > 0.0 { share * 100.0 } else { 0.0 };
    format!("{percent:.0} % missed")
}

/// What was found last, in a few words.
pub(crate) fn last_finding(link: &LinkReport) -> String {
    link.last_finding
        .as_ref()
        .map_or_else(|| "-".into(), |found| format!("{} ({:.2})", rule(found), found.confidence.value()))
}

/// What the layers say of a link, and from what its state was concluded; nothing when there is nothing to say.
pub(crate) fn paragraphs(link: &LinkReport) -> String {
    let mut text = String::new();
    if let Some(opinion) = &link.opinion {
        let advice = match opinion.advice {
            Advice::Keep => "as usual",
            Advice::Mistrust => "worse than usual",
            Advice::Leave => "about to fail",
        };
        text.push_str(&format!(
            "  {}: {advice}; degrading {:.2}, unusable {:.2}, this node's doubt of itself {:.2}\n",
            link.id,
            opinion.degrading.value(),
            opinion.unusable.value(),
            opinion.doubt.value()
        ));
        if let Some(seconds) = opinion.outlook.seconds {
            let probability = opinion.outlook.probability.value();
            text.push_str(&format!("      fails within {seconds:.1} s with probability {probability:.2}\n"));
        }
        text.push_str(&findings(&opinion.findings));
    }
    if let Some(evidence) = &link.evidence {
        text.push_str(&format!("  {}: {:?} was concluded from\n", link.id, link.state));
        text.push_str(&concluded(evidence));
    }
    text
}

fn concluded(evidence: &Evidence) -> String {
    let mut text = findings(&evidence.findings);
    let confidence = evidence.confidence.value();
    text.push_str(&format!("      with confidence {confidence:.2}, doubt {:.2}\n", evidence.doubt.value()));
    for other in &evidence.alternatives {
        let score = other.score.map_or_else(|| "not measured".into(), |score| format!("score {score:.2}"));
        text.push_str(&format!("      instead: {} ({:?}, {score})\n", other.id, other.condition));
    }
    text
}

fn findings(findings: &[Finding]) -> String {
    let line = |finding: &Finding| {
        let samples: Vec<String> = finding.samples.iter().map(|sample| format!("{sample:.1}")).collect();
        let samples = if samples.is_empty() { String::new() } else { format!(": {}", samples.join(" ")) };
        format!("      {:.2} {:<18} {}{samples}\n", finding.confidence.value(), layer(finding.layer), rule(finding))
    };
    findings.iter().filter(|finding| finding.confidence.value() > 0.0).map(line).collect()
}

fn layer(layer: Layer) -> &'static str {
    match layer {
        Layer::OperatingSystem => "operating system",
        Layer::Peer => "peer",
        Layer::Unacknowledged => "unacknowledged",
        Layer::Arrivals => "arrivals",
        Layer::Control => "control chart",
        Layer::Rules => "rules",
        Layer::Anomaly => "anomaly",
        Layer::Correlation => "correlation",
        Layer::Trend => "trend",
    }
}

fn rule(finding: &Finding) -> &'static str {
    match finding.rule {
        Rule::ReportedDown => "reported down",
        Rule::PeerReported => "reported by the peer",
        Rule::TimedOut => "waited, time-out (ms)",
        Rule::Stalled => "answers probes, carries no data: waited, time-out (ms)",
        Rule::SilenceTooLong => "silent arrivals, silent (ms), share lost",
        Rule::ThreeSigma => "beyond 3 sigma (ms)",
        Rule::RunOfSeven => "seven rising (ms)",
        Rule::ErrorBurst => "errors, limit, within (ms)",
        Rule::MedianDeviation => "latest, median, deviation (ms)",
        Rule::FellTogether => "fell together, of",
        Rule::TrendMeetsLimit => "slope (ms/s), limit (ms), seconds until then",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bowline_messages::LinkId;
    use bowline_messages::health::{Alternative, Confidence};
    use bowline_messages::link::LinkState;

    #[test]
    fn less_than_nothing_missed_is_nothing() {
        for share in [-0.001, -0.0, 0.0, 0.001] {
            assert_eq!(missed(share), "0 % missed");
        }
        assert_eq!(missed(0.07), "7 % missed");
    }

    #[test]
    fn evidence_says_samples_rule_and_alternatives() {
        let finding = Finding::new(Layer::Control, Rule::ThreeSigma, Confidence::new(0.95), &[20.0, 21.0, 90.0]);
        let evidence = Evidence {
            confidence: Confidence::new(0.95),
            doubt: Confidence::NONE,
            findings: vec![finding],
            alternatives: vec![Alternative { id: LinkId(2), condition: LinkState::Active, score: Some(0.5) }],
        };
        let text = concluded(&evidence);
        for part in ["0.95 control chart", "beyond 3 sigma (ms): 20.0 21.0 90.0", "instead: ", "Active, score 0.50"] {
            assert!(text.contains(part), "{text}");
        }
    }
}
