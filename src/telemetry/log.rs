//! The log: one line for each event on stderr, as text or as JSON.

use std::fmt;
use std::io;
use std::time::SystemTime;

use tracing::field::{Field, Visit};
use tracing::{Dispatch, Event, Level, Subscriber};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields, MakeWriter};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::{LookupSpan, Scope};
use tracing_subscriber::{Layer, Registry};

use crate::config::{Log, LogFormat, LogLevel};

/// Sends the events of the whole process to stderr. For `main`: two proxies in one process share
/// their log, and the library never calls this.
///
/// # Errors
/// If the process has a log already.
pub fn init(log: &Log) -> Result<(), tracing::dispatcher::SetGlobalDefaultError> {
    tracing::dispatcher::set_global_default(dispatch(log, io::stderr))
}

/// A log that writes to `writer`.
fn dispatch<W>(log: &Log, writer: W) -> Dispatch
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let layer = tracing_subscriber::fmt::layer().with_writer(writer);
    let layer: Box<dyn Layer<Registry> + Send + Sync> = match log.format {
        LogFormat::Text => layer.with_ansi(false).fmt_fields(Text).event_format(Text).boxed(),
        LogFormat::Json => layer.json().flatten_event(true).with_timer(Clock).boxed(),
    };
    Dispatch::new(Registry::default().with(layer.with_filter(filter(log.level))))
}

/// Our own events from `level` on. Libraries are heard from `warn` on and no earlier: at `debug`
/// they would drown ours, and may print what is read from a socket.
fn filter(level: LogLevel) -> Targets {
    let ours = match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    Targets::new().with_default(ours.min(LevelFilter::WARN)).with_target("pgweir", ours)
}

/// `2026-11-20T12:00:00.123Z INFO  listening address=127.0.0.1:6432`
#[derive(Debug, Clone, Copy)]
struct Text;

impl<S, N> FormatEvent<S, N> for Text
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        Clock.format_time(&mut writer)?;
        write!(writer, " {:5}", level(*event.metadata().level()))?;
        context.format_fields(writer.by_ref(), event)?;
        for span in context.event_scope().into_iter().flat_map(Scope::from_root) {
            if let Some(fields) = span.extensions().get::<FormattedFields<N>>() {
                writer.write_str(fields)?;
            }
        }
        writeln!(writer)
    }
}

impl<'a> FormatFields<'a> for Text {
    fn format_fields<R: RecordFields>(&self, mut writer: Writer<'a>, fields: R) -> fmt::Result {
        let mut line = Line::default();
        fields.record(&mut line);
        write!(writer, "{}{}", line.message, line.fields)
    }
}

/// The parts of an event, each with a space in front.
#[derive(Debug, Default)]
struct Line {
    message: String,
    fields: String,
}

impl Line {
    fn add(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.message.push(' ');
            escape(value, &mut self.message);
            return;
        }
        self.fields.push(' ');
        self.fields.push_str(field.name());
        self.fields.push('=');
        let plain = |c: char| !c.is_whitespace() && !c.is_control() && c != '"' && c != '=';
        if !value.is_empty() && value.chars().all(plain) {
            self.fields.push_str(value);
        } else {
            self.fields.push('"');
            escape(value, &mut self.fields);
            self.fields.push('"');
        }
    }
}

impl Visit for Line {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, &format!("{value:?}"));
    }
}

/// Keeps an event on one line whatever a client put into its name or its query, and lets a quoted
/// value be told from what follows it.
fn escape(value: &str, out: &mut String) {
    for c in value.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            // The separators that some viewers break a line at.
            c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') => {
                out.extend(c.escape_unicode());
            }
            c => out.push(c),
        }
    }
}

const fn level(level: Level) -> &'static str {
    match level {
        Level::ERROR => "ERROR",
        Level::WARN => "WARN",
        Level::INFO => "INFO",
        Level::DEBUG => "DEBUG",
        Level::TRACE => "TRACE",
    }
}

/// UTC with milliseconds.
#[derive(Debug, Clone, Copy)]
struct Clock;

impl FormatTime for Clock {
    fn format_time(&self, writer: &mut Writer<'_>) -> fmt::Result {
        write!(writer, "{}", humantime::format_rfc3339_millis(SystemTime::now()))
    }
}

/// What `events` logs on this thread.
#[cfg(test)]
pub(crate) fn capture(log: &Log, events: impl FnOnce()) -> String {
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);
    impl io::Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    let buffer = Buffer::default();
    let writer = buffer.clone();
    tracing::dispatcher::with_default(&dispatch(log, move || writer.clone()), events);
    let bytes = buffer.0.lock().unwrap().clone();
    String::from_utf8(bytes).unwrap()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::Value;

    use super::*;
    use crate::config::LogStatements;

    fn log(level: LogLevel, format: LogFormat) -> Log {
        let slow_query = Duration::from_millis(100);
        Log { level, format, statements: LogStatements::Slow, slow_query }
    }

    #[test]
    fn an_event_is_a_line_that_people_can_read() {
        let text = capture(&log(LogLevel::Info, LogFormat::Text), || {
            tracing::info!(address = %"127.0.0.1:6432", "listening");
        });

        let (time, event) = text.split_once(' ').unwrap();
        assert_eq!(event, "INFO  listening address=127.0.0.1:6432\n");
        assert!(humantime::parse_rfc3339(time).is_ok() && time.ends_with('Z'), "{time}");
        assert_eq!(time.len(), "2026-11-20T12:00:00.123Z".len());
    }

    #[test]
    fn nothing_that_a_client_sends_makes_a_second_line() {
        let text = capture(&log(LogLevel::Info, LogFormat::Text), || {
            tracing::info!(user = "a\nb", name = %"x\r\ny \u{1b}[31m\"", none = "", "bad\nmessage");
        });

        let event = text.split_once(' ').unwrap().1;
        assert_eq!(
            event,
            "INFO  bad\\nmessage user=\"a\\nb\" name=\"x\\r\\ny \\u{1b}[31m\\\"\" none=\"\"\n"
        );
    }

    #[test]
    fn fields_of_spans_come_with_the_event() {
        let text = capture(&log(LogLevel::Info, LogFormat::Text), || {
            let span = tracing::info_span!("session", client = 7, domain = "markets");
            span.in_scope(|| tracing::warn!(reason = "timeout", "closed"));
        });

        assert!(text.ends_with("WARN  closed reason=timeout client=7 domain=markets\n"), "{text}");
    }

    #[test]
    fn the_level_decides_and_libraries_are_kept_quiet() {
        let events = || {
            tracing::debug!("ours");
            tracing::warn!("warned");
            tracing::debug!(target: "hyper", "theirs");
        };

        let debug = capture(&log(LogLevel::Debug, LogFormat::Text), events);
        let error = capture(&log(LogLevel::Error, LogFormat::Text), events);

        assert_eq!(debug.lines().count(), 2, "{debug}");
        assert!(debug.contains("DEBUG ours") && debug.contains("WARN  warned"), "{debug}");
        assert_eq!(error, "");
    }

    #[test]
    fn json_is_one_object_a_line() {
        let text = capture(&log(LogLevel::Info, LogFormat::Json), || {
            tracing::info!(user = "a\n\"b", client = 7, "closed");
        });

        let json: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(text.lines().count(), 1);
        assert_eq!(json["level"], "INFO");
        assert_eq!(json["message"], "closed");
        assert_eq!(json["user"], "a\n\"b");
        assert_eq!(json["client"], 7);
        assert!(humantime::parse_rfc3339(json["timestamp"].as_str().unwrap()).is_ok(), "{text}");
    }
}
