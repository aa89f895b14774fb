//! Two session machines and the simulated links between them, in virtual time.

use super::*;

/// One side.
pub(super) struct End {
    pub(super) id: PeerId,
    pub(super) session: Session,
    pub(super) outbox: Outbox,
    pub(super) inbound: Inbound,
    pub(super) keys: KeyRing,
    pub(super) got: Vec<Received>,
    pub(super) events: Vec<EventKind>,
    pub(super) observed: Vec<Behaviour>,
    /// What the health monitors would be told.
    pub(super) health: Vec<Output>,
    pub(super) datagrams: Vec<(u8, Bytes)>,
    /// Messages that the application takes at once; 0: it does not read.
    pub(super) appetite: usize,
}

/// One link of the simulation.
#[derive(Clone, Copy)]
pub(super) struct Line {
    pub(super) latency: Duration,
    /// Bytes a second; 0: no limit.
    pub(super) rate: u64,
    /// When the sending side's queue is empty, for each direction.
    pub(super) busy_until: [Instant; 2],
    /// Swallows what is sent by side 0, by side 1.
    pub(super) hole: [bool; 2],
    /// Swallows what is larger.
    pub(super) largest: usize,
    pub(super) up: bool,
}

/// Something that arrives: when, in what order, to whom, over what, and what.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Flight(
    pub(super) std::cmp::Reverse<(Instant, u64)>,
    pub(super) usize,
    pub(super) LinkId,
    pub(super) Vec<u8>,
);

pub(super) struct World {
    pub(super) now: Instant,
    pub(super) ends: [End; 2],
    pub(super) lines: BTreeMap<LinkId, Line>,
    pub(super) flights: BinaryHeap<Flight>,
    pub(super) sent: u64,
    pub(super) config: SessionConfig,
    /// (time, number) of each message at side 1.
    pub(super) arrivals: Vec<(Instant, u64)>,
    /// Whether a connection that one side closes ends for the other.
    pub(super) closes: bool,
}

pub(super) fn info(id: LinkId, initiator: bool, name: &str) -> Arc<LinkInfo> {
    let address = |side: &str| format!("{name}://{side}").parse().unwrap();
    let (local, remote) = if initiator { (address("a"), address("b")) } else { (address("b"), address("a")) };
    let transport = bowline_messages::TransportKind::new(name);
    Arc::new(LinkInfo { id, transport, local, remote, interface: None, initiator })
}

pub(super) fn peer_limits(config: &SessionConfig) -> PeerLimits {
    let SessionConfig { channel_window, message_bytes, channels, .. } = *config;
    PeerLimits { channel_window: channel_window.into(), message_bytes, channels }
}

impl End {
    pub(super) fn new(id: u8, peer: u8, incarnation: u64, config: &SessionConfig) -> Self {
        let window = u64::from(config.channel_window);
        let limits = OutboxLimits {
            queue_bytes: config.queue_bytes,
            queue_messages: config.queue_messages,
            message_bytes: config.message_bytes,
            channels: config.channels,
            datagram_bytes: config.datagram_bytes,
        };
        let inbound = InboundLimits {
            channel_window: window,
            session_window: window * 4,
            message_bytes: config.message_bytes,
            channels: config.channels,
        };
        let peer = PeerId::from_bytes([peer; 32]);
        Self {
            id: PeerId::from_bytes([id; 32]),
            session: Session::new(peer, Incarnation(incarnation), None, Rc::new(config.clone())),
            outbox: Outbox::new(limits, window),
            inbound: Inbound::new(inbound, id > 1),
            keys: BTreeMap::new(),
            got: Vec::new(),
            events: Vec::new(),
            observed: Vec::new(),
            health: Vec::new(),
            datagrams: Vec::new(),
            appetite: usize::MAX,
        }
    }

    pub(super) fn with<R>(&mut self, work: impl FnOnce(&mut Session, &mut Parts<'_>) -> R) -> R {
        let mut parts = Parts { outbox: &mut self.outbox, inbound: &mut self.inbound, keys: &mut self.keys };
        work(&mut self.session, &mut parts)
    }

    pub(super) fn send(&mut self, message: Outgoing, now: Instant) -> u64 {
        let expires = message.expires_in.map(|time| now + time);
        self.outbox.push(message, expires).unwrap().sequence
    }
}

impl World {
    pub(super) fn new() -> Self {
        Self::with_config(SessionConfig::default())
    }

    pub(super) fn with_config(config: SessionConfig) -> Self {
        let ends = [End::new(1, 2, 1, &config), End::new(2, 1, 1, &config)];
        let (lines, flights) = (BTreeMap::new(), BinaryHeap::new());
        Self { now: Instant::now(), ends, lines, flights, sent: 0, config, arrivals: Vec::new(), closes: false }
    }

    pub(super) fn link(&mut self, number: u32, name: &str, latency: Duration, rate: u64) -> LinkId {
        let id = LinkId(number * 2);
        let secret = |direction: u8| TrafficSecret::new(Zeroizing::new([direction ^ number as u8; 32]));
        for (side, end) in self.ends.iter_mut().enumerate() {
            let (own, other) = if side == 0 { (1, 2) } else { (2, 1) };
            let sealer = Sealer::new(id, secret(own), RotationLimits::default(), self.now);
            end.keys.insert(id, Box::new(LinkKeys { sealer, opener: Opener::new(id, secret(other)) }));
            let join = LinkJoin {
                info: info(id, side == 0, name),
                lanes: 1,
                handshake_rtt: latency * 2,
                ack_delay_max: self.config.ack_delay,
                confirmed: true,
                peer_limits: peer_limits(&self.config),
            };
            end.session.on_link_up(self.now, end.id, join);
        }
        let line = Line { latency, rate, busy_until: [self.now; 2], hole: [false; 2], largest: usize::MAX, up: true };
        self.lines.insert(id, line);
        id
    }

    pub(super) fn line(&mut self, id: LinkId) -> &mut Line {
        self.lines.get_mut(&id).unwrap()
    }

    /// The connection breaks and both sides are told.
    pub(super) fn reset(&mut self, id: LinkId) {
        self.line(id).up = false;
        let now = self.now;
        for end in &mut self.ends {
            end.with(|s, parts| s.on_link_down(now, id, LinkFailure::Transport("reset".into()), parts));
        }
        self.pump();
    }

    pub(super) fn pump(&mut self) {
        for side in 0..2 {
            self.pump_side(side);
        }
    }

    pub(super) fn pump_side(&mut self, side: usize) {
        let now = self.now;
        let end = &mut self.ends[side];
        while end.appetite > 0 && end.inbound.has_deliveries() {
            let mut batch = Vec::new();
            let most = end.appetite.min(64);
            end.inbound.deliver_with(most, |messages| {
                batch = messages;
                Ok(())
            });
            end.appetite = end.appetite.saturating_sub(if end.appetite == usize::MAX { 0 } else { batch.len() });
            if side == 1 {
                self.arrivals.extend(batch.iter().map(|m| (now, m.sequence)));
            }
            end.got.append(&mut batch);
        }
        let (mut out, mut last) = (Vec::new(), Vec::new());
        end.with(|session, parts| {
            while let Some(transmit) = session.poll_transmit(now, parts) {
                out.push(transmit);
            }
        });
        while let Some(output) = end.session.poll_output() {
            match output {
                Output::Emit(event) => end.events.push(event),
                Output::LastWords(id, data) => last.push((id, Some(data))),
                Output::CloseLink(id, _) => {
                    end.keys.remove(&id);
                    last.push((id, None));
                }
                Output::Observed(behaviour) => end.observed.push(behaviour),
                Output::LinkProven(_) | Output::PeerAddresses(_) | Output::ClosedByPeer(..) | Output::PeerKnown(_) => {}
                Output::Datagram(concern, payload) => end.datagrams.push((concern, payload)),
                health @ (Output::WantSpare | Output::Seen(_) | Output::Turned(..)) => end.health.push(health),
            }
        }
        for transmit in out {
            self.fly(side, transmit.link, &transmit.data);
        }
        for (link, words) in last {
            match words {
                Some(data) => self.fly(side, link, &data),
                None if self.closes => self.fly_end(side, link),
                None => {}
            }
        }
    }

    /// The end of a connection that is closed, behind everything that was sent over it.
    fn fly_end(&mut self, side: usize, link: LinkId) {
        let Some(line) = self.lines.get(&link).filter(|line| line.up && !line.hole[side]) else { return };
        self.sent += 1;
        let at = line.busy_until[side].max(self.now) + line.latency;
        self.flights.push(Flight(std::cmp::Reverse((at, self.sent)), 1 - side, link, Vec::new()));
    }

    pub(super) fn fly(&mut self, side: usize, link: LinkId, data: &Bytes) {
        let Some(line) = self.lines.get_mut(&link).filter(|line| line.up) else { return };
        // Packets are looked at one by one, as a network would.
        let mut rest = BytesMut::from(&data[..]);
        while let Ok(Some(packet)) = bowline_messages::wire::packet::next_packet(&mut rest) {
            if line.hole[side] || packet.len() > line.largest {
                continue;
            }
            let mut framed = (packet.len() as u32).to_be_bytes().to_vec();
            framed.extend_from_slice(&packet);
            let start = line.busy_until[side].max(self.now);
            let takes = if line.rate == 0 {
                Duration::ZERO
            } else {
                Duration::from_secs_f64(framed.len() as f64 / line.rate as f64)
            };
            line.busy_until[side] = start + takes;
            self.sent += 1;
            let at = line.busy_until[side] + line.latency;
            self.flights.push(Flight(std::cmp::Reverse((at, self.sent)), 1 - side, link, framed));
        }
    }

    /// Runs for a time, or until nothing more happens.
    pub(super) fn run(&mut self, time: Duration) {
        let until = self.now + time;
        self.pump();
        let mut in_the_past = 0;
        loop {
            let arrival = self.flights.peek().map(|flight| flight.0.0.0);
            let now = self.now;
            let timers = self.ends.iter().flat_map(|end| [end.session.deadline(now), end.outbox.deadline()]).flatten();
            let Some(next) = timers.chain(arrival).min() else { break };
            if next > until {
                break;
            }
            // A deadline that stays in the past would never let time pass.
            in_the_past = if next > self.now { 0 } else { in_the_past + 1 };
            assert!(in_the_past < 10_000, "a deadline that is over is named again and again");
            self.now = next.max(self.now + Duration::from_nanos(1));
            let now = self.now;
            while self.flights.peek().is_some_and(|flight| flight.0.0.0 <= now) {
                let Some(Flight(_, side, link, data)) = self.flights.pop() else { break };
                if data.is_empty() {
                    self.ends[side].with(|s, parts| s.on_link_down(now, link, LinkFailure::ClosedByPeer, parts));
                } else if self.lines[&link].up {
                    self.ends[side].with(|s, parts| s.on_arrived(now, link, BytesMut::from(&data[..]), parts));
                }
            }
            for end in &mut self.ends {
                end.with(|session, parts| session.on_timeout(now, parts));
            }
            self.pump();
        }
        self.now = until;
    }

    pub(super) fn roll(&mut self, number: u64) -> u64 {
        let payload = Bytes::copy_from_slice(&number.to_be_bytes());
        let now = self.now;
        self.ends[0].send(Outgoing::new(MessageClass::Realtime, payload), now)
    }

    pub(super) fn state(&self, sequence: u64) -> ReceiptState {
        self.ends[0].outbox.state(ChannelId(0), sequence)
    }

    /// Every message up to here arrived once and in order.
    pub(super) fn assert_all_arrived(&self, count: u64) {
        let got: Vec<_> = self.ends[1].got.iter().filter(|m| m.channel == ChannelId(0)).map(|m| m.sequence).collect();
        assert_eq!(got, (0..count).collect::<Vec<_>>());
    }

    /// Sends a message every `pause` and gives the longest time between two arrivals.
    pub(super) fn drip(&mut self, count: u64, pause: Duration, mut fault: impl FnMut(&mut Self, u64)) -> Duration {
        for number in 0..count {
            fault(self, number);
            self.roll(number);
            self.run(pause);
        }
        self.run(Duration::from_secs(2));
        self.arrivals.windows(2).map(|pair| pair[1].0 - pair[0].0).max().unwrap_or_default()
    }
}
