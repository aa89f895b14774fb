//! Containment: runs a piece of an actor's code so that a panic becomes a value.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};

/// Longest panic message kept, in characters: it goes to logs, reports and the tree.
const MESSAGE_CHARS_MAX: usize = 512;

thread_local! {
    static DEPTH: Cell<u32> = const { Cell::new(0) };
    static PLACE: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Runs `code`; a panic in it comes back as its message.
///
/// `AssertUnwindSafe` holds because nobody looks at the actor again: after a panic its value, its futures and its
/// timers are dropped, and the next life starts from a fresh value.
pub(crate) fn contain<T>(code: impl FnOnce() -> T) -> Result<T, String> {
    DEPTH.set(DEPTH.get() + 1);
    let result = catch_unwind(AssertUnwindSafe(code));
    DEPTH.set(DEPTH.get() - 1);
    result.map_err(|payload| {
        let place = PLACE.with(|slot| slot.borrow_mut().take());
        let message = describe(payload.as_ref(), place);
        discard(payload);
        message
    })
}

/// Turns off the standard report on stderr for panics that supervision contains, and adds the place of the panic to
/// the message it reports instead. Other panics are reported as before. Meant for binaries and tests.
pub fn report_contained_panics_quietly() {
    let others = take_hook();
    set_hook(Box::new(move |info| {
        if DEPTH.try_with(Cell::get).unwrap_or(0) == 0 {
            others(info);
        } else if let Some(place) = info.location() {
            let place = format!("{}:{}", place.file(), place.line());
            PLACE.with(|slot| *slot.borrow_mut() = Some(place));
        }
    }));
}

fn describe(payload: &(dyn Any + Send), place: Option<String>) -> String {
    let text = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("panic without a message");
    let mut message: String = text.chars().take(MESSAGE_CHARS_MAX).collect();
    if let Some(place) = place {
        message.push_str(" at ");
        message.push_str(&place);
    }
    message
}

/// Drops a panic's payload, whose own `Drop` may panic too.
fn discard(payload: Box<dyn Any + Send>) {
    if let Err(second) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        // Leaked rather than trusted.
        std::mem::forget(second);
    }
}

#[cfg(test)]
mod tests {
    use super::contain;

    #[test]
    fn a_panic_becomes_its_message() {
        assert_eq!(contain(|| 7), Ok(7));
        let number = 3;
        let message = contain(|| panic!("bad {number}")).err().unwrap_or_default();
        assert!(message.starts_with("bad 3"), "{message}");
        let long = contain(|| panic!("{}", "x".repeat(10_000))).err();
        assert!(long.unwrap_or_default().len() < 1_000);
    }

    #[test]
    fn a_payload_that_panics_when_dropped_is_contained() {
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                panic!("bomb");
            }
        }
        let result: Result<(), String> = contain(|| std::panic::panic_any(Bomb));
        // Where it happened is known to the process's hook, which other tests may have set.
        let message = result.err().unwrap_or_default();
        assert!(message.starts_with("panic without a message"), "{message}");
    }
}
