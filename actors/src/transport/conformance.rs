//! What every transport has to do, as checks that run over any of them: Bowline's own and yours.
//!
//! ```
//! # use bowline_actors::transport::conformance::{CASES, Subject, Verdict};
//! /// `my_subject` makes a fresh pair of nodes for each check.
//! async fn check(my_subject: impl Fn() -> Subject) {
//!     for case in CASES {
//!         match (case.run)(my_subject()).await {
//!             Ok(Verdict::Passed) => {}
//!             Ok(Verdict::Skipped(reason)) => println!("{}: skipped, {reason}", case.name),
//!             Err(failure) => panic!("{}: {failure}", case.name),
//!         }
//!     }
//! }
//! ```
//!
//! The checks run in an actix or tokio local runtime, on real or virtual time.

use std::fmt;
use std::future::{Future, poll_fn};
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use bowline_messages::link::Binding;
use bowline_messages::{EndpointAddress, PeerId};
use bytes::Bytes;
use futures_util::future::{LocalBoxFuture, join, join_all};
use tokio::time::timeout;

use super::{DialOptions, Lane, LaneBuffers, Link, Listener, Transport, TransportError};

/// How long anything may take before it counts as hanging. Generous: nothing here measures speed.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long a write that makes no progress counts as waiting for the reader.
const STUCK: Duration = Duration::from_millis(300);
/// Bytes that may be on their way in one lane before the writer has to wait.
const ON_THE_WAY_MAX: usize = 64 * 1024 * 1024;
/// Memory that the buffers of a quiet link may keep.
const QUIET_BYTES_MAX: usize = 16 * 1024;
/// Connections at once.
const MANY: usize = 100;

/// Two ends of a transport to be checked.
pub struct Subject {
    /// The end that listens.
    pub listener: Rc<dyn Transport>,
    /// The end that dials.
    pub dialer: Rc<dyn Transport>,
    /// Who the end that listens is.
    pub listener_peer: PeerId,
    /// Where to listen, with port 0 where the transport has ports.
    pub listen: EndpointAddress,
    /// The same over IPv6, where the transport runs over IP.
    pub listen_v6: Option<EndpointAddress>,
    /// An address at which nobody listens.
    pub nobody: EndpointAddress,
}

/// How a check went when nothing is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The transport does as it should.
    Passed,
    /// The check says nothing about this transport or this machine, because of this.
    Skipped(String),
}

/// What is wrong with a transport.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Failure(String);

impl From<TransportError> for Failure {
    fn from(error: TransportError) -> Self {
        Self(format!("unexpected error: {error}"))
    }
}

/// One check.
pub struct Case {
    /// What it claims.
    pub name: &'static str,
    /// Does it.
    pub run: fn(Subject) -> LocalBoxFuture<'static, Result<Verdict, Failure>>,
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// All checks.
pub const CASES: &[Case] = &[
    Case { name: "bytes arrive whole and in order in both directions", run: |s| Box::pin(order_and_integrity(s)) },
    Case { name: "a writer waits for a reader that does not read", run: |s| Box::pin(back_pressure(s)) },
    Case { name: "a full lane does not hold up another", run: |s| Box::pin(lanes_are_independent(s)) },
    Case { name: "an orderly close delivers what was written", run: |s| Box::pin(orderly_close(s)) },
    Case { name: "a link that is dropped is seen as failed", run: |s| Box::pin(abrupt_end(s)) },
    Case { name: "a hundred links at once", run: |s| Box::pin(many_links(s)) },
    Case { name: "a dial to nobody fails in time", run: |s| Box::pin(refused_dial(s)) },
    Case { name: "somebody else than expected is refused", run: |s| Box::pin(wrong_identity(s)) },
    Case { name: "port 0 finds a free port", run: |s| Box::pin(port_zero(s)) },
    Case { name: "it works over IPv6", run: |s| Box::pin(over_ipv6(s)) },
    Case { name: "a dial can be given up at any time", run: |s| Box::pin(dropped_dials(s)) },
    Case { name: "a refused connection does not hang", run: |s| Box::pin(refusal(s)) },
    Case { name: "a link that got quiet keeps little memory", run: |s| Box::pin(quiet_memory(s)) },
];

macro_rules! ensure {
    ($condition:expr, $($text:tt)+) => {
        if !$condition {
            return Err(Failure(format!($($text)+)));
        }
    };
}

type Checked = Result<Verdict, Failure>;
type Dialled = Result<Box<dyn Link>, TransportError>;

async fn order_and_integrity(subject: Subject) -> Checked {
    let (mut a, mut b, _listener) = subject.connect().await?;
    let lanes = a.ends().lanes;
    ensure!(lanes == b.ends().lanes && lanes >= 1, "the ends disagree about the number of lanes");
    for (from, to) in [(0, 1), (1, 0)] {
        let mut ends = [&mut a, &mut b];
        let [first, second] = &mut ends;
        let (writer, reader) = if (from, to) == (0, 1) { (first, second) } else { (second, first) };
        exchange(writer, reader, 1_000_000).await?;
    }
    Ok(Verdict::Passed)
}

async fn back_pressure(subject: Subject) -> Checked {
    let (mut a, mut b, _listener) = subject.connect().await?;
    let written = fill(&mut a, 0).await?;
    ensure!(written < ON_THE_WAY_MAX, "{written} bytes were taken although nobody reads");
    let reading = async {
        let mut buffers = LaneBuffers::default();
        let mut read = 0;
        while read < written {
            read_some(&mut b, &mut buffers).await?;
            read += take_checked(&mut buffers, 0, read)?;
        }
        Ok::<_, Failure>(())
    };
    // What the writer still holds in user space goes out while the other side reads.
    let (flushed, read) = within("the rest", join(poll_fn(|cx| a.poll_flush(cx)), reading)).await?;
    flushed?;
    read?;
    Ok(Verdict::Passed)
}

async fn lanes_are_independent(subject: Subject) -> Checked {
    let (mut a, mut b, _listener) = subject.connect().await?;
    let lanes = a.ends().lanes;
    if lanes < 2 {
        return Ok(Verdict::Skipped("it has one lane".into()));
    }
    fill(&mut a, lanes - 1).await?;
    within("a write to an empty lane", write_all(&mut a, 0, pattern(0, 0, 1000))).await??;
    let mut buffers = LaneBuffers::default();
    while buffers.lane(0).len() < 1000 {
        read_some(&mut b, &mut buffers).await?;
    }
    take_checked(&mut buffers, 0, 0)?;
    Ok(Verdict::Passed)
}

async fn orderly_close(subject: Subject) -> Checked {
    let (mut a, mut b, _listener) = subject.connect().await?;
    let closing = async {
        write_all(&mut a, 0, pattern(0, 0, 100_000)).await?;
        poll_fn(|cx| a.poll_close(cx)).await
    };
    let reading = async {
        let mut buffers = LaneBuffers::default();
        loop {
            match poll_fn(|cx| b.poll_read(cx, &mut buffers)).await {
                Ok(_) => {}
                Err(TransportError::Closed) => return Ok(buffers),
                Err(error) => return Err(Failure(format!("an orderly end looks like a failure: {error}"))),
            }
        }
    };
    let (closed, read) = within("an orderly end", join(closing, reading)).await?;
    closed?;
    let mut buffers = read?;
    ensure!(take_checked(&mut buffers, 0, 0)? == 100_000, "bytes are missing at the end");
    Ok(Verdict::Passed)
}

async fn abrupt_end(subject: Subject) -> Checked {
    let (a, mut b, _listener) = subject.connect().await?;
    drop(a);
    let mut buffers = LaneBuffers::default();
    match within("the end", poll_fn(|cx| b.poll_read(cx, &mut buffers))).await? {
        Err(TransportError::Closed) => Err(Failure("an abrupt end looks like an orderly one".into())),
        Err(_) => Ok(Verdict::Passed),
        Ok(lane) => Err(Failure(format!("bytes out of nowhere on lane {lane}"))),
    }
}

async fn many_links(subject: Subject) -> Checked {
    let mut listener = subject.open(&subject.listen).await?;
    let address = address_of(&*listener)?;
    let dials = join_all((0..MANY).map(|_| subject.dial(&address)));
    let accepts = async {
        let mut handshakes = Vec::new();
        for _ in 0..MANY {
            handshakes.push(poll_fn(|cx| listener.poll_accept(cx)).await?.accept());
        }
        join_all(handshakes).await.into_iter().collect::<Result<Vec<_>, _>>()
    };
    let (dialled, accepted) = within("a hundred dials", join(dials, accepts)).await?;
    let mut dialled = dialled.into_iter().collect::<Result<Vec<_>, _>>()?;
    let mut accepted = accepted?;
    for (number, link) in dialled.iter_mut().enumerate() {
        within("a write", write_all(link, 0, vec![number as u8; 1000].into())).await??;
    }
    let mut seen = vec![0; MANY];
    for link in &mut accepted {
        let mut buffers = LaneBuffers::default();
        while buffers.len() < 1000 {
            read_some(link, &mut buffers).await?;
        }
        let number = buffers.lane(0)[0];
        ensure!(buffers.lane(0).iter().all(|byte| *byte == number), "links mix their bytes");
        seen[usize::from(number)] += 1;
    }
    ensure!(seen.iter().all(|count| *count == 1), "a link carried another's bytes");
    Ok(Verdict::Passed)
}

async fn refused_dial(subject: Subject) -> Checked {
    let limit = Duration::from_secs(2);
    let options = DialOptions { timeout: limit, ..subject.options() };
    let dialled = within("a dial to nobody", subject.dialer.dial(&subject.nobody, options)).await?;
    ensure!(dialled.is_err(), "a dial succeeded where nobody listens");
    Ok(Verdict::Passed)
}

async fn wrong_identity(subject: Subject) -> Checked {
    if !subject.dialer.capabilities().encrypted {
        return Ok(Verdict::Skipped("it does not authenticate".into()));
    }
    let mut listener = subject.open(&subject.listen).await?;
    let address = address_of(&*listener)?;
    let mut other = *subject.listener_peer.as_bytes();
    other[7] ^= 1;
    let options = DialOptions { expect: PeerId::from_bytes(other), ..subject.options() };
    let accepting = async {
        if let Ok(incoming) = poll_fn(|cx| listener.poll_accept(cx)).await {
            // Whether this side notices is its own business.
            let _ = incoming.accept().await;
        }
        std::future::pending::<()>().await;
    };
    let dialling = subject.dialer.dial(&address, options);
    let dialled = tokio::select! {
        biased;
        dialled = within("a dial to somebody else", dialling) => dialled?,
        () = accepting => return Err(Failure("it cannot be".into())),
    };
    match dialled {
        Err(TransportError::Authentication(_)) => Ok(Verdict::Passed),
        Err(error) => Err(Failure(format!("the wrong identity is refused for another reason: {error}"))),
        Ok(_) => Err(Failure("somebody else was accepted".into())),
    }
}

async fn port_zero(subject: Subject) -> Checked {
    if subject.listen.port() != Some(0) {
        return Ok(Verdict::Skipped("it has no ports".into()));
    }
    let one = subject.open(&subject.listen).await?;
    let two = subject.open(&subject.listen).await?;
    let (one, two) = (address_of(&*one)?, address_of(&*two)?);
    ensure!(one.port() != Some(0) && two.port() != Some(0), "port 0 is given as an address");
    ensure!(one != two, "two listeners have the same address");
    ensure!(*one.kind() == subject.listener.kind(), "the address belongs to another transport");
    Ok(Verdict::Passed)
}

async fn over_ipv6(subject: Subject) -> Checked {
    let Some(address) = subject.listen_v6.clone() else {
        return Ok(Verdict::Skipped("it does not run over IP".into()));
    };
    if let Err(error) = std::net::UdpSocket::bind("[::1]:0") {
        return Ok(Verdict::Skipped(format!("this machine has no IPv6: {error}")));
    }
    let (mut a, mut b, _listener) = subject.connect_at(&address).await?;
    exchange(&mut a, &mut b, 10_000).await?;
    Ok(Verdict::Passed)
}

async fn dropped_dials(subject: Subject) -> Checked {
    let mut listener = subject.open(&subject.listen).await?;
    let address = address_of(&*listener)?;
    for polls in 0..20 {
        let mut dial = subject.dial(&address);
        for _ in 0..polls {
            if poll_fn(|cx| Poll::Ready(dial.as_mut().poll(cx))).await.is_ready() {
                break;
            }
            tokio::task::yield_now().await;
        }
    }
    // One that is wanted still comes through, behind whatever the others left.
    let accepting = async {
        loop {
            let incoming = poll_fn(|cx| listener.poll_accept(cx)).await?;
            let Ok(Ok(mut link)) = timeout(PATIENCE / 4, incoming.accept()).await else { continue };
            let mut buffers = LaneBuffers::default();
            if let Ok(Ok(_)) = timeout(PATIENCE / 4, poll_fn(|cx| link.poll_read(cx, &mut buffers))).await {
                return Ok::<_, TransportError>(buffers);
            }
        }
    };
    let dialling = async {
        let mut link = subject.dial(&address).await?;
        write_all(&mut link, 0, Bytes::from_static(b"wanted")).await?;
        Ok::<_, TransportError>(link)
    };
    let (read, dialled) = timeout(3 * PATIENCE, join(accepting, dialling))
        .await
        .map_err(|_| Failure("dials that were given up block others".into()))?;
    let _link = dialled?;
    ensure!(&read?.lane(0)[..] == b"wanted", "bytes of a dial that was given up");
    Ok(Verdict::Passed)
}

async fn refusal(subject: Subject) -> Checked {
    let mut listener = subject.open(&subject.listen).await?;
    let address = address_of(&*listener)?;
    let refusing = async {
        poll_fn(|cx| listener.poll_accept(cx)).await?.refuse(Bytes::from_static(b"no"));
        Ok::<_, TransportError>(())
    };
    let dialling = async {
        let mut link = subject.dial(&address).await?;
        let mut buffers = LaneBuffers::default();
        while poll_fn(|cx| link.poll_read(cx, &mut buffers)).await.is_ok() {}
        Ok::<_, TransportError>(buffers)
    };
    let (refused, dialled) = within("a refusal", join(refusing, dialling)).await?;
    refused?;
    // With or without the word, but nothing else.
    let word = dialled.map(|mut buffers| buffers.lane(0).to_vec()).unwrap_or_default();
    ensure!(word.is_empty() || word == b"no", "a refused dial read {word:?}");
    Ok(Verdict::Passed)
}

async fn quiet_memory(subject: Subject) -> Checked {
    let (mut a, mut b, _listener) = subject.connect().await?;
    let mut buffers = LaneBuffers::default();
    let total = 4_000_000;
    let writing = write_all(&mut a, 0, pattern(0, 0, total));
    let reading = async {
        let mut read = 0;
        while read < total {
            read_some(&mut b, &mut buffers).await?;
            read += take_checked(&mut buffers, 0, read)?;
        }
        Ok::<_, Failure>(())
    };
    let (written, read) = within("the transfer", join(writing, reading)).await?;
    written?;
    read?;
    for n in 0..200_usize {
        within("a small write", write_all(&mut a, 0, pattern(0, n, 1))).await??;
        read_some(&mut b, &mut buffers).await?;
        take_checked(&mut buffers, 0, n)?;
        // The link gets to know that nothing more is there.
        let idle = poll_fn(|cx| Poll::Ready(b.poll_read(cx, &mut buffers))).await;
        ensure!(idle.is_pending(), "something is read although nothing was written");
    }
    let kept = buffers.lane(0).capacity();
    ensure!(kept <= QUIET_BYTES_MAX, "a quiet link keeps {kept} bytes");
    Ok(Verdict::Passed)
}

impl Subject {
    fn options(&self) -> DialOptions {
        DialOptions { expect: self.listener_peer, binding: Binding::Any, timeout: PATIENCE }
    }

    fn dial(&self, address: &EndpointAddress) -> LocalBoxFuture<'static, Dialled> {
        self.dialer.dial(address, self.options())
    }

    async fn open(&self, address: &EndpointAddress) -> Result<Box<dyn Listener>, Failure> {
        Ok(within("opening a listener", self.listener.listen(address)).await??)
    }

    async fn connect(&self) -> Result<(Box<dyn Link>, Box<dyn Link>, Box<dyn Listener>), Failure> {
        self.connect_at(&self.listen).await
    }

    async fn connect_at(
        &self,
        address: &EndpointAddress,
    ) -> Result<(Box<dyn Link>, Box<dyn Link>, Box<dyn Listener>), Failure> {
        let mut listener = self.open(address).await?;
        let address = address_of(&*listener)?;
        let accepting = async { poll_fn(|cx| listener.poll_accept(cx)).await?.accept().await };
        let (dialled, accepted) = within("a dial", join(self.dial(&address), accepting)).await?;
        Ok((dialled?, accepted?, listener))
    }
}

fn address_of(listener: &dyn Listener) -> Result<EndpointAddress, Failure> {
    listener.addresses().first().cloned().ok_or_else(|| Failure("a listener without an address".into()))
}

async fn within<T>(what: &str, work: impl Future<Output = T>) -> Result<T, Failure> {
    timeout(PATIENCE, work).await.map_err(|_| Failure(format!("{what} hangs")))
}

/// Bytes that tell where they belong: part of an endless sequence, another one for each lane.
fn pattern(lane: Lane, from: usize, bytes: usize) -> Bytes {
    (from..from + bytes).map(|at| byte_at(lane, at)).collect()
}

fn byte_at(lane: Lane, at: usize) -> u8 {
    ((at.wrapping_mul(2_654_435_761) >> 11) as u8) ^ lane.wrapping_mul(37)
}

/// Takes what has arrived on a lane, which has to be the sequence from `from` on.
fn take_checked(buffers: &mut LaneBuffers, lane: Lane, from: usize) -> Result<usize, Failure> {
    let bytes = buffers.lane(lane).split();
    let wrong = bytes.iter().enumerate().find(|(at, byte)| **byte != byte_at(lane, from + at));
    ensure!(wrong.is_none(), "byte {} of lane {lane} is wrong", from + wrong.map_or(0, |(at, _)| at));
    Ok(bytes.len())
}

async fn write_all(link: &mut Box<dyn Link>, lane: Lane, mut data: Bytes) -> Result<(), TransportError> {
    while !data.is_empty() {
        let before = data.len();
        poll_fn(|cx| link.poll_write(cx, lane, &mut data)).await?;
        if data.len() == before {
            return Err(TransportError::Closed);
        }
    }
    poll_fn(|cx| link.poll_flush(cx)).await
}

async fn read_some(link: &mut Box<dyn Link>, buffers: &mut LaneBuffers) -> Result<(), Failure> {
    let before = buffers.len();
    within("a read", poll_fn(|cx| link.poll_read(cx, buffers))).await??;
    ensure!(buffers.len() > before, "a read gave nothing");
    Ok(())
}

/// Writes the sequence of a lane until nothing more is taken. Gives how much was.
async fn fill(link: &mut Box<dyn Link>, lane: Lane) -> Result<usize, Failure> {
    let mut written = 0;
    while written < ON_THE_WAY_MAX {
        let mut data = pattern(lane, written, 64 * 1024);
        let whole = data.len();
        let progress = poll_fn(|cx| {
            let polled = link.poll_write(cx, lane, &mut data);
            // What is held in user space has to keep moving, as the link's actor would see to.
            let flushed = link.poll_flush(cx);
            match (polled, flushed) {
                (Poll::Ready(Err(error)), _) | (_, Poll::Ready(Err(error))) => Poll::Ready(Err(error)),
                (polled, _) => polled,
            }
        });
        match timeout(STUCK, progress).await {
            Ok(progress) => progress?,
            Err(_) => break,
        }
        written += whole - data.len();
    }
    Ok(written)
}

/// Sends so many bytes on every lane, in pieces of all sizes, and checks what arrives.
async fn exchange(from: &mut Box<dyn Link>, to: &mut Box<dyn Link>, bytes: usize) -> Result<(), Failure> {
    let lanes = from.ends().lanes;
    let writing = async {
        let mut sizes = (1..).map(|n: usize| 1 + n.wrapping_mul(n).wrapping_mul(7919) % 40_000);
        let mut written = 0;
        while written < bytes {
            let piece = sizes.next().unwrap_or(1).min(bytes - written);
            for lane in 0..lanes {
                write_all(from, lane, pattern(lane, written, piece)).await?;
            }
            written += piece;
        }
        Ok::<_, TransportError>(())
    };
    let reading = async {
        let mut read = vec![0; usize::from(lanes)];
        let mut buffers = LaneBuffers::default();
        while read.iter().any(|read| *read < bytes) {
            let lane = within("a read", poll_fn(|cx| to.poll_read(cx, &mut buffers))).await??;
            ensure!(lane < lanes, "bytes on lane {lane}, which the link does not have");
            read[usize::from(lane)] += take_checked(&mut buffers, lane, read[usize::from(lane)])?;
        }
        ensure!(read.iter().all(|read| *read == bytes), "more bytes than were sent");
        Ok::<_, Failure>(())
    };
    let (written, read) = within("an exchange", join(writing, reading)).await?;
    written?;
    read
}
