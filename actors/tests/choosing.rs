//! Choosing a link for a message does not allocate.
#![allow(missing_docs, clippy::unwrap_used)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use allocation_counter::measure;
use bowline_actors::session::policy::{Candidate, Chooser, Damping, Forecast, Needs, Smoothing, Wanted};
use bowline_messages::{LinkId, MessageClass, PolicyName};

const LINKS: u32 = 8;
const CHOICES: u32 = 1_000;

fn links(start: Instant) -> Vec<Candidate> {
    let link = |id: u32| {
        let mut forecast = Forecast::new(Smoothing::default());
        for step in 0..10 {
            let delay = Duration::from_millis(u64::from(10 + (id * 7 + step) % 13));
            forecast.on_delivered(start + Duration::from_millis(100) * step, delay);
        }
        let known =
            Candidate { bandwidth: Some(1e6), security: Some(0.5), room: 1, ..Candidate::unmeasured(LinkId(id)) };
        let candidate = known.with_forecast(&forecast);
        Candidate { delay: candidate.forecast, ..candidate }
    };
    (0..LINKS).map(link).collect()
}

/// Two policies plan: at most once a second, and that makes tables.
const PLANNING: [PolicyName; 2] = [PolicyName::Mdp, PolicyName::PredictiveOptimal];

#[test]
fn no_policy_allocates_for_a_choice_once_it_has_chosen() {
    #[allow(clippy::disallowed_methods)]
    let start = Instant::now();
    let links = links(start);
    for policy in PolicyName::ALL {
        let mut chooser = Chooser::new(Damping::default(), Needs::default(), 1);
        for class in MessageClass::ALL {
            let wanted = Wanted { policy, class, bytes: Some(100), apart: false };
            // The first choice by a policy that learns makes its memory.
            black_box(chooser.choose(start, wanted, &links));
            let seen = measure(|| {
                for step in 0..CHOICES {
                    // Within a second: no new plan is due.
                    let now = start + Duration::from_micros(900) * step;
                    black_box(chooser.choose(now, wanted, black_box(&links)));
                }
            });
            assert_eq!((seen.count_total, seen.bytes_total), (0, 0), "{policy:?} {class:?}: {seen:?}");
        }
    }
}

#[test]
fn a_plan_is_made_once_a_second_at_most() {
    #[allow(clippy::disallowed_methods)]
    let start = Instant::now();
    let links = links(start);
    for policy in PLANNING {
        let mut chooser = Chooser::new(Damping::default(), Needs::default(), 1);
        let wanted = Wanted { policy, class: MessageClass::Critical, bytes: Some(100), apart: false };
        black_box(chooser.choose(start, wanted, &links));
        let mut choices_that_allocated = 0;
        for step in 1..=CHOICES {
            let now = start + Duration::from_millis(10) * step;
            let seen = measure(|| {
                black_box(chooser.choose(now, wanted, black_box(&links)));
            });
            choices_that_allocated += u32::from(seen.count_total > 0);
        }
        assert!(choices_that_allocated <= 10, "{policy:?}: {choices_that_allocated} of a thousand in ten seconds");
    }
}
