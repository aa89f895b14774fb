//! The routes of the control interface. Handlers run on the threads of `actix-web` and do nothing but hand over: what concerns the
//! node happens on its thread ([`Remote`]).

use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::{Server, ServerHandle};
use actix_web::http::StatusCode;
use actix_web::http::header::AUTHORIZATION;
use actix_web::web::{self, Bytes, Data, Json, Payload, Query};
use actix_web::{App, HttpResponse, HttpServer, Resource, Route, guard};
use futures_util::future::Either;
use futures_util::{StreamExt as _, stream};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::protocol::{
    BroadcastAsked, ErrorReport, ForwardAsked, PeerAsked, PingAsked, ReceiveAsked, ReceiveLine, SendAsked, TrustAsked,
};
use super::remote::Remote;
use super::socket::ControlListener;
use super::{events, forwards, transfers};
use crate::exit::{Exit, Failure};
use crate::notebook::NotebookCommand;
use crate::services::file;
use crate::services::state::ServiceState;

/// Bytes of a JSON request, at most.
const REQUEST_BYTES_MAX: usize = 256 * 1024;
/// Blocks of a file that wait between the socket and the session.
const BLOCKS_WAITING: usize = 4;
/// How long requests under way are given when the node ends.
const STOP_TIMEOUT: Duration = Duration::from_secs(1);

/// What every handler can reach.
#[derive(Clone)]
pub(crate) struct Shared {
    /// The node's thread.
    pub(crate) remote: Remote,
    /// What the node does for its peers.
    pub(crate) services: Arc<ServiceState>,
}

/// Serves the control interface until it is stopped by the handle.
///
/// # Errors
/// Those of the operating system.
pub(crate) fn serve(listener: ControlListener, shared: Shared) -> std::io::Result<(Server, ServerHandle)> {
    let token = listener.token.map(|token| format!("Bearer {token}"));
    let server = HttpServer::new(move || {
        App::new()
            .app_data(Data::new(shared.clone()))
            .app_data(web::JsonConfig::default().limit(REQUEST_BYTES_MAX).error_handler(|error, _| malformed(&error)))
            .app_data(web::QueryConfig::default().error_handler(|error, _| malformed(&error)))
            .service(scope(token.clone()))
    })
    .workers(1)
    .shutdown_timeout(STOP_TIMEOUT.as_secs())
    .disable_signals();
    #[cfg(unix)]
    let server = server.listen_uds(listener.listener)?;
    #[cfg(not(unix))]
    let server = server.listen(listener.listener)?;
    let server = server.run();
    let handle = server.handle();
    Ok((server, handle))
}

fn scope(token: Option<String>) -> actix_web::Scope {
    let at = |path: &str, route: Route| Resource::new(path).route(route);
    web::scope("/v1")
        .guard(guard::fn_guard(move |context| match &token {
            Some(token) => {
                context.head().headers().get(AUTHORIZATION).is_some_and(|shown| shown.as_bytes() == token.as_bytes())
            }
            None => true,
        }))
        .service(at("/node", web::get().to(node)))
        .service(at("/status", web::get().to(status)))
        .service(at("/peers", web::get().to(peers)))
        .service(at("/topology", web::get().to(topology)))
        .service(at("/members", web::get().to(members)))
        .service(at("/group", web::get().to(group)).route(web::post().to(note)))
        .service(at("/group/pardon", web::post().to(pardon)))
        .service(at("/why", web::get().to(why)))
        .service(at("/tree", web::get().to(tree)))
        .service(at("/events", web::get().to(watch)))
        .service(at("/trust", web::get().to(trust)))
        .service(at("/trust/readmit", web::post().to(readmit)))
        .service(at("/trust/forget", web::post().to(forget)))
        .service(at("/connect", web::post().to(connect)))
        .service(at("/ping", web::post().to(ping)))
        .service(at("/send", web::post().to(send)))
        .service(at("/receive", web::post().to(receive)))
        .service(at("/forward", web::post().to(forward)))
        .service(at("/broadcast", web::post().to(broadcast)))
        .service(at("/reload", web::post().to(reload)))
}

fn malformed(error: &dyn std::fmt::Display) -> actix_web::Error {
    let failure = Failure::new(Exit::Usage, format_args!("the request is malformed: {error}"));
    actix_web::error::InternalError::from_response("malformed request", failed(failure)).into()
}

/// An answer that says why there is none.
fn failed(failure: Failure) -> HttpResponse {
    let status = match failure.exit {
        Exit::Ok => StatusCode::OK,
        Exit::False => StatusCode::CONFLICT,
        Exit::Usage => StatusCode::BAD_REQUEST,
        Exit::TimedOut => StatusCode::GATEWAY_TIMEOUT,
        Exit::NodeNotReachable => StatusCode::SERVICE_UNAVAILABLE,
        Exit::GaveUp => StatusCode::INTERNAL_SERVER_ERROR,
        Exit::Permission => StatusCode::FORBIDDEN,
        Exit::Configuration => StatusCode::UNPROCESSABLE_ENTITY,
    };
    HttpResponse::build(status).json(ErrorReport::from(failure))
}

fn answer(result: Result<impl Serialize, Failure>) -> HttpResponse {
    match result {
        Ok(value) => HttpResponse::Ok().json(value),
        Err(failure) => failed(failure),
    }
}

/// An answer of one JSON value a line, as they come, until the sender is dropped.
fn lines<T: Serialize + 'static>(values: mpsc::Receiver<Result<T, Failure>>) -> HttpResponse {
    let lines = stream::unfold(values, |mut values| async { Some((values.recv().await?, values)) }).map(|value| {
        let json = match value {
            Ok(value) => serde_json::to_vec(&value),
            Err(failure) => serde_json::to_vec(&ErrorReport::from(failure)),
        };
        let mut line = json.map_err(actix_web::error::ErrorInternalServerError)?;
        line.push(b'\n');
        Ok::<_, actix_web::Error>(Bytes::from(line))
    });
    HttpResponse::Ok().content_type("application/x-ndjson").streaming(lines)
}

async fn node(shared: Data<Shared>) -> HttpResponse {
    answer(shared.remote.run(|running| async move { running.report().await }).await)
}

async fn status(shared: Data<Shared>) -> HttpResponse {
    answer(shared.remote.run(|running| async move { running.status().await }).await)
}

async fn peers(shared: Data<Shared>) -> HttpResponse {
    answer(shared.remote.run(|running| async move { running.peers().await }).await)
}

#[derive(Deserialize)]
struct WhyAsked {
    peer: String,
}

async fn why(shared: Data<Shared>, Query(asked): Query<WhyAsked>) -> HttpResponse {
    answer(shared.remote.run(move |running| async move { running.why(&asked.peer).await }).await)
}

async fn topology(shared: Data<Shared>) -> HttpResponse {
    answer(shared.remote.run(|running| async move { running.topology().await }).await)
}

async fn members(shared: Data<Shared>) -> HttpResponse {
    answer(shared.remote.run(|running| async move { running.members().await }).await)
}

async fn group(shared: Data<Shared>) -> HttpResponse {
    answer(shared.remote.run(|running| async move { running.group_status().await }).await)
}

async fn note(shared: Data<Shared>, Json(command): Json<NotebookCommand>) -> HttpResponse {
    answer(shared.remote.run(move |running| async move { running.note(command).await }).await)
}

async fn pardon(shared: Data<Shared>, Json(asked): Json<TrustAsked>) -> HttpResponse {
    answer(shared.remote.run(move |running| async move { running.pardon(&asked).await }).await)
}

async fn tree(shared: Data<Shared>) -> HttpResponse {
    answer(shared.remote.run(|running| async move { running.tree().await }).await)
}

async fn trust(shared: Data<Shared>) -> HttpResponse {
    answer(shared.remote.run(|running| async move { Ok(running.trust()) }).await)
}

async fn readmit(shared: Data<Shared>, Json(asked): Json<TrustAsked>) -> HttpResponse {
    answer(shared.remote.run(move |running| async move { running.readmit(&asked.peer).await }).await)
}

async fn forget(shared: Data<Shared>, Json(asked): Json<TrustAsked>) -> HttpResponse {
    answer(shared.remote.run(move |running| async move { running.forget(&asked.peer).await }).await)
}

async fn connect(shared: Data<Shared>, Json(asked): Json<PeerAsked>) -> HttpResponse {
    answer(shared.remote.run(move |running| async move { running.connect(&asked).await }).await)
}

async fn broadcast(shared: Data<Shared>, Json(asked): Json<BroadcastAsked>) -> HttpResponse {
    answer(shared.remote.run(move |running| async move { running.broadcast(asked).await }).await)
}

async fn reload(shared: Data<Shared>) -> HttpResponse {
    answer(shared.remote.run(|running| async move { running.reload().await }).await)
}

async fn watch(shared: Data<Shared>) -> HttpResponse {
    match events::watch(&shared).await {
        Ok(values) => lines(values),
        Err(failure) => failed(failure),
    }
}

async fn ping(shared: Data<Shared>, Json(asked): Json<PingAsked>) -> HttpResponse {
    let (pongs, values) = mpsc::channel(1);
    let remote = shared.remote.clone();
    actix_rt::spawn(async move {
        let reports = pongs.clone();
        let done = remote.run(move |running| async move { transfers::ping(&running, asked, &reports).await }).await;
        if let Err(failure) = done {
            // The command may have gone.
            let _ = pongs.send(Err(failure)).await;
        }
    });
    lines(values)
}

async fn send(shared: Data<Shared>, Query(asked): Query<SendAsked>, mut payload: Payload) -> HttpResponse {
    let peer: PeerAsked = match serde_json::from_str(&asked.peer) {
        Ok(peer) => peer,
        Err(error) => return failed(Failure::new(Exit::Usage, format_args!("the request is malformed: {error}"))),
    };
    let (blocks, file) = mpsc::channel::<std::io::Result<Bytes>>(BLOCKS_WAITING);
    let pump = async move {
        while let Some(block) = payload.next().await {
            let block = block.map_err(std::io::Error::other);
            let failed = block.is_err();
            if blocks.send(block).await.is_err() || failed {
                return;
            }
        }
    };
    let sent = shared.remote.run(move |running| async move { transfers::send(&running, &peer, asked, file).await });
    // A refusal is answered at once: who types or pipes into `bowline send` may have nothing more to say for hours.
    let (sent, pump) = (std::pin::pin!(sent), std::pin::pin!(pump));
    match futures_util::future::select(sent, pump).await {
        Either::Left((sent, _)) => answer(sent),
        Either::Right(((), sent)) => answer(sent.await),
    }
}

async fn receive(shared: Data<Shared>, Json(asked): Json<ReceiveAsked>) -> HttpResponse {
    if !asked.dir.is_absolute() {
        return failed(Failure::new(Exit::Usage, "the folder has to be an absolute path"));
    }
    if let Err(error) = std::fs::create_dir_all(&asked.dir) {
        return failed(Failure::at(&asked.dir, &error, Exit::False));
    }
    file::sweep(asked.dir.clone()).await;
    let files = shared.services.receive(asked.dir.clone(), asked.bytes_max, asked.overwrite);
    let ready = ReceiveLine::Ready { ready: asked.dir };
    let all =
        stream::iter([ready]).chain(stream::unfold(files, |mut files| async { Some((files.recv().await?, files)) }));
    let lines = all.map(|line| {
        let mut line = serde_json::to_vec(&line).map_err(actix_web::error::ErrorInternalServerError)?;
        line.push(b'\n');
        Ok::<_, actix_web::Error>(Bytes::from(line))
    });
    HttpResponse::Ok().content_type("application/x-ndjson").streaming(lines)
}

async fn forward(shared: Data<Shared>, Json(asked): Json<ForwardAsked>) -> HttpResponse {
    match forwards::forward(&shared, asked).await {
        Ok(values) => lines(values),
        Err(failure) => failed(failure),
    }
}
