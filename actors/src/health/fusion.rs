//! One verdict from what the layers say.
//!
//! Layers that judge the same evidence are not independent: of those the surest counts. Evidence of different kinds adds up. What the operating
//! system reports is beyond doubt; what was concluded counts less the more the node doubts itself.

use bowline_messages::health::{Confidence, Finding, Layer};

/// What is thought of a link, and why.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Verdict {
    /// How sure it is that the link does not carry.
    pub unusable: Confidence,
    /// How sure it is that the link carries worse than it should.
    pub degrading: Confidence,
    /// How much the node doubted itself; the two above are what is left after that.
    pub doubt: Confidence,
    /// What each layer said, the surest first: at most one a layer.
    pub findings: Vec<Finding>,
}

/// The kind of evidence that a layer judges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Evidence {
    /// A report of somebody who knows.
    Report,
    /// Nothing comes.
    Silence,
    /// What else fell.
    Neighbours,
    /// How the link's measures change.
    Measures,
    /// What went wrong on the link.
    Errors,
}

fn evidence(layer: Layer) -> Evidence {
    match layer {
        Layer::OperatingSystem | Layer::Peer => Evidence::Report,
        Layer::Unacknowledged | Layer::Arrivals => Evidence::Silence,
        Layer::Correlation => Evidence::Neighbours,
        Layer::Control | Layer::Anomaly | Layer::Trend => Evidence::Measures,
        Layer::Rules => Evidence::Errors,
    }
}

/// Fuses what the layers say of one link.
pub fn fuse(findings: Vec<Finding>, doubt: Confidence) -> Verdict {
    let of = |kind| {
        let said = findings.iter().filter(|finding| evidence(finding.layer) == kind);
        said.fold(Confidence::NONE, |surest, finding| surest.or_greater(finding.confidence))
    };
    let silence = of(Evidence::Silence);
    // Neighbours that fell make a silence more telling; without a silence of its own a link is not condemned for theirs.
    let silence = silence.either(Confidence::new(of(Evidence::Neighbours).value() * silence.value()));
    let unusable = silence.doubted(doubt).or_greater(of(Evidence::Report));
    let degrading = of(Evidence::Measures).either(of(Evidence::Errors)).doubted(doubt);
    let mut findings = findings;
    findings.sort_by(|a, b| b.confidence.value().total_cmp(&a.confidence.value()).then(a.layer.cmp(&b.layer)));
    let mut seen = Vec::new();
    findings.retain(|finding| {
        let new = !seen.contains(&finding.layer);
        seen.push(finding.layer);
        new
    });
    Verdict { unusable, degrading, doubt, findings }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bowline_messages::health::Rule;
    use proptest::prelude::*;

    const LAYERS: [(Layer, Rule); 8] = [
        (Layer::OperatingSystem, Rule::ReportedDown),
        (Layer::Unacknowledged, Rule::TimedOut),
        (Layer::Arrivals, Rule::SilenceTooLong),
        (Layer::Control, Rule::ThreeSigma),
        (Layer::Rules, Rule::ErrorBurst),
        (Layer::Anomaly, Rule::MedianDeviation),
        (Layer::Correlation, Rule::FellTogether),
        (Layer::Trend, Rule::TrendMeetsLimit),
    ];

    fn says(layer: usize, confidence: f64) -> Finding {
        let (layer, rule) = LAYERS[layer];
        Finding::new(layer, rule, Confidence::new(confidence), &[])
    }

    #[test]
    fn two_layers_over_one_silence_are_not_surer_than_the_surest() {
        let verdict = fuse(vec![says(1, 0.5), says(2, 0.6)], Confidence::NONE);
        assert_eq!((verdict.unusable, verdict.degrading), (Confidence::new(0.6), Confidence::NONE));
        assert_eq!(verdict.findings[0].layer, Layer::Arrivals);
    }

    #[test]
    fn neighbours_that_fell_make_a_silence_more_telling_and_nothing_of_no_silence() {
        assert_eq!(fuse(vec![says(6, 0.9)], Confidence::NONE).unusable, Confidence::NONE);
        assert_eq!(fuse(vec![says(2, 0.5), says(6, 1.0)], Confidence::NONE).unusable, Confidence::new(0.75));
    }

    #[test]
    fn a_node_that_doubts_itself_believes_reports_alone() {
        let verdict = fuse(vec![says(2, 1.0), says(3, 0.95)], Confidence::CERTAIN);
        assert_eq!((verdict.unusable, verdict.degrading), (Confidence::NONE, Confidence::NONE));
        assert_eq!(fuse(vec![says(0, 1.0)], Confidence::CERTAIN).unusable, Confidence::CERTAIN);
    }

    #[test]
    fn measures_say_degrading_never_unusable() {
        let verdict = fuse(vec![says(3, 0.5), says(5, 0.4), says(4, 0.5)], Confidence::NONE);
        assert_eq!((verdict.unusable, verdict.degrading), (Confidence::NONE, Confidence::new(0.75)));
    }

    proptest! {
        #[test]
        fn whatever_is_said_the_verdict_is_bounded_and_grows_with_what_is_said(
            said in proptest::collection::vec((0_usize..8, any::<f64>()), 0..40), doubt in any::<f64>(), more in 0_usize..8,
        ) {
            let findings: Vec<Finding> = said.iter().map(|(layer, confidence)| says(*layer, *confidence)).collect();
            let verdict = fuse(findings.clone(), Confidence::new(doubt));
            prop_assert!(verdict.findings.len() <= LAYERS.len());
            let surer = fuse(findings.into_iter().chain([says(more, 1.0)]).collect(), Confidence::new(doubt));
            prop_assert!(surer.unusable >= verdict.unusable && surer.degrading >= verdict.degrading);
        }
    }
}
