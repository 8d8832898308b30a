//! Text → commands of the console. Pure.

use super::refusal::Refusal;
use super::show::Show;

/// What a client asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Command {
    Show(Show),
    /// `SHOW HELP`: a notice.
    Help,
    Begin,
    Commit,
    Rollback,
    /// What drivers send at connect or on return to a pool, and what has nothing to act on here:
    /// answered with its tag.
    Accept(&'static str),
    /// A command of `PgBouncer`'s console that changes something.
    Control(&'static str),
}

/// The commands of a Query, at most `limit`. Empty ones are left out.
pub(super) fn commands(sql: &str, limit: usize) -> Result<Vec<Command>, Refusal> {
    let tokens = tokens(sql)?;
    let statements: Vec<&[Token]> = tokens
        .split(|token| *token == Token::Symbol(';'))
        .filter(|statement| !statement.is_empty())
        .take(limit.saturating_add(1))
        .collect();
    if statements.len() > limit {
        return Err(Refusal::TooMany { what: "commands in a query", limit });
    }
    statements.into_iter().map(command).collect()
}

fn command(statement: &[Token]) -> Result<Command, Refusal> {
    let words: Vec<&str> = statement.iter().map(Token::word).collect();
    let known = match words.as_slice() {
        ["show", rest @ ..] => return show(rest).ok_or_else(|| unknown_show(statement)),
        ["select", rest @ ..] => select(rest),
        ["set", rest @ ..] => set(rest),
        ["begin" | "start", ..] => Some(Command::Begin),
        ["commit" | "end", ..] => Some(Command::Commit),
        ["rollback" | "abort"] | ["rollback" | "abort", "transaction" | "work"] => {
            Some(Command::Rollback)
        }
        ["reset", ..] => Some(Command::Accept("RESET")),
        ["discard", "all"] => Some(Command::Accept("DISCARD ALL")),
        ["close", "all"] => Some(Command::Accept("CLOSE CURSOR ALL")),
        ["unlisten", ..] => Some(Command::Accept("UNLISTEN")),
        [first, ..] => control(first),
        [] => None,
    };
    known.ok_or_else(|| Refusal::UnknownCommand { command: shorten(statement) })
}

fn show(rest: &[&str]) -> Option<Command> {
    match rest {
        ["help"] => Some(Command::Help),
        ["transaction", "isolation", "level"] => {
            Show::parameter("transaction_isolation").map(Command::Show)
        }
        ["time", "zone"] => Show::parameter("timezone").map(Command::Show),
        [name] => Show::named(name).or_else(|| Show::parameter(name)).map(Command::Show),
        _ => None,
    }
}

/// `SHOW` of what `PgBouncer` has and pgweir does not have yet, or of nothing at all.
fn unknown_show(statement: &[Token]) -> Refusal {
    let built_later = |name: &str| SHOWS_LATER.contains(&name);
    match statement {
        [_, name] if built_later(name.word()) => {
            Refusal::NotBuilt { command: format!("SHOW {}", name.word().to_uppercase()) }
        }
        _ => Refusal::UnknownCommand { command: shorten(statement) },
    }
}

/// `SELECT pools` is `SHOW pools`, as in `PgBouncer`; the rest is what drivers ask at connect.
fn select(rest: &[&str]) -> Option<Command> {
    let rest = match rest {
        ["pg_catalog", ".", rest @ ..] => rest,
        _ => rest,
    };
    match rest {
        ["1"] => Some(Command::Show(Show::One)),
        ["version", "(", ")"] => Some(Command::Show(Show::ServerVersion)),
        ["current_schema", "(", ")"] => Some(Command::Show(Show::CurrentSchema)),
        ["pg_advisory_unlock_all", "(", ")"] => Some(Command::Show(Show::UnlockAll)),
        [name] => Show::named(name).map(Command::Show),
        _ => None,
    }
}

/// Settings of a session, of which the console has none: accepted. Anything else would be one of
/// pgweir's own.
fn set(rest: &[&str]) -> Option<Command> {
    let rest = match rest {
        ["session" | "local", rest @ ..] => rest,
        _ => rest,
    };
    match rest {
        ["names", _] | ["time", "zone", _] | ["characteristics" | "transaction", _, ..] => {
            Some(Command::Accept("SET"))
        }
        [name, "=" | "to", _, ..] if SETTINGS.contains(name) => Some(Command::Accept("SET")),
        [_, "=" | "to", _] => Some(Command::Control("SET")),
        _ => None,
    }
}

fn control(first: &str) -> Option<Command> {
    let name = CONTROLS.iter().find(|name| name.eq_ignore_ascii_case(first))?;
    Some(Command::Control(name))
}

/// The beginning of a statement, for an error that quotes it.
fn shorten(statement: &[Token]) -> String {
    const MAX_CHARS: usize = 60;
    let words: Vec<&str> = statement.iter().take(10).map(Token::word).collect();
    words.join(" ").chars().take(MAX_CHARS).collect()
}

/// A word or number in lower case, what stood in quotes, or a single character.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Word(String),
    Quoted(String),
    Symbol(char),
}

impl Token {
    fn word(&self) -> &str {
        match self {
            Self::Word(word) | Self::Quoted(word) => word,
            Self::Symbol(symbol) => symbol_text(*symbol),
        }
    }
}

const fn symbol_text(symbol: char) -> &'static str {
    match symbol {
        '=' => "=",
        '(' => "(",
        ')' => ")",
        '.' => ".",
        '*' => "*",
        ',' => ",",
        // Nothing in the grammar holds any other.
        _ => "?",
    }
}

fn tokens(sql: &str) -> Result<Vec<Token>, Refusal> {
    let mut tokens = Vec::new();
    let mut rest = sql.trim_start();
    while let Some(first) = rest.chars().next() {
        rest = match first {
            '\'' | '"' => {
                let (quoted, after) = quoted(rest, first).ok_or(Refusal::Unterminated)?;
                tokens.push(Token::Quoted(quoted));
                after
            }
            '-' if rest.starts_with("--") => rest.split_once('\n').map_or("", |(_, after)| after),
            '/' if rest.starts_with("/*") => rest.split_once("*/").ok_or(Refusal::Unterminated)?.1,
            c if is_word(c) => {
                let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
                let (word, after) = rest.split_at(end);
                tokens.push(Token::Word(word.to_lowercase()));
                after
            }
            symbol => {
                tokens.push(Token::Symbol(symbol));
                rest.strip_prefix(symbol).unwrap_or("")
            }
        }
        .trim_start();
    }
    Ok(tokens)
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// What stands between two `quote`s, a doubled one being one of its own, and what follows.
fn quoted(text: &str, quote: char) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut rest = text.strip_prefix(quote)?;
    loop {
        let (part, after) = rest.split_once(quote)?;
        value.push_str(part);
        match after.strip_prefix(quote) {
            Some(more) => {
                value.push(quote);
                rest = more;
            }
            None => return Some((value, after)),
        }
    }
}

/// Commands of `PgBouncer`'s console.
const CONTROLS: [&str; 12] = [
    "PAUSE",
    "RESUME",
    "DISABLE",
    "ENABLE",
    "RECONNECT",
    "WAIT_CLOSE",
    "KILL",
    "KILL_CLIENT",
    "SUSPEND",
    "SHUTDOWN",
    "RELOAD",
    "UPGRADE",
];

/// SHOWs of `PgBouncer`, and of pgweir, that are not there yet.
const SHOWS_LATER: [&str; 15] = [
    "active_sockets",
    "advice",
    "dns_hosts",
    "dns_zones",
    "domains",
    "errors",
    "fds",
    "hosts",
    "mem",
    "peer_pools",
    "peers",
    "pins",
    "slow",
    "sockets",
    "users",
];

/// Settings that drivers set at connect.
const SETTINGS: [&str; 18] = [
    "application_name",
    "bytea_output",
    "client_encoding",
    "client_min_messages",
    "datestyle",
    "default_transaction_deferrable",
    "default_transaction_isolation",
    "default_transaction_read_only",
    "extra_float_digits",
    "idle_in_transaction_session_timeout",
    "intervalstyle",
    "jit",
    "lock_timeout",
    "search_path",
    "standard_conforming_strings",
    "statement_timeout",
    "timezone",
    "transaction_isolation",
];

#[cfg(test)]
mod tests;
