//! Each way in which files do not fit together, by its line and text.

use std::path::Path;

use rcgen::{CertificateParams, KeyPair, date_time_ymd};

use super::super::super::{Config, ConfigErrors, Environment, MapEnvironment, parse};

struct Pem {
    certificate: String,
    key: KeyPair,
}

fn issue(change: impl FnOnce(&mut CertificateParams)) -> Pem {
    let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
    change(&mut params);
    let key = KeyPair::generate().unwrap();
    Pem { certificate: params.self_signed(&key).unwrap().pem(), key }
}

/// A folder with good files, others' and broken ones.
fn env() -> MapEnvironment {
    let (good, other) = (issue(|_| {}), issue(|_| {}));
    let expired = issue(|params| {
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2021, 1, 1);
    });
    let early = issue(|params| params.not_before = date_time_ymd(2999, 1, 1));
    let encrypted =
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    MapEnvironment::default()
        .with_file("/etc/pgweir/good.crt", &*good.certificate)
        .with_file("/etc/pgweir/good.key", good.key.serialize_pem())
        .with_file("/etc/pgweir/both.pem", good.key.serialize_pem() + &good.certificate)
        .with_file("/etc/pgweir/other.key", other.key.serialize_pem())
        .with_file("/etc/pgweir/expired.crt", &*expired.certificate)
        .with_file("/etc/pgweir/expired.key", expired.key.serialize_pem())
        .with_file("/etc/pgweir/early.crt", &*early.certificate)
        .with_file("/etc/pgweir/early.key", early.key.serialize_pem())
        .with_file("/etc/pgweir/bundle.crt", good.certificate + &expired.certificate)
        .with_file("/etc/pgweir/encrypted.key", encrypted)
        .with_file("/etc/pgweir/broken.crt", broken)
        .with_file("/etc/pgweir/empty", "")
        .with_variable("CERT", "good.crt")
}

fn parsed(text: &str, env: &dyn Environment) -> Result<Config, ConfigErrors> {
    let domain = if text.contains("domains") { "" } else { "\n[domains.a]\nhosts = [\"db\"]\n" };
    let text = format!("auth.method = \"trust\"\n{text}{domain}");
    parse(&text, Path::new("/etc/pgweir/pgweir.toml"), env)
}

fn accepted(text: &str) -> Config {
    parsed(text, &env()).unwrap_or_else(|errors| panic!("{text}\n{errors}"))
}

#[track_caller]
fn assert_refused(text: &str, problems: &[&str]) {
    let errors = parsed(text, &env()).err().unwrap_or_else(|| panic!("accepted: {text}"));
    let errors = errors.to_string().replace("/etc/pgweir/pgweir.toml", "f");
    assert_eq!(errors.lines().collect::<Vec<_>>(), problems, "{text}");
}

#[test]
fn what_clients_are_offered_is_read_and_fits_together() {
    for text in [
        "[listen.tls]\nmode = \"require\"\ncert = \"good.crt\"\nkey = \"good.key\"",
        "[listen.tls]\nmode = \"prefer\"\ncert = \"both.pem\"\nkey = \"/etc/pgweir/both.pem\"",
        "[listen.tls]\nmode = \"verify-ca\"\ncert = \"${CERT}\"\nkey = \"good.key\"\nca = \"good.crt\"",
    ] {
        let config = accepted(text);
        assert!(config.listen.tls.is_some(), "{text}");
        assert_eq!(config.warnings, [""; 0], "{text}");
    }
    // What is switched off need not be there.
    let off = "[listen.tls]\nmode = \"disable\"\ncert = \"gone.crt\"\nkey = \"gone.key\"";
    assert!(accepted(off).listen.tls.is_none());
}

#[test]
fn what_clients_cannot_be_offered_is_named() {
    let needs = "mode \"require\" needs a cert and a key";
    assert_refused(
        "[listen]\ntls.mode = \"require\"",
        &[&format!("f:3: listen.tls.mode: {needs}")],
    );
    assert_refused(
        "[listen.tls]\nmode = \"verify-full\"\ncert = \"good.crt\"\nkey = \"good.key\"",
        &[
            "f:3: listen.tls.mode: mode \"verify-full\" needs a ca, to check clients' certificates by",
        ],
    );
    assert_refused(
        "[listen.tls]\nmode = \"verify\"",
        &["f:3: listen.tls.mode: \"verify\" is not one of \"disable\", \"allow\", \"prefer\", \
           \"require\", \"verify-ca\", \"verify-full\""],
    );
}

#[test]
fn files_that_do_not_fit_are_named_each_with_its_line() {
    for (rest, problems) in [
        ("cert = \"good.crt\"", &["f:4: listen.tls.cert: a cert needs its key"] as &[_]),
        ("key = \"good.key\"", &["f:4: listen.tls.key: a key needs its cert"]),
        (
            "cert = \"gone.crt\"\nkey = \"good.key\"",
            &["f:4: listen.tls.cert: /etc/pgweir/gone.crt cannot be read: entity not found"],
        ),
        (
            "cert = \"gone.crt\"\nkey = \"gone.key\"",
            &[
                "f:4: listen.tls.cert: /etc/pgweir/gone.crt cannot be read: entity not found",
                "f:5: listen.tls.key: /etc/pgweir/gone.key cannot be read: entity not found",
            ],
        ),
        (
            "cert = \"good.crt\"\nkey = \"other.key\"",
            &[
                "f:5: listen.tls.key: /etc/pgweir/other.key is not the private key of the certificate",
            ],
        ),
        (
            "cert = \"good.key\"\nkey = \"good.key\"",
            &["f:4: listen.tls.cert: /etc/pgweir/good.key holds no certificate in PEM \
               (\"-----BEGIN CERTIFICATE-----\")"],
        ),
        (
            "cert = \"broken.crt\"\nkey = \"good.key\"",
            &[
                "f:4: listen.tls.cert: /etc/pgweir/broken.crt holds a certificate that cannot be read",
            ],
        ),
        (
            "cert = \"good.crt\"\nkey = \"empty\"",
            &["f:5: listen.tls.key: /etc/pgweir/empty holds no private key in PEM \
               (\"-----BEGIN PRIVATE KEY-----\", RSA or EC)"],
        ),
        (
            "cert = \"good.crt\"\nkey = \"encrypted.key\"",
            &[
                "f:5: listen.tls.key: /etc/pgweir/encrypted.key is encrypted: there is nobody who could \
               type its passphrase",
            ],
        ),
        (
            "cert = \"\"\nkey = \"good.key\"",
            &["f:4: listen.tls.cert: must not be empty; leave the key out"],
        ),
        (
            "cert = \"good.crt\"\nkey = \"good.key\"\nca = \"empty\"",
            &["f:6: listen.tls.ca: /etc/pgweir/empty holds no certificate in PEM \
               (\"-----BEGIN CERTIFICATE-----\")"],
        ),
        (
            "cert = \"good.crt\"\nkey = \"good.key\"\nca = \"system\"",
            &[
                "f:6: listen.tls.ca: the system's authorities sign servers: any of those would be let \
               in",
            ],
        ),
        (
            // Each of several problems.
            "cert = \"good.crt\"\nkey = \"other.key\"\nca = \"gone.crt\"",
            &[
                "f:5: listen.tls.key: /etc/pgweir/other.key is not the private key of the certificate",
                "f:6: listen.tls.ca: /etc/pgweir/gone.crt cannot be read: entity not found",
            ],
        ),
    ] {
        assert_refused(&format!("[listen.tls]\nmode = \"require\"\n{rest}"), problems);
    }
}

#[test]
fn what_servers_are_asked_for_fits_together() {
    let way_out = "name a file, or with \"verify-full\" say \"system\" for this system's own";
    for mode in ["verify-ca", "verify-full"] {
        assert_refused(
            &format!("[domains.a]\nhosts = [\"db\"]\ntls.mode = \"{mode}\""),
            &[&format!(
                "f:4: domains.a.tls.mode: mode \"{mode}\" needs a ca, to check the server's \
                 certificate by; {way_out}"
            )],
        );
    }
    assert_refused(
        "[domains.a]\nhosts = [\"db\"]\ntls = { mode = \"require\", ca = \"system\" }",
        &["f:4: domains.a.tls.ca: \"system\" needs mode \"verify-full\", not \"require\""],
    );
    assert_refused(
        "[domains.a]\nhosts = [\"db\"]\ntls = { cert = \"good.crt\" }",
        &["f:4: domains.a.tls.cert: a cert needs its key"],
    );
    // The host's key is to blame where it decides, and the domain's elsewhere.
    assert_refused(
        "[domains.a]\nhosts = [\"db\"]\ntls = { ca = \"empty\" }\n[hosts.db]\ntls.mode = \"verify-ca\"",
        &["f:4: domains.a.tls.ca: /etc/pgweir/empty holds no certificate in PEM \
           (\"-----BEGIN CERTIFICATE-----\")"],
    );
    assert_refused(
        "[domains.a]\nhosts = [\"db\"]\ntls = { ca = \"empty\" }\n[hosts.db]\ntls.ca = \"gone.crt\"",
        &["f:6: hosts.db.tls.ca: /etc/pgweir/gone.crt cannot be read: entity not found"],
    );
}

/// Two spellings of a host are the same host.
#[test]
fn a_host_lays_its_keys_over_its_domains() {
    let config = accepted(
        "[domains.a]\nhosts = [\"db\"]\ntls = { mode = \"verify-ca\", ca = \"good.crt\" }\n\
         [domains.b]\nhosts = [\"db:5432\"]\n[domains.c]\nhosts = [\"other\"]\n\
         [hosts.\"db:5432\"]\ntls.mode = \"require\"",
    );
    let modes: Vec<_> = config
        .domains
        .iter()
        .map(|domain| domain.tls.values().next().unwrap().mode().as_str())
        .collect();
    assert_eq!(modes, ["require", "require", "prefer"]);
}

#[test]
fn what_works_and_deserves_a_second_look_is_a_warning() {
    let listen = |name: &str| {
        format!("[listen.tls]\nmode = \"require\"\ncert = \"{name}.crt\"\nkey = \"{name}.key\"")
    };
    assert_eq!(
        accepted(&listen("expired")).warnings,
        ["listen.tls.cert: /etc/pgweir/expired.crt has expired, on 2021-01-01T00:00:00Z"]
    );
    assert_eq!(
        accepted(&listen("early")).warnings,
        ["listen.tls.cert: /etc/pgweir/early.crt is not valid before 2999-01-01T00:00:00Z"]
    );
    assert_eq!(
        accepted(
            "[domains.a]\nhosts = [\"db\"]\ntls = { mode = \"verify-ca\", ca = \"bundle.crt\" }"
        )
        .warnings,
        ["domains.a.tls.ca: 1 of 2 certificates in /etc/pgweir/bundle.crt are not valid now"]
    );
    assert_eq!(
        accepted("[domains.a]\nhosts = [\"db\"]\ntls = { ca = \"good.crt\" }").warnings,
        ["domains.a.tls.ca: under mode \"prefer\" a server whose certificate it did not sign is \
          spoken to without TLS"]
    );
}

/// A key that every user of the machine can read.
#[test]
fn a_key_that_all_may_read_is_a_warning() {
    struct Careless(MapEnvironment);
    impl Environment for Careless {
        fn variable(&self, name: &str) -> Option<std::ffi::OsString> {
            self.0.variable(name)
        }
        fn read(&self, path: &Path) -> std::io::Result<String> {
            self.0.read(path)
        }
        fn is_readable_by_all(&self, path: &Path) -> bool {
            path.ends_with("good.key")
        }
    }
    let text = "[listen.tls]\nmode = \"require\"\ncert = \"good.crt\"\nkey = \"good.key\"";

    let config = parsed(text, &Careless(env())).unwrap();

    assert_eq!(
        config.warnings,
        ["listen.tls.key: every user of this machine can read /etc/pgweir/good.key: chmod o-r it"]
    );
}
