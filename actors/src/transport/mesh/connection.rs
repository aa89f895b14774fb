//! One end of a link: ordered, reliable lanes over packets that get lost, come twice and overtake each other. Pure.
//!
//! States: open; *ending* (this side writes no more, what it wrote is still sent); over. A link fails when nothing is acknowledged for too
//! long, when there is no route for too long, when the other side resets it or breaks the protocol.

use std::time::{Duration, Instant};

use bowline_messages::config::MeshConfig;
use bytes::{Bytes, BytesMut};

use super::frame::{Frame, Malformed};
use super::received::{Bytestreams, Packets};
use super::seal::PACKETS_MAX;
use super::sent::{Room, Sending};
use crate::transport::Lane;

/// What each side may write of a lane before it was told how much the other takes.
const GRANTED_FIRST: u64 = 32 * 1024;

/// Why a link is of no use any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Failure {
    /// The other side ended it at once.
    #[error("reset by the other side")]
    Reset,
    /// Nothing was acknowledged for too long.
    #[error("nothing was heard for too long")]
    Silent,
    /// There is no route for too long.
    #[error("there is no route")]
    NoRoute,
    /// The other side broke the protocol.
    #[error(transparent)]
    Protocol(#[from] Malformed),
    /// Its keys were used as often as they may be.
    #[error("its keys are used up")]
    Worn,
}

/// How a link behaves.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tuning {
    window: u64,
    lane_window: u64,
    timeout: Duration,
    unreachable: Duration,
    keep_alive: Duration,
}

impl From<&MeshConfig> for Tuning {
    fn from(config: &MeshConfig) -> Self {
        Self {
            window: config.link_window,
            lane_window: config.lane_window,
            timeout: config.link_timeout,
            unreachable: config.unreachable_timeout,
            keep_alive: config.keep_alive,
        }
    }
}

/// One end of a link.
#[derive(Debug)]
pub(super) struct Connection {
    tuning: Tuning,
    sending: Sending,
    packets: Packets,
    streams: Bytestreams,
    /// When a packet came last.
    heard: Instant,
    unreachable: Option<Instant>,
    failure: Option<Failure>,
    reset: bool,
}

impl Connection {
    /// A link that has just got its keys. The side that called asks for an answer at once, which proves to the other that the
    /// caller can be reached where it says.
    pub(super) fn new(now: Instant, tuning: Tuning, called_here: bool) -> Self {
        let mut sending = Sending::new(tuning.window, GRANTED_FIRST);
        if !called_here {
            sending.ping();
        }
        Self {
            tuning,
            sending,
            packets: Packets::default(),
            streams: Bytestreams::new(tuning.lane_window, GRANTED_FIRST),
            heard: now,
            unreachable: None,
            failure: None,
            reset: false,
        }
    }

    /// The number after the highest that has come.
    pub(super) fn next_number(&self) -> u64 {
        self.packets.next()
    }

    /// A packet has come and was opened.
    pub(super) fn on_packet(&mut self, now: Instant, number: u64, frames: Bytes) {
        self.heard = now;
        self.unreachable = None;
        let frames = match Frame::decode_all(frames) {
            Ok(frames) => frames,
            Err(error) => return self.fail(error.into()),
        };
        let asks = frames.iter().any(|frame| !matches!(frame, Frame::Ack { .. }));
        let new = self.packets.on_packet(now, number, asks);
        if frames.iter().any(|frame| matches!(frame, Frame::End { .. } | Frame::Reset)) {
            // It may be the last thing that anybody does here.
            self.packets.hurry(now);
        }
        if !new {
            return;
        }
        for frame in frames {
            if let Err(error) = self.on_frame(now, frame) {
                self.fail(error);
            }
        }
        self.grant();
    }

    /// Lets the other side write further, unless nobody will read it.
    fn grant(&mut self) {
        while let Some(lane) = self.streams.grant().filter(|_| !self.is_deaf()) {
            self.sending.credit(lane);
        }
    }

    fn on_frame(&mut self, now: Instant, frame: Frame) -> Result<(), Failure> {
        match frame {
            // Whoever has reset it, or failed, listens to acknowledgements only.
            Frame::Data { .. } | Frame::End { .. } if self.is_deaf() => {}
            Frame::Data { lane, offset, bytes } => self.streams.on_data(lane, offset, bytes)?,
            Frame::Ack { delay_us, ranges } => {
                self.sending.on_ack(now, Duration::from_micros(delay_us.into()), &ranges);
            }
            Frame::Credit { lane, until } => self.sending.on_credit(lane, until),
            Frame::Ping => {}
            Frame::End { finals } => self.streams.on_end(finals)?,
            Frame::Reset => return Err(Failure::Reset),
        }
        Ok(())
    }

    fn is_deaf(&self) -> bool {
        self.reset || self.failure.is_some()
    }

    /// Whether nothing is sent any more, not even an acknowledgement.
    fn is_mute(&self) -> bool {
        match self.failure {
            Some(Failure::Silent | Failure::NoRoute | Failure::Worn) => true,
            Some(Failure::Reset | Failure::Protocol(_)) | None => false,
        }
    }

    fn fail(&mut self, failure: Failure) {
        self.failure.get_or_insert(failure);
    }

    /// A packet of this link found no route.
    pub(super) fn on_unreachable(&mut self, now: Instant) {
        self.unreachable.get_or_insert(now);
    }

    /// Takes bytes from the front of `data`; how many. 0: it is full.
    pub(super) fn write(&mut self, lane: Lane, data: &mut Bytes) -> usize {
        self.sending.write(lane, data, self.tuning.lane_window)
    }

    /// The next bytes to be read, up to about `most`, all of one lane.
    pub(super) fn read(&mut self, most: usize) -> Option<(Lane, Vec<Bytes>)> {
        let read = self.streams.read(most);
        self.grant();
        read
    }

    /// Whether the other side has ended it in an orderly way and everything was read.
    pub(super) fn is_read_to_the_end(&self) -> bool {
        self.streams.is_over()
    }

    /// Why it is of no use any more, when that is so.
    pub(super) fn failure(&self) -> Option<Failure> {
        self.failure
    }

    /// This side writes no more; true once the other side has everything, or never will.
    pub(super) fn close(&mut self) -> bool {
        self.sending.end();
        self.sending.is_over() || self.failure.is_some()
    }

    /// This side is gone: the other is told, whatever was written and not sent.
    pub(super) fn reset(&mut self) {
        if self.streams.has_end() {
            // Nobody is there any more to be told.
            self.fail(Failure::Reset);
        } else if !self.sending.is_over() && !self.reset {
            self.reset = true;
            self.sending.reset();
        }
    }

    /// Whether nothing more has to be sent, for a link that nobody uses any more.
    pub(super) fn is_forgotten(&self) -> bool {
        self.failure.is_some() || self.sending.is_over()
    }

    /// Whether everything written has arrived.
    #[cfg(test)]
    pub(super) fn is_quiet(&self) -> bool {
        self.sending.is_quiet()
    }

    /// Whether its packets may wait for a way: those that are sent while nothing is heard are few, and the first that arrives wakes the
    /// link, which would otherwise wait for its next try.
    pub(super) const fn is_probing(&self) -> bool {
        self.sending.is_probing()
    }

    /// Which route its packets take.
    pub(super) const fn route(&self) -> u8 {
        self.sending.route()
    }

    /// The next packet to be sealed and sent: its number and its frames, `most` bytes of them at most.
    pub(super) fn poll_transmit(&mut self, now: Instant, most: usize) -> Option<(u64, BytesMut)> {
        if self.sending.packets() >= PACKETS_MAX {
            self.fail(Failure::Worn);
        }
        if self.is_mute() {
            return None;
        }
        // An acknowledgement travels with data when there is any, and alone when it is due.
        let due = self.packets.due().is_some_and(|at| at <= now);
        let reserved = super::frame::ACK_BYTES_MAX;
        let streams = &self.streams;
        let room = Room { granted: &|lane| streams.granted(lane), bytes: most.saturating_sub(reserved) };
        let sent = if self.failure.is_none() { self.sending.next_packet(now, &room) } else { None };
        if sent.is_none() && !due {
            return None;
        }
        let acknowledgement = self.packets.acknowledge(now);
        let (number, frames) = match sent {
            Some(packet) => packet,
            None => {
                acknowledgement.as_ref()?;
                (self.sending.number(), Vec::new())
            }
        };
        let mut bytes = BytesMut::new();
        acknowledgement.iter().chain(&frames).for_each(|frame| frame.encode(&mut bytes));
        Some((number, bytes))
    }

    /// Does what is due.
    pub(super) fn on_timeout(&mut self, now: Instant) {
        if self.failure.is_some() {
            return;
        }
        if self.silent_until().is_some_and(|at| at <= now) {
            return self.fail(Failure::Silent);
        }
        if self.routeless_until().is_some_and(|at| at <= now) {
            return self.fail(Failure::NoRoute);
        }
        if self.keep_alive_at() <= now {
            self.heard = now;
            if !self.reset {
                self.sending.ping();
            }
        }
        self.sending.on_timeout(now);
    }

    /// When [`Connection::on_timeout`] is due, or an acknowledgement.
    pub(super) fn deadline(&self) -> Option<Instant> {
        if self.failure.is_some() {
            return self.packets.due().filter(|_| !self.is_mute());
        }
        let times = [
            self.sending.deadline(),
            self.packets.due(),
            self.silent_until(),
            self.routeless_until(),
            Some(self.keep_alive_at()),
        ];
        times.into_iter().flatten().min()
    }

    fn silent_until(&self) -> Option<Instant> {
        self.sending.silent_since().map(|since| since + self.tuning.timeout)
    }

    fn routeless_until(&self) -> Option<Instant> {
        self.unreachable.map(|since| since + self.tuning.unreachable)
    }

    fn keep_alive_at(&self) -> Instant {
        self.heard + self.tuning.keep_alive
    }
}
