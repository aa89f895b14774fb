//! What the applications say to each other: bursts of dice rolls, bets, chat and bulk, each message numbered and signed so that whatever
//! happens to it shows. Pure.

use std::time::Duration;

use bowline_messages::MessageClass;
use bytes::{BufMut, Bytes, BytesMut};
use rand::RngExt;
use rand_chacha::ChaCha12Rng;

use super::draw;

/// A burst has so many messages on average.
const BURST_MESSAGES: f64 = 20.0;
/// Messages of a burst come in handfuls of up to this many.
const HANDFUL_MAX: u32 = 4;
/// Milliseconds between handfuls, on average.
const HANDFUL_EVERY_MS: f64 = 40.0;
/// Number, sum.
const HEAD_BYTES: usize = 16;
/// Larger than any record that carries no message: the network tells the two apart by size.
pub const MESSAGE_BYTES_MIN: usize = 128;

/// The kinds of messages.
pub const SORTS: [Sort; 4] = [
    Sort { name: "dice", class: MessageClass::Realtime, weight: 0.50, bytes: (128, 192) },
    Sort { name: "bets", class: MessageClass::Critical, weight: 0.25, bytes: (128, 512) },
    Sort { name: "chat", class: MessageClass::Background, weight: 0.20, bytes: (128, 1_024) },
    Sort { name: "bulk", class: MessageClass::Bulk, weight: 0.05, bytes: (4_096, 65_536) },
];

/// A place in [`SORTS`]; also the number of its channel.
pub type SortIndex = usize;

/// A kind of message.
#[derive(Debug, Clone, Copy)]
pub struct Sort {
    /// What it is called.
    pub name: &'static str,
    /// Its class.
    pub class: MessageClass,
    /// Its share of all messages.
    pub weight: f64,
    /// Its size in bytes, smallest and largest.
    pub bytes: (usize, usize),
}

/// When one node says what to another.
#[derive(Debug, Clone)]
pub struct Talk {
    random: ChaCha12Rng,
    /// Messages a second.
    rate: f64,
    next: Duration,
    left: u32,
}

/// One message to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Word {
    /// What kind it is.
    pub sort: SortIndex,
    /// Its size in bytes.
    pub bytes: usize,
}

impl Talk {
    /// So many messages a second on average.
    pub fn new(rate: f64, mut random: ChaCha12Rng) -> Self {
        let first = draw::exponential(&mut random, BURST_MESSAGES / rate);
        Self { random, rate, next: Duration::from_secs_f64(first), left: 0 }
    }

    /// When it speaks next, since the beginning.
    pub fn due(&self) -> Duration {
        self.next
    }

    /// What it says now, and settles when it goes on.
    pub fn speak(&mut self, words: &mut Vec<Word>) {
        words.clear();
        if self.left == 0 {
            // Geometric with the mean above.
            self.left = 1 + draw::exponential(&mut self.random, BURST_MESSAGES - 1.0).round() as u32;
        }
        let handful = self.random.random_range(1..=HANDFUL_MAX).min(self.left);
        for _ in 0..handful {
            let sort = draw::weighted(&mut self.random, &SORTS.map(|sort| sort.weight));
            let (least, most) = SORTS[sort].bytes;
            words.push(Word { sort, bytes: draw::log_uniform(&mut self.random, least as f64, most as f64) as usize });
        }
        self.left -= handful;
        let pause = if self.left > 0 {
            draw::exponential(&mut self.random, HANDFUL_EVERY_MS / 1e3)
        } else {
            // So that the burst and the pause after it have the rate together.
            let handfuls = BURST_MESSAGES * 2.0 / f64::from(HANDFUL_MAX + 1);
            let burst = (handfuls - 1.0) * HANDFUL_EVERY_MS / 1e3;
            draw::exponential(&mut self.random, (BURST_MESSAGES / self.rate - burst).max(0.001))
        };
        self.next += Duration::from_secs_f64(pause);
    }

    /// Says nothing before this.
    pub fn hold_until(&mut self, time: Duration) {
        self.next = self.next.max(time);
    }
}

/// The content of a message: its number, a sum over everything, and filling that follows from the number.
pub fn compose(number: u64, bytes: usize) -> Bytes {
    let bytes = bytes.max(MESSAGE_BYTES_MIN);
    let mut content = BytesMut::with_capacity(bytes);
    content.put_u64(number);
    content.put_u64(0);
    content.resize(bytes, number as u8);
    let sum = checksum(number, &content[HEAD_BYTES..]);
    content[8..HEAD_BYTES].copy_from_slice(&sum.to_be_bytes());
    content.freeze()
}

/// The number of a message; `None` when it is not as it was composed.
pub fn read(content: &[u8]) -> Option<u64> {
    let number = u64::from_be_bytes(content.get(..8)?.try_into().ok()?);
    let sum = u64::from_be_bytes(content.get(8..HEAD_BYTES)?.try_into().ok()?);
    (sum == checksum(number, &content[HEAD_BYTES..])).then_some(number)
}

/// Fletcher's sum over words of eight bytes: each change of a byte, each swap and each cut shows.
fn checksum(number: u64, filling: &[u8]) -> u64 {
    let (mut sum, mut sums) = (number ^ 0x5bd1_e995, filling.len() as u64);
    let (words, rest) = filling.as_chunks::<8>();
    for word in words {
        sum = sum.wrapping_add(u64::from_le_bytes(*word)).rotate_left(1);
        sums = sums.wrapping_add(sum);
    }
    for byte in rest {
        sum = sum.wrapping_add(u64::from(*byte)).rotate_left(1);
        sums = sums.wrapping_add(sum);
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_changed_or_cut_shows() {
        let content = compose(7, 300);
        assert_eq!((read(&content), content.len()), (Some(7), 300));
        assert_eq!(read(&content[..299]), None);
        assert_eq!(read(&[]), None);
        for at in 0..content.len() {
            let mut changed = content.to_vec();
            changed[at] ^= 0x40;
            assert_ne!(read(&changed), Some(7), "{at}");
        }
    }

    #[test]
    fn messages_come_at_the_rate_in_bursts() {
        let mut talk = Talk::new(5.0, draw::stream(1, 1));
        let (mut words, mut count, mut bulk, mut pauses) = (Vec::new(), 0, 0, 0);
        let mut before = Duration::ZERO;
        while talk.due() < Duration::from_secs(20_000) {
            pauses += u32::from(talk.due() - before > Duration::from_secs(1));
            before = talk.due();
            talk.speak(&mut words);
            count += words.len();
            bulk += words.iter().filter(|word| word.sort == 3).count();
        }
        let rate = count as f64 / 20_000.0;
        assert!((rate - 5.0).abs() < 0.25, "{rate}");
        let share = bulk as f64 / count as f64;
        assert!((share - 0.05).abs() < 0.01, "{share}");
        assert!(pauses > 2_000, "{pauses}");
    }
}
