//! The calls: each starts a node of its own, does one thing with one peer and reports figures.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use actix::{Actor, Addr, Context, Handler, Message};
use bowline_actors::clock;
use bowline_actors::session::handle::{Receipt, Receipts, SessionHandle};
use bowline_messages::session::{Inbox, Outgoing, ReceiptState, SendError};
use bytes::Bytes;
use futures_util::StreamExt as _;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::Common;
use super::measure::{Samples, cpu_time, rounded};
use super::peer::{Peer, PeerOptions};
use super::wire::{Ask, Payloads, report};
use crate::exit::{Exit, Failure};

/// Sends between two turns of everything else on this arbiter: messages, and bytes.
const TURN_MESSAGES: usize = 1024;
const TURN_BYTES: usize = 256 * 1024;
/// Connections that are made at once for idle peers.
const DIALS: usize = 16;
/// Calls that come first and do not count.
const WARM: usize = 10;

/// A node with one session, and the actor to which its answers come.
struct Caller {
    node: Peer,
    session: SessionHandle,
    answers: Addr<Answers>,
}

impl Caller {
    async fn connect(common: &Common) -> Result<Self, Failure> {
        let (node, answers) = Self::prepare().await?;
        let session = node.connect(common.peer, &common.to).await?;
        Ok(Self { node, session, answers })
    }

    /// Everything that is there before anybody dials.
    async fn prepare() -> Result<(Peer, Addr<Answers>), Failure> {
        let answers = Answers::default().start();
        let options = PeerOptions { inbox: Some(answers.clone().recipient()), ..PeerOptions::default() };
        let node = Peer::start(options).await?;
        // Its actors have started when the last of them has answered: that is no part of what a dial costs.
        node.started().await;
        Ok((node, answers))
    }

    /// Asks for the serving process's report, behind everything that was sent before on this channel.
    async fn report(&self, common: &Common) -> Result<Value, Failure> {
        let (tell, told) = oneshot::channel();
        self.answers.do_send(AwaitReport(tell));
        let ask = Outgoing::new(common.class, Ask::Report.encode(0));
        self.session.send_wait(ask).await.map_err(|error| Failure::new(Exit::False, error))?;
        answered(told, common.patience).await
    }

    async fn ping(&self, common: &Common, warm: Duration, time: Duration, most: usize) -> Result<Samples, Failure> {
        let (done, finished) = oneshot::channel();
        let message =
            Outgoing { policy: common.policy, ..Outgoing::new(common.class, Ask::Echo.encode(common.size as usize)) };
        let now = clock::now();
        self.answers.do_send(Ping {
            session: self.session.clone(),
            message,
            sent: now,
            warm_until: now + warm,
            until: now + warm + time,
            most,
            samples: Samples::default(),
            done,
        });
        let limit = common.patience + warm + time;
        match tokio::time::timeout(limit, finished).await {
            Ok(Ok(samples)) => Ok(samples),
            Ok(Err(_)) => Err(Failure::new(Exit::False, "the session ended")),
            Err(_) => Err(late(limit)),
        }
    }
}

fn late(limit: Duration) -> Failure {
    Failure::new(Exit::TimedOut, format_args!("no answer within {limit:?}"))
}

async fn answered(told: oneshot::Receiver<Value>, limit: Duration) -> Result<Value, Failure> {
    match tokio::time::timeout(limit, told).await {
        Ok(Ok(report)) => Ok(report),
        Ok(Err(_)) => Err(Failure::new(Exit::False, "the session ended")),
        Err(_) => Err(late(limit)),
    }
}

/// To whom answers come.
#[derive(Default)]
struct Answers {
    ping: Option<Ping>,
    reports: VecDeque<oneshot::Sender<Value>>,
}

/// Sends a message and, whenever it comes back, again.
#[derive(Message)]
#[rtype(result = "()")]
struct Ping {
    session: SessionHandle,
    message: Outgoing,
    sent: Instant,
    warm_until: Instant,
    until: Instant,
    /// Samples after which it is over.
    most: usize,
    samples: Samples,
    done: oneshot::Sender<Samples>,
}

/// Hands the next report on.
#[derive(Message)]
#[rtype(result = "()")]
struct AwaitReport(oneshot::Sender<Value>);

impl Actor for Answers {
    type Context = Context<Self>;
}

impl Handler<AwaitReport> for Answers {
    type Result = ();

    fn handle(&mut self, AwaitReport(tell): AwaitReport, _: &mut Self::Context) {
        self.reports.push_back(tell);
    }
}

impl Handler<Ping> for Answers {
    type Result = ();

    fn handle(&mut self, ping: Ping, _: &mut Self::Context) {
        self.ping = ping.again(clock::now());
    }
}

impl Handler<Inbox> for Answers {
    type Result = ();

    fn handle(&mut self, inbox: Inbox, _: &mut Self::Context) {
        for message in inbox.messages {
            if let Some(report) = report(&message.payload) {
                if let Some(tell) = self.reports.pop_front() {
                    // Who asked may have given up.
                    let _ = tell.send(report);
                }
            } else if let Some(ping) = self.ping.take() {
                self.ping = ping.came_back(clock::now());
            }
        }
    }
}

impl Ping {
    fn came_back(mut self, now: Instant) -> Option<Self> {
        if self.sent >= self.warm_until {
            self.samples.push(now - self.sent);
        }
        if now >= self.until || self.samples.count() >= self.most {
            // Who asked may have given up.
            let _ = self.done.send(self.samples);
            return None;
        }
        self.again(now)
    }

    fn again(mut self, now: Instant) -> Option<Self> {
        self.sent = now;
        // Dropping it tells who asked that the session has ended.
        self.session.send(self.message.clone()).ok().map(|_| self)
    }
}

/// `bench rtt`
pub(super) async fn rtt(common: Common) -> Result<Value, Failure> {
    let caller = Caller::connect(&common).await?;
    let time = Duration::from_secs_f64(common.seconds);
    let most = common.count.unwrap_or(usize::MAX);
    let mut samples = caller.ping(&common, time / 5, time, most).await?;
    let mut report = samples.report();
    report.insert("count".into(), samples.count().into());
    report.insert("size".into(), common.size.into());
    caller.node.stop().await;
    Ok(report.into())
}

/// `bench messages`
pub(super) async fn messages(common: Common) -> Result<Value, Failure> {
    let caller = Caller::connect(&common).await?;
    caller.node.wait_for_links(common.peer, common.to.len()).await;
    let time = Duration::from_secs_f64(common.seconds);
    let mut stream = Stream::new(&common, &caller);
    stream.send_for(time / 5, usize::MAX).await?;
    caller.report(&common).await?;

    (stream.number, stream.not_acknowledged) = (0, 0);
    let before = caller.report(&common).await?;
    let (cpu, start) = (cpu_time(), clock::now());
    stream.send_for(time, common.count.unwrap_or(usize::MAX)).await?;
    let (took, cpu) = (clock::now() - start, cpu_time().zip(cpu).map(|(after, before)| after - before));
    let after = caller.report(&common).await?;

    let field = |report: &Value, name: &str| report[name].as_u64();
    let served = field(&after, "cpu_ns").zip(field(&before, "cpu_ns")).map(|(after, before)| after - before);
    let cpu = cpu.zip(served).map(|(here, there)| here.as_secs_f64() + there as f64 / 1e9);
    let (sent, bytes) = (stream.number as f64, stream.number as f64 * f64::from(common.size));
    let delivered = field(&after, "delivered").unwrap_or(0);
    caller.node.stop().await;
    Ok(json!({
        "messages": stream.number,
        "size": common.size,
        "seconds": rounded(took.as_secs_f64()),
        "msgs_per_s": rounded(sent / took.as_secs_f64()),
        "mb_per_s": rounded(bytes / 1e6 / took.as_secs_f64()),
        "cpu_s_per_m": cpu.map(|cpu| rounded(cpu / (sent / 1e6))),
        "cpu_s_per_gb": cpu.map(|cpu| rounded(cpu / (bytes / 1e9))),
        "lost": stream.number.saturating_sub(delivered),
        "not_acknowledged": stream.not_acknowledged,
        "duplicated": field(&after, "duplicated"),
        "out_of_order": field(&after, "out_of_order"),
    }))
}

/// Numbered messages, each with its receipt.
struct Stream<'a> {
    common: &'a Common,
    caller: &'a Caller,
    payloads: Payloads,
    /// Receipts that are not final yet.
    waiting: Receipts,
    /// For each of them the payload that is to be had again, if it is.
    again: VecDeque<Option<Bytes>>,
    /// The next number; as many were accepted.
    number: u64,
    /// Receipts that ended in anything but acknowledged.
    not_acknowledged: u64,
}

impl<'a> Stream<'a> {
    fn new(common: &'a Common, caller: &'a Caller) -> Self {
        let payloads = Payloads::new(common.size as usize);
        Self {
            common,
            caller,
            payloads,
            waiting: Receipts::default(),
            again: VecDeque::new(),
            number: 0,
            not_acknowledged: 0,
        }
    }

    /// Sends for a time, or a number of messages, and waits until every receipt is final.
    async fn send_for(&mut self, time: Duration, most: usize) -> Result<(), Failure> {
        let end = clock::now() + time;
        let turn = (TURN_BYTES / self.common.size as usize).clamp(1, TURN_MESSAGES);
        let mut left = most;
        while clock::now() < end && left > 0 {
            for _ in 0..turn.min(left) {
                if !self.send()? {
                    self.send_late().await?;
                }
            }
            left -= turn.min(left);
            // Receipts become final in the order of their messages: look at as many as there can be new ones.
            self.look_at(turn * 2);
            tokio::task::yield_now().await;
        }
        let settled = tokio::time::timeout(self.common.patience, self.caller.session.settled()).await;
        settled.map_err(|_| late(self.common.patience))?;
        self.look_at(usize::MAX);
        self.not_acknowledged += self.waiting.len() as u64;
        self.waiting = Receipts::default();
        self.again.clear();
        Ok(())
    }

    /// Sends the next message; `false` when there is no room for it now.
    fn send(&mut self) -> Result<bool, Failure> {
        let (payload, again) = self.payloads.take(Ask::Count(self.number));
        match self.caller.session.send(self.message(payload)) {
            Err(SendError::Full { .. }) => Ok(false),
            other => self.sent(other, again).map(|()| true),
        }
    }

    /// Sends the next message once there is room: rare, so it is made anew.
    async fn send_late(&mut self) -> Result<(), Failure> {
        let payload = Ask::Count(self.number).encode(self.common.size as usize);
        let receipt = self.caller.session.send_wait(self.message(payload)).await;
        self.sent(receipt, None)
    }

    fn message(&self, payload: Bytes) -> Outgoing {
        Outgoing { policy: self.common.policy, ..Outgoing::new(self.common.class, payload) }
    }

    fn sent(&mut self, receipt: Result<Receipt, SendError>, again: Option<Bytes>) -> Result<(), Failure> {
        self.waiting.push(receipt.map_err(|error| Failure::new(Exit::False, error))?);
        self.again.push_back(again);
        self.number += 1;
        Ok(())
    }

    fn look_at(&mut self, most: usize) {
        let Self { waiting, again, payloads, not_acknowledged, .. } = self;
        waiting.take_final(most, |state| {
            *not_acknowledged += u64::from(state != ReceiptState::Acknowledged);
            if let Some(Some(payload)) = again.pop_front() {
                payloads.give_back(payload);
            }
        });
    }
}

/// `bench setup`
pub(super) async fn setup(common: Common) -> Result<Value, Failure> {
    let mut samples = Samples::default();
    for turn in 0..common.count.unwrap_or(200) + WARM {
        // Each time as somebody the other side has never met; making an identity and a node is not counted.
        let (node, answers) = Caller::prepare().await?;
        let start = clock::now();
        let session = node.connect(common.peer, &common.to).await?;
        let caller = Caller { node, session, answers };
        caller.ping(&common, Duration::ZERO, common.patience, 1).await?;
        let took = clock::now() - start;
        caller.node.stop().await;
        if turn >= WARM {
            samples.push(took);
        }
    }
    let mut report = samples.report();
    report.insert("count".into(), samples.count().into());
    Ok(report.into())
}

/// `bench idle`
pub(super) async fn idle(common: Common) -> Result<Value, Failure> {
    let asking = Caller::connect(&common).await?;
    let count = common.count.unwrap_or(1000);
    // The first ones pay for what is set up once; they stay, like all others.
    let mut peers = connect_many(&common, WARM).await?;
    let before = settled_memory(&asking, &common).await?;
    peers.extend(connect_many(&common, count).await?);
    let after = settled_memory(&asking, &common).await?;
    let kib = before.zip(after).map(|(before, after)| (after as f64 - before as f64) / 1024.0);
    let report = json!({
        "count": count,
        "kib_per_peer": kib.map(|kib| rounded(kib / count as f64)),
        "resident_kib": after.map(|bytes| bytes / 1024),
    });
    for caller in peers {
        caller.node.stop().await;
    }
    asking.node.stop().await;
    Ok(report)
}

async fn connect_many(common: &Common, count: usize) -> Result<Vec<Caller>, Failure> {
    let one = |_| async {
        let caller = Caller::connect(common).await?;
        // An answer shows that the other side has the session as well.
        caller.ping(common, Duration::ZERO, common.patience, 1).await?;
        Ok(caller)
    };
    let made: Vec<Result<Caller, Failure>> =
        futures_util::stream::iter(0..count).map(one).buffer_unordered(DIALS).collect().await;
    made.into_iter().collect()
}

/// The resident memory of the serving process once nothing is under way any more.
async fn settled_memory(caller: &Caller, common: &Common) -> Result<Option<u64>, Failure> {
    // Acknowledgements and tickets of the last connections.
    tokio::time::sleep(Duration::from_millis(300)).await;
    Ok(caller.report(common).await?["resident_bytes"].as_u64())
}
