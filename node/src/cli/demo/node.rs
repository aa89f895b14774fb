//! One of the two nodes of the demonstration: a real process that takes orders on its standard input and reports on its standard output.
//! It ends with its standard input, whatever else it is doing, so that no killed parent leaves it behind.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use actix::{Actor, AsyncContext as _, Context, Handler, WrapFuture as _};
use bowline_actors::session::handle::{Receipt, SessionHandle};
use bowline_actors::session::stream::{IncomingStream, SessionStream};
use bowline_messages::event::{Event, EventKind};
use bowline_messages::session::{Inbox, Outgoing, ReceiptState};
use bowline_messages::{EndpointAddress, MessageClass, PeerId};
use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{Instant, interval};

use super::process::{orders, say};
use super::protocol::{Arrival, FileReport, Kind, LinkLine, Order, Report, Sent, Status, Victim};
use super::tally::{Count, Tally};
use crate::cli::bench::measure::mono_ns;
use crate::cli::bench::peer::{Peer, PeerOptions};
use crate::exit::{Exit, Failure};

/// How often the node says how it is.
const STATUS_EVERY: Duration = Duration::from_millis(100);
/// Batches of messages that wait for the application; a full mailbox is back-pressure.
const MAILBOX: usize = 64;
/// Bytes of the file written at once.
const PIECE_BYTES: usize = 32 * 1024;
/// How often the file is carried on.
const PACE: Duration = Duration::from_millis(10);
/// What the stream with the file is called.
const FILE_LABEL: &str = "demo/file";

/// What has arrived, shared by the actor, the file's reader and the reports.
#[derive(Debug, Default)]
struct Arrived {
    tallies: BTreeMap<Kind, Tally>,
    dice: Vec<Arrival>,
    file_bytes: u64,
    file: Option<FileReport>,
}

/// What was sent, shared by the senders and the reports.
#[derive(Debug, Default)]
struct Accepted {
    counts: BTreeMap<Kind, u64>,
    file_bytes: u64,
}

/// The application: everything the peer sends comes here.
struct DemoActor {
    arrived: Rc<RefCell<Arrived>>,
}

impl Actor for DemoActor {
    type Context = Context<Self>;
}

impl Handler<Inbox> for DemoActor {
    type Result = ();

    fn handle(&mut self, inbox: Inbox, _: &mut Self::Context) {
        let mut arrived = self.arrived.borrow_mut();
        for message in inbox.messages {
            let number = message.payload.first_chunk().map(|bytes| u64::from_be_bytes(*bytes));
            let (Some(kind), Some(number)) = (Kind::of(message.channel), number) else { continue };
            arrived.tallies.entry(kind).or_default().arrived(number);
            if kind == Kind::Dice {
                arrived.dice.push(Arrival(mono_ns(), inbox.via.transport.to_string()));
            }
        }
    }
}

impl Handler<IncomingStream> for DemoActor {
    type Result = ();

    fn handle(&mut self, incoming: IncomingStream, ctx: &mut Self::Context) {
        if incoming.label == FILE_LABEL.as_bytes() {
            ctx.spawn(take_file(incoming.stream, Rc::clone(&self.arrived)).into_actor(self));
        }
    }
}

impl Handler<Event> for DemoActor {
    type Result = ();

    fn handle(&mut self, event: Event, _: &mut Self::Context) {
        let report = if let EventKind::ChildRestarted { path, .. } = event.kind {
            Some(Report::Restarted { path })
        } else {
            remark(&event.kind).map(|text| Report::Event { text })
        };
        // A parent that has gone away ends this process through its standard input.
        let _ = report.map(|report| say(&report));
    }
}

/// What is worth a line.
#[allow(clippy::wildcard_enum_match_arm, reason = "the list of events is open; these are the ones to be told")]
fn remark(event: &EventKind) -> Option<String> {
    match event {
        EventKind::FailoverCompleted { from, to, took, messages_moved, .. } => {
            let moved = if *messages_moved == 1 { "message" } else { "messages" };
            Some(format!("{from} failed, {to} took over in {took:.1?}, {messages_moved} {moved} sent again"))
        }
        EventKind::FailoverStalled { from, .. } => {
            Some(format!("{from} failed and no other link is left: messages wait"))
        }
        EventKind::MessageQuarantined { channel, sequence, .. } => {
            Some(format!("message {sequence} of channel {channel} was set aside"))
        }
        _ => None,
    }
}

/// Runs the node until it is told to finish.
pub(super) async fn run(listen: bool) -> Result<Exit, Failure> {
    let outcome = perform(listen).await;
    if let Err(failure) = &outcome {
        say(&Report::Failed { reason: failure.to_string() })?;
    }
    outcome.map(|()| Exit::Ok)
}

async fn perform(listen: bool) -> Result<(), Failure> {
    let mut orders = orders::<Order>();
    let arrived = Rc::new(RefCell::new(Arrived::default()));
    let actor = DemoActor { arrived: Rc::clone(&arrived) };
    let application = Actor::create(|ctx: &mut Context<DemoActor>| {
        ctx.set_mailbox_capacity(MAILBOX);
        actor
    });
    let options = PeerOptions {
        listen: if listen { addresses() } else { Vec::new() },
        inbox: Some(application.clone().recipient()),
        streams: Some(application.clone().recipient()),
        events: Some(application.recipient()),
        // The way is through the forwarder, and nowhere past it.
        advertise: false,
    };
    let node = Peer::start(options).await?;
    say(&Report::Ready { peer: node.id(), addresses: node.addresses() })?;
    let mut desk = Desk { node, peer: None, arrived, accepted: Rc::default(), arrivals_said: 0 };
    let mut ticks = interval(STATUS_EVERY);
    loop {
        tokio::select! {
            order = orders.recv() => match order {
                Some(Order::Finish) | None => break,
                Some(order) => desk.obey(order).await?,
            },
            _ = ticks.tick() => desk.report().await?,
        }
    }
    desk.finish().await
}

/// Where the listening node listens: every transport, on ports nobody else has.
fn addresses() -> Vec<EndpointAddress> {
    ["tcp", "tls", "quic", "ws"]
        .map(|transport| {
            EndpointAddress::new(bowline_messages::TransportKind::new(transport), "127.0.0.1", Some(0), "")
        })
        .to_vec()
}

/// What the node has to do with its orders and reports.
struct Desk {
    node: Peer,
    peer: Option<PeerId>,
    arrived: Rc<RefCell<Arrived>>,
    accepted: Rc<RefCell<Accepted>>,
    arrivals_said: usize,
}

impl Desk {
    async fn obey(&mut self, order: Order) -> Result<(), Failure> {
        match order {
            Order::Connect { peer, addresses } => {
                self.peer = Some(peer);
                // The session lives on without this handle; senders ask for their own.
                self.node.connect(peer, &addresses).await.map(drop)
            }
            Order::Start { milliseconds, kinds, file_bytes } => {
                self.find_peer().await;
                let Some(session) = self.session().await else {
                    return Err(Failure::new(Exit::GaveUp, "there is no session to send over"));
                };
                let length = Duration::from_millis(milliseconds);
                actix_rt::spawn(send_all(session, length, kinds, file_bytes, Rc::clone(&self.accepted)));
                Ok(())
            }
            Order::Kill { victim: Victim::Session } => match self.peer {
                Some(peer) => self.node.kill_session(peer).await.map(drop),
                None => Ok(()),
            },
            Order::Kill { victim: Victim::Transport(name) } => self.node.kill_transport(&name).await,
            Order::Finish => Ok(()),
        }
    }

    async fn session(&self) -> Option<SessionHandle> {
        self.node.session(self.peer?).await
    }

    /// The listening node learns who its peer is when it is connected.
    async fn find_peer(&mut self) {
        if self.peer.is_none() {
            self.peer = self.node.peers().await.first().copied();
        }
    }

    async fn report(&mut self) -> Result<(), Failure> {
        self.find_peer().await;
        let session = match self.peer {
            Some(peer) => self.node.status(peer).await,
            None => None,
        };
        let mut status = Status::default();
        if let Some(session) = session {
            let in_use = session.choices.iter().find(|choice| choice.class == MessageClass::Realtime);
            let in_use = in_use.and_then(|choice| choice.links.first());
            let remote = |id| session.links.iter().find(|link| link.info.id == id).map(|link| link.info.remote.clone());
            status.in_use = in_use.copied().and_then(remote);
            status.links = session.links.iter().map(link_line).collect();
        }
        let arrivals = {
            let (arrived, accepted) = (self.arrived.borrow(), self.accepted.borrow());
            status.sent.clone_from(&accepted.counts);
            status.received = arrived.tallies.iter().map(|(kind, tally)| (*kind, tally.count().delivered)).collect();
            status.file_bytes = accepted.file_bytes.max(arrived.file_bytes);
            arrived.dice[self.arrivals_said..].to_vec()
        };
        if !arrivals.is_empty() {
            self.arrivals_said += arrivals.len();
            say(&Report::Arrivals { dice: arrivals })?;
        }
        say(&Report::Status(status))
    }

    async fn finish(mut self) -> Result<(), Failure> {
        self.report().await?;
        let (received, file) = {
            let arrived = self.arrived.borrow();
            let received: BTreeMap<Kind, Count> =
                arrived.tallies.iter().map(|(kind, tally)| (*kind, tally.count())).collect();
            (received, arrived.file.clone())
        };
        say(&Report::Done { received, file })?;
        self.node.stop().await;
        Ok(())
    }
}

fn link_line(link: &bowline_messages::session::LinkStatus) -> LinkLine {
    LinkLine {
        remote: link.info.remote.clone(),
        state: format!("{:?}", link.state).to_lowercase(),
        rtt_ms: link.stats.rtt.map(|rtt| rtt.as_secs_f64() * 1e3),
    }
}

/// Sends everything, waits until all of it is final, and says so.
async fn send_all(
    session: SessionHandle,
    length: Duration,
    kinds: Vec<Kind>,
    file_bytes: u64,
    accepted: Rc<RefCell<Accepted>>,
) {
    let messages = kinds.into_iter().map(|kind| {
        let (session, accepted) = (session.clone(), Rc::clone(&accepted));
        async move { (kind, send_kind(session, kind, length, accepted).await) }
    });
    let file =
        async { if file_bytes == 0 { None } else { Some(send_file(&session, length, file_bytes, &accepted).await) } };
    let (receipts, file) = tokio::join!(futures_util::future::join_all(messages), file);
    session.settled().await;
    let mut sent = Sent { file, ..Sent::default() };
    for (kind, receipts) in receipts {
        let acknowledged = receipts.iter().filter(|receipt| receipt.state() == ReceiptState::Acknowledged).count();
        sent.accepted.insert(kind, receipts.len() as u64);
        sent.acknowledged.insert(kind, acknowledged as u64);
    }
    // A parent that has gone away ends this process through its standard input.
    let _ = say(&Report::Sent(sent));
}

/// Sends one kind of messages at its pace; gives back their receipts.
async fn send_kind(
    session: SessionHandle,
    kind: Kind,
    length: Duration,
    accepted: Rc<RefCell<Accepted>>,
) -> Vec<Receipt> {
    let mut receipts = Vec::new();
    let end = Instant::now() + length;
    let mut ticks = interval(Duration::from_millis(kind.milliseconds()));
    let mut random = Random(kind.milliseconds());
    loop {
        ticks.tick().await;
        if Instant::now() >= end {
            return receipts;
        }
        let number = receipts.len() as u64;
        let message = Outgoing::new(kind.class(), words(kind, number, random.next())).on(kind.channel());
        // What is not accepted is no message: it is neither sent nor lost, and the next one is tried.
        if let Ok(receipt) = session.send(message) {
            receipts.push(receipt);
            *accepted.borrow_mut().counts.entry(kind).or_default() += 1;
        }
    }
}

/// The content of a message: its number, then something to say.
fn words(kind: Kind, number: u64, random: u64) -> Bytes {
    let text = match kind {
        Kind::Dice => format!("rolled a {}", random % 6 + 1),
        Kind::Bet => format!("{} coins on {}", random % 50 + 1, random / 64 % 6 + 1),
        Kind::Chat => ["your turn", "lucky again", "one more round", "still there?"][(random % 4) as usize].to_owned(),
    };
    let mut payload = number.to_be_bytes().to_vec();
    payload.extend_from_slice(text.as_bytes());
    payload.into()
}

/// Sends a file that is made up on the way, evenly over the whole time.
async fn send_file(session: &SessionHandle, length: Duration, bytes: u64, accepted: &RefCell<Accepted>) -> FileReport {
    let mut digest = blake3::Hasher::new();
    let written = write_file(session, length, bytes, accepted, &mut digest).await;
    let (sent, error) = match written {
        Ok(()) => (bytes, None),
        Err(error) => (accepted.borrow().file_bytes, Some(error.to_string())),
    };
    FileReport { bytes: sent, digest: digest.finalize().to_hex().to_string(), error }
}

async fn write_file(
    session: &SessionHandle,
    length: Duration,
    bytes: u64,
    accepted: &RefCell<Accepted>,
    digest: &mut blake3::Hasher,
) -> std::io::Result<()> {
    let mut stream = session.open_stream(FILE_LABEL).map_err(std::io::Error::other)?;
    let mut random = Random(1);
    let mut piece = vec![0; PIECE_BYTES];
    let start = Instant::now();
    let mut ticks = interval(PACE);
    let mut written = 0;
    while written < bytes {
        ticks.tick().await;
        let share = (start.elapsed().as_secs_f64() / length.as_secs_f64()).min(1.0);
        let due = (bytes as f64 * share) as u64;
        while written < due.min(bytes) {
            random.fill(&mut piece);
            let part = usize::try_from(due.min(bytes) - written).unwrap_or(PIECE_BYTES).min(PIECE_BYTES);
            stream.write_all(&piece[..part]).await?;
            digest.update(&piece[..part]);
            written += part as u64;
            accepted.borrow_mut().file_bytes = written;
        }
    }
    stream.shutdown().await?;
    stream.delivered().await
}

/// Reads the file as it comes.
async fn take_file(mut stream: SessionStream, arrived: Rc<RefCell<Arrived>>) {
    let mut digest = blake3::Hasher::new();
    let mut buffer = vec![0; 4 * PIECE_BYTES];
    let mut bytes = 0;
    let error = loop {
        match stream.read(&mut buffer).await {
            Ok(0) => break None,
            Ok(read) => {
                digest.update(&buffer[..read]);
                bytes += read as u64;
                arrived.borrow_mut().file_bytes = bytes;
            }
            Err(error) => break Some(error.to_string()),
        }
    };
    let digest = digest.finalize().to_hex().to_string();
    arrived.borrow_mut().file = Some(FileReport { bytes, digest, error });
}

/// Numbers that look random and are the same every time (splitmix64, public domain).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let number = self.next().to_le_bytes();
            chunk.copy_from_slice(&number[..chunk.len()]);
        }
    }
}
