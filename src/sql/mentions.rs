//! Which prepared statements a text mentions by name, and what is done to them.

use super::lexer::Reading;
use super::words::{Word, statements};

/// What a text does to a prepared statement that it names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deed {
    Deallocates,
    Executes,
    /// SQL's PREPARE, which fails if the name is taken.
    Prepares,
}

/// A prepared statement that a text names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mention {
    /// As `PostgreSQL` knows it: without quotes, in lower case if it had none, and cut.
    pub name: Box<[u8]>,
    pub deed: Deed,
    /// The name is one whose letters are written as numbers, here as it stands in the text.
    pub is_unread: bool,
}

impl Mention {
    /// Reads a text of which [`super::Traits::names_statements`] holds: its mentions in their order.
    pub fn all(text: &[u8], reading: Reading) -> Vec<Self> {
        statements(text, reading).filter_map(|statement| mention(&statement)).collect()
    }
}

/// What one statement mentions.
fn mention(statement: &[Word<'_>]) -> Option<Mention> {
    let is = |at: usize, word: &str| statement.get(at).is_some_and(|w| w.bare() == word);
    let (at, deed) = if is(0, "deallocate") {
        // `prepare` may be a name itself.
        let at = if is(1, "prepare") && statement.len() > 2 { 2 } else { 1 };
        if is(at, "all") {
            return None;
        }
        (at, Deed::Deallocates)
    } else if is(0, "prepare") {
        let is_of_two_phases = is(1, "transaction")
            && statement.get(2).is_some_and(|word| !matches!(word.bare(), "as" | "("));
        if is_of_two_phases {
            return None;
        }
        (1, Deed::Prepares)
    } else if is(0, "execute") {
        (1, Deed::Executes)
    } else if is(0, "explain") || is(0, "create") {
        let is_it = |at: &usize| is(*at, "execute") && (is(0, "explain") || is(*at - 1, "as"));
        (1 + (1..statement.len()).find(is_it)?, Deed::Executes)
    } else {
        return None;
    };
    let word = statement.get(at)?;
    let is_unread = word.is_in_numbers();
    let name = if is_unread { word.text().into() } else { word.name()? };
    Some(Mention { name, deed, is_unread })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sql::classify;

    fn mentions(text: &str) -> Vec<(String, Deed)> {
        let all = Mention::all(text.as_bytes(), Reading::Standard);
        all.into_iter()
            .map(|mention| (String::from_utf8_lossy(&mention.name).into_owned(), mention.deed))
            .collect()
    }

    #[test]
    fn every_form_that_names_a_statement_is_known() {
        for (text, name, deed) in [
            ("deallocate a", "a", Deed::Deallocates),
            ("DEALLOCATE PREPARE Abc;", "abc", Deed::Deallocates),
            ("deallocate \"lrupsc_6_0\"", "lrupsc_6_0", Deed::Deallocates),
            ("deallocate \"A \"\"b\"\"\"", "A \"b\"", Deed::Deallocates),
            ("deallocate \"all\"", "all", Deed::Deallocates),
            ("deallocate prepare", "prepare", Deed::Deallocates),
            ("deallocate/**/prepare prepare", "prepare", Deed::Deallocates),
            ("execute s(1, 'x')", "s", Deed::Executes),
            ("explain (verbose, format json) execute sqlx_s_1(NULL)", "sqlx_s_1", Deed::Executes),
            ("explain analyze verbose execute s", "s", Deed::Executes),
            ("create temp table t as execute s", "s", Deed::Executes),
            ("explain create table t as execute s", "s", Deed::Executes),
            ("prepare s as select 1", "s", Deed::Prepares),
            ("prepare s (int, text) as select 1", "s", Deed::Prepares),
            ("prepare transaction as select 1", "transaction", Deed::Prepares),
        ] {
            assert_eq!(mentions(text), [(name.to_owned(), deed)], "{text}");
            assert!(classify(text.as_bytes()).names_statements(), "{text}");
        }
    }

    #[test]
    fn what_names_none_is_not_taken_for_it() {
        for text in [
            "deallocate all",
            "deallocate prepare all",
            "prepare transaction 'x'",
            "create trigger x after insert on t execute function f()",
            "grant execute on function f() to x",
            "select 'deallocate a'",
            "deallocate",
            "execute",
            "",
        ] {
            assert_eq!(mentions(text), [], "{text}");
        }
    }

    #[test]
    fn a_name_in_numbers_is_told_apart() {
        let text = b"deallocate a; execute U&\"\\0061\"";
        let unread: Vec<_> =
            Mention::all(text, Reading::Standard).into_iter().map(|one| one.is_unread).collect();
        assert_eq!(unread, [false, true]);
    }

    #[test]
    fn a_text_of_several_statements_names_them_in_order() {
        let text = "deallocate a; select 1; execute B; -- deallocate c\n deallocate \"D\"";
        assert_eq!(
            mentions(text),
            [
                ("a".to_owned(), Deed::Deallocates),
                ("b".to_owned(), Deed::Executes),
                ("D".to_owned(), Deed::Deallocates)
            ]
        );
    }

    #[test]
    fn long_names_are_cut_between_characters() {
        let (long, odd) = ("x".repeat(70), format!("{}ßß", "x".repeat(62)));
        let name = |name: &str| mentions(&format!("deallocate {name}")).remove(0).0;
        assert_eq!(name(&long), "x".repeat(63));
        assert_eq!(name(&odd), "x".repeat(62));
    }

    proptest! {
        #[test]
        fn any_text_is_read(text: Vec<u8>) {
            let _mentions = Mention::all(&text, Reading::Backslash);
        }
    }
}
