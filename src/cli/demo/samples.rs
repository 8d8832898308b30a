//! The three domains of the demo: where they live, how small their pools are, what loads them.

/// A domain with its database, its pool and its load.
#[derive(Debug)]
pub(super) struct Sample {
    pub(super) domain: &'static str,
    pub(super) database: &'static str,
    /// What makes its tables.
    pub(super) schema: &'static str,
    /// Servers, and how many more under load. Small, so that one sees them shared.
    pub(super) size: usize,
    pub(super) max_overflow: usize,
    pub(super) load: Load,
}

/// What a `pgbench` does to a domain.
#[derive(Debug)]
pub(super) struct Load {
    pub(super) clients: usize,
    /// Transactions a second.
    pub(super) rate: usize,
    /// `pgbench -M`.
    pub(super) protocol: &'static str,
    /// A connection for each transaction, as the scripts of the first seed do it.
    pub(super) reconnects: bool,
    pub(super) scripts: [Script; 3],
}

#[derive(Debug)]
pub(super) struct Script {
    pub(super) name: &'static str,
    /// How often it is run, in relation to the others'.
    pub(super) weight: usize,
    /// In it `{ROWS}` stands for [`BATCH`] rows of a number and a value.
    pub(super) sql: &'static str,
}

impl Load {
    /// What makes it different from the others.
    pub(super) fn manner(&self) -> String {
        let how = if self.reconnects {
            "a connection per transaction"
        } else {
            match self.protocol {
                "prepared" => "prepared statements",
                _ => "pauses in transactions",
            }
        };
        format!("{} clients, {how}", self.clients)
    }
}

impl Script {
    /// The text that `pgbench` reads.
    pub(super) fn text(&self) -> String {
        self.sql.replace("{ROWS}", &rows())
    }
}

/// A row a line: `(1, 7.1),` and so on.
fn rows() -> String {
    let row = |number| format!("({number}, {}.{})", number * 7 % 100, number % 10);
    (1..=BATCH).map(row).collect::<Vec<_>>().join(",\n")
}

/// Rows of a batch insert, as many as the first seed has.
pub(super) const BATCH: usize = 1000;

/// By the names of the first seed.
pub(super) const SAMPLES: [Sample; 3] = [
    Sample {
        domain: "technical_analysis",
        database: "markets_technicals",
        schema: include_str!("sql/technical_analysis.sql"),
        size: 5,
        max_overflow: 5,
        load: Load {
            clients: 16,
            rate: 120,
            // Not "prepared": pgbench prepares while its other clients sit in blocks, and would wait
            // for itself with fewer servers than clients.
            protocol: "extended",
            reconnects: false,
            scripts: [
                Script {
                    name: "technical-read",
                    weight: 60,
                    sql: "\\set stock random(1, 8)\n\
                          SELECT * FROM usstockseod\n\
                          WHERE ticker = ('{AAPL,AMZN,GOOGL,JPM,META,MSFT,NVDA,TSLA}'::text[])[:stock::int]\n\
                          ORDER BY date DESC LIMIT 20;\n",
                },
                Script {
                    name: "technical-transaction",
                    weight: 39,
                    sql: "\\set day random(1, 250)\n\
                          BEGIN;\n\
                          SELECT avg(close) FROM usstockseod WHERE date = date '2025-01-01' + :day::int;\n\
                          \\sleep 40 ms\n\
                          UPDATE metadata SET last_update = date '2025-01-01' + :day::int;\n\
                          COMMIT;\n",
                },
                Script {
                    name: "technical-batch",
                    weight: 1,
                    sql: "\\set batch random(1, 9)\n\
                          BEGIN;\n\
                          DELETE FROM key_indicators WHERE ticker = 'BATCH' || :batch::text;\n\
                          INSERT INTO key_indicators (date, ticker, value)\n\
                          SELECT date '2025-01-01' + row.day, 'BATCH' || :batch::text, row.value\n\
                          FROM (VALUES {ROWS}) AS row (day, value);\n\
                          COMMIT;\n",
                },
            ],
        },
    },
    Sample {
        domain: "internals",
        database: "markets_internals",
        schema: include_str!("sql/internals.sql"),
        size: 3,
        max_overflow: 2,
        load: Load {
            clients: 8,
            rate: 25,
            protocol: "simple",
            reconnects: true,
            scripts: [
                Script {
                    name: "internals-read",
                    weight: 80,
                    sql: "SELECT * FROM market_breadth WHERE exchange = 'NYSE'\n\
                          ORDER BY date DESC LIMIT 50;\n",
                },
                Script {
                    name: "internals-transaction",
                    weight: 18,
                    sql: "\\set day random(1, 250)\n\
                          BEGIN;\n\
                          SELECT sum(advances - declines) FROM market_breadth WHERE exchange = 'NASDAQ';\n\
                          \\sleep 20 ms\n\
                          UPDATE market_breadth SET advances = advances + 1\n\
                          WHERE exchange = 'NASDAQ' AND date = date '2025-01-01' + :day::int;\n\
                          COMMIT;\n",
                },
                Script {
                    name: "internals-batch",
                    weight: 2,
                    sql: "\\set batch random(1, 9)\n\
                          BEGIN;\n\
                          DELETE FROM market_breadth WHERE exchange = 'BATCH' || :batch::text;\n\
                          INSERT INTO market_breadth (date, exchange, advances, declines)\n\
                          SELECT date '2025-01-01' + row.day, 'BATCH' || :batch::text, row.day, row.value\n\
                          FROM (VALUES {ROWS}) AS row (day, value);\n\
                          COMMIT;\n",
                },
            ],
        },
    },
    Sample {
        domain: "plurality",
        database: "Plurality",
        schema: include_str!("sql/plurality.sql"),
        size: 2,
        max_overflow: 0,
        load: Load {
            clients: 20,
            rate: 70,
            protocol: "extended",
            reconnects: false,
            scripts: [
                Script {
                    name: "plurality-read",
                    weight: 20,
                    sql: "SELECT industry_group, strength FROM rs_industry_groups\n\
                          WHERE date = (SELECT max(date) FROM rs_industry_groups WHERE industry_group = 'Gold')\n\
                          ORDER BY strength DESC;\n",
                },
                Script {
                    name: "plurality-transaction",
                    weight: 79,
                    sql: "\\set day random(1, 250)\n\
                          BEGIN;\n\
                          SELECT * FROM rs_industry_groups\n\
                          WHERE industry_group = 'Software' AND date = date '2025-01-01' + :day::int;\n\
                          \\sleep 25 ms\n\
                          COMMIT;\n",
                },
                Script {
                    name: "plurality-batch",
                    weight: 1,
                    sql: "\\set batch random(1, 9)\n\
                          BEGIN;\n\
                          DELETE FROM rs_industry_groups WHERE industry_group = 'Batch ' || :batch::text;\n\
                          INSERT INTO rs_industry_groups (date, industry_group, strength)\n\
                          SELECT date '2025-01-01' + row.day, 'Batch ' || :batch::text, row.value\n\
                          FROM (VALUES {ROWS}) AS row (day, value);\n\
                          COMMIT;\n",
                },
            ],
        },
    },
];

/// The seed's user, who may do everything in the demo, and the password.
pub(super) const USER: &str = "postgres";
pub(super) const PASSWORD: &str = "root";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_has_its_thousand_rows() {
        let batch = SAMPLES[0].load.scripts[2].text();

        assert_eq!(batch.matches("),\n(").count(), BATCH - 1);
        assert!(
            batch.contains("(VALUES (1, 7.1),\n(2, 14.2)") && batch.contains("(1000, 0.0)) AS")
        );
        assert!(!batch.contains("{ROWS}"));
    }

    #[test]
    fn every_batch_removes_what_it_inserted_so_that_no_table_grows() {
        for sample in &SAMPLES {
            let batch = sample.load.scripts[2].text();
            let (delete, insert) = (batch.find("DELETE FROM"), batch.find("INSERT INTO"));
            assert!(delete.is_some() && delete < insert, "{}", sample.domain);
        }
    }

    #[test]
    fn more_clients_than_servers_load_each_domain() {
        for sample in &SAMPLES {
            assert!(sample.load.clients > sample.size + sample.max_overflow, "{}", sample.domain);
        }
    }
}
