//! Waiting until something is true, never for a length of time.

use std::time::Duration;

use tokio::time::Instant;

/// How long anything may take before a test fails.
pub const DEADLINE: Duration = Duration::from_secs(10);

/// Waits until `is_true`, for [`DEADLINE`] at most.
#[track_caller]
pub fn wait_until(what: &str, is_true: impl FnMut() -> bool) {
    wait_until_within(DEADLINE, what, is_true);
}

/// The same for what takes longer by its nature.
#[track_caller]
pub fn wait_until_within(limit: Duration, what: &str, mut is_true: impl FnMut() -> bool) {
    let deadline = Instant::now() + limit;
    while !is_true() {
        assert!(Instant::now() < deadline, "this did not come true: {what}");
        pause();
    }
}

/// Waits until `find` finds something, for [`DEADLINE`] at most.
#[track_caller]
pub fn wait_for<T>(what: &str, mut find: impl FnMut() -> Option<T>) -> T {
    let mut found = None;
    wait_until(what, || {
        found = find();
        found.is_some()
    });
    found.unwrap()
}

/// Lets others run before something is looked at again.
fn pause() {
    std::thread::park_timeout(Duration::from_millis(2));
}
