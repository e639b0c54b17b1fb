//! Turns panics into values: checks that panic, as tests do, run in programs that report.

use std::{
    cell::RefCell,
    panic::{self, AssertUnwindSafe, Location},
    sync::Once,
};

/// A panic, and what was noted while the stack unwound.
#[derive(Debug, Default)]
pub struct Caught {
    /// Its message and place.
    pub message: String,
    /// What [`note`] was told.
    pub notes: String,
}

thread_local! {
    /// What the body that runs on this thread has left so far.
    static CAUGHT: RefCell<Option<Caught>> = const { RefCell::new(None) };
}

/// Runs `body`; a panic is its error instead of a message on the terminal.
pub fn catch(body: impl FnOnce()) -> Result<(), Caught> {
    install_hook();
    CAUGHT.set(Some(Caught::default()));
    let done = panic::catch_unwind(AssertUnwindSafe(body));
    let caught = CAUGHT.take().unwrap_or_default();
    done.map_err(|_| caught)
}

/// Keeps the messages of threads that [`catch`]; all other panics are told as before.
fn install_hook() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let previous = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let at = info.location().map(Location::to_string).unwrap_or_default();
            let message = info.payload_as_str().unwrap_or("it panicked");
            let caught = CAUGHT.with_borrow_mut(|caught| match caught {
                Some(caught) => {
                    caught.message = format!("{message} ({at})");
                    true
                }
                None => false,
            });
            if !caught {
                previous(info);
            }
        }));
    });
}

/// Adds to what is told about a failure: to the notes of the [`catch`] that this thread is in, else
/// to standard error.
pub fn note(text: &str) {
    let noted = CAUGHT.with_borrow_mut(|caught| {
        caught.as_mut().is_some_and(|caught| {
            caught.notes.push_str(text);
            caught.notes.push('\n');
            true
        })
    });
    if !noted {
        eprintln!("{text}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_kept_with_its_place_and_what_was_noted() {
        struct Noisy;
        impl Drop for Noisy {
            fn drop(&mut self) {
                note("the process said nothing");
            }
        }
        let caught = catch(|| {
            let _noisy = Noisy;
            panic!("{} answered", "pod-3");
        })
        .unwrap_err();
        assert!(
            caught
                .message
                .starts_with("pod-3 answered (integration/src")
        );
        assert_eq!(caught.notes, "the process said nothing\n");
        assert!(catch(|| ()).is_ok());
    }
}
