//! `bowline run`.

use std::fs::{File, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::ServerHandle;
use bowline_actors::clock;
use bowline_actors::session::keyfile;
use bowline_actors::session::trust::TrustSnapshot;
use bowline_actors::supervision::ChildSpec;
use bowline_messages::EndpointAddress;
use bowline_messages::config::{PeerBook, parse_duration};
use hyper::Method;
use serde_json::json;

use super::Global;
use super::id::key_failure;
use super::output::{line, with_schema};
use crate::config::Loaded;
use crate::control::client::{Client, Content};
use crate::control::protocol::NodeReport;
use crate::control::remote::{ControlActor, MAILBOX, Remote};
use crate::control::running::Running;
use crate::control::server::{self, Shared};
use crate::control::socket;
use crate::exit::{Exit, Failure};
use crate::node::Node;
use crate::notebook::Notebook;
use crate::services::actor::ServicesActor;
use crate::services::state::ServiceState;
use crate::signal::{Signal, Signals};
use crate::telemetry::{self, EventCounter};
use crate::{metrics_server, node};

/// Messages of peers that wait for the actor that serves them.
const SERVICES_MAILBOX: usize = 1024;
/// How long a node that may be running already is given to answer.
const ALIVE_WITHIN: Duration = Duration::from_secs(2);
/// How often what is known of peers is saved, when it has changed.
const SAVE_EVERY: Duration = Duration::from_secs(2);

/// Run a node until it is told to stop (SIGTERM or Ctrl-C; SIGHUP reads the configuration again)
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Listen here instead of where the configuration says; may be repeated
    #[arg(long, value_name = "URI")]
    listen: Vec<EndpointAddress>,
    /// Keep key and state in this directory
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// How long accepted messages may take to be delivered when the node stops
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = parse_duration)]
    drain: Duration,
}

pub(crate) fn run(args: Args, global: &Global) -> Result<Exit, Failure> {
    let mut global = global.clone();
    if !args.listen.is_empty() {
        let addresses: Vec<toml::Value> = args.listen.iter().map(|address| address.to_string().into()).collect();
        global.set.push(format!("listen.addresses={}", toml::Value::Array(addresses)));
    }
    if let Some(dir) = &args.state_dir {
        global.set.push(format!("identity.state_dir={}", toml::Value::String(dir.to_string_lossy().into_owned())));
    }
    let loaded = global.load()?;
    let wishes = telemetry::LogWishes::new(global.verbose, global.quiet, &global.set);
    let log = telemetry::start_log(&loaded.config.log, wishes)?;
    // The journal logs them with their place; what else panics is reported in full.
    bowline_actors::supervision::report_contained_panics_quietly();
    let global_for_node = global.clone();
    super::run_as_task(async move {
        let socket = loaded.control_socket();
        refuse_second(&socket).await?;
        let state = loaded.state_dir();
        make_private_dir(&state)?;
        let _lock = lock(&state)?;
        let mut signals = Signals::new().map_err(|error| Failure::new(Exit::GaveUp, error))?;
        let started = start(loaded, &global_for_node, log).await?;
        announce(&started, &socket, &global_for_node).await?;
        let exit = supervise(&started, &mut signals, args.drain).await;
        for server in &started.servers {
            server.stop(false).await;
        }
        Ok(exit)
    })
}

/// The control socket's file, removed at the end of the process, also when it ends because it could not start.
struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // It may have been removed by hand. Another node's it is not: that would have found this one.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// A node and what was put around it.
struct Started {
    running: Rc<Running>,
    servers: Vec<ServerHandle>,
    _socket: SocketFile,
}

async fn start(loaded: Loaded, global: &Global, log: telemetry::LogControl) -> Result<Started, Failure> {
    let key_file = loaded.key_file();
    let key = keyfile::load_or_create(&key_file, &mut crate::randomness()?);
    let (identity, created) = key.map_err(|error| key_failure(&error))?;
    if created {
        tracing::info!(key_file = %key_file.display(), "a new identity was made");
    }
    let incarnation = keyfile::next_incarnation(&key_file).map_err(|error| key_failure(&error))?;
    let known = TrustSnapshot::load(&known_file(&loaded)).map_err(|error| Failure::new(Exit::Configuration, error))?;
    let metrics = loaded.config.metrics.listen.is_some().then(telemetry::start_metrics).flatten();

    let services = ServiceState::new(&loaded.config);
    let (services_child, served) = {
        let services = services.clone();
        ChildSpec::new("services", move || ServicesActor::new(services.clone()))
    };
    let started = clock::now();
    let node = Node::builder()
        .identity(Arc::new(identity))
        .incarnation(incarnation)
        .config(loaded.config.clone())
        .known(known)
        .inbox(served.clone().recipient())
        .streams(served.recipient())
        .group(Notebook::application(), Some(loaded.state_dir().join("group")))
        .child(services_child.mailbox(SERVICES_MAILBOX))
        .start()
        .await?;
    let (counter_child, counter) = ChildSpec::new("event-counter", EventCounter::default);
    start_child(&node, counter_child).await?;
    node.subscribe(counter.recipient());

    let socket = loaded.control_socket();
    let source = global.source();
    let metrics_address = loaded.config.metrics.listen;
    let running = Rc::new(Running::new(node, services.clone(), source, loaded, log, started));
    let (control_child, control) = {
        let running = running.clone();
        ChildSpec::new("control", move || ControlActor::new(running.clone()))
    };
    start_child(&running.node, control_child.mailbox(MAILBOX)).await?;
    let remote = Remote::new(control);

    let mut servers = Vec::new();
    let listener = socket::bind(&socket).map_err(|error| Failure::at(&socket, &error, Exit::Configuration))?;
    let socket_file = SocketFile(socket.clone());
    let shared = Shared { remote: remote.clone(), services };
    let (server, handle) =
        server::serve(listener, shared).map_err(|error| Failure::at(&socket, &error, Exit::Configuration))?;
    actix_rt::spawn(server);
    servers.push(handle);
    if let (Some(address), Some(metrics)) = (metrics_address, metrics) {
        let (server, handle) = metrics_server::serve(address, remote, metrics)?;
        actix_rt::spawn(server);
        servers.push(handle);
    }
    running.tidy_folder();
    running.follow_book(&PeerBook::new()).await;
    Ok(Started { running, servers, _socket: socket_file })
}

async fn start_child(node: &node::Node, child: ChildSpec) -> Result<(), Failure> {
    node.start_child(child).await.map_err(|error| Failure::new(Exit::GaveUp, error))
}

/// Says that the node is there: on the standard output for programs, in the log for people.
async fn announce(started: &Started, socket: &Path, global: &Global) -> Result<(), Failure> {
    let report = started.running.report().await?;
    if global.json {
        let ready = json!({
            "ready": true,
            "peer": report.peer,
            "addresses": report.listening,
            "socket": socket,
            "pid": report.pid,
        });
        line(&with_schema("run", &ready)?.to_string())?;
    }
    for address in &report.listening {
        tracing::info!(%address, "listening");
    }
    tracing::info!(peer = %report.peer, socket = %socket.display(), "running");
    Ok(())
}

/// Waits for the end of the node, and ends it when a signal says so.
async fn supervise(started: &Started, signals: &mut Signals, drain: Duration) -> Exit {
    let running = &started.running;
    let mut save = tokio::time::interval(SAVE_EVERY);
    loop {
        tokio::select! {
            reason = running.node.wait() => {
                save_known(running, true);
                if reason.exit_code() == 0 {
                    return Exit::Ok;
                }
                tracing::error!(%reason, "the node gave up");
                return Exit::GaveUp;
            }
            signal = signals.next() => match signal {
                Signal::Reload => {
                    if let Err(failure) = running.reload().await {
                        tracing::error!(%failure, "the configuration was not taken over");
                    }
                }
                Signal::Stop => return stop(running, signals, drain).await,
            },
            _ = save.tick() => save_known(running, false),
        }
    }
}

/// Ends the node in good order, or at once when a second signal asks for it.
async fn stop(running: &Running, signals: &mut Signals, drain: Duration) -> Exit {
    tracing::info!(?drain, "stopping: delivering what was accepted; a second signal stops at once");
    let ended = async {
        // The peer's word that a file is stored comes back over the session: it has to stand until then.
        let begun = clock::now();
        let _ = tokio::time::timeout(drain, running.files_sent()).await;
        running.node.shutdown(drain.saturating_sub(clock::now().saturating_duration_since(begun))).await
    };
    tokio::pin!(ended);
    loop {
        tokio::select! {
            reason = &mut ended => {
                save_known(running, true);
                tracing::info!(%reason, "stopped");
                return Exit::Ok;
            }
            signal = signals.next() => {
                if signal == Signal::Stop {
                    tracing::warn!("stopped at once: what was not delivered is lost");
                    save_known(running, true);
                    return Exit::False;
                }
            }
        }
    }
}

/// Where what is known of peers is kept.
fn known_file(loaded: &Loaded) -> PathBuf {
    loaded.state_dir().join("peers.json")
}

/// Saves what is known of peers when it has changed; at the end also when nothing but scores has.
fn save_known(running: &Running, at_end: bool) {
    let services = running.node.services();
    let mut trust = services.trust.borrow_mut();
    let changed = if at_end { trust.take_changed() } else { trust.take_unsaved() };
    if changed && let Err(error) = trust.snapshot().save(&known_file(&running.loaded.borrow())) {
        tracing::error!(%error, "what is known of peers was not saved");
        trust.keep_unsaved();
    }
}

/// Refuses to start where a node runs already.
async fn refuse_second(socket: &Path) -> Result<(), Failure> {
    let asked = async {
        let client = Client::connect(socket).await?;
        client.call::<NodeReport>(Method::GET, "/v1/node", Content::Nothing, None).await
    };
    match tokio::time::timeout(ALIVE_WITHIN, asked).await {
        Ok(Ok(report)) => {
            Err(Failure::new(Exit::False, format_args!("a node runs already, with pid {}", report.pid)).hint(
                format_args!("it listens on {}; another one needs its own --socket and --state-dir", socket.display()),
            ))
        }
        Ok(Err(failure)) if failure.exit == Exit::Permission => Err(failure),
        // Nobody, or something that is no node: a socket left behind is replaced.
        Ok(Err(_)) => Ok(()),
        Err(_) => Err(Failure::new(Exit::False, format_args!("something at {} does not answer", socket.display()))
            .hint("stop it, or name another --socket")),
    }
}

fn make_private_dir(path: &Path) -> Result<(), Failure> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path).map_err(|error| {
        Failure::at(path, &error, Exit::Configuration).hint("name another place with --state-dir or identity.state_dir")
    })?;
    refuse_shared(path)
}

/// Refuses a folder that others may write into, or whose owner may let them: who can replace a key decides who this node is.
#[cfg(unix)]
fn refuse_shared(folder: &Path) -> Result<(), Failure> {
    use std::os::unix::fs::MetadataExt as _;
    const WRITABLE_BY_OTHERS: u32 = 0o022;
    let found = std::fs::metadata(folder).map_err(|error| Failure::at(folder, &error, Exit::Configuration))?;
    let refused = |what: &str| Failure::new(Exit::Permission, format_args!("{} {what}", folder.display()));
    if ![0, rustix::process::geteuid().as_raw()].contains(&found.uid()) {
        return Err(
            refused("belongs to somebody else").hint("name another place with --state-dir or identity.state_dir")
        );
    }
    if found.mode() & WRITABLE_BY_OTHERS != 0 {
        let mode = format!("can be written by others (mode {:04o})", found.mode() & 0o7777);
        return Err(refused(&mode).hint(format_args!("run: chmod 700 '{}'", folder.display())));
    }
    Ok(())
}

#[cfg(not(unix))]
fn refuse_shared(_: &Path) -> Result<(), Failure> {
    Ok(())
}

/// Keeps a second node away from the same state: two nodes with one name would take each other's messages.
fn lock(state: &Path) -> Result<File, Failure> {
    let path = state.join("lock");
    let failed = |error: &std::io::Error| Failure::at(&path, error, Exit::Configuration);
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&path).map_err(|error| failed(&error))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            // The number is for the message only.
            let _ = file.take(32).read_to_string(&mut pid);
            let message = format!("a node runs already with the state in {}, with pid {}", state.display(), pid.trim());
            return Err(Failure::new(Exit::False, message).hint("another one needs its own --state-dir"));
        }
        Err(TryLockError::Error(error)) => return Err(failed(&error)),
    }
    let written = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| writeln!(file, "{}", std::process::id()));
    written.map_err(|error| failed(&error))?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Makes an actor of the root's panic again and again.
    async fn crash(node: &node::Node) -> Exit {
        let mut ticks = tokio::time::interval(Duration::from_millis(5));
        loop {
            ticks.tick().await;
            // Between two lives there is nobody to kill.
            let _ = node.kill("journal").await;
        }
    }

    #[test]
    fn a_node_whose_tree_gives_up_ends_with_70() {
        bowline_actors::supervision::report_contained_panics_quietly();
        let home = tempfile::tempdir().unwrap();
        let set = [
            format!("identity.state_dir={}", home.path().display()),
            format!("control.socket={}", home.path().join("socket").display()),
            "listen.addresses=[]".to_owned(),
        ];
        let global = Global {
            config: Some("/dev/null".into()),
            set: set.to_vec(),
            socket: None,
            json: false,
            timeout: None,
            verbose: 0,
            quiet: true,
        };
        let exit = global.block_on(async {
            let loaded = global.load()?;
            let log = telemetry::start_log(&loaded.config.log, telemetry::LogWishes::default())?;
            let started = start(loaded, &global, log).await?;
            let mut signals = Signals::new().map_err(|error| Failure::new(Exit::GaveUp, error))?;
            Ok(tokio::select! {
                exit = supervise(&started, &mut signals, Duration::ZERO) => exit,
                exit = crash(&started.running.node) => exit,
            })
        });
        assert_eq!(exit, Ok(Exit::GaveUp));
        assert_eq!(Exit::GaveUp as u8, 70);
        assert!(!home.path().join("socket").exists());
    }
}
