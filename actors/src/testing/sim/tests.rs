#![allow(clippy::unwrap_used)]
use super::*;
use bowline_messages::MessageClass;

async fn pair(seed: u64) -> Simulation {
    let simulation = Simulation::new(seed);
    for name in ["a", "b"] {
        simulation.add_node(name).unwrap();
    }
    simulation.add_link("a", "b", "tcp", LinkShape::rtt(Duration::from_millis(20))).unwrap();
    simulation.add_link("a", "b", "ble", LinkShape::rtt(Duration::from_millis(60))).unwrap();
    simulation.start().await.unwrap();
    simulation.run_for(Duration::from_secs(2)).await;
    simulation
}

fn bet(number: u32) -> Outgoing {
    Outgoing::new(MessageClass::Critical, format!("bet {number}"))
}

#[test]
fn a_paused_process_says_nothing_and_goes_on_afterwards() {
    run(async {
        let simulation = pair(1).await;
        simulation.set_paused("b", true).unwrap();
        simulation.send("a", "b", bet(1)).await.unwrap().unwrap();
        simulation.run_for(Duration::from_secs(1)).await;
        assert!(simulation.received("b").unwrap().is_empty());
        simulation.set_paused("b", false).unwrap();
        simulation.run_for(Duration::from_secs(3)).await;
        assert_eq!(simulation.received("b").unwrap().len(), 1, "{}", simulation.log().text());
    });
}

#[test]
fn a_restarted_node_is_another_life_of_the_same_peer() {
    run(async {
        let simulation = pair(2).await;
        let before = simulation.peer_id("b").unwrap();
        simulation.restart("b").await.unwrap();
        simulation.run_for(Duration::from_secs(20)).await;
        assert_eq!(simulation.peer_id("b").unwrap(), before);
        simulation.send("a", "b", bet(1)).await.unwrap().unwrap();
        simulation.run_for(Duration::from_secs(5)).await;
        assert_eq!(simulation.received("b").unwrap().len(), 1, "{}", simulation.log().text());
    });
}

#[test]
fn an_application_that_stops_reading_gets_everything_later() {
    run(async {
        let simulation = pair(3).await;
        simulation.set_reading("b", false).unwrap();
        for number in 0..100 {
            simulation.send("a", "b", bet(number)).await.unwrap().unwrap();
        }
        simulation.run_for(Duration::from_secs(1)).await;
        assert!(simulation.received("b").unwrap().is_empty());
        simulation.set_reading("b", true).unwrap();
        simulation.run_for(Duration::from_secs(1)).await;
        assert_eq!(simulation.received("b").unwrap().len(), 100);
        assert!(simulation.violations().is_empty());
    });
}

#[test]
fn the_same_seed_gives_the_same_log() {
    let log = |seed| {
        run(async move {
            let simulation = pair(seed).await;
            for number in 0..20 {
                simulation.send("a", "b", bet(number)).await.unwrap().unwrap();
                simulation.run_for(Duration::from_millis(5)).await;
                if number == 10 {
                    simulation.kill_actor("b", "session").await.unwrap();
                }
            }
            simulation.run_for(Duration::from_secs(5)).await;
            simulation.log().text()
        })
    };
    assert_eq!(log(4), log(4));
}
