//! What happened in a part of the experiment that somebody wants to look at. Pure.

use std::time::Duration;

/// No more lines than this are kept.
const LINES_MAX: usize = 100_000;

/// Lines of text with their times.
#[derive(Debug, Default)]
pub(super) struct Trail {
    shown: Option<(Duration, Duration)>,
    lines: Vec<String>,
}

impl Trail {
    /// From when until when lines are kept.
    pub(super) fn show(&mut self, shown: Option<(Duration, Duration)>) {
        self.shown = shown;
    }

    /// Something happened; it is put into words only when they are kept.
    pub(super) fn add(&mut self, now: Duration, words: impl FnOnce() -> String) {
        let shown = self.shown.is_some_and(|(from, until)| from <= now && now < until);
        if shown && self.lines.len() < LINES_MAX {
            self.lines.push(format!("{:>10.3} {}", now.as_secs_f64(), words()));
        }
    }

    /// What was kept.
    pub(super) fn take(&mut self) -> Vec<String> {
        std::mem::take(&mut self.lines)
    }
}
