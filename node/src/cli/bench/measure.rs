//! What a measurement needs from the machine: a clock that two processes share, the processor time and the memory of this
//! process, and the percentiles of a set of durations.
//!
//! This is the only file of the benches that knows an operating system. Where a figure cannot be had it is `None`, never zero.

use std::time::Duration;

/// Nanoseconds of `CLOCK_MONOTONIC`: the same clock in every process of this machine (and in its network namespaces).
#[cfg(unix)]
pub fn mono_ns() -> u64 {
    nanoseconds(rustix::time::clock_gettime(rustix::time::ClockId::Monotonic))
}

/// Nanoseconds since the first call: elsewhere there is no clock that two processes share without more ado.
#[cfg(not(unix))]
pub fn mono_ns() -> u64 {
    static START: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    u64::try_from((bowline_actors::clock::now() - *START.get_or_init(bowline_actors::clock::now)).as_nanos())
        .unwrap_or(u64::MAX)
}

/// Processor time that all threads of this process have used so far, user and system together.
#[cfg(unix)]
pub fn cpu_time() -> Option<Duration> {
    let used = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Some(Duration::from_nanos(nanoseconds(used)))
}

/// Processor time that all threads of this process have used so far: not known here.
#[cfg(not(unix))]
pub fn cpu_time() -> Option<Duration> {
    None
}

#[cfg(unix)]
fn nanoseconds(time: rustix::time::Timespec) -> u64 {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(u64::try_from(time.tv_nsec).unwrap_or(0))
}

/// Resident memory of this process in bytes, exact (Linux: `smaps_rollup`). `None` where the system does not say.
pub fn resident_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/smaps_rollup").ok()?;
    let line = text.lines().find(|line| line.starts_with("Rss:"))?;
    let kib: u64 = line.split_ascii_whitespace().nth(1)?.parse().ok()?;
    kib.checked_mul(1024)
}

/// The most memory that this process has had resident at once, in bytes (Linux: `VmHWM`). `None` where the system does not say.
pub fn resident_bytes_peak() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kib: u64 = line.split_ascii_whitespace().nth(1)?.parse().ok()?;
    kib.checked_mul(1024)
}

/// The processors this process may run on. `None` where the system does not say.
pub fn allowed_cpus() -> Option<usize> {
    std::thread::available_parallelism().ok().map(std::num::NonZero::get)
}

/// The value at a fraction of a sorted list (0 the smallest, 1 the largest, nearest rank); `None` when it is empty.
pub fn quantile<T: Copy>(sorted: &[T], fraction: f64) -> Option<T> {
    let last = sorted.len().checked_sub(1)?;
    let rank = (fraction.clamp(0.0, 1.0) * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1).min(last)).copied()
}

/// The median of a list of figures; `None` when it is empty. With an even count it is the mean of the middle two.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match (sorted.len() % 2, sorted.get(middle), middle.checked_sub(1).and_then(|below| sorted.get(below))) {
        (1, Some(value), _) => Some(*value),
        (_, Some(above), Some(below)) => Some((above + below) / 2.0),
        (_, _, _) => None,
    }
}

/// Round trips or gaps, in nanoseconds, for percentiles at the end.
#[derive(Debug, Clone, Default)]
pub struct Samples {
    nanoseconds: Vec<u64>,
}

impl Samples {
    /// Adds one.
    pub fn push(&mut self, took: Duration) {
        self.push_ns(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
    }

    /// Adds one that is in nanoseconds already.
    pub fn push_ns(&mut self, nanoseconds: u64) {
        self.nanoseconds.push(nanoseconds);
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.nanoseconds.len()
    }

    /// The values in microseconds at each of these fractions, or `None` when there are no samples.
    pub fn quantiles_us<const N: usize>(&mut self, fractions: [f64; N]) -> Option<[f64; N]> {
        self.nanoseconds.sort_unstable();
        let mut found = [0.0; N];
        for (slot, fraction) in found.iter_mut().zip(fractions) {
            *slot = quantile(&self.nanoseconds, fraction)? as f64 / 1000.0;
        }
        Some(found)
    }

    /// The values as the race contract names them: `p50_us`, `p99_us`, `p999_us` and `max_us`, `null` without samples.
    pub fn report(&mut self) -> serde_json::Map<String, serde_json::Value> {
        let values = self.quantiles_us([0.5, 0.99, 0.999, 1.0]);
        let mut report = serde_json::Map::new();
        for (at, name) in ["p50_us", "p99_us", "p999_us", "max_us"].into_iter().enumerate() {
            report.insert(name.into(), values.map(|values| rounded(values[at])).into());
        }
        report
    }
}

/// A figure with four decimals: enough for nanoseconds, and a report one can read.
pub fn rounded(value: f64) -> f64 {
    (value * 10_000.0).round() / 10_000.0
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn quantiles_are_the_nearest_rank() {
        let values: Vec<u32> = (1..=100).collect();
        assert_eq!(quantile(&values, 0.0), Some(1));
        assert_eq!(quantile(&values, 0.5), Some(50));
        assert_eq!(quantile(&values, 0.99), Some(99));
        assert_eq!(quantile(&values, 1.0), Some(100));
        assert_eq!(quantile::<u32>(&[], 0.5), None);
    }

    #[test]
    fn the_median_of_an_even_count_lies_between() {
        assert_eq!(median(&[3.0, 1.0]), Some(2.0));
        assert_eq!(median(&[3.0, 9.0, 1.0]), Some(3.0));
        assert_eq!(median(&[]), None);
    }

    #[test]
    fn samples_report_microseconds_and_null_without_any() {
        let mut samples = Samples::default();
        assert_eq!(samples.report()["p50_us"], serde_json::Value::Null);
        for ms in 1..=3 {
            samples.push(Duration::from_millis(ms));
        }
        assert_eq!(samples.report()["p50_us"], 2000.0);
        assert_eq!(samples.report()["max_us"], 3000.0);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_uses_time_and_memory() {
        let before = mono_ns();
        assert!(cpu_time().unwrap() > Duration::ZERO);
        assert!(resident_bytes().unwrap() > 100_000);
        let peak = resident_bytes_peak().unwrap();
        assert!(peak > 100_000 && peak < 1 << 40, "{peak}");
        assert!(mono_ns() >= before);
    }
}
