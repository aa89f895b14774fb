//! The demonstration's parent process: starts the two nodes, stands between them with the forwarder, lets things die by plan, and
//! keeps the books.

use std::io::IsTerminal as _;
use std::net::SocketAddr;
use std::time::Duration;

use bowline_messages::{EndpointAddress, PeerId};
use tokio::sync::mpsc;
use tokio::time::{Instant, interval, sleep_until};

use super::forwarder::{Conditions, Direction, Path, PathKind};
use super::plan::{Fault, Step, plan, silence};
use super::process::{Process, Said};
use super::protocol::{Kind, Order, Report, Sent, Status, Victim};
use super::report::{Books, Closing, Failover};
use super::screen::{PathLine, View, timeline};
use crate::cli::bench::measure::mono_ns;
use crate::cli::bench::peer::told_to_end;
use crate::cli::output::line;
use crate::exit::{Exit, Failure};

/// The transports between the nodes, all at once.
const TRANSPORTS: [(&str, PathKind); 4] =
    [("tcp", PathKind::Tcp), ("tls", PathKind::Tcp), ("quic", PathKind::Udp), ("ws", PathKind::Tcp)];
/// Bytes of the file for each second of the demonstration: 200 MB in 30 s.
const FILE_BYTES_PER_SECOND: f64 = 200e6 / 30.0;
/// How long the nodes may take to find each other.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long the last messages may take after the traffic has ended.
const DRAIN: Duration = Duration::from_secs(60);
/// How often the screen is drawn.
const FRAME: Duration = Duration::from_millis(200);
/// Lines of the nodes that wait to be read.
const REPORTS_MAX: usize = 1024;

/// What is to be shown, and how.
#[derive(Debug, Clone, Copy)]
pub(super) struct Options {
    pub(super) length: Duration,
    /// Time from one fault to the next.
    pub(super) every: Duration,
    pub(super) json: bool,
    pub(super) quiet: bool,
}

/// One of the two nodes.
struct Node {
    process: Process,
    status: Status,
    sent: Option<Sent>,
    done: bool,
}

/// A path and the transport over it.
struct Between {
    transport: &'static str,
    path: Path,
}

struct Stage {
    options: Options,
    nodes: [Node; 2],
    reports: mpsc::Receiver<Said<Report>>,
    between: Vec<Between>,
    books: Books,
    started: Instant,
    file_bytes: u64,
    shown: usize,
    draws: bool,
}

/// Runs the demonstration.
pub(super) async fn run(options: Options) -> Result<Closing, Failure> {
    let (says, reports) = mpsc::channel(REPORTS_MAX);
    let nodes = [Node::start(0, says.clone())?, Node::start(1, says)?];
    let draws = !options.json && !options.quiet && std::io::stdout().is_terminal();
    let mut stage = Stage {
        options,
        nodes,
        reports,
        between: Vec::new(),
        books: Books::default(),
        started: Instant::now(),
        file_bytes: (FILE_BYTES_PER_SECOND * options.length.as_secs_f64()) as u64,
        shown: 0,
        draws,
    };
    let outcome = tokio::select! {
        outcome = stage.perform() => outcome,
        () = told_to_end() => Err(Failure::new(Exit::False, "interrupted")),
    };
    stage.strike_set().await;
    if let Err(failure) = outcome {
        stage.books.failure = Some(failure.to_string());
    }
    let passed = |between: &Between| between.path.bytes(Direction::Forth) + between.path.bytes(Direction::Back);
    stage.books.wire_bytes = stage.between.iter().map(passed).sum();
    stage.books.sent = stage.nodes.iter_mut().filter_map(|node| node.sent.take()).collect();
    Ok(stage.books.close())
}

impl Node {
    fn start(number: usize, says: mpsc::Sender<Said<Report>>) -> Result<Self, Failure> {
        let arguments: &[&str] = if number == 1 { &["node", "--listen"] } else { &["node"] };
        let process = Process::start(number, arguments, says)?;
        Ok(Self { process, status: Status::default(), sent: None, done: false })
    }

    async fn order(&mut self, order: &Order) {
        self.process.order(order).await;
    }
}

impl Stage {
    async fn perform(&mut self) -> Result<(), Failure> {
        self.introduce().await?;
        self.traffic().await?;
        self.finish().await
    }

    /// Lets the nodes find each other through the forwarder, over every transport.
    async fn introduce(&mut self) -> Result<(), Failure> {
        let deadline = Instant::now() + PATIENCE;
        let mut known: [Option<(PeerId, Vec<EndpointAddress>)>; 2] = [None, None];
        while known.iter().any(Option::is_none) {
            if let (number, Report::Ready { peer, addresses }) = self.next(deadline, "start").await? {
                known[number] = Some((peer, addresses));
            }
        }
        let [_, Some((peer, addresses))] = known else { return Ok(()) };
        let mut dialled = Vec::new();
        for (transport, kind) in TRANSPORTS {
            let target = addresses.iter().find(|address| address.kind().as_str() == transport).and_then(socket);
            let target = target
                .ok_or_else(|| Failure::new(Exit::GaveUp, format_args!("the node does not listen on {transport}")))?;
            let path = Path::open(kind, target, None)
                .map_err(|error| Failure::new(Exit::GaveUp, format_args!("no socket for the forwarder: {error}")))?;
            dialled.push(EndpointAddress::from_socket(bowline_messages::TransportKind::new(transport), path.address()));
            self.between.push(Between { transport, path });
        }
        self.nodes[0].order(&Order::Connect { peer, addresses: dialled }).await;
        while self.nodes[0].status.links.iter().filter(|link| link.is_usable()).count() < TRANSPORTS.len() {
            self.next(deadline, "connect over every transport").await?;
        }
        Ok(())
    }

    /// Traffic, and what dies under it.
    async fn traffic(&mut self) -> Result<(), Failure> {
        let milliseconds = u64::try_from(self.options.length.as_millis()).unwrap_or(u64::MAX);
        let [near, far] = &mut self.nodes;
        near.order(&Order::Start { milliseconds, kinds: Kind::ALL.to_vec(), file_bytes: self.file_bytes }).await;
        far.order(&Order::Start { milliseconds, kinds: vec![Kind::Bet, Kind::Chat], file_bytes: 0 }).await;
        self.started = Instant::now();
        let mut steps = plan(self.options.length, self.options.every).into_iter().peekable();
        let mut frames = interval(FRAME);
        let mut heal_at = None;
        let limit = self.started + self.options.length + DRAIN;
        while self.nodes.iter().any(|node| node.sent.is_none()) {
            let strike_at = steps.peek().map_or(limit, |step| self.started + step.at);
            tokio::select! {
                said = self.reports.recv() => self.note(said)?,
                () = sleep_until(strike_at) => match steps.next() {
                    Some(step) => {
                        self.strike(step).await;
                        heal_at = step.fault.silences().then(|| strike_at + silence(self.options.every));
                    }
                    None => return Err(Failure::new(Exit::TimedOut, "messages were still under way a minute after the last one")),
                },
                () = sleep_until(heal_at.unwrap_or(limit)), if heal_at.is_some() => {
                    heal_at = None;
                    self.between.iter().for_each(|between| between.path.set(Conditions::default()));
                }
                _ = frames.tick() => self.show(false)?,
            }
        }
        self.books.length = self.started.elapsed();
        Ok(())
    }

    /// Takes stock.
    async fn finish(&mut self) -> Result<(), Failure> {
        let deadline = Instant::now() + PATIENCE;
        for node in &mut self.nodes {
            node.order(&Order::Finish).await;
        }
        while self.nodes.iter().any(|node| !node.done) {
            self.next(deadline, "report").await?;
        }
        self.show(true)
    }

    /// Ends both processes and gives the terminal back.
    async fn strike_set(&mut self) {
        for node in &mut self.nodes {
            node.process.end().await;
        }
        if self.draws {
            // The cursor comes back; there is nobody to tell when the terminal is gone.
            let _ = line("\x1b[?25h");
        }
    }

    /// The next report of either node; it is written down already.
    async fn next(&mut self, deadline: Instant, what: &str) -> Result<(usize, Report), Failure> {
        loop {
            let said = tokio::time::timeout_at(deadline, self.reports.recv()).await.map_err(|_| {
                Failure::new(Exit::TimedOut, format_args!("the nodes did not {what} within {PATIENCE:?}"))
            })?;
            let copy = match &said {
                Some((number, Ok(report))) => Some((*number, report.clone())),
                // A process that ended after its last report: the other one may still have something to say.
                Some((_, Err(_))) | None => None,
            };
            self.note(said)?;
            if let Some(copy) = copy {
                return Ok(copy);
            }
        }
    }

    /// Writes down what a node said.
    fn note(&mut self, said: Option<Said<Report>>) -> Result<(), Failure> {
        let Some((number, report)) = said else { return Err(Failure::new(Exit::GaveUp, "both nodes ended")) };
        let name = ["sending", "receiving"][number.min(1)];
        let node = &mut self.nodes[number];
        let failed = |reason: String| Failure::new(Exit::GaveUp, format_args!("the {name} node failed: {reason}"));
        match report {
            Ok(Report::Status(status)) => node.status = status,
            Ok(Report::Arrivals { dice }) if number == 1 => self.books.arrivals.extend(dice),
            Ok(Report::Sent(sent)) => node.sent = Some(sent),
            Ok(Report::Done { received, file }) => {
                node.done = true;
                self.books.received.push(received.into_iter().collect());
                self.books.file = file.or_else(|| self.books.file.take());
            }
            Ok(Report::Failed { reason }) => return Err(failed(reason)),
            Ok(Report::Restarted { path }) => {
                self.books.restarts += 1;
                self.say(&format!("           {name} node: {path} was restarted"))?;
            }
            Ok(Report::Event { text }) => self.say(&format!("           {name} node: {text}"))?,
            Ok(Report::Ready { .. } | Report::Arrivals { .. }) => {}
            Err(_) if node.done => {}
            Err(reason) => return Err(failed(reason)),
        }
        Ok(())
    }

    /// Which path carries the dice.
    fn in_use(&self) -> Option<usize> {
        let remote = self.nodes[0].status.in_use.as_ref()?;
        self.between.iter().position(|between| between.leads_to(remote))
    }

    /// Lets something die.
    async fn strike(&mut self, step: Step) {
        let in_use = self.in_use();
        let at = in_use.unwrap_or(0);
        let mono_ns = mono_ns();
        match step.fault {
            Fault::Reset => self.between[at].path.reset(),
            Fault::BlackHole => self.between[at].path.set(Conditions::black_hole()),
            Fault::AllButOne => {
                let survivor = self.survivor(at);
                for (_, between) in self.between.iter().enumerate().filter(|(number, _)| *number != survivor) {
                    between.path.set(Conditions::black_hole());
                }
            }
            Fault::SessionActor => self.nodes[step.node].order(&Order::Kill { victim: Victim::Session }).await,
            Fault::TransportActor => {
                let victim = Victim::Transport(self.between[at].transport.to_owned());
                self.nodes[step.node].order(&Order::Kill { victim }).await;
            }
        }
        let at_s = self.started.elapsed().as_secs_f64();
        self.books.failovers.push(Failover { at_s, fault: step.fault, mono_ns, ..Failover::default() });
    }

    /// The path that is spared: one with a usable link, rather not the one in use.
    fn survivor(&self, in_use: usize) -> usize {
        let usable = |at: &usize| {
            let between = &self.between[*at];
            self.nodes[0].status.links.iter().any(|link| link.is_usable() && between.leads_to(&link.remote))
        };
        let others = (1..self.between.len()).map(|step| (in_use + step) % self.between.len());
        others.into_iter().find(usable).unwrap_or(in_use)
    }

    /// Draws the screen, or prints the failovers that have come to an end.
    fn show(&mut self, last: bool) -> Result<(), Failure> {
        self.books.judge_failovers();
        if self.draws {
            let text = self.view().lines().join("\x1b[K\n");
            let clear = if self.shown == 0 { "\x1b[2J\x1b[?25l" } else { "" };
            self.shown += 1;
            return line(&format!("{clear}\x1b[H{text}\x1b[K\x1b[J"));
        }
        let ended = self.books.failovers.len() - usize::from(!last && !self.books.failovers.is_empty());
        for at in self.shown..ended {
            let failover = &self.books.failovers[at];
            let text = if self.options.json {
                serde_json::json!({ "failover": failover }).to_string()
            } else {
                timeline(failover)
            };
            if self.options.json || !self.options.quiet {
                line(&text)?;
            }
        }
        self.shown = self.shown.max(ended);
        Ok(())
    }

    fn say(&self, text: &str) -> Result<(), Failure> {
        if self.draws || self.options.json || self.options.quiet { Ok(()) } else { line(text) }
    }

    fn view(&self) -> View<'_> {
        let in_use = self.in_use();
        let paths = self.between.iter().enumerate().map(|(at, between)| PathLine {
            transport: between.transport.to_owned(),
            silent: between.path.conditions() == Conditions::black_hole(),
            link: self.nodes[0].status.links.iter().rev().find(|link| between.leads_to(&link.remote)).cloned(),
            in_use: in_use == Some(at),
        });
        View {
            elapsed: self.started.elapsed(),
            length: self.options.length,
            nodes: [&self.nodes[0].status, &self.nodes[1].status],
            paths: paths.collect(),
            file_bytes: self.file_bytes,
            failovers: &self.books.failovers,
            colour: std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
        }
    }
}

impl Between {
    fn leads_to(&self, remote: &EndpointAddress) -> bool {
        remote.kind().as_str() == self.transport && socket(remote) == Some(self.path.address())
    }
}

fn socket(address: &EndpointAddress) -> Option<SocketAddr> {
    Some((address.ip()?, address.port()?).into())
}
