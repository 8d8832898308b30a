//! The table, parsed back from what Prometheus would read.
#![expect(clippy::float_cmp, reason = "these numbers are exact")]

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;

use super::*;
use crate::telemetry::fake::{self, Fake};

/// Sample (`name{labels}`) to value; fails on anything that is not the text format.
fn parse(text: &str) -> BTreeMap<String, f64> {
    let mut samples = BTreeMap::new();
    for line in text.lines() {
        if let Some(comment) = line.strip_prefix("# ") {
            assert!(comment.starts_with("HELP ") || comment.starts_with("TYPE "), "{line}");
            continue;
        }
        let (sample, value) = line.rsplit_once(' ').unwrap();
        let known = samples.insert(sample.to_owned(), value.parse().unwrap());
        assert_eq!(known, None, "{sample} is given twice");
    }
    samples
}

fn scrape(fake: Fake) -> BTreeMap<String, f64> {
    parse(&Metrics::new(fake.shared()).unwrap().text().unwrap())
}

const POOL: &str = r#"domain="markets",mode="read_write",user="postgres""#;

#[test]
fn a_pool_is_told_in_numbers() {
    let samples = scrape(Fake::new());

    let value = |name: &str, more: &str| {
        let key = format!("{name}{{{POOL}{more}}}");
        *samples.get(&key).unwrap_or_else(|| panic!("{key} is missing"))
    };
    assert_eq!(value("pgweir_clients", r#",state="waiting""#), 3.0);
    assert_eq!(value("pgweir_servers", r#",host="db-primary:5432",state="active""#), 2.0);
    assert_eq!(value("pgweir_pool_limit", ""), 30.0);
    assert_eq!(value("pgweir_pool_overflow", ""), 0.0);
    assert_eq!(value("pgweir_pool_utilization", ""), 2.0 / 30.0);
    assert_eq!(value("pgweir_oldest_wait_seconds", ""), 1.500_25);
    assert_eq!(value("pgweir_bytes_total", r#",direction="sent""#), 5000.0);
    let host = r#",host="db-primary:5432""#;
    assert_eq!(value("pgweir_server_connects_total", &format!(r#"{host},result="failed""#)), 1.0);
    assert_eq!(value("pgweir_server_closes_total", &format!(r#"{host},reason="recycle""#)), 1.0);
    assert_eq!(value("pgweir_prepared_statements_total", r#",outcome="hit""#), 1.0);
    assert_eq!(samples[r#"pgweir_errors_total{sqlstate_class="53",fault="proxy"}"#], 1.0);
    assert_eq!(samples[r#"pgweir_clients{domain="",mode="",user="",state="login"}"#], 4.0);
}

#[test]
fn buckets_are_cumulative_and_in_seconds() {
    let samples = scrape(Fake::new());

    let bucket =
        |le: &str| samples[&format!("pgweir_query_duration_seconds_bucket{{{POOL},le=\"{le}\"}}")];
    assert_eq!(bucket("0.001"), 0.0);
    assert_eq!(bucket("0.0025"), 1.0);
    assert_eq!(bucket("60"), 1.0);
    assert_eq!(bucket("+Inf"), 2.0);
    assert_eq!(samples[&format!("pgweir_query_duration_seconds_sum{{{POOL}}}")], 100.002);
    assert_eq!(samples[&format!("pgweir_query_duration_seconds_count{{{POOL}}}")], 2.0);
}

#[test]
fn databases_of_the_catch_all_share_their_samples() {
    let mut fake = Fake::new();
    fake.pools = vec![fake::pool("*", "one", "alice"), fake::pool("*", "two", "alice")];

    let samples = scrape(fake);

    let pool = r#"domain="*",mode="read_write",user="alice""#;
    assert_eq!(samples[&format!("pgweir_queries_total{{{pool}}}")], 40.0);
    assert_eq!(samples[&format!("pgweir_pool_limit{{{pool}}}")], 60.0);
    assert_eq!(samples[&format!("pgweir_pool_utilization{{{pool}}}")], 4.0 / 60.0);
    assert_eq!(samples[&format!("pgweir_query_duration_seconds_count{{{pool}}}")], 4.0);
}

#[test]
fn label_values_are_escaped() {
    let mut fake = Fake::new();
    fake.pools = vec![fake::pool("a\"b\nc\\", "x", "y")];

    let samples = scrape(fake);

    let key = r#"pgweir_queries_total{domain="a\"b\nc\\",mode="read_write",user="y"}"#;
    assert_eq!(samples[key], 20.0);
}

#[test]
fn the_seeds_names_are_there_only_when_asked_for() {
    let without = scrape(Fake::new());
    let mut fake = Fake::new();
    fake.configure(|config| config.http.seed_metrics = true);
    let with = scrape(fake);

    assert!(!without.keys().any(|key| key.starts_with("db_")));
    assert_eq!(with["db_pool_connections_total"], 4.0);
    assert_eq!(with["db_pool_connections_active"], 2.0);
    assert_eq!(with["db_query_duration_seconds_count"], 2.0);
}

#[test]
fn the_process_is_told_in_numbers() {
    let samples = scrape(Fake::new());

    assert_eq!(samples["process_start_time_seconds"], 1_795_176_000.0);
    assert!(samples["process_resident_memory_bytes"] > 1e5);
    assert!(samples["process_threads"] >= 1.0);
    assert!(samples.contains_key("process_cpu_seconds_total"));
    let build = format!("pgweir_build_info{{version=\"{}\"}}", env!("CARGO_PKG_VERSION"));
    assert_eq!(samples[&build], 1.0);
}

#[test]
fn every_row_of_the_table_gives_samples() {
    let mut fake = Fake::new();
    fake.configure(|config| config.http.seed_metrics = true);

    let samples = scrape(fake);

    // The limit of open files may be `unlimited`, and then there is no sample.
    for metric in METRICS.iter().filter(|metric| metric.name != "process_max_fds") {
        let found = samples.keys().any(|key| key.starts_with(metric.name));
        assert!(found, "{} has no sample", metric.name);
    }
}

#[test]
fn a_proxy_without_pools_can_be_scraped() {
    let mut fake = Fake::new();
    fake.pools.clear();

    let samples = scrape(fake);

    assert_eq!(samples["pgweir_clients_accepted_total"], 9.0);
}

#[test]
fn names_are_unique_and_follow_prometheus() {
    let mut names = HashSet::new();

    for metric in METRICS {
        assert!(names.insert(metric.name), "{} is in the table twice", metric.name);
        let seed = matches!(metric.read, Seed(_));
        let total = metric.name.ends_with("_total");
        assert!(seed || total == (metric.kind == Counter), "{}", metric.name);
        assert!(metric.help.ends_with('.'), "{}", metric.name);
    }
}

#[test]
fn a_scrape_walks_no_connections() {
    let fake = Arc::new(Fake::new());
    let observe: Arc<dyn Observe> = Arc::<Fake>::clone(&fake);

    Metrics::new(observe).unwrap().text().unwrap();

    assert_eq!(fake.walks.load(Relaxed), 0);
}

#[test]
fn metrics_document_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/METRICS.md");
    if std::env::var_os("PGWEIR_BLESS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, document()).unwrap();
    }

    let written = std::fs::read_to_string(&path).unwrap_or_default();

    let fix = "docs/METRICS.md is stale: run PGWEIR_BLESS=1 cargo test metrics_document";
    assert!(written == document(), "{fix}");
}
