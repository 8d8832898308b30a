//! The log of statements: which are written, and with what beside them.

use std::time::Duration;

use crate::config::{Log, LogStatements};

/// Decides which statements reach the log, and writes them with their literals masked.
#[derive(Debug, Clone, Copy)]
pub struct SlowLog {
    statements: LogStatements,
    threshold: Duration,
    mask: Mask,
}

/// Replaces the literals of a statement and cuts it to so many bytes.
pub type Mask = fn(&str, usize) -> String;

/// A statement that has been answered.
#[derive(Debug, Clone, Copy)]
pub struct Answered<'a> {
    pub duration: Duration,
    pub domain: &'a str,
    /// The user that the client logged in as.
    pub user: &'a str,
    pub application_name: &'a str,
    pub client_id: u64,
    pub text: &'a str,
}

/// What to say about a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Entry {
    Slow,
    Ordinary,
}

impl SlowLog {
    /// Longest statement written, in bytes.
    pub const MAX_TEXT: usize = 2048;

    pub fn new(log: &Log, mask: Mask) -> Self {
        Self { statements: log.statements, threshold: log.slow_query, mask }
    }

    /// False if no statement is ever written, so that nobody needs to keep its text.
    pub fn wants_text(&self) -> bool {
        self.statements != LogStatements::None
    }

    /// True if a statement of this duration is written: ask before the text is put together.
    pub fn wants(&self, duration: Duration) -> bool {
        self.entry(duration).is_some()
    }

    /// Writes the statement if it is wanted, as an event of target `pgweir::slow`: a warning if it
    /// was slow, else information.
    pub fn record(&self, answered: &Answered<'_>) {
        match self.entry(answered.duration) {
            Some(Entry::Slow) => self.write_slow(answered),
            Some(Entry::Ordinary) => self.write_ordinary(answered),
            None => {}
        }
    }

    fn entry(&self, duration: Duration) -> Option<Entry> {
        let slow = duration >= self.threshold;
        match self.statements {
            LogStatements::None => None,
            LogStatements::Slow => slow.then_some(Entry::Slow),
            LogStatements::All if slow => Some(Entry::Slow),
            LogStatements::All => Some(Entry::Ordinary),
        }
    }

    fn write_slow(&self, answered: &Answered<'_>) {
        tracing::warn!(
            target: TARGET,
            duration_ms = milliseconds(answered.duration),
            domain = answered.domain,
            user = answered.user,
            application_name = answered.application_name,
            client = answered.client_id,
            statement = (self.mask)(answered.text, Self::MAX_TEXT),
            "slow query"
        );
    }

    fn write_ordinary(&self, answered: &Answered<'_>) {
        tracing::info!(
            target: TARGET,
            duration_ms = milliseconds(answered.duration),
            domain = answered.domain,
            user = answered.user,
            application_name = answered.application_name,
            client = answered.client_id,
            statement = (self.mask)(answered.text, Self::MAX_TEXT),
            "query"
        );
    }
}

/// With three places: microseconds are the finest that is measured.
fn milliseconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

const TARGET: &str = "pgweir::slow";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{LogFormat, LogLevel};
    use crate::telemetry::log::capture;

    fn log(statements: LogStatements) -> Log {
        Log {
            level: LogLevel::Info,
            format: LogFormat::Text,
            statements,
            slow_query: Duration::from_millis(100),
        }
    }

    fn hide_digits(text: &str, max: usize) -> String {
        text.chars().take(max).map(|c| if c.is_ascii_digit() { '?' } else { c }).collect()
    }

    fn lines(statements: LogStatements, durations_ms: &[u64]) -> Vec<String> {
        let log = log(statements);
        let text = capture(&log, || {
            let slow = SlowLog::new(&log, hide_digits);
            for ms in durations_ms {
                slow.record(&Answered {
                    duration: Duration::from_millis(*ms),
                    domain: "markets",
                    user: "alice",
                    application_name: "psql\nfake line",
                    client_id: 7,
                    text: "SELECT 42\nFROM t",
                });
            }
        });
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn a_slow_statement_is_one_masked_line() {
        let lines = lines(LogStatements::Slow, &[99, 100]);

        assert_eq!(lines.len(), 1, "{lines:?}");
        let (_time, event) = lines[0].split_once(' ').unwrap();
        assert_eq!(
            event,
            "WARN  slow query duration_ms=100.0 domain=markets user=alice \
             application_name=\"psql\\nfake line\" client=7 statement=\"SELECT ??\\nFROM t\""
        );
    }

    #[test]
    fn all_statements_are_written_when_asked_for() {
        let lines = lines(LogStatements::All, &[1, 250]);

        assert!(lines[0].contains(" INFO  query duration_ms=1.0 "), "{lines:?}");
        assert!(lines[1].contains(" WARN  slow query duration_ms=250.0 "), "{lines:?}");
    }

    #[test]
    fn nothing_is_written_or_kept_when_switched_off() {
        assert!(lines(LogStatements::None, &[1, 10_000]).is_empty());
        assert!(!SlowLog::new(&log(LogStatements::None), hide_digits).wants_text());
        assert!(SlowLog::new(&log(LogStatements::Slow), hide_digits).wants_text());
    }

    #[test]
    fn wants_agrees_with_the_threshold() {
        let slow = SlowLog::new(&log(LogStatements::Slow), hide_digits);

        assert!(!slow.wants(Duration::from_micros(99_999)));
        assert!(slow.wants(Duration::from_millis(100)));
    }
}
