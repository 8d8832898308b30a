//! `tls` of `[listen]`, of domains and of hosts.

use super::{Key, Type, built, unset, value};

const TLS_MODE: Type = Type::Choice(&[
    built("disable"),
    built("allow"),
    built("prefer"),
    built("require"),
    built("verify-ca"),
    built("verify-full"),
]);

pub(super) const LISTEN_TLS: &[Key] = &[
    value(
        "mode",
        TLS_MODE,
        r#""disable""#,
        "`\"allow\"` and `\"prefer\"`: for clients that ask for it. `\"require\"`: nobody logs in \
         without. `\"verify-ca\"` and `\"verify-full\"`: nor without a certificate signed by `ca`.",
    ),
    unset(
        "cert",
        Type::Text,
        r#""server.crt""#,
        "The certificate that clients are shown, those between it and its authority behind it, in \
         PEM. A relative path starts at this file's folder.",
    ),
    unset("key", Type::Text, r#""server.key""#, "Its private key, in PEM, not encrypted."),
    unset(
        "ca",
        Type::Text,
        r#""clients-ca.crt""#,
        "The authorities of clients' certificates, in PEM. Set under a mode that does not insist on \
         one: a client is asked for it, and turned away if it is not good.",
    ),
];

pub(super) const DOMAIN_TLS: &[Key] = &[
    value(
        "mode",
        TLS_MODE,
        r#""prefer""#,
        "As libpq's `sslmode`. `\"allow\"`: if the server insists. `\"prefer\"`: if the server has it. \
         `\"require\"`: always. `\"verify-ca\"`: its certificate must be signed by `ca`. \
         `\"verify-full\"`: and be for the name in `hosts`.",
    ),
    unset(
        "ca",
        Type::Text,
        r#""servers-ca.crt""#,
        "The authorities of servers' certificates, in PEM; `\"system\"`: those of the system. Where it \
         is set, every mode checks by it.",
    ),
    unset("cert", Type::Text, r#""pgweir.crt""#, "The certificate that servers are shown, in PEM."),
    unset("key", Type::Text, r#""pgweir.key""#, "Its private key, in PEM, not encrypted."),
];

pub(super) const HOST_TLS: &[Key] = &[
    unset("mode", TLS_MODE, r#""require""#, "As in the domain's. Unset: the domain's."),
    unset("ca", Type::Text, r#""servers-ca.crt""#, "As in the domain's. Unset: the domain's."),
    unset("cert", Type::Text, r#""pgweir.crt""#, "As in the domain's. Unset: the domain's."),
    unset("key", Type::Text, r#""pgweir.key""#, "As in the domain's. Unset: the domain's."),
];
