//! Figures of partitions and recoveries.

use std::time::Duration;

use bowline_messages::partition::{PartitionMetrics, Strategy};

/// Upper ends of the classes by which recoveries are counted; the last class has none.
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

#[cfg(test)]
mod tests {
    use super::*;

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
