//! Cutting a sequence down to what a difference needs.

use super::run::{Bench, Difference};
use super::sequence::Sequence;

/// Tells of a difference: by as few messages as still show it.
pub fn report(
    bench: &mut Bench,
    seed: u64,
    sequence: &Sequence,
    difference: &Difference,
) -> String {
    bench.restart();
    let mut shows = |candidate: &Sequence| {
        let found = bench.play(candidate).err();
        if found.is_some() {
            bench.restart();
        }
        found
    };
    let Some(mut found) = shows(sequence) else {
        return format!(
            "seed {seed} shows a difference only behind those before it\n{sequence}\n{difference}"
        );
    };
    let mut least = sequence.clone();
    while let Some((less, difference)) =
        smaller(&least).into_iter().find_map(|less| shows(&less).map(|found| (less, found)))
    {
        (least, found) = (less, difference);
    }
    format!("seed {seed}\n{least}\nWhat was sent and what PostgreSQL said:\n{found}")
}

/// Sequences with a little less in them.
fn smaller(sequence: &Sequence) -> Vec<Sequence> {
    let mut all = Vec::new();
    let mut add = |change: &dyn Fn(&mut Sequence)| {
        let mut less = sequence.clone();
        change(&mut less);
        less.steps.retain(|step| !step.frames.is_empty());
        all.push(less);
    };
    for at in 0..sequence.steps.len() {
        add(&|less| {
            less.steps.remove(at);
        });
    }
    for (at, step) in sequence.steps.iter().enumerate() {
        if !step.cuts.is_empty() {
            add(&|less| less.steps[at].cuts.clear());
        }
        for frame in 0..step.frames.len() {
            add(&|less| {
                less.steps[at].frames.remove(frame);
            });
        }
    }
    all
}
