//! What a server is opened with for a client that has it to itself.

use crate::wire::startup::{Replication, quote_option, split_options};

/// A client's own startup parameters, beside what its pool opens every server with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Opening {
    /// The `options` parameter, as the client wrote it.
    pub options: String,
    /// The others, in the client's spelling and order.
    pub parameters: Vec<(String, String)>,
    /// A replication connection: which kind, and a number that no other has.
    pub replication: Option<(Replication, u64)>,
}

/// Parameters that have no effect, or cannot be set, once a connection has begun.
const AT_START: [&str; 8] = [
    "ignore_system_indexes",
    "jit_debugging_support",
    "jit_profiling_support",
    "local_preload_libraries",
    "log_connections",
    "log_disconnections",
    "post_auth_delay",
    "session_preload_libraries",
];

impl Opening {
    /// Takes those out of `settings` that a server must be opened with: they cannot be put on one.
    pub fn take_from(settings: &mut Vec<(String, String)>) -> Self {
        let is_at_start = |(name, _): &mut (String, String)| {
            AT_START.iter().any(|at| at.eq_ignore_ascii_case(name))
        };
        Self { parameters: settings.extract_if(.., is_at_start).collect(), ..Self::default() }
    }

    /// Nothing is asked for that a plain server does not have.
    pub fn is_plain(&self) -> bool {
        self.options.is_empty() && self.parameters.is_empty() && self.replication.is_none()
    }

    /// True if PostgreSQL is asked to wait before it begins: `post_auth_delay`, by that name or as
    /// the switch `-W`, which may stand behind others. What only looks so does no harm.
    pub fn delays(&self) -> bool {
        let is_delay =
            |text: &str| text.to_ascii_lowercase().replace('-', "_").contains("post_auth_delay");
        let has_switch = |word: &str| {
            let letters = word.strip_prefix('-').filter(|rest| !rest.starts_with(['-', 'c']));
            letters.is_some_and(|letters| letters.contains('W'))
        };
        self.parameters.iter().any(|(name, _)| is_delay(name))
            || split_options(&self.options).iter().any(|word| is_delay(word) || has_switch(word))
    }

    /// The startup parameters beside user and database. What the pool says stands in front, where
    /// whatever the client says goes over it.
    pub fn startup(&self, of_pool: &[(String, String)]) -> Vec<(&str, String)> {
        let mut startup = Vec::new();
        match self.replication {
            Some((Replication::Logical, _)) => startup.push(("replication", "database".to_owned())),
            Some((Replication::Physical, _)) => startup.push(("replication", "true".to_owned())),
            None => {}
        }
        let switch = |(name, value): &(String, String)| {
            format!("-c {}", quote_option(&format!("{name}={value}")))
        };
        // The time that a statement may take is meant for statements: one that copies a table to its
        // subscriber takes what it takes.
        let applies = |name: &str| self.replication.is_none() || name != "statement_timeout";
        let of_pool = of_pool.iter().filter(|(name, _)| applies(name));
        let mut options: Vec<_> = of_pool.map(switch).collect();
        options.push(self.options.clone());
        options.retain(|option| !option.is_empty());
        if !options.is_empty() {
            startup.push(("options", options.join(" ")));
        }
        startup.extend(self.parameters.iter().map(|(name, value)| (name.as_str(), value.clone())));
        startup
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_client_asks_for_comes_behind_what_the_pool_says() {
        let text = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let opening = Opening {
            options: "-c work_mem=1MB".into(),
            parameters: vec![text("DateStyle", "German"), text("application_name", "")],
            replication: None,
        };
        let of_pool = [text("search_path", r"a, b\c"), text("work_mem", "64MB")];

        assert_eq!(
            opening.startup(&of_pool),
            [
                ("options", r"-c search_path=a,\ b\\c -c work_mem=64MB -c work_mem=1MB".into()),
                ("DateStyle", "German".into()),
                ("application_name", String::new()),
            ]
        );
    }

    #[test]
    fn a_delay_is_seen_in_every_spelling() {
        let delays =
            |options: &str| Opening { options: options.into(), ..Opening::default() }.delays();
        for options in [
            "-c post_auth_delay=9",
            r"-cPost\_Auth_Delay=9",
            "-e --post-auth-delay=9",
            "-W 9",
            "-OW9",
        ] {
            assert!(delays(options), "{options}");
        }
        for options in ["", "-c work_mem=1MB", "-c TimeZone=WET", "-cTimeZone=WET", "--x=W"] {
            assert!(!delays(options), "{options}");
        }
        let parameters = vec![("POST_AUTH_DELAY".to_owned(), "9".to_owned())];
        assert!(Opening { parameters, ..Opening::default() }.delays());
    }

    #[test]
    fn a_replication_connection_says_so() {
        let replication = Some((Replication::Logical, 1));
        let opening = Opening { replication, ..Opening::default() };
        assert_eq!(opening.startup(&[]), [("replication", "database".into())]);
    }
}
