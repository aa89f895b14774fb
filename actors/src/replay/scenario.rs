//! Links side by side as the transports of one peer, and what each costs in each second. Pure.

use serde::Deserialize;

use super::trace::{Row, RowTime, Trace};

/// Cost in milliseconds of a second in which a link did not deliver; no cost is higher.
pub const COST_MAX_MS: f64 = 1_000.0;
/// Bits in the message whose transfer time is the cost of a link known by its throughput: 64 KiB.
const MESSAGE_BITS: f64 = 524_288.0;
/// With this share of rows, or of packets, lost, a second counts as not delivered.
const LOST_SHARE: f64 = 0.5;

/// What is known of the links of a scenario.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Their latency.
    Latency,
    /// Their throughput.
    Throughput,
}

/// Where the links of a scenario come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// Measured at the same time at the same place.
    Natural,
    /// Real links of different days and places, laid side by side.
    Composite,
}

/// One link of a scenario.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ScenarioLink {
    /// The trace.
    pub file: String,
    /// Second of the trace at which the scenario begins.
    pub offset_s: u32,
}

/// Links side by side for a while.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Scenario {
    /// Its name.
    pub name: String,
    /// What is known of its links.
    pub kind: Kind,
    /// Where its links come from.
    pub origin: Origin,
    /// How long, in seconds.
    pub duration_s: u32,
    /// Its links.
    pub links: Vec<ScenarioLink>,
}

/// Parses a list of scenarios.
///
/// # Errors
/// Those of the JSON parser.
pub fn parse(text: &str) -> Result<Vec<Scenario>, serde_json::Error> {
    serde_json::from_str(text)
}

/// What one link was like in one second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cost {
    /// Milliseconds to delivery, at most [`COST_MAX_MS`].
    pub ms: f64,
    /// Whether it delivered at all.
    pub delivered: bool,
    /// Throughput in kbit/s, where it was measured.
    pub kbps: Option<f64>,
}

impl Cost {
    const NONE: Self = Self { ms: COST_MAX_MS, delivered: false, kbps: None };

    /// What took so long; nothing is known of the throughput.
    pub fn of(ms: f64, delivered: bool) -> Self {
        if delivered && ms.is_finite() { Self { ms: ms.min(COST_MAX_MS), delivered, kbps: None } } else { Self::NONE }
    }
}

/// The cost of one link in each second of a scenario.
pub fn costs(kind: Kind, link: &ScenarioLink, duration_s: u32, trace: &Trace) -> Vec<Cost> {
    let mut sums = vec![Sum::default(); duration_s as usize];
    for row in &trace.rows {
        let t = row.t_ms / 1e3 - f64::from(link.offset_s);
        let second = match trace.row_time {
            RowTime::IntervalEnd => t.ceil(),
            RowTime::ProbeSend => t.floor(),
        };
        // The conversion saturates: what is before the beginning must not be counted into second 0.
        if second >= 0.0
            && let Some(sum) = sums.get_mut(second as usize)
        {
            sum.add(row);
        }
    }
    sums.iter().map(|sum| sum.cost(kind)).collect()
}

/// The rows of one second.
#[derive(Debug, Clone, Copy, Default)]
struct Sum {
    rows: u32,
    latency: (f64, u32),
    loss: (f64, u32),
    throughput: (f64, u32),
}

impl Sum {
    fn add(&mut self, row: &Row) {
        let note = |sum: &mut (f64, u32), field: Option<f64>| {
            if let Some(value) = field {
                *sum = (sum.0 + value, sum.1 + 1);
            }
        };
        self.rows += 1;
        note(&mut self.latency, row.latency_ms);
        note(&mut self.loss, row.loss);
        note(&mut self.throughput, row.throughput_kbps);
    }

    fn cost(&self, kind: Kind) -> Cost {
        let mean = |(sum, count): (f64, u32)| (count > 0).then(|| sum / f64::from(count));
        // An empty field means that nothing came through, where any is filled or the link is known by it.
        let measured = self.rows > 0 && (self.throughput.1 > 0 || kind == Kind::Throughput);
        let kbps = measured.then(|| self.throughput.0 / f64::from(self.rows));
        let cost = match kind {
            Kind::Latency => {
                let silent = f64::from(self.rows - self.latency.1) >= LOST_SHARE * f64::from(self.rows);
                let lossy = mean(self.loss).is_some_and(|loss| loss >= LOST_SHARE);
                mean(self.latency).map_or(Cost::NONE, |ms| Cost::of(ms, !silent && !lossy))
            }
            Kind::Throughput => kbps.map_or(Cost::NONE, |kbps| {
                let ms = MESSAGE_BITS / kbps;
                Cost::of(ms, ms < COST_MAX_MS)
            }),
        };
        Cost { kbps, ..cost }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trace(row_time: &str, rows: &str) -> Trace {
        let head =
            format!("# medium: m\n# group: g\n# row_time: {row_time}\n# rules: latency\n# outage_min_ms: 1000\n");
        Trace::parse("x", &format!("{head}t_ms,latency_ms,loss,signal_dbm,throughput_kbps\n{rows}")).unwrap()
    }

    fn ms(kind: Kind, offset_s: u32, duration_s: u32, trace: &Trace) -> Vec<f64> {
        let link = ScenarioLink { file: "x".into(), offset_s };
        costs(kind, &link, duration_s, trace).iter().map(|cost| cost.ms).collect()
    }

    #[test]
    fn throughput_costs_the_time_of_64_kib() {
        let trace = trace("interval_end", "0,,,,524.288\n1000,,,,52428.8\n2000,,,,524\n3000,,,,\n5000,,,,1048.576\n");
        assert_eq!(ms(Kind::Throughput, 0, 6, &trace), [1000.0, 10.0, 1000.0, 1000.0, 1000.0, 500.0]);
        assert_eq!(ms(Kind::Throughput, 1, 2, &trace), [10.0, 1000.0]);
    }

    #[test]
    fn rows_belong_to_the_second_they_describe() {
        let trace = trace("interval_end", "900,20,,,\n1000,40,,,\n1001,70,,,\n");
        assert_eq!(ms(Kind::Latency, 0, 3, &trace), [1000.0, 30.0, 70.0]);
        let probes = self::trace("probe_send", "0,20,,,\n999,40,,,\n1000,70,,,\n");
        assert_eq!(ms(Kind::Latency, 0, 3, &probes), [30.0, 70.0, 1000.0]);
        assert_eq!(ms(Kind::Latency, 1, 1, &probes), [70.0], "what lies before the beginning does not count");
    }

    #[test]
    fn a_second_with_half_of_it_lost_is_not_delivered() {
        let lossy = trace("probe_send", "0,20,0,,\n500,,1,,\n1000,20,0,,\n1300,,0,,\n1600,30,0,,\n2000,20,0.5,,\n");
        assert_eq!(ms(Kind::Latency, 0, 3, &lossy), [1000.0, 25.0, 1000.0]);
    }

    #[test]
    fn scenarios_are_read_from_json() {
        let text = r#"[{"name":"n","kind":"latency","origin":"natural","start_s":0,"duration_s":3,"links":[{"file":"x","offset_s":1}]}]"#;
        let scenarios = parse(text).unwrap();
        assert_eq!(
            (scenarios[0].kind, scenarios[0].origin, scenarios[0].links[0].offset_s),
            (Kind::Latency, Origin::Natural, 1)
        );
        assert!(parse("[{}]").is_err());
    }
}
