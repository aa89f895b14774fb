//! The actor that serves peers: it gets the streams they open and the messages they send.
//!
//! Child of `app`, permanent. A restart forgets nothing: what is allowed is in the shared state; transfers under way break off.

use std::sync::Arc;

use actix::{Actor, AsyncContext as _, Handler, WrapFuture as _};
use bowline_actors::session::stream::{IncomingStream, SessionStream};
use bowline_actors::supervision::Context;
use bowline_messages::PeerId;
use bowline_messages::session::Inbox;
use tokio::io::AsyncWriteExt as _;

use super::label::{Consent, Label, write_answer};
use super::state::{Kind, ServiceState};
use super::{file, forward};
use crate::control::protocol::FileEventKind;

/// Serves peers.
pub(crate) struct ServicesActor {
    state: Arc<ServiceState>,
}

impl ServicesActor {
    /// An actor that does what the state allows.
    pub(crate) fn new(state: Arc<ServiceState>) -> Self {
        Self { state }
    }
}

impl Actor for ServicesActor {
    type Context = Context<Self>;
}

impl Handler<Inbox> for ServicesActor {
    type Result = ();

    fn handle(&mut self, inbox: Inbox, _: &mut Self::Context) {
        tracing::debug!(peer = %inbox.peer.short(), messages = inbox.messages.len(), "messages arrived");
        self.state.tell_listeners(&inbox);
    }
}

impl Handler<IncomingStream> for ServicesActor {
    type Result = ();

    fn handle(&mut self, incoming: IncomingStream, ctx: &mut Self::Context) {
        let state = self.state.clone();
        ctx.spawn(serve(state, incoming.peer, incoming.label.to_vec(), incoming.stream).into_actor(self));
    }
}

/// Serves one stream to its end.
async fn serve(state: Arc<ServiceState>, peer: PeerId, label: Vec<u8>, mut stream: SessionStream) {
    let Some(label) = Label::decode(&label) else {
        stream.reset("nobody here knows what this stream is for");
        return;
    };
    let kind = match &label {
        Label::Echo => Kind::Echo,
        Label::File { .. } => Kind::File,
        Label::Forward { .. } => Kind::Forward,
    };
    let Some(_permit) = state.permit(kind, peer) else {
        refuse(
            stream,
            match kind {
                Kind::Echo => "it answers as many of your pings as it does at once",
                Kind::File => {
                    "it receives as many files as it does at once, from you or from all; try again when one is done"
                }
                Kind::Forward => "as many of your connections are open there as may be",
            },
        )
        .await;
        return;
    };
    match label {
        Label::Echo => echo(stream).await,
        Label::File { name, bytes } => receive(&state, peer, &name, bytes, stream).await,
        Label::Forward { port } => connect(&state, peer, port, stream).await,
    }
}

async fn echo(stream: SessionStream) {
    let (mut reader, mut writer) = tokio::io::split(stream);
    // The other side has ended it, one way or the other.
    if tokio::io::copy(&mut reader, &mut writer).await.is_ok() {
        let _ = writer.shutdown().await;
    }
}

async fn refuse(mut stream: SessionStream, why: &str) {
    let refusal = Consent::Refused(why.to_owned());
    if write_answer(&mut stream, &refusal).await.is_ok() {
        finish(stream).await;
    }
}

/// Ends this side's half and waits until the peer has read everything, so that the end is not taken for a reset.
async fn finish(mut stream: SessionStream) {
    if stream.shutdown().await.is_ok() {
        // The session has ended; nobody is there to be told.
        let _ = stream.delivered().await;
    }
}

async fn receive(state: &ServiceState, peer: PeerId, name: &str, announced: Option<u64>, mut stream: SessionStream) {
    let Some(reception) = state.reception() else {
        refuse(stream, "it does not receive files now; `bowline receive` over there makes it").await;
        return;
    };
    reception.tell(peer, name, FileEventKind::Begun { bytes: announced }).await;
    let progress = |bytes| reception.tell_progress(peer, name, bytes);
    let received = file::receive(&mut stream, name, announced, &reception.rules, progress).await;
    let event = match received {
        Ok(stored) => {
            tracing::info!(peer = %peer.short(), path = %stored.path.display(), bytes = stored.bytes, "file received");
            metrics::counter!("bowline_files_received_total").increment(1);
            metrics::counter!("bowline_file_bytes_received_total").increment(stored.bytes);
            FileEventKind::Stored { path: stored.path, bytes: stored.bytes, blake3: stored.digest.to_hex().to_string() }
        }
        Err(error) => {
            tracing::warn!(peer = %peer.short(), %error, "a file was not received");
            FileEventKind::Failed { reason: error.to_string() }
        }
    };
    reception.tell(peer, name, event).await;
    // One that never reads the answer does not keep its place for it.
    let _ = tokio::time::timeout(reception.rules.stall, finish(stream)).await;
}

async fn connect(state: &ServiceState, peer: PeerId, port: u16, mut stream: SessionStream) {
    let Some(rule) = state.forward_rule(peer, port) else {
        tracing::warn!(peer = %peer.short(), port, "a peer asked for a port that it may not reach");
        refuse(stream, &format!("port {port} is not allowed for you over there")).await;
        return;
    };
    metrics::counter!("bowline_forwarded_connections_total", "direction" => "in").increment(1);
    match forward::serve(&mut stream, &rule).await {
        Ok((received, sent)) => {
            tracing::debug!(peer = %peer.short(), port, received, sent, "forwarded connection done")
        }
        Err(error) => tracing::debug!(peer = %peer.short(), port, %error, "forwarded connection broke"),
    }
    finish(stream).await;
}
