//! How much may be in flight on one link: enough to fill it, little enough that a dice roll never waits long behind a file.
//!
//! The delivery rate is estimated as in BBR (draft-cardwell-iccrg-bbr-congestion-control §4.1): per acknowledged record, the bytes
//! acknowledged since it was sent, over that time; the maximum of the last rounds counts. The window is the rate times (smallest RTT
//! plus a bound on the queueing delay); it is a limit against standing queues, not congestion control, which the transports have.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// What the window goes by.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct WindowConfig {
    /// Bytes in flight before anything was measured.
    pub initial_bytes: usize,
    /// Never fewer bytes than this: two of the smallest full records.
    pub min_bytes: usize,
    /// Never more bytes than this, per link.
    pub max_bytes: usize,
    /// The queueing delay that data of ours may add to the link.
    pub queue_delay: Duration,
}

impl Default for WindowConfig {
    fn default() -> Self {
        Self {
            initial_bytes: 32 * 1024,
            min_bytes: 2_560,
            max_bytes: 4 * 1024 * 1024,
            queue_delay: Duration::from_millis(10),
        }
    }
}

/// Rounds over which the greatest rate counts.
const RATE_ROUNDS: u64 = 10;
/// Rounds without growth by [`STARTUP_GROWTH`] after which the link counts as filled.
const STARTUP_ROUNDS: u32 = 3;
/// Growth of the rate in a round that keeps start-up going.
const STARTUP_GROWTH: f64 = 1.25;
/// Multiple of the bandwidth-delay product in flight during start-up, so that the rate can double each round (2/ln 2).
const STARTUP_GAIN: f64 = 2.885;
/// Smallest multiple of the bandwidth-delay product in flight afterwards, so that a growing capacity is noticed.
const STEADY_GAIN: f64 = 1.1;
/// A rate that was not confirmed for so long says little: as long as a move of traffic that was undone is not tried again. A link that
/// is not used because it was slow once could show nothing else otherwise.
const OLD_AFTER: Duration = Duration::from_secs(10);

/// What a record has to remember from when it was sent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SendMark {
    delivered: u64,
    delivered_at: Instant,
    app_limited: bool,
    /// Bytes in flight, itself included.
    in_flight: u32,
}

/// Estimates the rate of one link and keeps its window.
#[derive(Debug, Clone)]
pub struct Window {
    config: WindowConfig,
    delivered: u64,
    delivered_at: Option<Instant>,
    in_flight: usize,
    app_limited: bool,
    round: u64,
    round_ends_at: u64,
    /// (round, greatest rate in it), decreasing in rate: a monotonic queue.
    rates: VecDeque<(u64, f64)>,
    /// When the last of them was measured.
    rated_at: Option<Instant>,
    startup: bool,
    startup_rate: f64,
    startup_flat: u32,
    /// The link turned out slower than it was taken for: the rate is looked for from what it did then, and not from what is usual.
    slowed: bool,
}

impl Window {
    /// A window for a link of which nothing is known.
    pub fn new(config: WindowConfig) -> Self {
        Self {
            config,
            delivered: 0,
            delivered_at: None,
            in_flight: 0,
            app_limited: true,
            round: 0,
            round_ends_at: 0,
            rates: VecDeque::new(),
            rated_at: None,
            startup: true,
            startup_rate: 0.0,
            startup_flat: 0,
            slowed: false,
        }
    }

    /// Bytes in flight.
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// The delivery rate in bytes a second, once measured.
    pub fn rate(&self) -> Option<f64> {
        self.rates.front().map(|(_, rate)| *rate)
    }

    /// The bandwidth in bytes a second: the delivery rate, once it is the link that limits it and not what there was to send.
    pub fn bandwidth(&self) -> Option<f64> {
        self.rate().filter(|rate| *rate > 0.0 && (!self.startup || self.slowed))
    }

    /// Whether the rate was last measured long ago.
    pub fn is_old(&self, now: Instant) -> bool {
        self.rated_at.is_none_or(|at| now.saturating_duration_since(at) > OLD_AFTER)
    }

    /// Bytes that may be in flight at once.
    pub fn bytes(&self, rtt_min: Duration) -> usize {
        let Some(rate) = self.rate() else { return self.config.initial_bytes };
        let product = rate * rtt_min.as_secs_f64();
        let target = if self.startup {
            (product * STARTUP_GAIN).max(if self.slowed { 0.0 } else { self.config.initial_bytes as f64 })
        } else {
            (product + rate * self.config.queue_delay.as_secs_f64()).max(product * STEADY_GAIN)
        };
        // A float beyond usize saturates, then the bound of the configuration holds.
        (target as usize).clamp(self.config.min_bytes, self.config.max_bytes)
    }

    /// The smallest window.
    pub fn min_bytes(&self) -> usize {
        self.config.min_bytes
    }

    /// Notes that there was nothing more to send although there was room.
    pub fn on_app_limited(&mut self) {
        self.app_limited = true;
    }

    /// Notes that a record was put on the link, and gives what it has to remember.
    pub fn on_sent(&mut self, now: Instant, bytes: usize) -> SendMark {
        if self.in_flight == 0 {
            self.delivered_at = Some(now);
        }
        self.in_flight += bytes;
        SendMark {
            delivered: self.delivered,
            delivered_at: self.delivered_at.unwrap_or(now),
            app_limited: std::mem::take(&mut self.app_limited),
            in_flight: u32::try_from(self.in_flight).unwrap_or(u32::MAX),
        }
    }

    /// Notes that records were acknowledged: `bytes` in all, `mark` of the one sent last.
    pub fn on_acknowledged(&mut self, now: Instant, bytes: usize, mark: SendMark) {
        self.in_flight = self.in_flight.saturating_sub(bytes);
        self.delivered += bytes as u64;
        self.delivered_at = Some(now);
        if mark.delivered >= self.round_ends_at {
            self.round += 1;
            self.round_ends_at = self.delivered;
            self.check_startup(mark.app_limited);
        }
        let interval = now.saturating_duration_since(mark.delivered_at).as_secs_f64();
        if interval > 0.0 {
            let rate = (self.delivered - mark.delivered) as f64 / interval;
            if !mark.app_limited || self.rate().is_none_or(|best| rate > best) {
                self.take_rate(now, rate);
            }
        }
    }

    /// Notes that records will not be acknowledged any more.
    pub fn on_lost(&mut self, bytes: usize) {
        self.in_flight = self.in_flight.saturating_sub(bytes);
    }

    /// Notes that records were acknowledged that had been given up: `bytes` in all, `mark` of the one sent last. The link delivers, and so much
    /// more slowly than the window allows for that it was taken for dead. What it did before that says nothing any more; nobody acknowledges
    /// in time what waits behind a window that is too large, so the rate would be believed for ever. A flight that the smallest window allows
    /// for was late for some other reason.
    pub fn on_late(&mut self, now: Instant, bytes: usize, mark: SendMark) {
        self.delivered += bytes as u64;
        self.delivered_at = Some(now);
        let interval = now.saturating_duration_since(mark.delivered_at).as_secs_f64();
        let Some(best) = self.rate().filter(|_| interval > 0.0 && mark.in_flight as usize > self.config.min_bytes)
        else {
            return;
        };
        let rate = self.delivered.saturating_sub(mark.delivered) as f64 / interval;
        if rate < best {
            self.rates.clear();
            (self.startup, self.startup_rate, self.startup_flat) = (true, rate, 0);
            self.slowed = true;
        }
        self.take_rate(now, rate);
    }

    fn take_rate(&mut self, now: Instant, rate: f64) {
        self.rated_at = Some(now);
        while self.rates.back().is_some_and(|(_, lesser)| *lesser <= rate) {
            self.rates.pop_back();
        }
        self.rates.push_back((self.round, rate));
        while self.rates.len() > 1 && self.rates.front().is_some_and(|(round, _)| round + RATE_ROUNDS < self.round) {
            self.rates.pop_front();
        }
    }

    fn check_startup(&mut self, app_limited: bool) {
        let Some(rate) = self.rate().filter(|_| self.startup && !app_limited) else { return };
        if rate >= self.startup_rate * STARTUP_GROWTH {
            self.startup_rate = rate;
            self.startup_flat = 0;
        } else {
            self.startup_flat += 1;
            self.startup = self.startup_flat < STARTUP_ROUNDS;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a greedy sender over a link of fixed rate and delay; gives the window and the standing queue at the end.
    fn greedy(rate: f64, rtt: Duration, rounds: usize) -> (Window, Duration) {
        let mut window = Window::new(WindowConfig::default());
        let mut now = Instant::now();
        let mut link_free = now;
        let mut flights: VecDeque<(Instant, usize, SendMark)> = VecDeque::new();
        let record = 1200;
        for _ in 0..rounds * 200 {
            while window.bytes(rtt).saturating_sub(window.in_flight()) >= record {
                let start = link_free.max(now);
                link_free = start + Duration::from_secs_f64(record as f64 / rate);
                let mark = window.on_sent(now, record);
                flights.push_back((link_free + rtt, record, mark));
            }
            if let Some((at, bytes, mark)) = flights.pop_front() {
                now = at;
                window.on_acknowledged(now, bytes, mark);
            }
        }
        (window, link_free.saturating_duration_since(now))
    }

    #[test]
    fn finds_the_rate_of_a_slow_link_and_keeps_its_queue_short() {
        let (window, queue) = greedy(125_000.0, Duration::from_millis(20), 20);
        let rate = window.rate().unwrap_or(0.0);
        assert!((rate - 125_000.0).abs() < 6_000.0, "{rate}");
        assert!(queue < Duration::from_millis(50), "{queue:?}");
    }

    #[test]
    fn fills_a_long_fat_link_within_a_few_rounds() {
        let (window, _) = greedy(12_500_000.0, Duration::from_millis(100), 60);
        let rate = window.rate().unwrap_or(0.0);
        assert!(rate > 11_000_000.0, "{rate}");
    }

    #[test]
    fn an_idle_spell_does_not_lower_the_rate() {
        let (mut window, _) = greedy(1_000_000.0, Duration::from_millis(10), 20);
        let before = window.rate();
        let now = Instant::now() + Duration::from_secs(3600);
        window.on_lost(window.in_flight());
        window.on_app_limited();
        let mark = window.on_sent(now, 100);
        window.on_acknowledged(now + Duration::from_millis(10), 100, mark);
        assert_eq!(window.rate(), before);
    }

    #[test]
    fn what_arrives_after_it_was_given_up_shows_how_slow_the_link_has_become() {
        let (mut window, _) = greedy(1_000_000.0, Duration::from_millis(10), 20);
        assert!(window.bytes(Duration::from_millis(10)) > 15_000);
        // A flight on a link that passes 10,000 bytes a second now; it was given up long before the first of it was acknowledged.
        let sent = Instant::now() + Duration::from_secs(60);
        window.on_lost(window.in_flight());
        let marks: Vec<SendMark> = (0..10).map(|_| window.on_sent(sent, 1_000)).collect();
        window.on_lost(10_000);
        for (mark, tenths) in marks.into_iter().zip(1..) {
            window.on_late(sent + tenths * Duration::from_millis(100), 1_000, mark);
        }
        let rate = window.rate().unwrap_or(0.0);
        assert!((rate - 10_000.0).abs() < 500.0, "{rate}");
        assert_eq!(window.bytes(Duration::from_millis(10)), window.min_bytes());
        assert_eq!(window.in_flight(), 0);
        // It is as fast as it was: that is found within a few rounds.
        let (mut now, mut rounds) = (sent + Duration::from_secs(2), 0);
        while window.bytes(Duration::from_millis(10)) < 15_000 {
            let (bytes, round) = (window.bytes(Duration::from_millis(10)), Duration::from_millis(10));
            let mark = window.on_sent(now, bytes);
            now += round + Duration::from_secs_f64(bytes as f64 / 1_000_000.0);
            window.on_acknowledged(now, bytes, mark);
            rounds += 1;
            assert!(rounds < 12, "{:?}", window.rate());
        }
    }

    #[test]
    fn a_rate_is_old_when_nothing_has_shown_it_for_a_while() {
        let now = Instant::now();
        let mut window = Window::new(WindowConfig::default());
        assert!(window.is_old(now));
        let mark = window.on_sent(now, 1_000);
        let answered = now + Duration::from_millis(10);
        window.on_acknowledged(answered, 1_000, mark);
        assert!(!window.is_old(answered + OLD_AFTER));
        // A little that was answered as slowly as little is shows no other rate.
        let later = answered + OLD_AFTER + Duration::from_millis(1);
        window.on_app_limited();
        let mark = window.on_sent(later, 10);
        window.on_acknowledged(later + Duration::from_millis(10), 10, mark);
        assert!(window.is_old(later + Duration::from_millis(10)));
    }

    #[test]
    fn what_there_was_to_send_is_no_bandwidth() {
        let mut window = Window::new(WindowConfig::default());
        let mut now = Instant::now();
        for _ in 0..100 {
            window.on_app_limited();
            let mark = window.on_sent(now, 150);
            window.on_acknowledged(now + Duration::from_millis(60), 150, mark);
            now += Duration::from_millis(500);
        }
        assert_eq!(window.rate().map(f64::round), Some(2_500.0));
        assert_eq!(window.bandwidth(), None);
        let (window, _) = greedy(125_000.0, Duration::from_millis(20), 20);
        assert_eq!(window.bandwidth(), window.rate());
    }

    #[test]
    fn a_late_acknowledgement_of_a_link_that_was_never_measured_measures_nothing() {
        let mut window = Window::new(WindowConfig::default());
        let now = Instant::now();
        let mark = window.on_sent(now, 1_000);
        window.on_lost(1_000);
        window.on_late(now, 1_000, mark);
        window.on_late(now + Duration::from_millis(1), 1_000, mark);
        assert_eq!(window.rate(), None);
    }

    #[test]
    fn a_small_flight_that_is_late_says_nothing_about_the_rate() {
        let (mut window, _) = greedy(1_000_000.0, Duration::from_millis(10), 20);
        let (before, sent) = (window.rate(), Instant::now() + Duration::from_secs(60));
        window.on_lost(window.in_flight());
        let mark = window.on_sent(sent, 500);
        window.on_lost(500);
        window.on_late(sent + Duration::from_secs(5), 500, mark);
        assert_eq!(window.rate(), before);
    }

    #[test]
    fn what_is_lost_is_no_longer_in_flight_and_nothing_underflows() {
        let mut window = Window::new(WindowConfig::default());
        let now = Instant::now();
        let mark = window.on_sent(now, 1000);
        window.on_lost(1000);
        window.on_acknowledged(now, 1000, mark);
        assert_eq!(window.in_flight(), 0);
    }
}
