//! Figures of partitions and recoveries.

use std::time::Duration;

use bowline_messages::partition::{PartitionMetrics, Standing, Strategy};

use super::group::GroupReport;

/// Upper ends of the classes by which recoveries are counted in reports; the last class has none.
pub const RECOVERY_CLASSES: [Duration; 6] = [
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(5),
    Duration::from_secs(10),
    Duration::from_secs(30),
    Duration::from_secs(60),
];

/// A recovery that took so long is complete.
pub fn recovered(metrics: &mut PartitionMetrics, took: Duration) {
    let class = RECOVERY_CLASSES.iter().take_while(|end| took > **end).count();
    if let Some(count) = metrics.recoveries.get_mut(class) {
        *count += 1;
    }
    metrics.recovery_time += took;
}

/// An attempt of a strategy begins.
pub fn attempted(metrics: &mut PartitionMetrics, strategy: Strategy) {
    metrics.strategies.entry(strategy).or_default().0 += 1;
}

/// It helped.
pub fn succeeded(metrics: &mut PartitionMetrics, strategy: Strategy) {
    metrics.strategies.entry(strategy).or_default().1 += 1;
}

/// Tells the recorder of metrics what happened since `before`, and how things stand.
pub fn tell(report: &GroupReport, before: &PartitionMetrics) {
    let (standing, now) = (&report.partition, &report.partition.metrics);
    let count = |name: &'static str, now: u64, before: u64| {
        if now > before {
            ::metrics::counter!(name).increment(now - before);
        }
    };
    count("bowline_partition_splits_total", now.splits, before.splits);
    count("bowline_partition_suspicions_cleared_total", now.suspicions_cleared, before.suspicions_cleared);
    count("bowline_partition_false_positives_total", now.false_positives, before.false_positives);
    count("bowline_partition_refused_packets_total", now.refused, before.refused);
    let seconds = |time: Duration| time.as_secs();
    count("bowline_partition_split_seconds_total", seconds(now.split_time), seconds(before.split_time));
    // It is looked more often than recoveries come; of several between two looks only the mean is known.
    let recoveries = now.recoveries.iter().sum::<u64>() - before.recoveries.iter().sum::<u64>();
    for _ in 0..recoveries {
        let took = (now.recovery_time - before.recovery_time).as_secs_f64() / recoveries as f64;
        ::metrics::histogram!("bowline_partition_recovery_seconds").record(took);
    }
    for (strategy, (attempts, helped)) in &now.strategies {
        let (attempted, succeeded) = before.strategies.get(strategy).copied().unwrap_or_default();
        let name = strategy.to_string();
        for (became, more) in [("tried", attempts - attempted), ("helped", helped - succeeded)] {
            if more > 0 {
                let (name, became) = (name.clone(), became);
                ::metrics::counter!("bowline_partition_strategies_total", "strategy" => name, "outcome" => became)
                    .increment(more);
            }
        }
    }
    let active = standing.standing != Standing::Paused;
    show(active, standing.missing.len(), standing.excluded.len(), report.open);
}

/// Tells the recorder of metrics that there is no group here any more, so that the last one's standing is not shown for good.
pub fn tell_gone() {
    show(false, 0, 0, 0);
}

fn show(active: bool, missing: usize, excluded: usize, open: usize) {
    ::metrics::gauge!("bowline_partition_active").set(f64::from(u8::from(active)));
    ::metrics::gauge!("bowline_partition_missing").set(missing as f64);
    ::metrics::gauge!("bowline_partition_excluded").set(excluded as f64);
    ::metrics::gauge!("bowline_partition_open_commands").set(open as f64);
}

#[cfg(test)]
pub(crate) mod tests {
    use std::cell::RefCell;
    use std::collections::BTreeMap;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use ::metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};

    use super::*;

    /// What gauges show, by their names.
    #[derive(Default)]
    pub(crate) struct Gauges(RefCell<BTreeMap<String, Arc<AtomicU64>>>);

    impl Gauges {
        pub(crate) fn of(&self, name: &str) -> Option<f64> {
            self.0.borrow().get(name).map(|cell| f64::from_bits(cell.load(Ordering::Relaxed)))
        }
    }

    impl Recorder for Gauges {
        fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
            Counter::noop()
        }
        fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
            Gauge::from_arc(Arc::clone(self.0.borrow_mut().entry(key.name().to_owned()).or_default()))
        }
        fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
            Histogram::noop()
        }
    }

    #[test]
    fn recoveries_are_counted_by_how_long_they_took() {
        let mut metrics = PartitionMetrics::default();
        for millis in [0, 1_000, 1_001, 5_000, 60_000, 60_001, 600_000] {
            recovered(&mut metrics, Duration::from_millis(millis));
        }
        assert_eq!(metrics.recoveries, [2, 1, 1, 0, 0, 1, 2]);
        assert_eq!(metrics.recovery_time, Duration::from_millis(727_002));
    }
}
