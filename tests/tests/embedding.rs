//! What an embedder writes to test actors of its own: a table that answers bets, below the node's tree, in the simulation's weather.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use actix::{Actor, Context, Handler};
use bowline_actors::node::Application;
use bowline_actors::session::handle::SessionHandle;
use bowline_actors::testing::sim::{self, Direction, LinkShape, Simulation};
use bowline_actors::transport::memory::{Change, Cut};
use bowline_messages::MessageClass;
use bowline_messages::session::{Inbox, Outgoing};

/// Answers every bet.
struct Table {
    player: SessionHandle,
}

impl Actor for Table {
    type Context = Context<Self>;
}

impl Handler<Inbox> for Table {
    type Result = ();

    fn handle(&mut self, inbox: Inbox, _: &mut Self::Context) {
        for bet in inbox.messages {
            let answer = [b"taken: ", &bet.payload[..]].concat();
            self.player.send(Outgoing::new(MessageClass::Critical, answer)).unwrap();
        }
    }
}

#[test]
fn an_embedders_actor_answers_through_a_black_hole() {
    sim::run(async {
        let simulation = Simulation::new(11);
        for name in ["player", "table"] {
            simulation.add_node(name).unwrap();
        }
        for (kind, rtt) in [("tcp", 20), ("ble", 60)] {
            let shape = LinkShape::rtt(Duration::from_millis(rtt));
            simulation.add_link("player", "table", kind, shape).unwrap();
        }
        simulation.start().await.unwrap();
        simulation.run_for(Duration::from_secs(2)).await;

        let player = simulation.session("table", "player").await.unwrap();
        let table = Table { player }.start();
        let services = simulation.handle("table").unwrap().services().clone();
        services.set_application(Application { inbox: Some(table.recipient()), ..Application::default() });

        for bet in 0..100 {
            let message = Outgoing::new(MessageClass::Critical, format!("bet {bet}"));
            simulation.send("player", "table", message).await.unwrap().unwrap();
            if bet == 50 {
                simulation.change("player", "table", "tcp", Direction::Both, &Change::Cut(Cut::Vanish));
            }
            simulation.run_for(Duration::from_millis(10)).await;
        }
        simulation.run_for(Duration::from_secs(3)).await;

        let answers = simulation.received("player").unwrap();
        let texts: Vec<_> = answers.iter().map(|(_, m)| String::from_utf8_lossy(&m.payload).into_owned()).collect();
        assert_eq!(texts, (0..100).map(|bet| format!("taken: bet {bet}")).collect::<Vec<_>>());
        assert_eq!(simulation.violations(), Vec::<String>::new());
    });
}
