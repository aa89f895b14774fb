//! What happened, a line for each: what several nodes say within a moment is one. Pure.

use std::time::Duration;

use super::plan::NAMES;

/// How long a line waits for others who say the same.
const TOGETHER: Duration = Duration::from_millis(1500);
/// Lines kept at most.
const LINES_MAX: usize = 4096;

/// A line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// When it was said first.
    pub at: Duration,
    /// By which nodes, in ascending order; empty: it is the stage that says so.
    pub who: Vec<usize>,
    /// What.
    pub text: String,
}

impl Entry {
    /// It as a line.
    pub fn line(&self) -> String {
        let names: Vec<&str> = self.who.iter().map(|node| NAMES[*node]).collect();
        let colon = if names.is_empty() { "" } else { ": " };
        format!("{:>5.1} s  {}{colon}{}", self.at.as_secs_f64(), names.join(" "), self.text)
    }
}

/// All of them.
#[derive(Debug, Clone, Default)]
pub struct Chronicle {
    entries: Vec<Entry>,
    /// So many were given out.
    given: usize,
}

impl Chronicle {
    /// A node, or the stage, says something.
    pub fn say(&mut self, at: Duration, who: Option<usize>, text: String) {
        let open = self.entries[self.given..].iter_mut().rev();
        let mut same = open.filter(|entry| entry.text == text && at.saturating_sub(entry.at) < TOGETHER);
        match (same.next(), who) {
            (Some(entry), Some(node)) if !entry.who.is_empty() => {
                entry.who.push(node);
                entry.who.sort_unstable();
                entry.who.dedup();
            }
            _ => {
                if self.entries.len() >= LINES_MAX {
                    self.entries.remove(0);
                    self.given = self.given.saturating_sub(1);
                }
                self.entries.push(Entry { at, who: who.into_iter().collect(), text });
            }
        }
    }

    /// The lines that nothing can be added to any more and that were not given out yet; all that are left, in the end.
    pub fn finished(&mut self, now: Duration, all: bool) -> Vec<Entry> {
        let open = self.entries[self.given..].iter();
        let count = open.take_while(|entry| all || now.saturating_sub(entry.at) >= TOGETHER).count();
        self.given += count;
        self.entries[self.given - count..self.given].to_vec()
    }

    /// The last lines.
    pub fn last(&self, most: usize) -> &[Entry] {
        &self.entries[self.entries.len().saturating_sub(most)..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_several_say_at_once_is_one_line() {
        let ms = Duration::from_millis;
        let mut chronicle = Chronicle::default();
        chronicle.say(ms(1000), Some(7), "M is gone".into());
        chronicle.say(ms(1100), Some(1), "paused".into());
        chronicle.say(ms(1200), Some(0), "M is gone".into());
        chronicle.say(ms(1300), None, "M is killed".into());
        assert_eq!(chronicle.finished(ms(2400), false), []);
        let lines: Vec<String> = chronicle.finished(ms(2700), false).iter().map(Entry::line).collect();
        assert_eq!(lines, ["  1.0 s  A Z: M is gone", "  1.1 s  B: paused"]);
        chronicle.say(ms(2750), Some(2), "M is gone".into());
        let rest: Vec<String> = chronicle.finished(ms(2760), true).iter().map(Entry::line).collect();
        assert_eq!(rest, ["  1.3 s  M is killed", "  2.8 s  C: M is gone"]);
        assert_eq!(chronicle.last(1).len(), 1);
    }
}
