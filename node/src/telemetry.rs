//! The log and the metrics of the process.

use std::io::IsTerminal as _;

use actix::{Actor, Handler};
use bowline_actors::supervision::Context;
use bowline_messages::config::{LogConfig, LogFormat};
use bowline_messages::link::ShiftReason;
use bowline_messages::{Event, EventKind};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _, Registry};

use crate::config::Loaded;
use crate::exit::{Exit, Failure};

/// Bounds of the buckets of durations, in seconds.
const SECONDS: [f64; 14] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// What besides the configuration says how much is logged. Taken once: it holds for the whole life of the process.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct LogWishes {
    /// How often `-v` was given: 1 is debug, 2 is trace.
    pub(crate) verbose: u8,
    /// Whether `-q` was given.
    pub(crate) quiet: bool,
    /// Whether `--set log.filter=…` was given.
    pub(crate) filter_set: bool,
    /// `RUST_LOG`.
    pub(crate) environment: Option<String>,
}

impl LogWishes {
    /// The wishes of a command line and of the environment of this process. An empty `RUST_LOG` is none.
    pub(crate) fn new(verbose: u8, quiet: bool, assignments: &[String]) -> Self {
        let key = |assignment: &String| assignment.split('=').next().is_some_and(|key| key.trim() == "log.filter");
        let environment = std::env::var("RUST_LOG").ok().filter(|filter| !filter.trim().is_empty());
        Self { verbose, quiet, filter_set: assignments.iter().any(key), environment }
    }

    /// The filter in force: flags before the environment before the configuration, into which `--set` has gone already.
    fn filter<'a>(&'a self, configured: &'a str) -> &'a str {
        match (self.verbose, self.quiet, self.filter_set, &self.environment) {
            (1, _, _, _) => "info,bowline=debug,bowline_actors=debug,bowline_messages=debug",
            (2.., _, _, _) => "info,bowline=trace,bowline_actors=trace,bowline_messages=trace",
            (0, true, _, _) => "error",
            (0, false, false, Some(environment)) => environment,
            (0, false, true, _) | (0, false, false, None) => configured,
        }
    }
}

/// Changes what is logged while the process runs.
#[derive(Clone)]
pub(crate) struct LogControl {
    filter: reload::Handle<EnvFilter, Registry>,
    wishes: LogWishes,
}

impl LogControl {
    /// Logs as a configuration says from now on, unless a flag or `RUST_LOG` has the say.
    ///
    /// # Errors
    /// [`Exit::Configuration`] when its filter is malformed.
    pub(crate) fn set(&self, loaded: &Loaded) -> Result<(), Failure> {
        let parsed = parse(self.wishes.filter(&loaded.config.log.filter))?;
        self.filter.reload(parsed).map_err(|error| Failure::new(Exit::GaveUp, error))
    }
}

fn parse(filter: &str) -> Result<EnvFilter, Failure> {
    // The HTTP server's remarks about its workers are of no use to whoever runs a node; what the filter says of it wins.
    EnvFilter::try_new(format!("actix_server=warn,{filter}"))
        .map_err(|error| Failure::new(Exit::Configuration, format_args!("log.filter: {error}")))
}

/// Starts logging to the standard error stream.
///
/// # Errors
/// [`Exit::Configuration`] when a filter is malformed.
pub(crate) fn start_log(config: &LogConfig, wishes: LogWishes) -> Result<LogControl, Failure> {
    let (filter, control) = reload::Layer::new(parse(wishes.filter(&config.filter))?);
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let lines = if is_json(config.format) {
        lines.json().flatten_event(true).boxed()
    } else {
        let colour =
            std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        lines.with_ansi(colour).with_target(false).boxed()
    };
    // Another log is there already only where a program embeds this one; then that one stays.
    let _ = tracing_subscriber::registry().with(filter).with(lines).try_init();
    Ok(LogControl { filter: control, wishes })
}

fn is_json(format: LogFormat) -> bool {
    match format {
        LogFormat::Json => true,
        LogFormat::Text => false,
        LogFormat::Auto => {
            let managed = ["JOURNAL_STREAM", "INVOCATION_ID"].iter().any(|name| std::env::var_os(name).is_some());
            managed && !std::io::stderr().is_terminal()
        }
    }
}

/// Starts counting for `/metrics`. `None` when another recorder is there already.
pub(crate) fn start_metrics() -> Option<PrometheusHandle> {
    let builder = PrometheusBuilder::new().set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &SECONDS).ok()?;
    let handle = builder.install_recorder().ok()?;
    describe();
    Some(handle)
}

/// What each metric means, for the `# HELP` lines.
fn describe() {
    use metrics::{describe_counter, describe_gauge, describe_histogram};
    describe_gauge!("bowline_build_info", "Always 1; the version is a label.");
    describe_gauge!("bowline_sessions", "Sessions, by whether a link carries them now.");
    describe_gauge!("bowline_links", "Links, by transport and state.");
    describe_gauge!("bowline_queue_messages", "Messages accepted and not final, over all sessions.");
    describe_gauge!("bowline_queue_bytes", "Bytes of messages accepted and not final, over all sessions.");
    describe_gauge!("bowline_listeners", "Addresses the node listens on.");
    describe_gauge!("bowline_uptime_seconds", "Time since the node started.");
    describe_counter!("bowline_failovers_total", "Failovers that were completed.");
    describe_histogram!(
        "bowline_failover_seconds",
        "From the failure of a link to the first acknowledgement on another."
    );
    describe_counter!("bowline_proactive_failovers_total", "Links that traffic left because they were about to fail.");
    describe_counter!("bowline_common_causes_total", "Times that links over one interface or medium fell together.");
    describe_counter!("bowline_local_doubts_total", "Times that the node doubted itself: it was not running in time.");
    describe_counter!("bowline_link_steps_total", "Steps in the lives of links, by the state they lead to.");
    describe_counter!("bowline_health_findings_total", "Findings about links, by layer of detection and transport.");
    describe_counter!("bowline_health_reports_dropped_total", "Reports of sessions that found no room in a monitor.");
    describe_counter!("bowline_late_timers_total", "Timers of sessions that fired so late that links were not judged.");
    describe_gauge!("bowline_link_latency_seconds", "Median latency of links with traffic, the mean by transport.");
    describe_gauge!("bowline_link_loss_ratio", "Share of samples missed on links with traffic, the mean by transport.");
    describe_gauge!("bowline_link_jitter_seconds", "Jitter of links with traffic, the mean by transport.");
    describe_gauge!("bowline_link_stability_ratio", "How steady links with traffic are, the mean by transport.");
    describe_gauge!("bowline_link_score_ratio", "The best score of a link, by transport and class: 0 to 1.");
    describe_gauge!("bowline_links_advised", "Links with traffic, by transport and advice: keep, mistrust, leave.");
    describe_counter!("bowline_links_up_total", "Links that joined a session, by transport.");
    describe_counter!("bowline_dials_failed_total", "Dials that failed, by transport.");
    describe_counter!("bowline_traffic_shifts_total", "Steps of traffic that moves to another link, by reason.");
    describe_counter!("bowline_failovers_stalled_total", "Failures of a link when no other was there to take over.");
    describe_counter!("bowline_messages_moved_total", "Messages that failovers sent again over another link.");
    describe_counter!(
        "bowline_messages_quarantined_total",
        "Messages that were set aside because a handler panicked over them."
    );
    describe_counter!("bowline_connections_refused_total", "Inbound connections that were refused.");
    describe_counter!("bowline_actor_restarts_total", "Actors restarted by their supervisors.");
    describe_counter!("bowline_events_dropped_total", "Events that found no room in the journal.");
    describe_counter!("bowline_files_received_total", "Files received completely.");
    describe_counter!("bowline_file_bytes_received_total", "Bytes of files received completely.");
    describe_counter!("bowline_forwarded_connections_total", "Forwarded connections, by direction.");
}

/// Counts events for `/metrics`. Child of `app`; it keeps nothing.
#[derive(Debug, Default)]
pub(crate) struct EventCounter;

/// A variant without content as a label.
fn word(value: &impl std::fmt::Debug) -> String {
    format!("{value:?}").to_lowercase()
}

impl Actor for EventCounter {
    type Context = Context<Self>;
}

impl Handler<Event> for EventCounter {
    type Result = ();

    fn handle(&mut self, event: Event, _: &mut Self::Context) {
        let count = |name: &'static str| metrics::counter!(name).increment(1);
        match event.kind {
            EventKind::LinkUp { link, .. } => {
                metrics::counter!("bowline_links_up_total", "transport" => link.transport.to_string()).increment(1);
            }
            EventKind::DialFailed { address, .. } => {
                metrics::counter!("bowline_dials_failed_total", "transport" => address.kind().to_string()).increment(1);
            }
            EventKind::FailoverCompleted { took, messages_moved, .. } => {
                count("bowline_failovers_total");
                metrics::histogram!("bowline_failover_seconds").record(took.as_secs_f64());
                metrics::counter!("bowline_messages_moved_total").increment(messages_moved);
            }
            EventKind::ConnectionRefused { .. } => count("bowline_connections_refused_total"),
            EventKind::PeerLimited { .. } => count("bowline_peers_limited_total"),
            EventKind::ChildRestarted { .. } => count("bowline_actor_restarts_total"),
            EventKind::FailoverStalled { .. } => count("bowline_failovers_stalled_total"),
            EventKind::MessageQuarantined { .. } => count("bowline_messages_quarantined_total"),
            EventKind::ProactiveFailover { .. } => count("bowline_proactive_failovers_total"),
            EventKind::TrafficShifted { reason, .. } => {
                let reason = match reason {
                    ShiftReason::Leaving => "leaving",
                    ShiftReason::Preferred => "preferred",
                    ShiftReason::AsGood { .. } => "as_good",
                    ShiftReason::TimeUp { .. } => "time_up",
                    ShiftReason::Worse { .. } => "worse",
                    ShiftReason::OldDied => "old_died",
                    ShiftReason::NewDied => "new_died",
                    ShiftReason::Superseded { .. } => "superseded",
                    ShiftReason::Returned => "returned",
                };
                metrics::counter!("bowline_traffic_shifts_total", "reason" => reason).increment(1);
            }
            EventKind::CommonCause { .. } => count("bowline_common_causes_total"),
            EventKind::LocalDoubt { .. } => count("bowline_local_doubts_total"),
            EventKind::LinkStep { to, .. } => {
                let state = format!("{to:?}").to_lowercase();
                metrics::counter!("bowline_link_steps_total", "to" => state).increment(1);
            }
            EventKind::MigrationCompleted { took, .. } => {
                metrics::counter!("bowline_migrations_total", "result" => "completed").increment(1);
                metrics::histogram!("bowline_migration_seconds").record(took.as_secs_f64());
            }
            EventKind::MigrationRolledBack { .. } => {
                metrics::counter!("bowline_migrations_total", "result" => "rolled_back").increment(1);
            }
            EventKind::MigrationTransferred { bytes, packed_bytes, .. } => {
                metrics::counter!("bowline_migration_bytes_total").increment(bytes);
                metrics::counter!("bowline_migration_packed_bytes_total").increment(packed_bytes);
            }
            EventKind::RepairEnded { repair, outcome, .. } => {
                let labels = [("repair", word(&repair)), ("outcome", word(&outcome))];
                metrics::counter!("bowline_repairs_total", &labels).increment(1);
            }
            EventKind::Unrepairable { .. } => count("bowline_unrepairable_total"),
            EventKind::RepairStarted { .. }
            | EventKind::MigrationStarted { .. }
            | EventKind::MigrationCaptured { .. }
            | EventKind::MigrationVerified { .. }
            | EventKind::Listening { .. }
            | EventKind::ListenFailed { .. }
            | EventKind::SessionUp { .. }
            | EventKind::SessionDown { .. }
            | EventKind::PeerRestarted { .. }
            | EventKind::FailoverStarted { .. }
            | EventKind::LinkPreferred { .. }
            | EventKind::ChildExited { .. }
            | EventKind::InterfaceChanged { .. }
            | EventKind::HealingMeasured { .. }
            // The actors of the network and of the group count these themselves, or show what stands.
            | EventKind::Partition { .. }
            | EventKind::TopologyAlertRaised { .. }
            | EventKind::TopologyAlertCleared { .. }
            | EventKind::HealingLink { .. }
            | EventKind::Membership { .. }
            | EventKind::TwoFaced { .. } => {}
            #[allow(
                clippy::wildcard_enum_match_arm,
                reason = "kinds that come later are counted once they have a metric"
            )]
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_win_over_the_environment_over_the_configuration() {
        let filter = |verbose, quiet, filter_set, environment: Option<&str>| {
            let wishes = LogWishes { verbose, quiet, filter_set, environment: environment.map(str::to_owned) };
            wishes.filter("configured").to_owned()
        };
        assert_eq!(filter(0, false, false, None), "configured");
        assert_eq!(filter(0, false, false, Some("warn")), "warn");
        assert_eq!(filter(0, false, true, Some("warn")), "configured", "`--set` is a flag");
        assert_eq!(filter(0, true, false, Some("warn")), "error");
        assert!(filter(1, false, false, Some("warn")).contains("bowline=debug"));
        assert!(filter(2, false, true, Some("warn")).contains("bowline=trace"));
    }

    #[test]
    fn a_malformed_filter_is_a_mistake_in_the_configuration() {
        assert!(parse("info,bowline=debug").is_ok());
        assert_eq!(parse("info,bowline=loud").err().map(|failure| failure.exit), Some(Exit::Configuration));
    }
}
