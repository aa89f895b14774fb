//! Progress bars, on the standard error stream and only on a terminal.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A bar for a transfer of so many bytes, or of an unknown number. Invisible unless `draws`.
pub(crate) fn bar(draws: bool, name: &str, bytes: Option<u64>) -> ProgressBar {
    let template = match bytes {
        Some(_) => "{msg} {bar:30} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left",
        None => "{msg} {bytes}, {bytes_per_sec}",
    };
    let bar = bytes.map_or_else(ProgressBar::no_length, ProgressBar::new);
    bar.set_draw_target(if draws { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() });
    // The templates are constants that the tests try; without one the bar merely looks different.
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.set_message(super::human::harmless(name));
    bar
}

/// A bar over steps whose number is set later. Invisible unless `draws`.
pub(crate) fn steps(draws: bool, name: &'static str) -> ProgressBar {
    let bar = ProgressBar::new(0);
    bar.set_draw_target(if draws { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() });
    if let Ok(style) = ProgressStyle::with_template("{msg} {bar:30} {pos} of {len}") {
        bar.set_style(style);
    }
    bar.set_message(name);
    bar
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_bar_that_does_not_draw_counts_all_the_same() {
        for bytes in [None, Some(10)] {
            let bar = super::bar(false, "a", bytes);
            bar.inc(3);
            assert!(bar.is_hidden());
            assert_eq!(bar.position(), 3);
        }
    }
}
