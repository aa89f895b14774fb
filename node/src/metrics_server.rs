//! Metrics and health over HTTP, on the address of the configuration.

use std::net::SocketAddr;
use std::time::Duration;

use actix_web::dev::{Server, ServerHandle};
use actix_web::web::{self, Data, Query};
use actix_web::{App, HttpResponse, HttpServer};
use bowline_messages::MessageClass;
use bowline_messages::health::{Advice, Quality};
use metrics::gauge;
use metrics_exporter_prometheus::PrometheusHandle;
use serde::Deserialize;
use serde_json::json;

use crate::control::protocol::StatusReport;
use crate::control::remote::Remote;
use crate::control::report::LinkReport;
use crate::exit::{Exit, Failure};

/// How long the node's thread may take to answer before it counts as stuck.
const ALIVE_WITHIN: Duration = Duration::from_secs(2);

/// The transports that there may be.
const TRANSPORTS: [&str; 6] = ["tcp", "tls", "quic", "ws", "wss", "mesh"];

#[derive(Clone)]
struct Shared {
    remote: Remote,
    metrics: PrometheusHandle,
}

/// Serves `/metrics`, `/livez`, `/readyz` and `/healthz`.
///
/// # Errors
/// [`Exit::Configuration`] when the address cannot be listened on.
pub(crate) fn serve(
    address: SocketAddr,
    remote: Remote,
    metrics: PrometheusHandle,
) -> Result<(Server, ServerHandle), Failure> {
    let shared = Shared { remote, metrics };
    let server = HttpServer::new(move || {
        App::new()
            .app_data(Data::new(shared.clone()))
            .route("/metrics", web::get().to(render))
            .route("/livez", web::get().to(live))
            .route("/readyz", web::get().to(ready))
            .route("/healthz", web::get().to(health))
    })
    .workers(1)
    .shutdown_timeout(1)
    .disable_signals()
    .bind(address)
    .map_err(|error| {
        Failure::new(Exit::Configuration, format_args!("cannot serve metrics on {address}: {error}"))
            .hint("change metrics.listen")
    })?
    .run();
    let handle = server.handle();
    Ok((server, handle))
}

impl Shared {
    async fn status(&self) -> Option<StatusReport> {
        let asked = self.remote.run(|running| async move { running.status().await });
        tokio::time::timeout(ALIVE_WITHIN, asked).await.ok()?.ok()
    }
}

async fn render(shared: Data<Shared>) -> HttpResponse {
    if let Some(status) = shared.status().await {
        sample(&status);
    }
    shared.metrics.run_upkeep();
    HttpResponse::Ok().content_type("text/plain; version=0.0.4; charset=utf-8").body(shared.metrics.render())
}

/// Sets the gauges that are known only by asking.
fn sample(status: &StatusReport) {
    gauge!("bowline_build_info", "version" => status.node.version.clone()).set(1.0);
    gauge!("bowline_uptime_seconds").set(status.node.uptime.as_secs_f64());
    gauge!("bowline_listeners").set(status.node.listening.len() as f64);
    for (connected, state) in [(true, "connected"), (false, "waiting")] {
        let count = status.sessions.iter().filter(|session| session.connected == connected).count();
        gauge!("bowline_sessions", "state" => state).set(count as f64);
    }
    let sum =
        |of: fn(&crate::control::report::SessionReport) -> u64| status.sessions.iter().map(of).sum::<u64>() as f64;
    gauge!("bowline_queue_messages").set(sum(|session| session.queued_messages as u64));
    gauge!("bowline_queue_bytes").set(sum(|session| session.queued_bytes as u64));
    let mut links = std::collections::BTreeMap::<(String, String), u64>::new();
    for link in status.sessions.iter().flat_map(|session| &session.links) {
        *links.entry((link.transport.clone(), format!("{:?}", link.state).to_lowercase())).or_default() += 1;
    }
    // A combination that has gone has to fall to zero, so that the last value is not reported for ever.
    for transport in TRANSPORTS {
        for state in ["initializing", "active", "degraded", "failing", "failed", "recovering", "closed"] {
            links.entry((transport.into(), state.into())).or_default();
        }
    }
    for failed in status.sessions.iter().flat_map(|session| &session.failed) {
        let state = format!("{:?}", failed.state).to_lowercase();
        *links.entry((failed.info.transport.to_string(), state)).or_default() += 1;
    }
    for ((transport, state), count) in links {
        gauge!("bowline_links", "transport" => transport, "state" => state).set(count as f64);
    }
    for transport in TRANSPORTS {
        let links = status.sessions.iter().flat_map(|session| &session.links);
        sample_health(transport, &links.filter(|link| link.transport == transport).collect::<Vec<_>>());
    }
}

/// The health of all links over one transport, and the best score of one of them by class. What was not measured is not a number.
fn sample_health(transport: &'static str, links: &[&LinkReport]) {
    let mean = |of: fn(&Quality) -> Option<f64>| {
        let measured: Vec<f64> = links.iter().filter_map(|link| link.quality.as_ref().and_then(of)).collect();
        if measured.is_empty() { f64::NAN } else { measured.iter().sum::<f64>() / measured.len() as f64 }
    };
    gauge!("bowline_link_latency_seconds", "transport" => transport).set(mean(|q| q.latency_ms) / 1e3);
    gauge!("bowline_link_jitter_seconds", "transport" => transport).set(mean(|q| q.jitter_ms) / 1e3);
    gauge!("bowline_link_loss_ratio", "transport" => transport).set(mean(|q| q.loss));
    gauge!("bowline_link_stability_ratio", "transport" => transport).set(mean(|q| q.stability));
    for class in MessageClass::ALL {
        let of_class = links.iter().flat_map(|link| &link.scores).filter(|score| score.class == class);
        let best = of_class.filter_map(|score| score.score).fold(f64::NAN, f64::max);
        let class = format!("{class:?}").to_lowercase();
        gauge!("bowline_link_score_ratio", "transport" => transport, "class" => class).set(best);
    }
    for (advice, name) in [(Advice::Keep, "keep"), (Advice::Mistrust, "mistrust"), (Advice::Leave, "leave")] {
        let count = links.iter().filter(|link| link.opinion.as_ref().is_some_and(|o| o.advice == advice)).count();
        gauge!("bowline_links_advised", "transport" => transport, "advice" => name).set(count as f64);
    }
}

/// Whether the node's thread turns.
async fn live(shared: Data<Shared>) -> HttpResponse {
    let asked = shared.remote.run(|_| async { Ok(()) });
    match tokio::time::timeout(ALIVE_WITHIN, asked).await {
        Ok(Ok(())) => HttpResponse::Ok().body("ok\n"),
        Ok(Err(_)) | Err(_) => HttpResponse::ServiceUnavailable().body("the node's thread does not answer\n"),
    }
}

/// Whether peers can reach it, or it reaches one.
async fn ready(shared: Data<Shared>) -> HttpResponse {
    match shared.status().await {
        Some(status) if is_ready(&status) => HttpResponse::Ok().body("ok\n"),
        Some(_) => HttpResponse::ServiceUnavailable().body("no listener is open and no peer is connected\n"),
        None => HttpResponse::ServiceUnavailable().body("the node's thread does not answer\n"),
    }
}

fn is_ready(status: &StatusReport) -> bool {
    !status.node.listening.is_empty() || status.sessions.iter().any(|session| session.connected)
}

#[derive(Deserialize)]
struct HealthAsked {
    verbose: Option<String>,
}

async fn health(shared: Data<Shared>, Query(asked): Query<HealthAsked>) -> HttpResponse {
    let status = shared.status().await;
    let ok = status.as_ref().is_some_and(is_ready);
    let mut answer = if ok { HttpResponse::Ok() } else { HttpResponse::ServiceUnavailable() };
    if asked.verbose.is_none() {
        return answer.body(if ok { "ok\n" } else { "not ready\n" });
    }
    let connected = status.as_ref().map(|status| status.sessions.iter().filter(|session| session.connected).count());
    answer.json(json!({
        "schema": "bowline.health/v1",
        "ok": ok,
        "components": {
            "thread": { "ok": status.is_some() },
            "listeners": {
                "ok": status.as_ref().is_some_and(|status| !status.node.listening.is_empty()),
                "open": status.as_ref().map(|status| status.node.listening.len()),
            },
            "sessions": {
                "ok": connected == status.as_ref().map(|status| status.sessions.len()),
                "connected": connected,
                "known": status.as_ref().map(|status| status.sessions.len()),
            },
        },
    }))
}
