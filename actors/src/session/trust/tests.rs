#![allow(clippy::unwrap_used)]
use super::*;
use proptest::collection::vec;
use proptest::prelude::*;

fn peer(n: u16) -> PeerId {
    let mut key = [0; 32];
    key[..2].copy_from_slice(&n.to_be_bytes());
    PeerId::from_bytes(key)
}

/// Peers that are met on first use in these tests.
const FIRST_USE: usize = 16;

fn config(policy: TrustPolicy) -> TrustConfig {
    TrustConfig { policy, first_use_peers: FIRST_USE, ..TrustConfig::default() }
}

fn trust(policy: TrustPolicy) -> Trust {
    Trust::new(&config(policy), [], [], TrustSnapshot::default())
}

#[test]
fn the_deny_list_wins_over_everything() {
    for policy in [TrustPolicy::Open, TrustPolicy::Allow, TrustPolicy::Tofu] {
        let mut trust = Trust::new(&config(policy), [peer(1)], [peer(1)], TrustSnapshot::default());
        trust.allow(peer(1));
        assert_eq!(trust.admit(&peer(1)), Err(TrustRefusal::Denied(peer(1))));
    }
}

#[test]
fn each_policy_decides_about_strangers() {
    assert_eq!(trust(TrustPolicy::Open).admit(&peer(1)), Ok(()));
    assert_eq!(trust(TrustPolicy::Tofu).admit(&peer(1)), Ok(()));
    let mut allow = trust(TrustPolicy::Allow);
    assert_eq!(allow.admit(&peer(1)), Err(TrustRefusal::NotListed(peer(1))));
    allow.allow(peer(1));
    assert_eq!(allow.admit(&peer(1)), Ok(()));
}

#[test]
fn a_flood_of_fresh_keys_ends_at_the_bound_and_known_peers_come_in_still() {
    let mut trust = trust(TrustPolicy::Tofu);
    for n in 0..FIRST_USE as u16 {
        assert_eq!(trust.admit(&peer(n)), Ok(()));
    }
    assert_eq!(trust.admit(&peer(u16::MAX)), Err(TrustRefusal::FirstUseOver(FIRST_USE)));
    assert_eq!(trust.admit(&peer(7)), Ok(()));
    assert!(trust.take_unsaved());
    assert_eq!(trust.admit(&peer(7)), Ok(()));
    assert!(!trust.take_unsaved(), "it is known already");
    // Other processes know whom this one met, also when they take no new ones.
    let one = TrustConfig { first_use_peers: 1, ..config(TrustPolicy::Tofu) };
    let mut after = Trust::new(&one, [], [], trust.snapshot().clone());
    assert_eq!(after.admit(&peer(7)), Ok(()));
    assert_eq!(after.admit(&peer(99)), Err(TrustRefusal::FirstUseOver(1)));
}

#[test]
fn the_excluded_stay_excluded_across_restarts() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("trust.json");
    let mut before = trust(TrustPolicy::Open);
    before.exclude(peer(1), "rolled sevens only");
    assert!(before.take_unsaved());
    before.snapshot().save(&path).unwrap();
    let mut after = Trust::new(&config(TrustPolicy::Open), [peer(1)], [], TrustSnapshot::load(&path).unwrap());
    let reason = "rolled sevens only".to_owned();
    assert_eq!(after.admit(&peer(1)), Err(TrustRefusal::Excluded { peer: peer(1), reason }));
    after.readmit(&peer(1));
    assert_eq!(after.admit(&peer(1)), Ok(()));
}

#[test]
fn a_changed_configuration_keeps_what_was_learnt_and_commanded() {
    let mut trust = Trust::new(&config(TrustPolicy::Allow), [peer(1), peer(5)], [peer(2)], TrustSnapshot::default());
    trust.allow(peer(3));
    trust.allow(peer(4));
    // That the configuration accepts it already makes no difference to the command.
    trust.allow(peer(5));
    trust.deny(peer(6));
    trust.exclude(peer(7), "rolled sevens only");
    trust.reconfigure(&config(TrustPolicy::Allow), [peer(2), peer(6), peer(7)], [peer(4)]);
    assert_eq!(trust.admit(&peer(1)), Err(TrustRefusal::NotListed(peer(1))), "removed");
    assert_eq!(trust.admit(&peer(2)), Ok(()), "no longer denied");
    assert_eq!(trust.admit(&peer(3)), Ok(()), "named by a command");
    assert_eq!(trust.admit(&peer(4)), Err(TrustRefusal::Denied(peer(4))));
    assert_eq!(trust.admit(&peer(5)), Ok(()), "named by a command, whatever the configuration says now");
    assert_eq!(trust.admit(&peer(6)), Err(TrustRefusal::Denied(peer(6))), "denied by a command");
    assert!(matches!(trust.admit(&peer(7)), Err(TrustRefusal::Excluded { .. })));
    assert!(trust.take_unsaved(), "the exclusion has not been saved yet");
    // A denial makes an end of what was commanded before, and a command has no effect while it lasts.
    trust.allow(peer(4));
    trust.reconfigure(&config(TrustPolicy::Allow), [], []);
    assert_eq!(trust.admit(&peer(4)), Err(TrustRefusal::NotListed(peer(4))));
}

#[test]
fn asking_how_a_peer_stands_remembers_nobody() {
    let mut tofu = trust(TrustPolicy::Tofu);
    for n in 0..FIRST_USE as u16 {
        assert_eq!(tofu.standing(&peer(n)), Ok(()));
    }
    assert!(!tofu.take_unsaved() && tofu.snapshot().met.is_empty());
    assert_eq!(trust(TrustPolicy::Allow).standing(&peer(1)), Err(TrustRefusal::NotListed(peer(1))));
    for n in 0..FIRST_USE as u16 {
        assert_eq!(tofu.admit(&peer(n)), Ok(()));
    }
    assert_eq!(
        (tofu.standing(&peer(1)), tofu.standing(&peer(u16::MAX))),
        (Ok(()), Err(TrustRefusal::FirstUseOver(FIRST_USE)))
    );
    assert!(tofu.forget_peer(&peer(1)));
    assert!(!tofu.forget_peer(&peer(1)));
    assert_eq!(tofu.admit(&peer(u16::MAX)), Ok(()), "there is room again");
}

#[test]
fn a_damaged_file_is_an_error_and_a_missing_one_is_empty() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("trust.json");
    assert_eq!(TrustSnapshot::load(&path).unwrap(), TrustSnapshot::default());
    private_file::create(&path, b"{\"excluded\":{").unwrap();
    assert!(matches!(TrustSnapshot::load(&path), Err(TrustFileError::Malformed { .. })));
}

#[test]
fn what_somebody_between_can_fake_never_excludes_a_peer() {
    let mut trust = trust(TrustPolicy::Open);
    for _ in 0..10_000 {
        trust.observe(&peer(1), Behaviour::BadRecord);
        trust.observe(&peer(1), Behaviour::FailedHandshake);
    }
    assert_eq!(trust.score(&peer(1)), SCORE_UNPROVEN_MIN);
    assert_eq!(trust.admit(&peer(1)), Ok(()));
    // Nor does it help a peer that is below already.
    trust.observe(&peer(2), Behaviour::BrokeProtocol);
    trust.observe(&peer(2), Behaviour::BrokeProtocol);
    let low = trust.score(&peer(2));
    assert_eq!(trust.observe(&peer(2), Behaviour::BadRecord), low);
}

#[test]
fn what_a_peer_provably_did_excludes_it_and_once_is_not_enough() {
    let mut trust = trust(TrustPolicy::Open);
    for _ in 0..3 {
        trust.observe(&peer(1), Behaviour::BrokeProtocol);
        assert_eq!((trust.admit(&peer(1)), trust.exclusion(&peer(1))), (Ok(()), None));
    }
    trust.observe(&peer(1), Behaviour::BrokeProtocol);
    assert!(trust.exclusion(&peer(1)).is_some());
    assert!(matches!(trust.admit(&peer(1)), Err(TrustRefusal::Excluded { .. })));
    assert!(trust.take_unsaved());
}

#[test]
fn a_score_is_worth_saving_at_the_end_and_not_at_every_step() {
    let mut trust = trust(TrustPolicy::Open);
    assert!(!trust.take_changed());
    trust.observe(&peer(1), Behaviour::Linked);
    assert!(!trust.take_unsaved());
    assert!(trust.take_changed());
    assert!(!trust.take_changed() && !trust.take_unsaved());
    trust.keep_unsaved();
    assert!(trust.take_unsaved(), "it was not saved after all");
}

#[test]
fn scores_are_bounded_in_number_and_the_remarkable_ones_stay() {
    let mut trust = trust(TrustPolicy::Open);
    trust.observe(&peer(0), Behaviour::BrokeProtocol);
    for n in 1..SCORES_MAX as u16 + 100 {
        trust.observe(&peer(n), Behaviour::Linked);
    }
    assert_eq!(trust.snapshot().scores.len(), SCORES_MAX);
    assert!(trust.score(&peer(0)) < 0.4);
}

#[test]
fn exclusions_are_bounded_in_number_and_those_of_named_peers_stay() {
    let mut trust = trust(TrustPolicy::Open);
    trust.allow(peer(0));
    for n in 0..EXCLUDED_MAX as u16 + 100 {
        trust.exclude(peer(n), "for a test");
    }
    assert_eq!(trust.snapshot().excluded.len(), EXCLUDED_MAX);
    assert!(trust.exclusion(&peer(0)).is_some() && trust.exclusion(&peer(EXCLUDED_MAX as u16 + 99)).is_some());
}

#[test]
fn what_a_stranger_is_told_is_the_same_in_every_case() {
    let reasons =
        [TrustRefusal::Denied(peer(1)), TrustRefusal::NotListed(peer(1)), TrustRefusal::FirstUseOver(FIRST_USE)];
    assert!(reasons.iter().all(|reason| Refusal::from(reason) == Refusal::NotAllowed));
}

proptest! {
    #[test]
    fn a_score_stays_within_its_bounds(steps in vec(0..6usize, 0..500)) {
        let all = [
            Behaviour::Linked, Behaviour::GoodHour, Behaviour::FailedHandshake,
            Behaviour::BadRecord, Behaviour::Flooded, Behaviour::BrokeProtocol,
        ];
        let mut trust = trust(TrustPolicy::Open);
        for step in steps {
            let before = trust.score(&peer(1));
            let after = trust.observe(&peer(1), all[step]);
            prop_assert!((0.0..=1.0).contains(&after));
            prop_assert_eq!(after >= before, all[step].step() > 0.0 || after == before);
        }
    }

    #[test]
    fn any_file_is_read_without_a_panic(bytes in vec(any::<u8>(), 0..200)) {
        let _ = serde_json::from_slice::<TrustSnapshot>(&bytes);
    }
}

#[test]
fn whoever_may_be_let_in_anew_is_counted_once() {
    let mut trust = trust(TrustPolicy::Allow);
    trust.allow(peer(1));
    trust.allow(peer(1));
    assert_eq!(trust.acceptances(), 1);
    trust.readmit(&peer(1));
    assert!(!trust.forget_peer(&peer(9)), "it was never met");
    assert_eq!(trust.acceptances(), 2);
    trust.reconfigure(&config(TrustPolicy::Allow), [], []);
    assert_eq!(trust.acceptances(), 3);
    let mut denying = Trust::new(&config(TrustPolicy::Allow), [], [peer(1)], TrustSnapshot::default());
    denying.allow(peer(1));
    assert_eq!(denying.acceptances(), 0);
}
