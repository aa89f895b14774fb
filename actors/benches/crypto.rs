//! What handshakes, records and frames cost: `cargo bench -p bowline-actors --bench crypto [-- --json] [--seconds S]`.
//!
//! One thread. Each figure is the best of many short calls: what the code can do, not what else the machine did.
//! Without `--bench` (as `cargo test` calls it) every measurement runs once, to show that it still works.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::disallowed_methods, missing_docs)]

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bowline_actors::session::handshake::{
    Admission, Entropy, Established, HandshakeConfig, Initiator, InitiatorStep, Responder, ResponderStep, ResumeTicket,
};
use bowline_actors::session::identity::Identity;
use bowline_actors::session::seal::{Opener, RECORD_FRAMES_BYTES_MAX, RotationLimits, Sealer};
use bowline_messages::wire::frame::{self, Frame, FrameReader};
use bowline_messages::wire::packet::next_packet;
use bowline_messages::wire::{Features, HelloParameters, OfferedVersions, Refusal, TicketId};
use bowline_messages::{ChannelId, Incarnation, LinkId, MessageClass, PeerId};
use bytes::{Bytes, BytesMut};

struct Figure {
    name: &'static str,
    value: f64,
    unit: &'static str,
}

struct Bench {
    /// How long one figure is measured.
    time: Duration,
    figures: Vec<Figure>,
}

impl Bench {
    /// The shortest time of one call of `work` on what `prepare` made, which is not timed. The shortest, because everything that
    /// disturbs a call makes it longer.
    fn best_prepared<T>(&self, mut prepare: impl FnMut() -> T, mut work: impl FnMut(T)) -> f64 {
        let mut best = Duration::MAX;
        let until = Instant::now() + self.time;
        while best == Duration::MAX || Instant::now() < until {
            let prepared = prepare();
            let begin = Instant::now();
            work(prepared);
            best = best.min(begin.elapsed());
        }
        best.as_secs_f64()
    }

    fn best(&self, mut work: impl FnMut()) -> f64 {
        self.best_prepared(|| (), |()| work())
    }

    fn report(&mut self, name: &'static str, value: f64, unit: &'static str) {
        self.figures.push(Figure { name, value, unit });
    }
}

/// Both ends of a link, and what they were made with.
struct Pair {
    a: Arc<Identity>,
    b: Arc<Identity>,
    config: Arc<HandshakeConfig>,
}

/// Lets everybody in; knows one ticket.
struct Everybody(Option<ResumeTicket>);

impl Admission for Everybody {
    fn ticket(&mut self, _: &TicketId) -> Option<ResumeTicket> {
        self.0.clone()
    }

    fn admit(&mut self, _: &PeerId) -> Result<(), Refusal> {
        Ok(())
    }
}

fn packet(framed: &Bytes) -> BytesMut {
    next_packet(&mut BytesMut::from(&framed[..])).unwrap().unwrap()
}

impl Pair {
    fn new() -> Self {
        let parameters = HelloParameters {
            features: Features(0),
            incarnation: Incarnation(1),
            channel_window: 1 << 20,
            message_bytes_max: 1 << 20,
            ack_delay_max_us: 5_000,
            channels_max: 256,
        };
        let config =
            HandshakeConfig { versions: OfferedVersions::ours(), parameters, rotation: RotationLimits::default() };
        Self {
            a: Arc::new(Identity::from_seed(&[1; 32])),
            b: Arc::new(Identity::from_seed(&[2; 32])),
            config: Arc::new(config),
        }
    }

    /// One whole handshake; gives the two ends and the time each side computed.
    fn handshake(&self, ticket: Option<ResumeTicket>) -> (Established, Established, [Duration; 2]) {
        let mut spent = [Duration::ZERO; 2];
        let mut admission = Everybody(ticket.clone());
        let link = LinkId(if self.a.peer_id() < self.b.peer_id() { 2 } else { 3 });
        let (now, begin) = (Instant::now(), Instant::now());
        let entropy = Entropy::system().unwrap();
        let (mut initiator, first) = match ticket {
            Some(ticket) => {
                let ticket = ticket_for(&ticket, self.b.peer_id());
                Initiator::attach(self.a.clone(), self.config.clone(), ticket, link, entropy).unwrap()
            }
            None => Initiator::full(self.a.clone(), self.config.clone(), self.b.peer_id(), link, entropy).unwrap(),
        };
        spent[0] += begin.elapsed();
        let begin = Instant::now();
        let mut responder = Responder::new(self.b.clone(), self.config.clone(), Entropy::system().unwrap());
        let step = responder.on_packet(now, &packet(&first), &mut admission).unwrap();
        let (answer, theirs) = match step {
            ResponderStep::Send(send) => (send, None),
            ResponderStep::Done { send, established } => (send.unwrap(), Some(established)),
            ResponderStep::Refuse { refusal, .. } => panic!("{refusal}"),
        };
        spent[1] += begin.elapsed();
        let begin = Instant::now();
        let InitiatorStep::Done { send, established: ours } = initiator.on_packet(now, &packet(&answer)).unwrap()
        else {
            panic!("no fall-back is due")
        };
        spent[0] += begin.elapsed();
        let begin = Instant::now();
        let theirs = theirs.unwrap_or_else(|| {
            let finish = packet(&send.unwrap());
            match responder.on_packet(now, &finish, &mut admission).unwrap() {
                ResponderStep::Done { established, .. } => established,
                ResponderStep::Send(_) | ResponderStep::Refuse { .. } => panic!("FINISH ends it"),
            }
        });
        spent[1] += begin.elapsed();
        (*ours, *theirs, spent)
    }
}

/// The two sides' tickets differ only in whom they name.
fn ticket_for(ticket: &ResumeTicket, peer: PeerId) -> ResumeTicket {
    let mut ticket = ticket.clone();
    ticket.peer = peer;
    ticket
}

fn handshakes(bench: &mut Bench) {
    let pair = Pair::new();
    let (_, theirs, _) = pair.handshake(None);
    let ticket = theirs.ticket;
    for (ticket, names) in [
        (None, ["handshake_full_initiator", "handshake_full_responder"]),
        (Some(ticket), ["handshake_attach_initiator", "handshake_attach_responder"]),
    ] {
        let mut best = [Duration::MAX; 2];
        let until = Instant::now() + bench.time;
        while best[0] == Duration::MAX || Instant::now() < until {
            let (_, _, spent) = pair.handshake(ticket.clone());
            best = [best[0].min(spent[0]), best[1].min(spent[1])];
        }
        for (name, best) in names.into_iter().zip(best) {
            bench.report(name, best.as_secs_f64() * 1e6, "us");
        }
    }
}

fn seal(sealer: &mut Sealer, buffer: &mut BytesMut, frames: &[u8]) {
    let start = sealer.begin(buffer);
    buffer.extend_from_slice(frames);
    let _ = sealer.finish(buffer, start).unwrap();
}

/// Seals about a megabyte of records into one buffer, as a session does for a busy link.
fn batch(sealer: &mut Sealer, frames: &[u8]) -> BytesMut {
    let mut buffer = BytesMut::with_capacity((1 << 20) + 20_000);
    while buffer.len() < 1 << 20 {
        seal(sealer, &mut buffer, frames);
    }
    buffer
}

fn open(opener: &mut Opener, mut buffer: BytesMut, mut each: impl FnMut(Bytes)) {
    while let Some(packet) = next_packet(&mut buffer).unwrap() {
        each(opener.open(packet).unwrap().1);
    }
}

fn records(bench: &mut Bench) {
    for (bytes, names) in
        [(16 * 1024, ["seal_16k", "open_16k"]), (1024, ["seal_1k", "open_1k"]), (90, ["seal_90", "open_90"])]
    {
        let (mut a, mut b, _) = Pair::new().handshake(None);
        let frames = vec![7; bytes];
        let mut buffer = BytesMut::with_capacity((1 << 20) + 20_000);
        let seconds = bench.best(|| {
            buffer.clear();
            while buffer.len() < 1 << 20 {
                seal(&mut a.sealer, &mut buffer, &frames);
            }
        });
        let overhead = bytes + 31;
        let count = (1_usize << 20).div_ceil(overhead);
        bench.report(names[0], (count * bytes) as f64 / seconds / 1e9, "GB/s");

        // A record opens once, so each batch is sealed anew; by the same sealer as above, whose numbers went on.
        let seconds = bench.best_prepared(
            || batch(&mut a.sealer, &frames),
            |batch| open(&mut b.opener, batch, |frames| drop(black_box(frames))),
        );
        bench.report(names[1], (count * bytes) as f64 / seconds / 1e9, "GB/s");
    }
}

fn put_until_full(record: &mut BytesMut, limit: usize, sequence: &mut u64, payload: &[u8]) -> u32 {
    let mut frames = 0;
    while record.len() + frame::message_bytes(ChannelId(3), *sequence, payload.len()) <= limit {
        frame::put_message(record, MessageClass::Critical, ChannelId(3), *sequence, payload);
        *sequence += 1;
        frames += 1;
    }
    frames
}

/// Records of one call in [`frames`]: enough that reading the clock does not count.
const RECORDS: u32 = 64;

fn frames(bench: &mut Bench) {
    let payload = [7; 64];
    let mut record = BytesMut::with_capacity(RECORD_FRAMES_BYTES_MAX);
    let mut count = 0;
    let seconds = bench.best(|| {
        for _ in 0..RECORDS {
            record.clear();
            count = put_until_full(&mut record, RECORD_FRAMES_BYTES_MAX, &mut 1000, &payload);
        }
    });
    let million = f64::from(count * RECORDS) / 1e6;
    bench.report("frames_encode_64", million / seconds, "M/s");
    let record = record.freeze();
    let seconds = bench.best(|| {
        for _ in 0..RECORDS {
            let mut reader = FrameReader::new(record.clone());
            let mut seen = 0_usize;
            while let Some(frame) = reader.next().unwrap() {
                if let Frame::Message(message) = frame {
                    seen += message.payload.len();
                }
            }
            assert_eq!(black_box(seen), count as usize * 64);
        }
    });
    bench.report("frames_decode_64", million / seconds, "M/s");

    // Both ends of a link: frames are written, sealed, cut into packets, opened and read.
    let (mut a, mut b, _) = Pair::new().handshake(None);
    let mut messages = 0;
    let seconds = bench.best(|| {
        messages = 0;
        let mut buffer = BytesMut::with_capacity(1 << 20);
        while buffer.len() + (17 << 10) < 1 << 20 {
            let start = a.sealer.begin(&mut buffer);
            let limit = buffer.len() + RECORD_FRAMES_BYTES_MAX;
            messages += put_until_full(&mut buffer, limit, &mut 1000, &payload);
            let _ = a.sealer.finish(&mut buffer, start).unwrap();
        }
        open(&mut b.opener, buffer, |record| {
            let mut reader = FrameReader::new(record);
            while let Some(frame) = reader.next().unwrap() {
                let _ = black_box(frame);
            }
        });
    });
    bench.report("messages_64_sealed_and_opened", f64::from(messages) / seconds / 1e6, "M/s");
}

fn sizes(bench: &mut Bench) {
    bench.report("size_of_sealer", size_of::<Sealer>() as f64, "B");
    bench.report("size_of_opener", size_of::<Opener>() as f64, "B");
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let json = arguments.iter().any(|argument| argument == "--json");
    let measure = arguments.iter().any(|argument| argument == "--bench");
    let seconds = arguments.iter().position(|argument| argument == "--seconds");
    let seconds: f64 = seconds.and_then(|at| arguments.get(at + 1)?.parse().ok()).unwrap_or(1.0);
    let time = if measure { Duration::from_secs_f64(seconds) } else { Duration::ZERO };
    let mut bench = Bench { time, figures: Vec::new() };
    handshakes(&mut bench);
    frames(&mut bench);
    records(&mut bench);
    sizes(&mut bench);
    for Figure { name, value, unit } in &bench.figures {
        if json {
            println!("{{\"bench\":\"crypto\",\"name\":\"{name}\",\"value\":{value:.3},\"unit\":\"{unit}\"}}");
        } else {
            println!("{name:32} {value:10.2} {unit}");
        }
    }
}
