#![allow(clippy::unwrap_used)]
use super::*;

const S: u64 = 1_000_000_000;

/// A move of each life, done; and a ledger on each node that says so.
fn books() -> Books {
    let mut books = Books::default();
    books.on_act(Act::Traffic, Duration::ZERO, 0);
    books.on_effect(S);
    let mut ledger: BTreeMap<String, u64> = (0..NODES).map(|node| (pot(node), 0)).collect();
    for life in 0..LIVES {
        books.on_asked(life);
        books.on_moved(life, life as u64 * S, Outcome::Done);
        ledger.insert(purse(life), PURSE - 1);
        *ledger.get_mut(&pot(0)).unwrap() += 1;
    }
    books.ledgers = (0..NODES).map(|node| (node, ledger.clone())).collect();
    books
}

fn wrong(change: impl FnOnce(&mut Books)) -> Vec<String> {
    let mut books = books();
    change(&mut books);
    books.close(Duration::ZERO).violations
}

#[test]
fn what_balances_is_intact() {
    let closing = books().close(Duration::from_secs(9));
    assert!(closing.is_intact(), "{closing:?}");
    assert_eq!((closing.asked, closing.answered, closing.sum_after), (9, 9, Some(sum_before())));
    assert_eq!(closing.steps[0].effect_ms, Some(1000.0));
    assert!(closing.text().ends_with("in it once."));
}

#[test]
fn a_move_that_is_lost_or_done_twice_shows() {
    let lost = wrong(|books| books.moves[3].done += 1);
    assert!(lost[0].contains("purse of D, where 2 were answered"), "{lost:?}");
    let twice = wrong(|books| {
        for ledger in books.ledgers.values_mut() {
            *ledger.get_mut(&purse(3)).unwrap() -= 1;
            *ledger.get_mut(&pot(1)).unwrap() += 1;
        }
    });
    assert!(twice[0].contains("2 were moved from the purse of D"), "{twice:?}");
}

#[test]
fn a_move_without_an_answer_may_be_in_it_or_not() {
    assert!(wrong(|books| books.on_asked(8)).is_empty());
    let in_it = wrong(|books| {
        books.on_asked(8);
        books.on_moved(8, 0, Outcome::Unknown);
        for ledger in books.ledgers.values_mut() {
            *ledger.get_mut(&purse(8)).unwrap() -= 1;
            *ledger.get_mut(&pot(1)).unwrap() += 1;
        }
    });
    assert!(in_it.is_empty(), "{in_it:?}");
    let refused = wrong(|books| {
        books.on_asked(8);
        books.on_moved(8, 0, Outcome::Refused);
    });
    assert!(refused.is_empty(), "{refused:?}");
}

#[test]
fn ledgers_that_differ_are_missing_or_do_not_add_up_show() {
    let missing = wrong(|books| drop(books.ledgers.remove(&7)));
    assert!(missing[0].starts_with('Z'), "{missing:?}");
    let differs = wrong(|books| *books.ledgers.get_mut(&5).unwrap().get_mut(&pot(2)).unwrap() += 1);
    assert!(differs[0].starts_with("A and X do not say the same"), "{differs:?}");
    let more = wrong(|books| {
        for ledger in books.ledgers.values_mut() {
            *ledger.get_mut(&pot(2)).unwrap() += 1;
        }
    });
    assert!(more[0].contains("9000001 in all accounts"), "{more:?}");
}

#[test]
fn two_holders_at_once_and_an_effect_that_does_not_come_show() {
    let two = wrong(|books| {
        for (node, at) in [(0, 0), (1, 2 * S), (0, 3 * S), (1, 4 * S)] {
            books.on_holds(node, at, Some(node as u64));
        }
    });
    assert_eq!(two, ["two nodes held a lease at once, 1 times"]);
    let after = wrong(|books| {
        for (node, at) in [(0, 0), (0, 2 * S), (1, 2 * S), (1, 4 * S)] {
            books.on_holds(node, at, Some(node as u64));
        }
        books.on_holds(1, 5 * S, None);
    });
    assert!(after.is_empty(), "one after the other is as it should be: {after:?}");
    let none = wrong(|books| books.on_act(Act::Kill, Duration::ZERO, S));
    assert!(none[0].starts_with("after M is killed: it did not come about"), "{none:?}");
}

#[test]
fn the_longest_pause_is_told_for_each_step() {
    let mut books = books();
    books.on_act(Act::Kill, Duration::from_secs(2), 2 * S + S / 2);
    books.on_effect(3 * S);
    let closing = books.close(Duration::ZERO);
    // Answers came at 0, 1, 2 and 3 s.
    assert_eq!([closing.steps[0].pause_ms, closing.steps[1].pause_ms], [Some(1000.0), Some(500.0)]);
    assert_eq!(closing.longest_pause_ms, Some(1000.0));
}
