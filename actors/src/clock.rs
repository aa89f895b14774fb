//! The clock: the only file that reads time.
//!
//! `std::time::Instant::now` does not follow tokio's paused clock, so everything takes its time from here and
//! hands it on as an argument. Pure machines see only `std::time::Instant` values.

use std::time::Instant;

/// The present moment of the runtime's clock, which tests and simulations pause and advance.
///
/// Outside a tokio runtime this is the operating system's monotonic clock.
#[must_use]
#[inline]
pub fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn follows_the_paused_clock() {
        let before = super::now();
        tokio::time::sleep(Duration::from_secs(3600)).await;
        assert_eq!(super::now() - before, Duration::from_secs(3600));
    }
}
