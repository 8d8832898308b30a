//! Settings that no text's meaning depends on.

/// True for a setting that cannot decide what a text means when it is parsed: a name of the client's
/// own (which has a dot), or one about how statements run. Errs on the side of false.
pub(super) fn is_about_running(name: &[u8]) -> bool {
    name.contains(&b'.')
        || ends_with(name, b"_timeout")
        || ends_with(name, b"work_mem")
        || starts_with(name, b"enable_")
        || starts_with(name, b"log_")
        || ABOUT_RUNNING.iter().any(|known| name.eq_ignore_ascii_case(known))
}

/// True for a setting that decides which schema something new goes to.
pub(super) fn is_about_schemas(name: &[u8]) -> bool {
    [&b"search_path"[..], b"\"search_path\"", b"schema"]
        .iter()
        .any(|known| name.eq_ignore_ascii_case(known))
}

/// True for the setting that seeds `random()`, which nothing takes back.
pub(super) fn is_seed(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b"seed") || name.eq_ignore_ascii_case(b"\"seed\"")
}

const ABOUT_RUNNING: [&[u8]; 4] =
    [b"application_name", b"client_min_messages", b"jit", b"synchronous_commit"];

fn starts_with(name: &[u8], start: &[u8]) -> bool {
    name.get(..start.len()).is_some_and(|front| front.eq_ignore_ascii_case(start))
}

fn ends_with(name: &[u8], end: &[u8]) -> bool {
    let at = name.len().checked_sub(end.len());
    at.and_then(|at| name.get(at..)).is_some_and(|tail| tail.eq_ignore_ascii_case(end))
}
