//! Two nodes in one program, exchanging a message: `cargo run -p bowline --example embed`.
#![allow(clippy::print_stdout)]

use std::time::Duration;

use actix::{Actor, Handler};
use bowline::Node;
use bowline::actors::supervision::{ChildSpec, Context};
use bowline::messages::MessageClass;
use bowline::messages::config::TrustPolicy;
use bowline::messages::session::{Inbox, Outgoing, ReceiptState};

/// An ordinary actor, supervised by its node: it prints what peers send.
struct Printer;

impl Actor for Printer {
    type Context = Context<Self>;
}

impl Handler<Inbox> for Printer {
    type Result = ();

    fn handle(&mut self, inbox: Inbox, _: &mut Self::Context) {
        for message in inbox.messages {
            println!("{} says: {}", inbox.peer.short(), String::from_utf8_lossy(&message.payload));
        }
    }
}

async fn talk() -> Result<ReceiptState, Box<dyn std::error::Error>> {
    // One node listens, and hands messages to an actor of ours that runs in its supervision tree.
    let (child, printer) = ChildSpec::new("printer", || Printer);
    let listener = Node::builder()
        .listen("tcp://127.0.0.1:0".parse()?)
        .trust(TrustPolicy::Open)
        .inbox(printer.recipient())
        .child(child)
        .start()
        .await?;

    // The other one connects to it by its id, wherever it is, and sends. The receipt says what became of the message.
    let speaker = Node::builder().start().await?;
    let session = speaker.connect(listener.id(), listener.listening().to_vec()).await?;
    let receipt = session.send(Outgoing::new(MessageClass::Critical, "hello"))?;
    let state = receipt.settled().await;

    for node in [speaker, listener] {
        node.shutdown(Duration::from_secs(1)).await;
    }
    Ok(state)
}

/// Runs both nodes on one thread.
pub fn main() {
    let state = actix::System::new().block_on(async {
        let talked = tokio::time::timeout(Duration::from_secs(20), talk()).await;
        talked.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
    });
    println!("the message is {state:?}");
    assert_eq!(state, Ok::<_, String>(ReceiptState::Acknowledged));
}
