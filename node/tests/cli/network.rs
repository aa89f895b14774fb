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

#[test]
fn the_network_of_a_running_node_is_drawn_and_asked_what_a_loss_would_do() {
    let (a, b) = two_nodes("");
    let report = until("the link between them is known", || {
        let report = json(a.home(), &["topology"]);
        (report["graph"]["links"].as_array().unwrap().len() == 1).then_some(report)
    });
    for node in report["graph"]["nodes"].as_array().unwrap() {
        assert_eq!(node["connections"], 1, "{node}");
        assert!(node["last_seen"].is_string() && node["clustering"] == 0.0, "{node}");
    }
    assert!(report["graph"]["links"][0]["last_active"].is_string(), "{report}");
    assert_eq!(report["health"]["topology"]["nodes_elsewhere"], 0);
    let text = stdout(&run(a.home(), &["topology", "--what-if", b.peer()]));
    assert!(text.contains("without ") && text.contains("the other 1 nodes of its component stay connected"), "{text}");
    let loss = &json(a.home(), &["topology", "--what-if", b.peer()])["what_if"];
    assert_eq!((&loss["peer"], &loss["components_after"]), (&b.peer().into(), &1.into()));
    let nobody = run(a.home(), &["topology", "--what-if", "nobody"]);
    assert!(code(&nobody) == 2 && stderr(&nobody).contains("no node of the network is `nobody`"), "{nobody:?}");
    let dot = stdout(&run(a.home(), &["topology", "--dot"]));
    assert!(dot.starts_with("graph") && dot.matches(" -- ").count() == 1, "{dot}");
    let svg = stdout(&run(a.home(), &["topology", "--svg"]));
    assert!(svg.starts_with("<svg") && svg.ends_with("</svg>") && svg.matches("<line").count() == 1, "{svg}");
}
