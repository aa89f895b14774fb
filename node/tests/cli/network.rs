//! The network that nodes make without being told to.

use serde_json::Value;

use crate::support::*;

#[test]
fn nodes_that_connect_see_each_other_in_the_network() {
    let (a, b) = two_nodes("");
    for (node, other) in [(&a, &b), (&b, &a)] {
        until("the other one is a member", || {
            let members = json(node.home(), &["members"]);
            let member = members["members"].as_array().unwrap().iter().find(|known| known["peer"] == other.peer())?;
            (member["state"] == "alive").then_some(())
        });
        let shape = until("the link between them is known", || {
            let shape = stdout(&run(node.home(), &["topology"]));
            shape.contains("2 nodes, 1 link,").then_some(shape)
        });
        assert!(!shape.contains("separates"), "of two nodes none can separate others: {shape}");
        let why = stdout(&run(node.home(), &["why", other.peer()]));
        assert!(!why.contains("through others"), "there is nobody else: {why}");
    }
}

#[test]
fn a_node_alone_listens_where_others_can_dial_and_nowhere_else() {
    let node = Node::start("");
    assert_eq!(stdout(&run(node.home(), &["members"])), "nobody but this node");
    assert!(stdout(&run(node.home(), &["topology"])).contains("1 node, 0 links,"));
    let dialled = |address: &Value| address.as_str().unwrap().starts_with("tcp://127.0.0.1:");
    let (status, ready) = (json(node.home(), &["status"]), &node.ready);
    for addresses in [&status["node"]["listening"], &ready["addresses"]] {
        let addresses = addresses.as_array().unwrap();
        assert!(addresses.len() == 1 && addresses.iter().all(dialled), "{addresses:?}");
    }
    assert!(!node.log().contains("mesh://"), "{}", node.log());
}

#[test]
fn who_does_not_want_to_takes_no_part() {
    let node = Node::start("network.enabled = false\n");
    for command in ["members", "topology"] {
        let none = run(node.home(), &[command]);
        assert_eq!(code(&none), 1);
        assert!(stderr(&none).contains("takes no part") && stderr(&none).contains("network.enabled"), "{none:?}");
    }
}
