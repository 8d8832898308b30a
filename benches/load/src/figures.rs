//! What a load has seen, as it is printed.

use std::fmt::Write as _;
use std::time::Duration;

use hdrhistogram::Histogram;

/// Latencies from 1 µs to a minute, in nanoseconds.
pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1000, 60_000_000_000, 3).expect("these bounds make sense")
}

pub(crate) fn record(latencies: &mut Histogram<u64>, latency: Duration) {
    latencies.saturating_record(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX));
}

/// One JSON object: transactions that were answered in the measured seconds, their rate, their latencies in
/// microseconds, and what else is `known`, as pairs of name and value.
pub(crate) fn json(latencies: &Histogram<u64>, seconds: Duration, known: &[(&str, f64)]) -> String {
    let at = |quantile: f64| latencies.value_at_quantile(quantile) as f64 / 1000.0;
    let rate = latencies.len() as f64 / seconds.as_secs_f64();
    let mut text = format!(
        r#"{{"transactions": {}, "per_second": {rate:.1}, "mean_us": {:.1}, "p50_us": {:.1}, "p99_us": {:.1}, "p999_us": {:.1}, "max_us": {:.1}"#,
        latencies.len(),
        latencies.mean() / 1000.0,
        at(0.5),
        at(0.99),
        at(0.999),
        latencies.max() as f64 / 1000.0,
    );
    for (name, value) in known {
        // Writing to a text does not fail.
        let _written = write!(text, r#", "{name}": {value:.1}"#);
    }
    text + "}"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_in_microseconds_and_per_second() {
        let mut latencies = histogram();
        for millis in 1..=100 {
            record(&mut latencies, Duration::from_millis(millis));
        }

        let text = json(&latencies, Duration::from_secs(2), &[("left_over", 3.0)]);

        assert!(
            text.starts_with(r#"{"transactions": 100, "per_second": 50.0, "mean_us": 50"#),
            "{text}"
        );
        assert!(text.contains(r#""p50_us": 500"#) && text.contains(r#""p99_us": 99"#), "{text}");
        assert!(text.ends_with(r#", "left_over": 3.0}"#), "{text}");
    }
}
