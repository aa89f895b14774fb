//! What was measured, as lines for people and as JSON.

use serde_json::{Value, json};

/// What a figure has to be to be good.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Target {
    /// At most this.
    AtMost(f64),
    /// At least this.
    AtLeast(f64),
    /// At most this many times the reference.
    RatioAtMost(f64),
    /// At least this many times the reference.
    RatioAtLeast(f64),
}

impl Target {
    fn is_met(self, value: f64, ratio: Option<f64>) -> Option<bool> {
        match self {
            Self::AtMost(limit) => Some(value <= limit),
            Self::AtLeast(limit) => Some(value >= limit),
            Self::RatioAtMost(limit) => ratio.map(|ratio| ratio <= limit),
            Self::RatioAtLeast(limit) => ratio.map(|ratio| ratio >= limit),
        }
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::AtMost(limit) => write!(f, "≤ {}", figure(*limit)),
            Self::AtLeast(limit) => write!(f, "≥ {}", figure(*limit)),
            Self::RatioAtMost(limit) => write!(f, "≤ {limit}×"),
            Self::RatioAtLeast(limit) => write!(f, "≥ {limit}×"),
        }
    }
}

/// One subject under one workload.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    /// What was done.
    pub(crate) workload: String,
    /// Who did it.
    pub(crate) subject: String,
    /// The median of its runs, or why there is none.
    pub(crate) value: Result<f64, String>,
    /// The unit of the value.
    pub(crate) unit: &'static str,
    /// Every run.
    pub(crate) runs: Vec<f64>,
    /// The value divided by that of the reference.
    pub(crate) ratio: Option<f64>,
    /// What is to be reached.
    pub(crate) targets: Vec<Target>,
    /// Anything else that belongs to it: `lost 0`.
    pub(crate) note: String,
    /// Whether the note tells of a failure, whatever the figures say.
    pub(crate) broken: bool,
}

impl Row {
    /// A row without targets.
    pub(crate) fn new(workload: &str, subject: &str, unit: &'static str, value: Result<f64, String>) -> Self {
        Self {
            workload: workload.to_owned(),
            subject: subject.to_owned(),
            value,
            unit,
            runs: Vec::new(),
            ratio: None,
            targets: Vec::new(),
            note: String::new(),
            broken: false,
        }
    }

    /// Whether every target is met; `None` when there is none.
    pub(crate) fn verdict(&self) -> Option<bool> {
        if self.targets.is_empty() {
            return None;
        }
        match &self.value {
            Ok(value) => {
                Some(!self.broken && self.targets.iter().all(|target| target.is_met(*value, self.ratio) == Some(true)))
            }
            Err(_) => Some(false),
        }
    }

    /// The row as text.
    pub(crate) fn line(&self) -> String {
        let value = match &self.value {
            Ok(value) => format!("{:>12} {:<8}", figure(*value), self.unit),
            Err(reason) => format!("  failed: {reason}"),
        };
        let ratio = self.ratio.map_or_else(|| " ".repeat(9), |ratio| format!("{ratio:>8.2}×"));
        let targets: Vec<String> = self.targets.iter().map(ToString::to_string).collect();
        let verdict = match self.verdict() {
            None => "",
            Some(true) => "ok",
            Some(false) => "MISSED",
        };
        let line =
            format!("  {:<14}{value}{ratio}   {:<20}{verdict:<8}{}", self.subject, targets.join(", "), self.note);
        line.trim_end().to_owned()
    }

    /// The row as JSON.
    pub(crate) fn report(&self) -> Value {
        json!({
            "workload": self.workload,
            "subject": self.subject,
            "value": self.value.as_ref().ok(),
            "error": self.value.as_ref().err(),
            "unit": self.unit,
            "runs": self.runs,
            "ratio": self.ratio,
            "targets": self.targets.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "met": self.verdict(),
            "note": self.note,
        })
    }
}

/// A figure with about four digits, in thousands where it is large.
fn figure(value: f64) -> String {
    match value.abs() {
        size if size >= 10_000_000.0 => format!("{:.1} M", value / 1e6),
        size if size >= 1_000_000.0 => format!("{:.2} M", value / 1e6),
        size if size >= 10_000.0 => format!("{:.1} k", value / 1e3),
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_has_to_be_met() {
        let mut row = Row::new("w", "s", "µs", Ok(12.0));
        assert_eq!(row.verdict(), None);
        row.targets = vec![Target::AtMost(20.0), Target::RatioAtMost(1.5)];
        assert_eq!(row.verdict(), Some(false), "a ratio that is not known is not met");
        row.ratio = Some(1.4);
        assert_eq!(row.verdict(), Some(true));
        row.broken = true;
        assert_eq!(row.verdict(), Some(false));
    }

    #[test]
    fn figures_are_short() {
        let shown: Vec<String> = [22_700_000.0, 4_500_000.0, 45_000.0, 2_860.0, 9.84, 0.62].map(figure).to_vec();
        assert_eq!(shown, ["22.7 M", "4.50 M", "45.0 k", "2860", "9.84", "0.62"]);
    }
}
