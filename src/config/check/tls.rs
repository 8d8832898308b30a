//! `tls` of `[listen]`, domains and hosts: the files that it names, read and proved to fit together.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::super::HostAddr;
use super::super::address::host_addr;
use super::super::error::Flaw;
use super::super::raw::{Table, View};
use super::Check;
use crate::tls::{Identity, Ladder, Mode, Offer, Roots};

impl Check<'_> {
    /// What clients are offered.
    pub(super) fn offer(&mut self, table: &Table) -> Option<Offer> {
        let view = View::of(table);
        let mode = mode(&view.text("mode"));
        if mode == Mode::Disable {
            return None;
        }
        let known = self.known();
        let identity = self.identity(view);
        if !view.is_written("cert") && !view.is_written("key") {
            let problem = format!("mode \"{}\" needs a cert and a key", mode.as_str());
            self.of_tls(view, "cert", &problem);
        }
        let roots = match view.text_if_set("ca").as_deref() {
            Some(SYSTEM) => {
                let problem = "the system's authorities sign servers: any of those would be let in";
                self.of_tls(view, "ca", problem);
                None
            }
            Some(name) => self.roots(view, name),
            None => {
                self.must_have_ca(view, mode, "clients' certificates");
                None
            }
        };
        if self.known() > known {
            return None;
        }
        let offer = Offer::new(mode, &identity?, roots.as_ref());
        offer.map_err(|problem| self.of_tls(view, "cert", &problem)).ok()
    }

    /// What is asked of each of a domain's hosts.
    pub(super) fn ladders(
        &mut self,
        table: &Table,
        root: &Table,
        hosts: &[HostAddr],
    ) -> BTreeMap<HostAddr, Ladder> {
        let of_domain = View::of(table).text("mode");
        let mut ladders = BTreeMap::new();
        for host in hosts {
            let named = root.named("hosts").iter();
            let own = named.clone().find(|(name, _)| host_addr(name).as_ref() == Ok(host));
            let view = match own {
                Some((_, own)) => View::over(own.table("tls"), table),
                None => View::of(table),
            };
            let mode = mode(&view.text_if_set("mode").unwrap_or_else(|| of_domain.clone()));
            ladders.insert(host.clone(), self.ladder(view, mode));
        }
        ladders
    }

    fn ladder(&mut self, view: View<'_>, mode: Mode) -> Ladder {
        if mode == Mode::Disable {
            return Ladder::disabled();
        }
        let known = self.known();
        let identity = self.identity(view);
        let roots = match view.text_if_set("ca").as_deref() {
            Some(SYSTEM) => self.roots_of_system(view, mode),
            Some(name) => {
                if mode < Mode::Require {
                    let at = view.at(&["ca"]).key;
                    self.warn(format!(
                        "{at}: under mode \"{}\" a server whose certificate it did not sign is spoken \
                         to without TLS",
                        mode.as_str()
                    ));
                }
                self.roots(view, name)
            }
            None => {
                self.must_have_ca(view, mode, "the server's certificate");
                None
            }
        };
        if self.known() > known {
            return Ladder::disabled();
        }
        Ladder::new(mode, identity.as_ref(), roots).unwrap_or_else(|problem| {
            self.of_tls(view, "cert", &problem);
            Ladder::disabled()
        })
    }

    /// The certificate and the key, if they are named.
    fn identity(&mut self, view: View<'_>) -> Option<Identity> {
        let (cert, key) = match (view.text_if_set("cert"), view.text_if_set("key")) {
            (Some(cert), Some(key)) => (cert, key),
            (Some(_), None) => {
                self.of_tls(view, "key", "a cert needs its key");
                return None;
            }
            (None, Some(_)) => {
                self.of_tls(view, "cert", "a key needs its cert");
                return None;
            }
            (None, None) => return None,
        };
        // Both are read before either is given up: what is wrong with both is told at once.
        let (cert, key) = (self.pem(view, "cert", &cert), self.pem(view, "key", &key));
        let ((cert_path, certificates), (key_path, key)) = cert.zip(key)?;
        match Identity::from_pem(&certificates, &key) {
            Ok(identity) => {
                self.warn_of_files(view, &identity, &cert_path, &key_path);
                Some(identity)
            }
            Err(error) => {
                let (name, path) =
                    if error.is_of_certificate() { ("cert", cert_path) } else { ("key", key_path) };
                self.of_tls(view, name, &format!("{} {error}", path.display()));
                None
            }
        }
    }

    fn warn_of_files(&mut self, view: View<'_>, identity: &Identity, cert: &Path, key: &Path) {
        let (from, until) = identity.validity;
        let now = self.source.env.now();
        let date = humantime::format_rfc3339_seconds;
        let at = view.at(&["cert"]).key;
        let cert = cert.display();
        if now < from {
            self.warn(format!("{at}: {cert} is not valid before {}", date(from)));
        } else if now > until {
            self.warn(format!("{at}: {cert} has expired, on {}", date(until)));
        }
        if self.source.env.is_readable_by_all(key) {
            let at = view.at(&["key"]).key;
            let key = key.display();
            self.warn(format!("{at}: every user of this machine can read {key}: chmod o-r it"));
        }
    }

    fn roots(&mut self, view: View<'_>, name: &str) -> Option<Roots> {
        let (path, pem) = self.pem(view, "ca", name)?;
        match Roots::from_pem(&pem) {
            Ok(roots) => {
                self.warn_of_roots(view, &roots, &path, self.source.env.now());
                Some(roots)
            }
            Err(error) => {
                self.of_tls(view, "ca", &format!("{} {error}", path.display()));
                None
            }
        }
    }

    fn warn_of_roots(&mut self, view: View<'_>, roots: &Roots, path: &Path, now: SystemTime) {
        let (outdated, all) = roots.outdated(now);
        if outdated > 0 {
            let at = view.at(&["ca"]).key;
            let path = path.display();
            self.warn(format!(
                "{at}: {outdated} of {all} certificates in {path} are not valid now"
            ));
        }
    }

    /// libpq's rule: whom anybody's authority vouches for must at least have the right name.
    fn roots_of_system(&mut self, view: View<'_>, mode: Mode) -> Option<Roots> {
        if mode != Mode::VerifyFull {
            let problem =
                format!("\"system\" needs mode \"verify-full\", not \"{}\"", mode.as_str());
            self.of_tls(view, "ca", &problem);
            return None;
        }
        match Roots::of_system() {
            Ok(roots) => Some(roots),
            Err(error) => {
                let flaw = Flaw::new(error.to_string());
                let way_out = "install ca-certificates, or name a file";
                self.problems.add(view.at(&["ca"]), flaw.suggest(Some(way_out.to_owned())));
                None
            }
        }
    }

    fn must_have_ca(&mut self, view: View<'_>, mode: Mode, whose: &str) {
        if mode >= Mode::VerifyCa && !view.is_broken("ca") {
            let problem = format!("mode \"{}\" needs a ca, to check {whose} by", mode.as_str());
            let flaw = Flaw::new(problem);
            let way_out = (whose == "the server's certificate").then(|| {
                "name a file, or with \"verify-full\" say \"system\" for this system's own"
                    .to_owned()
            });
            self.problems.add(view.at(&["ca", "mode"]), flaw.suggest(way_out));
        }
    }

    /// A PEM file's place and text.
    fn pem(&mut self, view: View<'_>, key: &str, name: &str) -> Option<(PathBuf, String)> {
        if name.is_empty() {
            let flaw = Flaw::new("must not be empty");
            self.problems.add(view.at(&[key]), flaw.suggest(Some("leave the key out".to_owned())));
            return None;
        }
        let path = self.source.folder.join(name);
        match self.source.env.read(&path) {
            Ok(text) => Some((path, text)),
            Err(error) => {
                self.of_tls(view, key, &format!("{} cannot be read: {error}", path.display()));
                None
            }
        }
    }

    /// A problem of one key, or of another one if that is not there.
    fn of_tls(&mut self, view: View<'_>, key: &str, problem: &str) {
        if !view.is_broken(key) {
            let names = [key, "cert", "key", "mode"];
            let written = names.into_iter().find(|name| view.is_written(name));
            self.problems.add(view.at(&[written.unwrap_or(key)]), Flaw::new(problem));
        }
    }

    fn warn(&mut self, warning: String) {
        // A host's files are read for each domain that has it.
        if !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
    }

    /// Problems so far.
    fn known(&self) -> usize {
        self.problems.len()
    }
}

fn mode(name: &str) -> Mode {
    match name {
        "allow" => Mode::Allow,
        "prefer" => Mode::Prefer,
        "require" => Mode::Require,
        "verify-ca" => Mode::VerifyCa,
        "verify-full" => Mode::VerifyFull,
        _ => Mode::Disable,
    }
}

/// In the place of a file: the authorities that the system believes.
const SYSTEM: &str = "system";
