//! Numbers for people.

/// A duration: `850 µs`, `12.3 ms`, `4.56 s`.
pub(crate) fn micros(micros: u64) -> String {
    match micros {
        0..1_000 => format!("{micros} µs"),
        1_000..1_000_000 => format!("{:.1} ms", micros as f64 / 1e3),
        _ => format!("{:.2} s", micros as f64 / 1e6),
    }
}

/// A duration that may not be measured yet.
pub(crate) fn maybe_micros(value: Option<u64>) -> String {
    value.map_or_else(|| "-".to_owned(), micros)
}

/// A size: `512 B`, `1.5 MiB`.
pub(crate) fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// A long duration: `45s`, `3min 12s`, `2h 5min`, `8d 4h`.
pub(crate) fn span(duration: std::time::Duration) -> String {
    let seconds = duration.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    if days > 0 {
        format!("{days}d {}h", hours % 24)
    } else if hours > 0 {
        format!("{hours}h {}min", minutes % 60)
    } else if minutes > 0 {
        format!("{minutes}min {}s", seconds % 60)
    } else {
        format!("{seconds}s")
    }
}

/// What a terminal would act upon is replaced: text of peers never moves the cursor.
pub(crate) fn harmless(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn numbers_are_short() {
        assert_eq!([micros(850), micros(12_340), micros(4_560_000)], ["850 µs", "12.3 ms", "4.56 s"]);
        assert_eq!([bytes(512), bytes(1536), bytes(3 << 30)], ["512 B", "1.5 KiB", "3.0 GiB"]);
        let spans = [45, 192, 7_500, 705_600].map(|s| span(Duration::from_secs(s)));
        assert_eq!(spans, ["45s", "3min 12s", "2h 5min", "8d 4h"]);
        assert_eq!(harmless("a\x1b[2Jb"), "a\u{fffd}[2Jb");
    }
}
