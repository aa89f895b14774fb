//! What happens in the node, as a stream for `bowline events`.

use actix::{Actor, ActorContext as _, Context, Handler};
use bowline_messages::Event;
use bowline_messages::session::Inbox;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::server::Shared;
use crate::exit::Failure;
use crate::services::state::EVENTS_WAITING;

/// Characters of a message that are shown.
const TEXT_CHARS_MAX: usize = 200;

/// Passes events on until nobody takes them; what there is no room for is left out.
struct Tap {
    sink: mpsc::Sender<Result<Value, Failure>>,
}

impl Actor for Tap {
    type Context = Context<Self>;
}

impl Handler<Event> for Tap {
    type Result = ();

    fn handle(&mut self, event: Event, ctx: &mut Context<Self>) {
        let value = serde_json::to_value(&event).unwrap_or_else(|_| json!({ "event": format!("{event:?}") }));
        if let Err(mpsc::error::TrySendError::Closed(_)) = self.sink.try_send(Ok(value)) {
            ctx.stop();
        }
    }
}

/// Events and messages from now on.
///
/// # Errors
/// Those of the way to the node's thread.
pub(crate) async fn watch(shared: &Shared) -> Result<mpsc::Receiver<Result<Value, Failure>>, Failure> {
    let (sink, values) = mpsc::channel(EVENTS_WAITING);
    let tap = Tap { sink: sink.clone() }.start().recipient();
    let subscribed = shared.remote.run(move |running| async move {
        running.node.subscribe(tap);
        Ok(())
    });
    subscribed.await?;
    let mut messages = shared.services.listen();
    actix_rt::spawn(async move {
        loop {
            tokio::select! {
                () = sink.closed() => return,
                inbox = messages.recv() => match inbox {
                    Some(inbox) => tell(&sink, &inbox),
                    None => return,
                },
            }
        }
    });
    Ok(values)
}

fn tell(sink: &mpsc::Sender<Result<Value, Failure>>, inbox: &Inbox) {
    for message in &inbox.messages {
        let text = std::str::from_utf8(&message.payload).ok();
        let value = json!({
            "event": "message",
            "peer": inbox.peer,
            "channel": message.channel,
            "sequence": message.sequence,
            "class": message.class,
            "bytes": message.payload.len(),
            "text": text.map(|text| text.chars().take(TEXT_CHARS_MAX).collect::<String>()),
        });
        // A slow reader misses some.
        let _ = sink.try_send(Ok(value));
    }
}
