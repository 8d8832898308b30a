//! The user that PostgreSQL runs as: ourselves, or somebody else when we are root.

use std::path::Path;

use thiserror::Error;

use crate::config::Environment;

/// A user without privileges.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) name: &'static str,
    pub(super) uid: u32,
    pub(super) gid: u32,
}

/// PostgreSQL refuses root, and there is nobody to run it as.
#[derive(Debug, PartialEq, Eq, Error)]
#[error(
    "PostgreSQL does not run as root, and this machine has neither a user postgres nor nobody; \
     run the demo as an ordinary user"
)]
pub(super) struct NoAccount;

impl Account {
    /// Whom to run PostgreSQL as. `None`: whoever we are.
    pub(super) fn choose(env: &dyn Environment) -> Result<Option<Self>, NoAccount> {
        if !rustix::process::geteuid().is_root() {
            return Ok(None);
        }
        let users = env.read(Path::new("/etc/passwd")).unwrap_or_default();
        ["postgres", "nobody"]
            .into_iter()
            .find_map(|name| Self::among(&users, name))
            .map(Some)
            .ok_or(NoAccount)
    }

    /// The account called `name` in the text of a passwd file (passwd(5)).
    fn among(users: &str, name: &'static str) -> Option<Self> {
        users.lines().find_map(|line| {
            let mut fields = line.split(':');
            if fields.next() != Some(name) {
                return None;
            }
            let mut numbers = fields.skip(1).map_while(|field| field.parse().ok());
            let account = Self { name, uid: numbers.next()?, gid: numbers.next()? };
            // A user of that name with root's number would be refused all the same.
            (account.uid != 0).then_some(account)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const USERS: &str = "root:x:0:0:root:/root:/bin/bash\n\
                         nobody:x:65534:65533:nobody:/nonexistent:/usr/sbin/nologin\n\
                         nobody2:x:7:7::/:/bin/sh\n\
                         toor:x:0:0::/root:/bin/sh\n\
                         broken:x:abc:1::/:/bin/sh\n";

    #[test]
    fn an_account_is_read_with_its_numbers() {
        let nobody = Account::among(USERS, "nobody");

        assert_eq!(nobody, Some(Account { name: "nobody", uid: 65534, gid: 65533 }));
    }

    #[test]
    fn root_by_another_name_and_broken_lines_are_no_account() {
        for name in ["toor", "broken", "postgres", ""] {
            assert_eq!(Account::among(USERS, name), None, "{name}");
        }
    }
}
