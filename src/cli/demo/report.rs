//! What the demo prints: how to connect, a line every second, and the summary.

use std::time::Duration;

use super::samples::{PASSWORD, SAMPLES, USER};
use super::tally::{Tally, quantile};

/// What a reader needs to know to join in.
#[derive(Debug)]
pub(super) struct Greeting<'a> {
    /// `15`, and where its throwaway cluster listens.
    pub(super) postgres_version: &'a str,
    pub(super) postgres_port: u16,
    pub(super) port: u16,
    pub(super) http_port: u16,
    /// Why these ports, if they are not the usual ones.
    pub(super) notes: Vec<String>,
    /// What a user types for psql.
    pub(super) psql: &'a str,
    /// The configuration file.
    pub(super) config: String,
    /// `None`: until a signal.
    pub(super) duration: Option<Duration>,
}

impl Greeting<'_> {
    /// The text in front of the lines.
    pub(super) fn text(&self) -> String {
        let Self { port, http_port, psql, .. } = self;
        let server = format!("{USER}:{PASSWORD}@127.0.0.1:{port}");
        let ways = [
            ("psql", format!("{psql} postgresql://{server}/technical_analysis")),
            ("console", format!("{psql} postgresql://{server}/pgbouncer -c 'SHOW POOLS'")),
            (
                "psycopg2",
                format!(
                    "psycopg2.connect(host=\"127.0.0.1\", port={port}, user=\"{USER}\",\n{:16}\
                     password=\"{PASSWORD}\", dbname=\"markets_technicals\")",
                    ""
                ),
            ),
            ("SQLAlchemy", format!("postgresql+psycopg2://{server}/plurality")),
            ("metrics", format!("http://127.0.0.1:{http_port}/metrics")),
            ("status", format!("http://127.0.0.1:{http_port}/status")),
            ("configuration", self.config.clone()),
        ];
        let ways = ways.map(|(name, way)| format!("  {name:<13} {way}\n")).concat();
        let notes: Vec<_> = self.notes.iter().map(|note| format!("{note}\n")).collect();
        let notes = notes.concat();
        format!(
            "\npgweir listens at 127.0.0.1:{port}, before PostgreSQL {} at 127.0.0.1:{}.\n{notes}\n\
             {}\nConnect as user {USER} with password {PASSWORD}, to a domain or to its database:\n\n\
             {ways}\n{}\n\n",
            self.postgres_version,
            self.postgres_port,
            domains(),
            self.legend(),
        )
    }

    fn legend(&self) -> String {
        let end = match self.duration {
            Some(duration) => {
                format!("It ends after {}", crate::config::format_duration(duration))
            }
            None => "It ends with Ctrl-C".to_owned(),
        };
        format!(
            "Every second: srv servers lent+idle, cli clients, wait those that wait for a server,\n\
             tps transactions a second, ms mean response of a query in milliseconds.\n\
             {end} and leaves nothing behind."
        )
    }
}

fn domains() -> String {
    let mut rows = vec![["domain", "database", "servers", "load"].map(str::to_owned)];
    rows.extend(SAMPLES.iter().map(|sample| {
        let servers = match sample.max_overflow {
            0 => format!("{}", sample.size),
            more => format!("{}, at most {}", sample.size, sample.size + more),
        };
        [sample.domain.to_owned(), sample.database.to_owned(), servers, sample.load.manner()]
    }));
    table(&rows, |_| Side::Left)
}

/// The two lines above the columns.
pub(super) fn heading() -> String {
    let names = SAMPLES.map(|sample| format!(" | {:^22}", sample.domain)).concat();
    let columns = format!(" | {:>4}{:>4}{:>5}{:>4}{:>5}", "srv", "cli", "wait", "tps", "ms");
    format!("{:5}{}\n{:>5}{}\n", "", names.trim_end(), "time", columns.repeat(SAMPLES.len()))
}

/// One line: what each domain does, and what it did since the line before, `period` ago.
pub(super) fn line(at: Duration, period: Duration, before: &[Tally], now: &[Tally]) -> String {
    let domain = |(before, now): (&Tally, &Tally)| {
        let servers = format!("{}+{}", now.active, now.idle);
        let rate = now.rate(before, period.as_secs_f64());
        let response = milliseconds(now.mean_response(before));
        format!(" | {servers:>4}{:>4}{:>5}{rate:>4.0}{response:>5}", now.clients, now.waiting)
    };
    let domains: Vec<_> = before.iter().zip(now).map(domain).collect();
    format!("{:>4}s{}\n", at.as_secs(), domains.concat())
}

/// Three digits, so that it stays narrow: `0.25`, `12.5`, `130`; `-` without any.
fn milliseconds(value: Option<f64>) -> String {
    match value {
        None => "-".to_owned(),
        Some(ms) if ms < 9.995 => format!("{ms:.2}"),
        Some(ms) if ms < 99.95 => format!("{ms:.1}"),
        Some(ms) => format!("{ms:.0}"),
    }
}

/// The whole run: its length, what each domain did, the most servers seen, and the errors.
pub(super) fn summary(
    took: Duration,
    tallies: &[Tally],
    most_servers: &[usize],
    errors: &str,
) -> String {
    let mut rows = vec![SUMMARY.map(str::to_owned)];
    for ((sample, tally), most) in SAMPLES.iter().zip(tallies).zip(most_servers) {
        rows.push([
            sample.domain.to_owned(),
            tally.logins.to_string(),
            tally.connects.to_string(),
            most.to_string(),
            tally.transactions.to_string(),
            milliseconds(quantile(&tally.query_duration, 0.5)),
            milliseconds(quantile(&tally.query_duration, 0.99)),
            milliseconds(quantile(&tally.checkout_wait, 0.99)),
        ]);
    }
    let side = |column| if column == 0 { Side::Left } else { Side::Right };
    let sum = |read: fn(&Tally) -> u64| tallies.iter().map(read).sum::<u64>();
    format!(
        "\nIn {:.1} s {} client logins and {} transactions, on {} server connections.\n\
         Errors told to clients: {errors}.\n\n{}\n\
         opened, peak: server connections in all, and at once. p50, p99: response of a query\n\
         in ms. wait p99: of a client for a server in ms.\n\n",
        took.as_secs_f64(),
        sum(|tally| tally.logins),
        sum(|tally| tally.transactions),
        sum(|tally| tally.connects),
        table(&rows, side),
    )
}

#[derive(Debug, Clone, Copy)]
enum Side {
    Left,
    Right,
}

/// Indented columns as wide as their widest cell.
fn table<const N: usize>(rows: &[[String; N]], side: impl Fn(usize) -> Side) -> String {
    let mut widths = [0; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.len());
        }
    }
    let line = |row: &[String; N]| {
        let cells = row.iter().zip(widths).enumerate();
        let cells: Vec<_> = cells
            .map(|(column, (cell, width))| match side(column) {
                Side::Left => format!("  {cell:<width$}"),
                Side::Right => format!("  {cell:>width$}"),
            })
            .collect();
        format!("{}\n", cells.concat().trim_end())
    };
    rows.iter().map(line).collect::<Vec<_>>().concat()
}

const SUMMARY: [&str; 8] =
    ["domain", "logins", "opened", "peak", "transactions", "p50", "p99", "wait p99"];

#[cfg(test)]
mod tests {
    use super::*;

    fn tally() -> Tally {
        Tally {
            active: 2,
            idle: 3,
            servers: 5,
            clients: 16,
            waiting: 1,
            logins: 16,
            connects: 5,
            transactions: 1200,
            queries: 2400,
            query_micros: 2_400_000,
            query_duration: vec![0, 0, 0, 2376, 24],
            checkout_wait: vec![1200],
        }
    }

    fn greeting() -> Greeting<'static> {
        Greeting {
            postgres_version: "15",
            postgres_port: 41_234,
            port: 6432,
            http_port: 9632,
            notes: vec!["Port 6432 is taken".to_owned()],
            psql: "psql",
            config: "/tmp/pgweir-demo-1/pgweir.toml".to_owned(),
            duration: None,
        }
    }

    #[test]
    fn the_greeting_says_how_to_connect() {
        let text = greeting().text();

        for part in [
            "  psql          psql postgresql://postgres:root@127.0.0.1:6432/technical_analysis\n",
            "postgres:root@127.0.0.1:6432/pgbouncer -c 'SHOW POOLS'\n",
            "psycopg2.connect(host=\"127.0.0.1\", port=6432, user=\"postgres\",\n",
            "postgresql+psycopg2://postgres:root@127.0.0.1:6432/plurality\n",
            "http://127.0.0.1:9632/metrics\n",
            "http://127.0.0.1:9632/status\n",
            "Port 6432 is taken\n",
            "Ctrl-C",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
        let limited = Greeting { duration: Some(Duration::from_secs(10)), ..greeting() };
        assert!(limited.text().contains("It ends after 10s"));
    }

    #[test]
    fn lines_are_aligned_with_their_heading_and_fit_a_terminal() {
        let (earlier, now) = (vec![Tally::default(); 3], vec![tally(); 3]);

        let line = line(Duration::from_secs(61), Duration::from_secs(12), &earlier, &now);
        let heading = heading();

        assert!(line.starts_with("  61s |  2+3  16    1 100 1.00 |"), "{line}");
        let widths: Vec<_> = heading.lines().chain(line.lines()).map(str::len).collect();
        assert_eq!(widths[1], widths[2], "{heading}{line}");
        assert!(widths.iter().all(|width| *width <= 80), "{widths:?}");
    }

    #[test]
    fn a_second_without_a_query_has_no_response() {
        let still = vec![tally(); 3];

        let line = line(Duration::from_secs(1), Duration::from_secs(1), &still, &still);

        assert!(line.contains("   0    - |"), "{line}");
    }

    #[test]
    fn milliseconds_have_three_digits() {
        for (value, shown) in
            [(0.0, "0.00"), (0.254, "0.25"), (9.999, "10.0"), (12.54, "12.5"), (99.99, "100")]
        {
            assert_eq!(milliseconds(Some(value)), shown);
        }
    }

    #[test]
    fn the_summary_adds_up_and_names_each_domain() {
        let text = summary(Duration::from_millis(10_040), &vec![tally(); 3], &[5, 4, 2], "none");

        assert!(text.contains("In 10.0 s 48 client logins and 3600 transactions, on 15 server"));
        assert!(text.contains("Errors told to clients: none."), "{text}");
        for sample in &SAMPLES {
            assert!(text.contains(sample.domain), "{text}");
        }
    }
}
