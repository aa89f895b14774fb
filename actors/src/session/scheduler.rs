//! Which class goes next: weighted fair queueing over the classes (start-time fair queueing, Goyal et al., SIGCOMM 1996), so that
//! urgent classes go first and none starves.

use super::outbox::CLASSES;

/// Shares of the bandwidth by class, most urgent first, when all have something to send.
pub const WEIGHTS: [u64; CLASSES] = [64, 32, 8, 4, 2];

/// Keeps the virtual time of each class.
#[derive(Debug, Clone, Default)]
pub struct Scheduler {
    /// Where each class stands: bytes sent over its weight.
    finish: [u64; CLASSES],
    /// Where the class that was served last began.
    virtual_time: u64,
}

impl Scheduler {
    /// The class to serve next among those that are ready. A class that was idle begins where the others stand.
    pub fn next(&self, ready: impl Fn(usize) -> bool) -> Option<usize> {
        (0..CLASSES)
            .filter(|class| ready(*class))
            .min_by_key(|class| (self.finish[*class].max(self.virtual_time), *class))
    }

    /// Notes that a class was served.
    pub fn on_served(&mut self, class: usize, bytes: usize) {
        let start = self.finish[class].max(self.virtual_time);
        self.virtual_time = start;
        // Scaled so that small records of heavy classes still count.
        self.finish[class] = start + (bytes as u64).max(1) * 256 / WEIGHTS[class];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn busy_classes_share_by_weight_and_none_starves() {
        let mut scheduler = Scheduler::default();
        let mut served = [0u64; CLASSES];
        for _ in 0..110_000 {
            let class = scheduler.next(|_| true).unwrap_or(0);
            served[class] += 1;
            scheduler.on_served(class, 1000);
        }
        for (class, weight) in WEIGHTS.iter().enumerate() {
            assert!(served[class].abs_diff(weight * 1000) <= weight * 10, "{served:?}");
        }
    }

    #[test]
    fn an_urgent_message_goes_before_waiting_bulk() {
        let mut scheduler = Scheduler::default();
        for _ in 0..1000 {
            scheduler.on_served(4, 16_384);
        }
        assert_eq!(scheduler.next(|class| class == 0 || class == 4), Some(0));
    }

    #[test]
    fn idling_earns_no_credit() {
        let mut scheduler = Scheduler::default();
        for _ in 0..1000 {
            scheduler.on_served(4, 1000);
        }
        let mut urgent = 0;
        for _ in 0..100 {
            let class = scheduler.next(|class| class == 0 || class == 4).unwrap_or(0);
            urgent += u32::from(class == 0);
            scheduler.on_served(class, 1000);
        }
        assert!(urgent < 100, "bulk was served as well");
    }

    #[test]
    fn nothing_ready_nothing_served() {
        assert_eq!(Scheduler::default().next(|_| false), None);
    }
}
