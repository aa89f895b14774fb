//! Unacknowledged data: the oldest thing sent waits for longer than a time-out. The plainest layer, and the surest.

use std::time::{Duration, Instant};

use bowline_messages::health::{Confidence, Finding, Layer, Rule};

use super::millis;

/// Watches the oldest unacknowledged thing.
#[derive(Debug, Clone)]
pub struct Unacknowledged {
    timeout: Duration,
    waiting_since: Option<Instant>,
}

impl Unacknowledged {
    /// Nothing waits yet. `timeout`: after this long it is certain.
    pub fn new(timeout: Duration) -> Self {
        Self { timeout, waiting_since: None }
    }

    /// Something that wants an answer was sent; while something waits already this changes nothing.
    pub fn on_sent(&mut self, now: Instant) {
        self.waiting_since.get_or_insert(now);
    }

    /// An answer came. `oldest` is when the oldest of what still waits was sent; `None` when nothing does.
    pub fn on_answer(&mut self, oldest: Option<Instant>) {
        self.waiting_since = oldest;
    }

    /// Sets the time-out, for links whose round-trip times change.
    pub fn set_timeout(&mut self, timeout: Duration) {
        self.timeout = timeout;
    }

    /// How long the oldest waits; nothing when nothing does.
    pub fn waited(&self, now: Instant) -> Duration {
        self.waiting_since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }

    /// When the time-out is reached if no answer comes.
    pub fn deadline(&self) -> Option<Instant> {
        self.waiting_since?.checked_add(self.timeout)
    }

    /// The share of the time-out that is over: 1 from the time-out on.
    pub fn confidence(&self, now: Instant) -> Confidence {
        let Some(since) = self.waiting_since else { return Confidence::NONE };
        let waited = now.saturating_duration_since(since);
        if waited >= self.timeout {
            return Confidence::CERTAIN;
        }
        Confidence::new(waited.as_secs_f64() / self.timeout.as_secs_f64())
    }

    /// What it says, once the time-out is reached.
    pub fn finding(&self, now: Instant) -> Option<Finding> {
        let confidence = self.confidence(now);
        let samples = [millis(self.waited(now)), millis(self.timeout)];
        (confidence == Confidence::CERTAIN)
            .then(|| Finding::new(Layer::Unacknowledged, Rule::TimedOut, confidence, &samples))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_millis(340);

    #[test]
    fn what_waits_becomes_certain_at_the_time_out_and_not_before() {
        let start = Instant::now();
        let mut machine = Unacknowledged::new(TIMEOUT);
        assert_eq!(machine.confidence(start + Duration::from_secs(9)), Confidence::NONE);
        machine.on_sent(start);
        machine.on_sent(start + TIMEOUT / 2);
        assert_eq!(machine.deadline(), Some(start + TIMEOUT));
        assert_eq!(machine.finding(start + TIMEOUT - Duration::from_millis(1)), None);
        let finding = machine.finding(start + TIMEOUT).unwrap();
        assert_eq!((finding.rule, finding.samples), (Rule::TimedOut, vec![340.0, 340.0]));
    }

    #[test]
    fn an_answer_starts_the_time_of_what_still_waits() {
        let start = Instant::now();
        let mut machine = Unacknowledged::new(TIMEOUT);
        machine.on_sent(start);
        machine.on_answer(Some(start + TIMEOUT / 2));
        assert_eq!(machine.waited(start + TIMEOUT), TIMEOUT / 2);
        machine.on_answer(None);
        assert_eq!((machine.waited(start + TIMEOUT), machine.deadline()), (Duration::ZERO, None));
    }

    #[test]
    fn no_time_out_at_all_and_time_that_goes_back_do_no_harm() {
        let start = Instant::now() + Duration::from_secs(5);
        let mut machine = Unacknowledged::new(Duration::ZERO);
        machine.on_sent(start);
        assert_eq!(machine.confidence(start - Duration::from_secs(1)), Confidence::CERTAIN);
        machine.set_timeout(Duration::MAX);
        assert_eq!((machine.confidence(start), machine.deadline()), (Confidence::NONE, None));
    }
}
