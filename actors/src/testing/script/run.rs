//! What each verb of a script does.

use std::time::Duration;

use bowline_messages::MessageClass;
use bowline_messages::config::SessionConfig;
use bowline_messages::session::Outgoing;
use serde_json::{Value, json};

use super::parse::{Command, Place, Word};
use super::value::{self, Pattern};
use super::{Options, Outcome, ScriptError, catalogue, show};
use crate::node::NetworkConfig;
use crate::testing::sim::{Behaviour, Direction, LinkShape, NodeOptions, Simulation, identity_of};
use crate::transport::memory::{Change, Cut};

/// The seed of a script that names none.
const SEED: u64 = 1;
/// How long a node may take to answer the runner, in virtual time. Longer than any restart takes.
const ANSWER_LIMIT: Duration = Duration::from_secs(120);
/// How finely `expect … within=` looks.
const LOOK_EVERY: Duration = Duration::from_millis(1);
/// Entries of the log that a failure shows at most.
const SHOWN_MAX: usize = 25;

/// Runs the commands of a script whose text is `text`.
pub(super) async fn run(text: &str, commands: Vec<Command>, options: Options) -> Result<Outcome, ScriptError> {
    let named = commands
        .iter()
        .filter(|c| c.verb == "nodes")
        .flat_map(|c| &c.words)
        .find_map(|word| word.key.as_ref().filter(|(key, _)| key == "seed").and_then(|_| word.value.parse().ok()));
    let seed = options.seed.or(named).unwrap_or(SEED);
    let mut runner = Runner {
        simulation: Simulation::new(seed),
        started: false,
        mark: 0,
        rewrite: options.rewrite,
        refreshed: Vec::new(),
    };
    for command in &commands {
        let done = tokio::time::timeout(ANSWER_LIMIT.max(patience(command)), runner.carry_out(command)).await;
        let done = done.unwrap_or_else(|_| Err(format!("no answer within {ANSWER_LIMIT:?}")));
        done.map_err(|reason| runner.failed(command.place.clone(), reason, seed))?;
    }
    if let (Some(broken), Some(last)) = (runner.simulation.violations().first(), commands.last()) {
        let reason = format!("messages came twice or out of order: {broken}");
        return Err(runner.failed(last.place.clone(), reason, seed));
    }
    let log = runner.simulation.log();
    Ok(Outcome { time: log.now(), log: log.text(), text: runner.refresh(text), seed })
}

/// How long a command may take: what it says itself, and some.
fn patience(command: &Command) -> Duration {
    command.words.iter().filter_map(|word| value::duration(&word.value)).max().unwrap_or_default() * 2
}

/// What a recorded block is to be replaced by: the line of its command, the lines it has now, the new text.
type Refreshed = (usize, Option<(usize, usize)>, Vec<String>);

struct Runner {
    simulation: Simulation,
    started: bool,
    /// `expect` looks at entries from here on.
    mark: usize,
    rewrite: bool,
    /// Recorded lines: where the command stands, where the old ones begin and how many they are, and the new ones.
    refreshed: Vec<Refreshed>,
}

impl Runner {
    fn failed(&self, place: Place, reason: String, seed: u64) -> ScriptError {
        ScriptError::Failed { place, reason, seed, log: self.simulation.log().text() }
    }

    async fn carry_out(&mut self, command: &Command) -> Result<(), String> {
        let words: Vec<&Word> = command.words.iter().collect();
        match command.verb.as_str() {
            "nodes" => return self.nodes(&words),
            "link" => return self.link(&words),
            _ if !self.started => {
                self.started = true;
                self.simulation.start().await.map_err(|error| error.to_string())?;
            }
            _ => {}
        }
        match command.verb.as_str() {
            "start" => Ok(()),
            "run" => {
                self.simulation.run_for(one_duration(&words)?).await;
                Ok(())
            }
            "mark" => {
                self.mark = self.simulation.log().len();
                Ok(())
            }
            "cut" | "heal" | "slow" | "drop" | "refuse" | "reset" => self.change(&command.verb, &words),
            "pause" | "continue" | "kill" | "restart" | "stop" | "app" => self.process(&command.verb, &words).await,
            "crash" => self.crash(&words).await,
            "send" => self.send(&words).await,
            "expect" | "reject" | "count" => self.expect(&command.verb, &words).await,
            "show" => self.show(command, &words).await,
            other => Err(format!(
                "there is no verb `{other}`: nodes link start run mark cut heal slow drop refuse reset pause continue kill restart \
                 stop app crash send expect reject count show"
            )),
        }
    }

    fn nodes(&self, words: &[&Word]) -> Result<(), String> {
        let mut options = NodeOptions::default();
        let mut session = Vec::new();
        for word in words {
            let Some((key, _)) = &word.key else { continue };
            match key.as_str() {
                "seed" => {}
                "mailbox" => options.application.mailbox = Some(number(word)?),
                "app" if word.value == "none" => {
                    options.application = Behaviour { absent: true, ..Behaviour::default() }
                }
                "panics_over" => options.application.inspector = Some(panics_over(&word.value)),
                "network" => options.network = (word.value == "on").then(NetworkConfig::default),
                "group" => options.group = word.value.split(',').map(|name| identity_of(name).peer_id()).collect(),
                "trust" => {
                    let policy = serde_json::from_value(Value::String(word.value.clone()));
                    options.trust = policy.map_err(|_| format!("there is no trust policy `{}`", word.value))?;
                }
                "denies" => options.denied.extend(word.value.split(',').map(|name| identity_of(name).peer_id())),
                "allows" => options.allowed.extend(word.value.split(',').map(|name| identity_of(name).peer_id())),
                _ => session.push((key.as_str(), word.value.as_str())),
            }
        }
        options.session = configured(&session)?;
        for word in words.iter().filter(|word| word.key.is_none()) {
            self.simulation.add_node_with(&word.value, options.clone()).map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    fn link(&self, words: &[&Word]) -> Result<(), String> {
        let [pair, kind, settings @ ..] = words else { return Err("expected `link A-B TRANSPORT …`".into()) };
        let (first, second, _) = pair_of(&pair.value)?;
        let mut shape = LinkShape::default();
        for word in settings {
            let key = word.key.as_ref().map_or("", |(key, _)| key.as_str());
            match key {
                "rtt" => shape.rtt = duration(word)?,
                "jitter" => shape.jitter = duration(word)?,
                "rate" => shape.bandwidth = Some(rate(word)?),
                "lanes" => shape.lanes = number(word)?,
                "dials" => {
                    shape.dials = match word.value.as_str() {
                        "both" => Direction::Both,
                        name if name == first => Direction::Forward,
                        name if name == second => Direction::Backward,
                        other => return Err(format!("`{other}` is not at this link")),
                    }
                }
                _ => return Err(format!("a link has no `{}`: rtt jitter rate lanes dials", word.value)),
            }
        }
        self.simulation.add_link(&first, &second, &kind.value, shape).map_err(|error| error.to_string())
    }

    fn change(&self, verb: &str, words: &[&Word]) -> Result<(), String> {
        let [pair, rest @ ..] = words else { return Err(format!("expected `{verb} A-B TRANSPORT`")) };
        let (first, second, direction) = pair_of(&pair.value)?;
        let mut kinds = Vec::new();
        let mut changes = Vec::new();
        for word in rest {
            let key = word.key.as_ref().map_or("", |(key, _)| key.as_str());
            match (verb, key) {
                ("cut", "") if word.value == "vanish" => changes.push(Change::Cut(Cut::Vanish)),
                ("cut", "") if word.value == "both" => {}
                ("refuse", "") if word.value == "on" => changes.push(Change::RefuseDials(true)),
                ("refuse", "") if word.value == "off" => changes.push(Change::RefuseDials(false)),
                ("slow", "delay") => changes.push(Change::ExtraDelay(duration(word)?)),
                ("slow", "jitter") => changes.push(Change::Jitter(duration(word)?)),
                ("slow", "rate") if word.value == "none" => changes.push(Change::Bandwidth(None)),
                ("slow", "rate") => changes.push(Change::Bandwidth(Some(rate(word)?))),
                ("drop", "larger") if word.value == "none" => changes.push(Change::DropLargerThan(None)),
                ("drop", "larger") => changes.push(Change::DropLargerThan(Some(number(word)?))),
                (_, "") if word.value == "all" => kinds = self.simulation.kinds_between(&first, &second),
                (_, "") => kinds.push(word.value.clone()),
                _ => return Err(format!("`{verb}` has no `{key}`")),
            }
        }
        match verb {
            "cut" if changes.is_empty() => changes.push(Change::Cut(Cut::Hold)),
            "heal" => changes.push(Change::Heal),
            "reset" => changes.push(Change::Reset),
            _ => {}
        }
        if kinds.is_empty() || changes.is_empty() {
            return Err(format!("expected `{verb} A-B TRANSPORT`, with what is to be done"));
        }
        let known = self.simulation.kinds_between(&first, &second);
        for kind in &kinds {
            if !known.contains(kind) {
                return Err(format!("there is no link {first}-{second} over `{kind}`"));
            }
            changes.iter().for_each(|change| self.simulation.change(&first, &second, kind, direction, change));
        }
        Ok(())
    }

    async fn process(&self, verb: &str, words: &[&Word]) -> Result<(), String> {
        let simulation = &self.simulation;
        let node = words.first().map(|word| word.value.as_str()).ok_or("expected a node")?;
        let done = match verb {
            "pause" => simulation.set_paused(node, true),
            "continue" => simulation.set_paused(node, false),
            "kill" => simulation.kill_process(node),
            "restart" => simulation.restart(node).await,
            "stop" => {
                let drain = words.get(1).map(|word| duration(word)).transpose()?;
                simulation.shut_down(node, drain.unwrap_or(Duration::from_secs(5)))
            }
            _ => match words.get(1).map(|word| word.value.as_str()) {
                Some("stops") => simulation.set_reading(node, false),
                Some("reads") => simulation.set_reading(node, true),
                _ => return Err("expected `app NODE stops` or `app NODE reads`".into()),
            },
        };
        done.map_err(|error| error.to_string())
    }

    async fn crash(&self, words: &[&Word]) -> Result<(), String> {
        let actor = words.first().map(|word| word.value.as_str()).ok_or("expected NODE.ROLE")?;
        let (node, role) = actor.split_once('.').ok_or("expected NODE.ROLE")?;
        let times = control(words, "times").map(number::<u32>).transpose()?.unwrap_or(1);
        let every = control(words, "every").map(duration).transpose()?.unwrap_or_default();
        for turn in 0..times {
            if turn > 0 {
                self.simulation.run_for(every).await;
            }
            self.simulation.kill_actor(node, role).await.map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    async fn send(&self, words: &[&Word]) -> Result<(), String> {
        let [from, arrow, to, name, rest @ ..] = words else {
            return Err("expected `send FROM -> TO MESSAGE FIELD=VALUE…`".into());
        };
        if arrow.value != "->" {
            return Err("expected `send FROM -> TO MESSAGE FIELD=VALUE…`".into());
        }
        let times = control(rest, "times").map(number::<u32>).transpose()?.unwrap_or(1);
        let every = control(rest, "every").map(duration).transpose()?;
        let fields: Vec<&Word> = rest.iter().filter(|word| !is_control(word, &["times", "every"])).copied().collect();
        let peer = |name: &str| self.simulation.peer_id(name).ok().map(|id| id.to_string());
        let message = Sending {
            simulation: self.simulation.clone(),
            from: from.value.clone(),
            to: to.value.clone(),
            name: name.value.clone(),
            to_node: fields.iter().find(|w| is_control(w, &["to"])).map(|w| w.value.clone()),
            content: value::content(&fields, &peer),
        };
        let Some(every) = every else {
            for turn in 0..times {
                message.send(turn).await?;
            }
            return Ok(());
        };
        actix_rt::spawn(async move {
            for turn in 0..times {
                if let Err(error) = message.send(turn).await {
                    message.simulation.note(&message.to, &message.from, "SendFailed", &json!({ "error": error }));
                }
                tokio::time::sleep(every).await;
            }
        });
        // Its first message is on its way when the next line is read.
        tokio::task::yield_now().await;
        Ok(())
    }

    async fn expect(&self, verb: &str, words: &[&Word]) -> Result<(), String> {
        let controls: &[&str] = if verb == "expect" { &["count", "within"] } else { &["within"] };
        let mut fields: Vec<&Word> = words.iter().filter(|word| !is_control(word, controls)).copied().collect();
        let mut wanted = control(words, "count").filter(|_| verb == "expect").map(number::<usize>).transpose()?;
        match verb {
            "reject" => wanted = Some(0),
            "count" if !fields.is_empty() => wanted = Some(number(fields.remove(0))?),
            _ => {}
        }
        let pattern = Pattern::new(&fields)?;
        let within = control(words, "within").map(duration).transpose()?.unwrap_or_default();
        let log = self.simulation.log();
        let holds = |found: usize| wanted.map_or(found > 0, |wanted| found == wanted);
        let until = log.now() + within;
        loop {
            let found = log.count(self.mark, |entry| pattern.matches(entry));
            let wait = if verb == "reject" { holds(found) } else { !holds(found) };
            if !wait || log.now() >= until {
                return if holds(found) { Ok(()) } else { Err(self.unexpected(&pattern, words, found, wanted)) };
            }
            self.simulation.run_for(LOOK_EVERY).await;
        }
    }

    /// What there was instead: entries of the same name, or the last ones.
    fn unexpected(&self, pattern: &Pattern, words: &[&Word], found: usize, wanted: Option<usize>) -> String {
        let entries = self.simulation.log().since(self.mark);
        let alike: Vec<_> = entries.iter().filter(|entry| pattern.is_of_same_name(entry)).collect();
        let shown: Vec<_> = if alike.is_empty() { entries.iter().collect() } else { alike };
        let last = shown.iter().rev().take(SHOWN_MAX).rev().map(|entry| format!("\n    {entry}")).collect::<String>();
        let sought: Vec<_> = words.iter().map(|word| word.to_string()).collect();
        let wanted = wanted.map_or("at least one".into(), |wanted| wanted.to_string());
        format!("found {found} and wanted {wanted} of `{}`; there was:{last}", sought.join(" "))
    }

    async fn show(&mut self, command: &Command, words: &[&Word]) -> Result<(), String> {
        let [what, rest @ ..] = words else { return Err("expected `show NODE WHAT` or `show log PATTERN`".into()) };
        let lines = if what.value == "log" {
            show::log(&self.simulation, self.mark, &Pattern::new(rest)?)
        } else {
            let of = rest.first().map_or("", |word| word.value.as_str());
            show::node(&self.simulation, &what.value, of).await?
        };
        let recorded = command.recorded.as_ref();
        let old = recorded.map(|recorded| (recorded.line, recorded.lines.len()));
        self.refreshed.push((command.place.line, old, lines.clone()));
        let same = recorded.is_some_and(|recorded| recorded.lines == lines);
        if self.rewrite || same {
            return Ok(());
        }
        let indented = |lines: &[String]| lines.iter().map(|line| format!("\n    {line}")).collect::<String>();
        let before = recorded.map_or_else(String::new, |recorded| indented(&recorded.lines));
        Err(format!("recorded:{before}\n  now:{}\n  if that is right: make scripts-rewrite", indented(&lines)))
    }

    /// The text of the script with the lines of this run.
    fn refresh(&self, text: &str) -> String {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        for (command, old, new) in self.refreshed.iter().rev() {
            let mut block = vec!["----".to_owned()];
            block.extend(new.iter().cloned());
            match old {
                Some((line, count)) => lines.splice(line - 1..line + count, block),
                None => {
                    // What follows directly would be taken for recorded lines.
                    if lines.get(*command).is_some_and(|next| !next.trim().is_empty()) {
                        block.push(String::new());
                    }
                    lines.splice(*command..*command, block)
                }
            };
        }
        let mut text = lines.join("\n");
        text.push('\n');
        text
    }
}

/// A `send` with everything it needs, so that it can go on beside the script.
struct Sending {
    simulation: Simulation,
    from: String,
    to: String,
    name: String,
    to_node: Option<String>,
    content: Value,
}

impl Sending {
    async fn send(&self, turn: u32) -> Result<(), String> {
        let node = self.to.split('.').next().unwrap_or_default();
        let mut content = self.content.clone();
        let other = || {
            let names = self.simulation.names();
            let others: Vec<_> = names.into_iter().filter(|name| name != node).collect();
            match (&self.to_node, others.as_slice()) {
                (Some(named), _) => Ok(named.clone()),
                (None, [only]) => Ok(only.clone()),
                (None, _) => Err("say to whom: to=NODE".to_owned()),
            }
        };
        if let ("Outgoing" | "Stream", Value::Object(fields)) = (self.name.as_str(), &mut content) {
            fields.remove("to");
        }
        match self.name.as_str() {
            "Outgoing" => {
                if let Some(Value::String(payload)) = content.get_mut("payload") {
                    *payload = payload.replace("{n}", &turn.to_string());
                }
                let message = outgoing(content)?;
                let sent = self.simulation.send(node, &other()?, message).await;
                sent.map(|_| ()).map_err(|error| error.to_string())
            }
            "Stream" => {
                let bytes = content.get("bytes").and_then(Value::as_u64).unwrap_or(0);
                let label = content.get("label").and_then(Value::as_str).unwrap_or("stream").to_owned();
                let sent = self.simulation.send_stream(node, &other()?, &label, bytes).await;
                sent.map_err(|error| error.to_string())
            }
            name => catalogue::send(&self.simulation, &self.from, &self.to, name, content).await,
        }
    }
}

/// A message from its fields; `bytes=N` makes a payload of that length.
fn outgoing(mut content: Value) -> Result<Outgoing, String> {
    let mut bytes = None;
    if let Value::Object(fields) = &mut content {
        bytes = fields.remove("bytes").and_then(|bytes| bytes.as_u64());
        fields.entry("class").or_insert_with(|| json!(MessageClass::Critical));
    }
    let mut message: Outgoing = serde_json::from_value(content).map_err(|error| format!("Outgoing: {error}"))?;
    if let Some(bytes) = bytes {
        let length = usize::try_from(bytes).map_err(|error| error.to_string())?;
        message.payload = vec![0x5a; length].into();
    }
    Ok(message)
}

/// An inspector that panics over one payload.
fn panics_over(payload: &str) -> crate::node::Inspector {
    let payload = payload.as_bytes().to_vec();
    std::rc::Rc::new(move |_, message| {
        assert!(message.payload != payload, "a message that kills");
    })
}

/// The default configuration of sessions with some keys changed.
fn configured(keys: &[(&str, &str)]) -> Result<SessionConfig, String> {
    let mut config = serde_json::to_value(SessionConfig::default()).map_err(|error| error.to_string())?;
    for (key, text) in keys {
        let value = serde_json::from_str(text).unwrap_or_else(|_| Value::String((*text).to_owned()));
        let pointer = format!("/{}", key.replace('.', "/"));
        *config.pointer_mut(&pointer).ok_or_else(|| format!("nodes have no `{key}`"))? = value;
    }
    serde_json::from_value(config).map_err(|error| error.to_string())
}

/// `a-b`: both ways. `a->b`: one way.
fn pair_of(text: &str) -> Result<(String, String, Direction), String> {
    let (pair, direction) = match text.split_once("->") {
        Some(pair) => (Some(pair), Direction::Forward),
        None => (text.split_once('-'), Direction::Both),
    };
    let (first, second) = pair.ok_or_else(|| format!("`{text}` is no pair of nodes: A-B or A->B"))?;
    Ok((first.into(), second.into(), direction))
}

fn is_control(word: &Word, names: &[&str]) -> bool {
    word.key.as_ref().is_some_and(|(key, _)| names.contains(&key.as_str()))
}

fn control<'a>(words: &[&'a Word], name: &str) -> Option<&'a Word> {
    words.iter().find(|word| is_control(word, &[name])).copied()
}

fn one_duration(words: &[&Word]) -> Result<Duration, String> {
    words.first().ok_or_else(|| "expected a duration".to_owned()).and_then(|word| duration(word))
}

fn duration(word: &Word) -> Result<Duration, String> {
    value::duration(&word.value).ok_or_else(|| format!("`{}` is no duration", word.value))
}

fn rate(word: &Word) -> Result<u64, String> {
    value::rate(&word.value).ok_or_else(|| format!("`{}` is no rate", word.value))
}

fn number<T: std::str::FromStr>(word: &Word) -> Result<T, String> {
    word.value.parse().map_err(|_| format!("`{}` is no number", word.value))
}
