//! Runs checks one after the other, prints a line for each, and says whether one has failed.

use std::future::Future;
use std::process::ExitCode;
use std::time::Duration;

pub type Outcome = Result<(), Box<dyn std::error::Error + Send + Sync>>;

#[derive(Default)]
pub struct Checks {
    failed: bool,
}

impl Checks {
    /// Runs a check in a task of its own, so that a panic of its assertions is seen and survived.
    pub async fn check(
        &mut self,
        name: &str,
        body: impl Future<Output = Outcome> + Send + 'static,
    ) {
        let bounded = tokio::time::timeout(Duration::from_secs(60), body);
        let problem = match tokio::spawn(bounded).await {
            Ok(Ok(Ok(()))) => {
                println!("ok {name}");
                return;
            }
            Ok(Ok(Err(error))) => format!("{error:?}"),
            Ok(Err(_)) => "not within 60 s".to_owned(),
            Err(panic) => panic.to_string(),
        };
        self.failed = true;
        println!("FAILED {name}: {problem}");
    }

    /// What the program ends with.
    pub fn end(self) -> ExitCode {
        if self.failed {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        }
    }
}

/// A variable that says where to connect: PGHOST, PGPORT and so on.
pub fn told(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set"))
}
