//! How much a node trusts itself: Lifeguard's local health multiplier ("Lifeguard: SWIM-ing with Situational Awareness", section IV.A).
//!
//! A node that misses answers, has to answer accusations itself, or finds its timers late has reason to think that it is the one who does not
//! keep up. It then asks more slowly and waits longer, in proportion.

/// The score of one node: 0 when nothing is wrong with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Doubt {
    score: u32,
    max: u32,
}

impl Doubt {
    /// No doubt; everything takes `times_max` times as long at worst.
    pub const fn new(times_max: u32) -> Self {
        Self { score: 0, max: times_max.saturating_sub(1) }
    }

    /// A member answered in time.
    pub fn on_answer(&mut self) {
        self.score = self.score.saturating_sub(1);
    }

    /// Nobody could reach a member that was asked.
    pub fn on_no_answer(&mut self) {
        self.raise();
    }

    /// This node had to answer an accusation.
    pub fn on_accused(&mut self) {
        self.raise();
    }

    /// This node was not running when it should have been.
    pub fn on_late(&mut self) {
        self.raise();
    }

    /// How many times longer everything takes now, from 1.
    pub const fn times(&self) -> u32 {
        self.score + 1
    }

    /// The score as a share of the worst, 0 to 1.
    pub fn share(&self) -> f64 {
        if self.max == 0 { 0.0 } else { f64::from(self.score) / f64::from(self.max) }
    }

    fn raise(&mut self) {
        self.score = (self.score + 1).min(self.max);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubt_grows_to_its_limit_and_is_lost_by_answers() {
        let mut doubt = Doubt::new(3);
        doubt.on_late();
        doubt.on_accused();
        doubt.on_no_answer();
        assert_eq!((doubt.times(), doubt.share()), (3, 1.0));
        for _ in 0..5 {
            doubt.on_answer();
        }
        assert_eq!((doubt.times(), doubt.share()), (1, 0.0));
    }

    #[test]
    fn it_can_be_turned_off() {
        let mut doubt = Doubt::new(1);
        doubt.on_late();
        assert_eq!((doubt.times(), doubt.share()), (1, 0.0));
    }
}
