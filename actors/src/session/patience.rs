//! How long missing progress is borne on one link before it is called failing: what the link has shown of late. Pure.
//!
//! A time-out from the mean and the variation of round trips (RFC 9002) knows nothing of what happens once a minute: a record that is lost
//! on a reliable link arrives when it is sent again, two round trips later and some, and when that is lost as well after twice that
//! (RFC 6298 §5, RFC 8985 §7), and the link is as well as before. If a share *p* of all acknowledgements is late, about *p*ᵏ are late by *k*
//! losses in a row. The verdict waits for as many as make it practically impossible that the link is well.

use std::time::{Duration, Instant};

/// What counts half of what counts now, so long ago.
const HALF_LIFE: Duration = Duration::from_secs(300);
/// The pace of forgetting: an acknowledgement costs no exponential.
const FORGET_EVERY: Duration = Duration::from_secs(1);
/// A link of which nothing is known is taken for one that was late with one acknowledgement in a hundred, counted so often.
const LATE_AT_FIRST: f64 = 0.05;
const ALL_AT_FIRST: f64 = 5.0;
/// The share of late acknowledgements of a link that is hardly usable.
const LATE_MOST: f64 = 0.5;
/// One acknowledgement in so many may be late enough for a wrong verdict.
const WRONG_ONE_IN: f64 = 1e6;
/// What timers of transports add to the two round trips after which a record is sent again.
const RESEND_MIN: Duration = Duration::from_millis(10);

/// How late the acknowledgements of a link were of late.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// Acknowledgements, those that were late, and how late these were together, in seconds. Old ones count less.
    all: f32,
    late: f32,
    late_seconds: f32,
    at: Instant,
}

impl Patience {
    /// Nothing is known yet.
    pub(crate) fn new(now: Instant) -> Self {
        Self { all: 0.0, late: 0.0, late_seconds: 0.0, at: now }
    }

    /// Progress came; `late`: after such a wait, when the link was suspected meanwhile.
    pub(crate) fn on_progress(&mut self, now: Instant, late: Option<Duration>) {
        if now.saturating_duration_since(self.at) >= FORGET_EVERY {
            let remains = self.remains(now);
            self.all *= remains;
            self.late *= remains;
            self.late_seconds *= remains;
            self.at = now;
        }
        self.all += 1.0;
        if let Some(waited) = late {
            self.late += 1.0;
            self.late_seconds += waited.as_secs_f32();
        }
    }

    /// How long missing progress is borne on a link with this round trip until the verdict: `least` at least, `most` at most unless that
    /// is less.
    pub(crate) fn verdict_after(&self, now: Instant, rtt: Duration, least: Duration, most: Duration) -> Duration {
        let remains = self.remains(now);
        let [all, late, late_seconds] =
            [self.all, self.late, self.late_seconds].map(|counted| f64::from(counted * remains));
        let share = (late + LATE_AT_FIRST) / (all + ALL_AT_FIRST);
        let losses = WRONG_ONE_IN.ln() / -share.clamp(f64::MIN_POSITIVE, LATE_MOST).ln();
        // What one loss costs in theory counts like one that was measured.
        let resent = rtt.saturating_mul(2).saturating_add(RESEND_MIN).as_secs_f64();
        let one = (late_seconds + resent) / (late + 1.0);
        let seconds = rtt.as_secs_f64() + one * (losses.exp2() - 1.0);
        Duration::try_from_secs_f64(seconds).unwrap_or(most).min(most).max(least)
    }

    fn remains(&self, now: Instant) -> f32 {
        let halves = now.saturating_duration_since(self.at).as_secs_f32() / HALF_LIFE.as_secs_f32();
        (-halves).exp2()
    }

    /// How much is known: acknowledgements, of which old ones count less.
    pub(crate) fn weight(&self, now: Instant) -> f32 {
        self.all * self.remains(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const LEAST: Duration = Duration::from_millis(15);
    const MOST: Duration = Duration::from_secs(1);
    const RTT: Duration = Duration::from_millis(10);

    /// A link that acknowledges every half second for a quarter of an hour, every `nth` time late by 40 ms.
    fn link(nth: Option<u32>) -> (Patience, Instant) {
        let mut now = Instant::now();
        let mut patience = Patience::new(now);
        for count in 1..=1800_u32 {
            now += 500 * MS;
            let late = nth.is_some_and(|nth| count.is_multiple_of(nth));
            patience.on_progress(now, late.then_some(40 * MS));
        }
        (patience, now)
    }

    fn verdict((patience, now): (Patience, Instant)) -> Duration {
        patience.verdict_after(now, RTT, LEAST, MOST)
    }

    #[test]
    fn the_more_often_a_link_is_late_the_longer_it_is_waited_for() {
        let new = verdict((Patience::new(Instant::now()), Instant::now()));
        let (wired, radio, bad) = (verdict(link(None)), verdict(link(Some(150))), verdict(link(Some(20))));
        // One loss more than what happens to it anyway is borne by every link: 30 ms here, then 60, then 120.
        assert!(wired > 30 * MS && wired < 90 * MS, "{wired:?}");
        assert!(radio > 190 * MS && radio < 400 * MS, "{radio:?}");
        assert!(wired < new && new < bad && bad > 800 * MS, "{new:?} {bad:?}");
    }

    #[test]
    fn what_was_long_ago_is_forgotten() {
        let (mut patience, mut now) = link(Some(4));
        let before = verdict((patience, now));
        for _ in 0..600 {
            now += 5000 * MS;
            patience.on_progress(now, None);
        }
        assert!(verdict((patience, now)) < before / 5, "{before:?}");
        assert!(patience.weight(now + HALF_LIFE) < patience.weight(now) * 0.51);
    }

    #[test]
    fn time_outs_that_are_longer_hold() {
        let (patience, now) = link(Some(20));
        assert_eq!(patience.verdict_after(now, RTT, 2 * MOST, MOST), 2 * MOST);
        assert_eq!(Patience::new(now).verdict_after(now, Duration::MAX, LEAST, MOST), MOST);
    }
}
