//! `PgBouncer`'s users file: who may log in, and with which secret.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use thiserror::Error;

use super::{Account, StoredSecret};

/// The users by name.
#[derive(Debug, Clone, Default)]
pub struct UsersFile {
    users: BTreeMap<String, User>,
}

#[derive(Debug, Clone)]
struct User {
    secret: StoredSecret,
    line: usize,
}

/// One thing that is wrong in a users file.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("line {line}: {problem}")]
pub struct UsersFileError {
    /// From 1.
    pub line: usize,
    pub problem: UsersFileProblem,
}

/// What is wrong in a line. Never quotes a secret, nor a line that may hold one.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum UsersFileProblem {
    #[error("expected \"name\" \"secret\", each in double quotes")]
    NotQuoted,
    #[error("a double quote is not closed")]
    Unclosed,
    #[error("the secret is missing")]
    NoSecret,
    #[error("the user name is empty")]
    EmptyName,
    #[error("a NUL byte")]
    Nul,
    #[error("the secret of \"{user}\" begins like a SCRAM verifier but is not a whole one")]
    BrokenVerifier { user: String },
    #[error("user \"{user}\" is already in line {first}")]
    Duplicate { user: String, first: usize },
}

impl UsersFile {
    /// Reads a whole file: `"name" "secret"` a line, `""` for a quote within, further columns
    /// ignored, `;` or `#` before a comment. Reports every problem, not just the first.
    pub fn parse(text: &str) -> Result<Self, Vec<UsersFileError>> {
        let mut users = BTreeMap::new();
        let mut errors = Vec::new();
        for (index, row) in text.lines().enumerate() {
            let line = index + 1;
            if let Err(problem) = parse_row(row).and_then(|row| add(&mut users, line, row)) {
                errors.push(UsersFileError { line, problem });
            }
        }
        if errors.is_empty() { Ok(Self { users }) } else { Err(errors) }
    }

    /// The secret of a user, if the file names it.
    pub fn secret(&self, user: &str) -> Option<&StoredSecret> {
        self.users.get(user).map(|user| &user.secret)
    }

    /// What a login of this user is to be checked against.
    pub fn account(&self, user: &str) -> Account<'_> {
        self.secret(user).map_or(Account::Unknown, Account::Known)
    }

    /// All users with their secrets, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &StoredSecret)> {
        self.users.iter().map(|(name, user)| (name.as_str(), &user.secret))
    }

    pub fn len(&self) -> usize {
        self.users.len()
    }

    pub fn is_empty(&self) -> bool {
        self.users.is_empty()
    }

    /// Takes over what `earlier`, the file before a reload, has derived from secrets that are still
    /// the same. Otherwise a reload would change the salts of those users and of no unknown one,
    /// which tells them apart (P14).
    pub fn inherit(&mut self, earlier: &Self) {
        for (name, user) in &mut self.users {
            if let StoredSecret::Plain(plain) = &mut user.secret
                && let Some(StoredSecret::Plain(before)) = earlier.secret(name)
            {
                *plain = plain.or_earlier(before);
            }
        }
    }
}

type Row = Option<(String, String)>;

fn parse_row(row: &str) -> Result<Row, UsersFileProblem> {
    let row = row.trim_start();
    if row.is_empty() || row.starts_with([';', '#']) {
        return Ok(None);
    }
    if row.contains('\0') {
        return Err(UsersFileProblem::Nul);
    }
    let (name, rest) = quoted(row)?;
    let rest = rest.trim_start();
    if rest.is_empty() {
        return Err(UsersFileProblem::NoSecret);
    }
    let (secret, rest) = quoted(rest)?;
    // `"a" "b"c"`: most likely a quote that was to be doubled.
    if rest.starts_with(|next: char| !next.is_whitespace()) {
        return Err(UsersFileProblem::NotQuoted);
    }
    if name.is_empty() {
        return Err(UsersFileProblem::EmptyName);
    }
    Ok(Some((name, secret)))
}

/// Takes one quoted column off the front.
fn quoted(text: &str) -> Result<(String, &str), UsersFileProblem> {
    let mut rest = text.strip_prefix('"').ok_or(UsersFileProblem::NotQuoted)?;
    let mut value = String::new();
    loop {
        let (part, after) = rest.split_once('"').ok_or(UsersFileProblem::Unclosed)?;
        value.push_str(part);
        match after.strip_prefix('"') {
            Some(doubled) => {
                value.push('"');
                rest = doubled;
            }
            None => return Ok((value, after)),
        }
    }
}

fn add(users: &mut BTreeMap<String, User>, line: usize, row: Row) -> Result<(), UsersFileProblem> {
    let Some((name, secret)) = row else { return Ok(()) };
    let Some(secret) = StoredSecret::parse(&secret) else {
        return Err(UsersFileProblem::BrokenVerifier { user: name });
    };
    match users.entry(name) {
        Entry::Vacant(place) => {
            place.insert(User { secret, line });
            Ok(())
        }
        Entry::Occupied(taken) => {
            Err(UsersFileProblem::Duplicate { user: taken.key().clone(), first: taken.get().line })
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn plain(secret: Option<&StoredSecret>) -> &str {
        match secret {
            Some(StoredSecret::Plain(plain)) => plain.secret().expose(),
            other => panic!("not a plain secret: {other:?}"),
        }
    }

    #[test]
    fn pgbouncers_format_is_read() {
        let file = UsersFile::parse(
            "; a comment\n# another\n\n  \t\r\n\
             \"alice\" \"pa\"\"ss\"\r\n\
             \"b\"\"ob\"\t\"x\" \"extra\" columns\n\
             \"spaced name\"\"glued\"  \"two\"\n\
             \"nobody\" \"\"\n\
             \"hash\" \"md5aef4dd09bbb41884907a838a32332949\"",
        )
        .unwrap();

        assert_eq!(plain(file.secret("alice")), "pa\"ss");
        assert_eq!(plain(file.secret("b\"ob")), "x");
        assert_eq!(plain(file.secret("spaced name\"glued")), "two");
        assert_eq!(plain(file.secret("nobody")), "");
        assert!(matches!(file.secret("hash"), Some(StoredSecret::Md5(_))));
        assert!(file.secret("ALICE").is_none());
        assert_eq!(file.len(), 5);
    }

    #[test]
    fn every_problem_is_reported_with_its_line() {
        let errors = UsersFile::parse(
            "\"a\" \"1\"\nb \"2\"\n\"c\n\"d\"\n\"\" \"4\"\n\"a\" \"topsecret\"\n\
             \"e\" \"topsecret\"x\n\"f\" \"SCRAM-SHA-256$topsecret\"\n\"g\" \"\0\"",
        )
        .unwrap_err();

        let user = |name: &str| name.to_owned();
        let expected = [
            (2, UsersFileProblem::NotQuoted),
            (3, UsersFileProblem::Unclosed),
            (4, UsersFileProblem::NoSecret),
            (5, UsersFileProblem::EmptyName),
            (6, UsersFileProblem::Duplicate { user: user("a"), first: 1 }),
            (7, UsersFileProblem::NotQuoted),
            (8, UsersFileProblem::BrokenVerifier { user: user("f") }),
            (9, UsersFileProblem::Nul),
        ];
        assert_eq!(errors, expected.map(|(line, problem)| UsersFileError { line, problem }));
        let display: Vec<_> = errors.iter().map(ToString::to_string).collect();
        let shown = format!("{display:?} {errors:?}");
        assert!(!shown.contains("topsecret"), "{shown}");
    }

    #[test]
    fn reload_keeps_the_salt_of_an_unchanged_secret() {
        let before = UsersFile::parse("\"a\" \"same\"\n\"b\" \"old\"").unwrap();
        let mut after = UsersFile::parse("\"a\" \"same\"\n\"b\" \"new\"").unwrap();
        let verifier = |file: &UsersFile, user| match file.secret(user) {
            Some(StoredSecret::Plain(plain)) => plain.verifier(),
            other => panic!("{other:?}"),
        };
        let (a, b) = (verifier(&before, "a"), verifier(&before, "b"));

        after.inherit(&before);

        assert_eq!(verifier(&after, "a"), a);
        assert_ne!(verifier(&after, "b"), b);
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in "[\" ab;#\n\r\t\0é]{0,60}") {
            let _read = UsersFile::parse(&text);
        }

        #[test]
        fn any_quoted_pair_is_read_back(name in "[^\0\r\n]{1,12}", secret in "[^\0\r\n]{0,12}") {
            let quote = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
            let file = UsersFile::parse(&format!("{} {}\n", quote(&name), quote(&secret))).unwrap();
            prop_assert_eq!(plain(file.secret(&name)), secret);
        }
    }
}
