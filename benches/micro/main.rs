//! What the parts cost of which every exchange is made: frames, the classifier, the pool's core.

#![allow(clippy::panic, clippy::unwrap_used, reason = "a benchmark: what goes wrong is to be seen")]

mod frames;
mod pool;
mod texts;

use std::time::Duration;

use criterion::Criterion;

fn main() {
    let criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2));
    let mut criterion = criterion.configure_from_args();
    frames::bench(&mut criterion);
    texts::bench(&mut criterion);
    pool::bench(&mut criterion);
    criterion.final_summary();
}
