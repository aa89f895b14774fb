//! The parent process: carries out the plan step by step, each after what came before it has had its effect; shows what happens, and keeps the books.

use std::io::IsTerminal as _;
use std::time::Duration;

use tokio::time::{Instant, Interval, interval};

use super::books::{Books, Closing, PURSE, pot, purse};
use super::chronicle::Chronicle;
use super::plan::{Act, BRIDGE, LIVES, NODES, Step, node_of, plan};
use super::protocol::{Order, Report};
use super::screen::View;
use super::troupe::Troupe;
use super::world::World;
use crate::cli::bench::measure::mono_ns;
use crate::cli::bench::peer::told_to_end;
use crate::cli::demo::process::Said;
use crate::cli::output::line;
use crate::exit::{Exit, Failure};

/// How long something may take to have its effect, longer than it ever should on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often the screen is drawn.
const FRAME: Duration = Duration::from_millis(200);
/// How often each node moves a number.
const MOVE_EVERY: Duration = Duration::from_millis(250);
/// Events that the screen may have room for.
const EVENTS: usize = 16;
/// Columns and rows of a terminal that does not say how large it is.
const SIZE: (usize, usize) = (80, 24);

/// What is to be shown, and how.
#[derive(Debug, Clone, Copy)]
pub(super) struct Options {
    pub(super) length: Duration,
    pub(super) json: bool,
    pub(super) quiet: bool,
}

struct Stage {
    options: Options,
    troupe: Troupe,
    world: World,
    books: Books,
    chronicle: Chronicle,
    started: Instant,
    frames: Interval,
    act: Option<Act>,
    ready: bool,
    funded: bool,
    draws: bool,
    drawn: bool,
}

/// Runs the demonstration.
pub(super) async fn run(options: Options) -> Result<Closing, Failure> {
    let troupe = Troupe::new()?;
    let world = World { ids: troupe.ids.clone(), ..World::default() };
    let mut stage = Stage {
        options,
        troupe,
        world,
        books: Books::default(),
        chronicle: Chronicle::default(),
        started: Instant::now(),
        frames: interval(FRAME),
        act: None,
        ready: false,
        funded: false,
        draws: !options.json && !options.quiet && std::io::stdout().is_terminal(),
        drawn: false,
    };
    let outcome = tokio::select! {
        outcome = stage.perform() => outcome,
        () = told_to_end() => Err(Failure::new(Exit::False, "interrupted")),
    };
    stage.troupe.end().await;
    if stage.draws {
        // The cursor comes back; there is nobody to tell when the terminal is gone.
        let _ = line("\x1b[?25h");
    }
    let took = stage.started.elapsed();
    stage.books.failure = outcome.err().map(|failure| failure.to_string());
    Ok(stage.books.close(took))
}

impl Stage {
    async fn perform(&mut self) -> Result<(), Failure> {
        for life in 0..NODES {
            self.troupe.begin(life).await?;
        }
        self.wait(None, "start", |stage| stage.ready).await?;
        self.started = Instant::now();
        for Step { at, act } in plan(self.options.length) {
            self.wait(Some(self.started + at), "", |_| false).await?;
            self.begin(act).await?;
            let deadline = Some(Instant::now() + PATIENCE);
            if self.wait(deadline, "", |stage| stage.has_effect(act)).await? {
                self.books.on_effect(mono_ns());
                self.say(&format!("   {}", act.effect()));
            }
        }
        for node in 0..NODES {
            self.troupe.order(node, &Order::List).await;
        }
        self.wait(None, "say what the ledger says", |stage| stage.books.ledgers.len() == NODES).await?;
        self.show(true)
    }

    /// Does what comes next.
    async fn begin(&mut self, act: Act) -> Result<(), Failure> {
        if act == Act::Traffic {
            let accounts = (0..LIVES).map(purse).collect();
            self.troupe.order(0, &Order::Fund { accounts, amount: PURSE }).await;
            self.wait(None, "write the first numbers into the ledger", |stage| stage.funded).await?;
        }
        let (at, mono_ns) = (self.started.elapsed(), mono_ns());
        self.act = Some(act);
        self.books.on_act(act, at, mono_ns);
        self.say(act.name());
        match act {
            Act::Gather => self.troupe.connect(None).await,
            Act::Traffic => {
                for life in 0..NODES {
                    self.start_traffic(life).await;
                }
            }
            Act::Kill => {
                self.troupe.kill(BRIDGE).await;
                self.world.nodes[BRIDGE] = None;
            }
            // It goes on when it has said that it listens.
            Act::Restart => self.troupe.begin(NODES).await?,
            Act::Split => self.troupe.cut(true),
            Act::Merge => self.troupe.cut(false),
            Act::Stop => {
                for node in 0..NODES {
                    self.troupe.order(node, &Order::Stop).await;
                }
            }
        }
        Ok(())
    }

    fn has_effect(&self, act: Act) -> bool {
        match act {
            Act::Gather | Act::Restart | Act::Merge => self.world.is_whole(),
            Act::Traffic => self.world.has_second_way(),
            Act::Kill => self.world.is_whole_without_bridge(),
            Act::Split => self.world.is_split(),
            Act::Stop => self.world.is_at_rest(),
        }
    }

    async fn start_traffic(&mut self, life: usize) {
        let every_ms = u64::try_from(MOVE_EVERY.as_millis()).unwrap_or(u64::MAX);
        // Each begins with another one.
        let to = (0..NODES).map(|turn| pot((life + turn + 1) % NODES)).collect();
        self.troupe.order(node_of(life), &Order::Start { from: purse(life), to, every_ms }).await;
    }

    /// Listens and shows until something holds, and says whether it does. `until`: at the longest; without that the nodes have to `what` in time.
    async fn wait(
        &mut self,
        until: Option<Instant>,
        what: &str,
        holds: impl Fn(&Self) -> bool,
    ) -> Result<bool, Failure> {
        let deadline = until.unwrap_or_else(|| Instant::now() + PATIENCE);
        while !holds(self) {
            tokio::select! {
                said = self.troupe.reports.recv() => {
                    if let Some(said) = said {
                        self.note(said).await?;
                    }
                }
                _ = self.frames.tick() => self.show(false)?,
                () = tokio::time::sleep_until(deadline) => match until {
                    Some(_) => return Ok(false),
                    None => {
                        let late = format_args!("the nodes did not {what} within {PATIENCE:?}");
                        return Err(Failure::new(Exit::TimedOut, late));
                    }
                },
            }
        }
        Ok(true)
    }

    /// Writes down what a process said.
    async fn note(&mut self, (life, report): Said<Report>) -> Result<(), Failure> {
        let node = node_of(life);
        match report {
            // Whatever a process said before it was killed counts for the books; how it was does not matter any more.
            Ok(Report::Asked) => self.books.on_asked(life),
            Ok(Report::Moved { mono_ns, outcome }) => self.books.on_moved(life, mono_ns, outcome),
            _ if !self.troupe.lives(life) => {}
            Ok(Report::Ready { address }) => {
                self.ready = self.troupe.on_ready(node, address).await?;
                if life >= NODES {
                    self.troupe.connect(Some(node)).await;
                    self.start_traffic(life).await;
                }
            }
            Ok(Report::Status(status)) => {
                self.books.on_holds(node, status.mono_ns, status.holds);
                self.world.nodes[node] = Some(status);
                if self.world.has_second_way() {
                    self.books.on_second_way(mono_ns());
                }
                self.books.healing.extend(self.world.links().iter().filter(|link| link.healing).map(|link| link.ends));
            }
            Ok(Report::Event { text }) => self.chronicle.say(self.started.elapsed(), Some(node), text),
            Ok(Report::Funded) => self.funded = true,
            Ok(Report::Listed { numbers }) => drop(self.books.ledgers.insert(node, numbers)),
            Ok(Report::Failed { reason }) | Err(reason) => {
                let name = super::plan::NAMES[node];
                return Err(Failure::new(Exit::GaveUp, format_args!("node {name} failed: {reason}")));
            }
        }
        Ok(())
    }

    fn say(&mut self, text: &str) {
        self.chronicle.say(self.started.elapsed(), None, text.to_owned());
    }

    /// Draws the screen, or prints the lines that have come since the last time.
    fn show(&mut self, last: bool) -> Result<(), Failure> {
        let elapsed = self.started.elapsed();
        if self.draws {
            let text = self.view(elapsed).lines().join("\x1b[K\n");
            let clear = if self.drawn { "" } else { "\x1b[2J\x1b[?25l" };
            self.drawn = true;
            return line(&format!("{clear}\x1b[H{text}\x1b[K\x1b[J"));
        }
        for entry in self.chronicle.finished(elapsed, last) {
            if self.options.json {
                let who: Vec<&str> = entry.who.iter().map(|node| super::plan::NAMES[*node]).collect();
                let event =
                    serde_json::json!({ "at_s": entry.at.as_secs_f64(), "nodes": who, "text": entry.text.trim() });
                line(&serde_json::json!({ "event": event }).to_string())?;
            } else if !self.options.quiet {
                line(&entry.line())?;
            }
        }
        Ok(())
    }

    fn view(&self, elapsed: Duration) -> View<'_> {
        let size = terminal_size::terminal_size().map_or(SIZE, |(columns, rows)| (columns.0.into(), rows.0.into()));
        View {
            elapsed,
            length: self.options.length,
            act: self.act,
            world: &self.world,
            moves: self.books.total(),
            events: self.chronicle.last(EVENTS),
            size,
            colour: std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
        }
    }
}
