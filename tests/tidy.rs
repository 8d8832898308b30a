//! Properties of the tree that no lint checks: sizes, purposes, who knows whom, what waits.

#![allow(clippy::unwrap_used, clippy::panic, reason = "test code: what goes wrong is to be seen")]

use std::collections::BTreeSet;
use std::fs;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

/// Longest file in lines, its unit tests not counted.
const LINES_MAX: usize = 500;

/// Longer files: how long at most, and why.
const LONG: &[(&str, usize, &str)] = &[];

/// Which modules each module may mention. What is not listed for it is forbidden to it; `cli` and
/// `app` know everything and are known by nobody but `cli` and `main.rs`.
///
/// Two leaves stand in the rooms of others and know nobody, so that all may know them:
/// `pool::core` (the numbers of servers and workers are types of its) and `telemetry::snapshot`,
/// `telemetry::counters` and `telemetry::traffic` (plain values that are filled where things happen).
const MAY_KNOW: &[(&str, &[&str])] = &[
    ("error", &[]),
    ("sql", &[]),
    ("state", &["sql"]),
    ("tls", &[]),
    ("config", &["tls"]),
    ("wire", &["error"]),
    ("auth", &["config", "error"]),
    ("net", &["config", "telemetry::snapshot", "tls"]),
    ("runtime", &["pool::core"]),
    (
        "server",
        &[
            "auth",
            "config",
            "error",
            "net",
            "pool::core",
            "sql",
            "state",
            "telemetry::snapshot",
            "tls",
            "wire",
        ],
    ),
    (
        "pool",
        &[
            "config",
            "error",
            "runtime",
            "server",
            "state",
            "telemetry::counters",
            "telemetry::snapshot",
            "telemetry::traffic",
            "wire",
        ],
    ),
    (
        "domain",
        &[
            "auth",
            "config",
            "error",
            "net::resolve",
            "pool",
            "runtime",
            "server",
            "telemetry::counters",
            "tls",
        ],
    ),
    (
        "client",
        &[
            "admin",
            "auth",
            "config",
            "domain",
            "error",
            "net",
            "pool",
            "runtime",
            "server",
            "sql",
            "state",
            "telemetry",
            "tls",
            "wire",
        ],
    ),
    ("telemetry", &["config", "error"]),
    ("admin", &["config", "error", "telemetry"]),
];

/// Leaves of larger rooms, that know even less than those.
const LEAVES: &[(&str, &[&str])] = &[
    ("telemetry/counters.rs", &["error"]),
    ("telemetry/traffic.rs", &["telemetry::counters"]),
    ("telemetry/snapshot.rs", &["config", "telemetry::counters", "telemetry::traffic"]),
    ("runtime/drain.rs", &[]),
    ("domain/health.rs", &["domain::lag"]),
    ("domain/causal.rs", &["domain::lag"]),
    ("domain/lag.rs", &[]),
    ("domain/slots.rs", &["net::resolve"]),
    ("domain/topology.rs", &["domain::health", "domain::lag", "pool::core"]),
    ("pool/core.rs", &["pool::idle", "pool::queue", "pool::sites"]),
    ("pool/idle.rs", &["pool::core", "pool::sites"]),
    ("pool/queue.rs", &[]),
    ("pool/sites.rs", &[]),
    ("pool/ledger.rs", &[]),
    ("pool/limiter.rs", &["pool::limiter"]),
    (
        "pool/load.rs",
        &["pool::limiter", "telemetry::counters", "telemetry::snapshot", "telemetry::traffic"],
    ),
    ("server/exchange.rs", &["server::fate", "server::owed", "server::request", "wire::backend"]),
    ("server/owed.rs", &["server::fate", "server::request"]),
    ("server/fate.rs", &["sql", "wire::backend"]),
    ("client/stand_in.rs", &["error", "sql", "wire"]),
];

/// What decides and never waits: values in, decisions out. A clock is passed in.
const PURE: &[&str] = &[
    "auth/",
    "client/ours/asks.rs",
    "client/stand_in.rs",
    "domain/causal.rs",
    "domain/health.rs",
    "domain/lag.rs",
    "domain/slots.rs",
    "domain/topology.rs",
    "pool/core.rs",
    "pool/core/",
    "pool/idle.rs",
    "pool/ledger.rs",
    "pool/limiter.rs",
    "pool/limiter/",
    "pool/load.rs",
    "pool/queue.rs",
    "pool/sites.rs",
    "server/exchange.rs",
    "server/exchange/",
    "server/owed.rs",
    "server/request.rs",
    "server/fate.rs",
    "server/shape.rs",
    "server/statements.rs",
    "server/store.rs",
    "server/undo.rs",
    "sql/",
    "state/",
    "wire/",
];

/// What no such file mentions.
const IMPURE: &[&str] = &[
    "async ",
    ".await",
    "Instant::now",
    "SystemTime::now",
    "tokio::",
    "std::net",
    "std::fs",
    "tracing::",
];

/// Pitfalls of what is built, by number. A test that holds one cites it: `P21`.
const PITFALLS: &[RangeInclusive<u32>] =
    &[1..=3, 7..=7, 9..=14, 16..=18, 20..=25, 27..=36, 41..=42, 44..=61, 64..=80, 82..=89, 91..=96];

/// Where `pgbouncer.md` says what is wrong elsewhere, by row. The test that shows what PostgreSQL does
/// cites it: `pgbouncer.md row 9`.
const ROWS: &[RangeInclusive<u32>] = &[1..=14];

/// Who may start tasks and threads, and why.
const MAY_SPAWN: &[(&str, &str)] = &[
    ("runtime/drain.rs", "the one place that spawns"),
    ("runtime/worker.rs", "the worker threads, which it joins"),
    ("cli/demo/screen.rs", "a terminal that is slow must not hold up the demo"),
    ("telemetry/http.rs", "its connections, which end with it: HTTP outlives the drain"),
];

/// A source file.
struct Source {
    /// Beneath `src/`, with slashes.
    path: String,
    text: String,
}

impl Source {
    /// The text without unit tests, which stand at the end, and without comments.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        self.production()
            .enumerate()
            .filter(|(_, line)| !line.trim_start().starts_with("//"))
            .map(|(index, line)| (index + 1, line))
    }

    fn production(&self) -> impl Iterator<Item = &str> {
        let is_test = |line: &&str| *line == "#[cfg(test)]";
        self.text.lines().take_while(move |line| !is_test(line))
    }

    fn room(&self) -> &str {
        let first = self.path.split('/').next().unwrap();
        first.strip_suffix(".rs").unwrap_or(first)
    }
}

/// All production files.
fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let sources: Vec<_> = files(&root)
        .into_iter()
        .map(|file| Source {
            path: file.strip_prefix(&root).unwrap().to_str().unwrap().to_owned(),
            text: fs::read_to_string(&file).unwrap(),
        })
        // Unit tests in a file of their own, and what stands in for the running proxy in them.
        .filter(|source| !source.path.ends_with("/tests.rs") && source.path != "telemetry/fake.rs")
        .collect();
    assert!(sources.len() > 50, "only {} files were found", sources.len());
    sources
}

fn files(folder: &Path) -> Vec<PathBuf> {
    files_of(folder, "rs")
}

fn files_of(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_of(&path, extension));
        } else if path.extension().is_some_and(|other| other == extension) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Fails with all of `problems`.
#[track_caller]
fn assert_none(problems: &[String]) {
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

#[test]
fn every_file_says_in_its_first_line_what_it_is_for() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut problems = Vec::new();
    for folder in ["src", "tests", "benches"] {
        for file in files(&root.join(folder)) {
            let text = fs::read_to_string(&file).unwrap();
            let first = text.lines().next().unwrap_or_default();
            if !first.starts_with("//! ") {
                problems.push(format!("{}: begins with {first:?}", file.display()));
            }
        }
    }
    assert_none(&problems);
}

#[test]
fn no_file_is_longer_than_it_may_be() {
    let mut problems = Vec::new();
    for source in sources() {
        let lines = source.production().count();
        let exception = LONG.iter().find(|(path, ..)| *path == source.path);
        let most = exception.map_or(LINES_MAX, |(_, most, _)| *most);
        if lines > most {
            problems.push(format!("src/{}: {lines} lines, {most} at most", source.path));
        }
        if exception.is_some() && lines <= LINES_MAX {
            problems.push(format!("src/{} needs no exception any more", source.path));
        }
    }
    assert_none(&problems);
}

#[test]
fn no_module_knows_one_that_it_may_not_know() {
    let mut problems = Vec::new();
    for source in sources() {
        let room = source.room();
        if matches!(room, "app" | "cli" | "lib" | "main") {
            continue;
        }
        let Some((_, allowed)) = MAY_KNOW.iter().find(|(name, _)| *name == room) else {
            problems.push(format!("src/{}: who may {room} know? See MAY_KNOW", source.path));
            continue;
        };
        for (number, line) in source.code() {
            for known in mentioned(line) {
                if !is_within(&known, room) && !allowed.iter().any(|a| is_within(&known, a)) {
                    problems.push(format!("src/{}:{number}: mentions {known}", source.path));
                }
            }
        }
    }
    assert_none(&problems);
}

#[test]
fn a_leaf_knows_no_more_than_a_leaf_may() {
    let mut problems = Vec::new();
    let sources = sources();
    for (path, allowed) in LEAVES {
        let source = sources.iter().find(|source| source.path == *path);
        let source = source.unwrap_or_else(|| panic!("src/{path} is not there"));
        // A neighbour is a module like any other.
        let neighbour = format!("crate::{}::", source.room());
        for (number, line) in source.code() {
            for known in mentioned(&line.replace("super::", &neighbour)) {
                if !allowed.iter().any(|a| is_within(&known, a)) {
                    problems.push(format!("src/{path}:{number}: mentions {known}"));
                }
            }
        }
    }
    assert_none(&problems);
}

/// The paths beneath `crate::` that a line mentions.
fn mentioned(line: &str) -> Vec<String> {
    line.split("crate::")
        .skip(1)
        .map(|rest| {
            let is_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
            rest.split(|c| !is_path(c)).next().unwrap_or_default().to_owned()
        })
        .collect()
}

/// True if the path `known` is `module`, or inside it.
fn is_within(known: &str, module: &str) -> bool {
    known == module || known.strip_prefix(module).is_some_and(|rest| rest.starts_with("::"))
}

#[test]
fn what_decides_never_waits() {
    let mut problems = Vec::new();
    for source in sources() {
        if !PURE.iter().any(|pure| source.path.starts_with(pure)) {
            continue;
        }
        for (number, line) in source.code() {
            // The type is plain data: a moment that was read elsewhere.
            if line == "use tokio::time::Instant;" {
                continue;
            }
            for impure in IMPURE.iter().filter(|impure| line.contains(**impure)) {
                problems.push(format!("src/{}:{number}: mentions {impure:?}", source.path));
            }
        }
    }
    assert_none(&problems);
}

#[test]
fn nobody_spawns_but_who_may() {
    let spawns = [
        "tokio::spawn",
        "task::spawn",
        "spawn_blocking",
        "JoinSet",
        "TaskTracker",
        "thread::spawn",
        "thread::Builder",
    ];
    let mut problems = Vec::new();
    for source in sources() {
        if MAY_SPAWN.iter().any(|(path, _)| *path == source.path) {
            continue;
        }
        for (number, line) in source.code() {
            if spawns.iter().any(|spawn| line.contains(spawn)) {
                problems.push(format!("src/{}:{number}: {}", source.path, line.trim()));
            }
        }
    }
    assert_none(&problems);
}

/// The text of all tests, in both languages, but for this file.
fn tests() -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let tests = ["rs", "py"].map(|extension| files_of(&root.join("tests"), extension)).concat();
    let tests = tests.iter().filter(|file| !file.ends_with("tidy.rs"));
    let mut text: String = tests.map(|file| fs::read_to_string(file).unwrap()).collect();
    for file in files(&root.join("src")) {
        let source = fs::read_to_string(&file).unwrap();
        let is_test = file.ends_with("tests.rs");
        text +=
            if is_test { &source } else { source.split_once("#[cfg(test)]").unwrap_or_default().1 };
    }
    text
}

#[test]
fn every_pitfall_of_what_is_built_is_held_by_a_test() {
    let text = tests();
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let words: BTreeSet<_> = text.split(|c| !is_word(c)).collect();
    let missing: Vec<_> = PITFALLS
        .iter()
        .cloned()
        .flatten()
        .map(|number| format!("P{number}"))
        .filter(|pitfall| !words.contains(pitfall.as_str()))
        .map(|pitfall| format!("{pitfall}: no test cites it"))
        .collect();
    assert_none(&missing);
}

#[test]
fn every_row_of_what_is_wrong_elsewhere_is_held_by_a_test() {
    let text = tests();
    let cited: BTreeSet<u32> = text
        .split("pgbouncer.md row ")
        .skip(1)
        .filter_map(|rest| rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok())
        .collect();
    let missing: Vec<_> = ROWS
        .iter()
        .cloned()
        .flatten()
        .filter(|row| !cited.contains(row))
        .map(|row| format!("pgbouncer.md row {row}: no test cites it"))
        .collect();
    assert_none(&missing);
}

/// A daemon speaks through its log. What a person typed is answered by `cli`.
#[test]
fn nobody_prints_but_the_command_line() {
    let mut problems = Vec::new();
    for source in sources() {
        if matches!(source.room(), "cli" | "main") {
            continue;
        }
        for (number, line) in source.code() {
            if line.contains("println!") || line.contains("print!(") || line.contains("dbg!") {
                problems.push(format!("src/{}:{number}: {}", source.path, line.trim()));
            }
        }
    }
    assert_none(&problems);
}

/// No state that all of a process shares: two proxies fit in one (architecture, invariant 6).
#[test]
fn nothing_is_global_but_constants() {
    // What a thread is and has: its worker, its number, its buffers, the texts and links it keeps. And the log,
    // which is the process's by its nature.
    let may = [
        "runtime/worker.rs",
        "net/eager.rs",
        "net/buffer.rs",
        "client/memo.rs",
        "client/spare.rs",
        "telemetry/log.rs",
    ];
    let globals = ["static mut ", "static ", "OnceLock<", "LazyLock<", "thread_local!"];
    let mut problems = Vec::new();
    for source in sources().iter().filter(|source| !may.contains(&source.path.as_str())) {
        for (number, line) in source.code() {
            let line = line.trim_start().trim_start_matches("pub ");
            if globals.iter().any(|global| line.starts_with(global)) {
                problems.push(format!("src/{}:{number}: {line}", source.path));
            }
        }
    }
    assert_none(&problems);
}
