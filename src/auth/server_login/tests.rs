//! Logins at servers, by scripts of what a server asks.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::auth::{AwaitFinal, ScramServer, ScramVerifier};

fn plain(password: &str) -> ServerSecret {
    ServerSecret::Plain(Secret::new(password))
}

fn body(code: u32, payload: &[u8]) -> Vec<u8> {
    [&code.to_be_bytes(), payload].concat()
}

/// The payload of a `p` message.
fn sent(answer: Answer) -> Vec<u8> {
    let Answer::Send(frame) = answer else { panic!("{answer:?}") };
    assert_eq!(frame[0], b'p');
    let len = u32::from_be_bytes(frame[1..5].try_into().unwrap());
    assert_eq!(usize::try_from(len).unwrap(), frame.len() - 1);
    frame[5..].to_vec()
}

/// A login that has sent its proof, and the fake server that is about to check it.
fn until_proof(password: &str) -> (ServerLogin, AwaitFinal, Vec<u8>) {
    let mut login = ServerLogin::new("bob", plain(password));
    let verifier = Arc::new(ScramVerifier::derive(&Secret::new("pencil")));
    let offer = b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0";
    let initial = sent(login.on_authentication(&body(SASL, offer)).unwrap());
    let message = initial.strip_prefix(b"SCRAM-SHA-256\0").unwrap();
    let (first, server) =
        ScramServer::start(verifier, [1; 18]).client_first(&message[4..]).unwrap();
    let proof = sent(login.on_authentication(&body(SASL_CONTINUE, first.as_bytes())).unwrap());
    (login, server, proof)
}

#[test]
fn scram_goes_through_and_the_server_is_checked() {
    let (mut login, server, proof) = until_proof("pencil");

    let last = server.client_final(&proof).unwrap();

    let answer = login.on_authentication(&body(SASL_FINAL, last.as_bytes())).unwrap();
    assert_eq!(answer, Answer::Nothing);
    assert_eq!(login.on_authentication(&body(OK, b"")).unwrap(), Answer::Done);
    assert!(login.on_authentication(&body(OK, b"")).is_err());
}

#[test]
fn server_that_does_not_know_the_password_is_not_trusted() {
    let (_, server, proof) = until_proof("Pencil");
    assert!(server.client_final(&proof).is_err());

    let (mut login, ..) = until_proof("pencil");
    let forged = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";
    let result = login.on_authentication(&body(SASL_FINAL, forged.as_bytes()));
    assert!(matches!(result, Err(ServerAuthError::Scram(_))), "{result:?}");

    let (mut login, ..) = until_proof("pencil");
    let result = login.on_authentication(&body(OK, b""));
    assert!(matches!(result, Err(ServerAuthError::Unproven)), "{result:?}");
}

#[test]
fn passwords_go_out_in_the_form_that_is_asked() {
    let mut login = ServerLogin::new("bob", plain("s3cret"));
    assert_eq!(sent(login.on_authentication(&body(CLEARTEXT_PASSWORD, b"")).unwrap()), b"s3cret\0");
    assert_eq!(login.on_authentication(&body(OK, b"")).unwrap(), Answer::Done);

    let expected = [md5_hash(b"bob", b"s3cret", *b"salt").as_bytes(), b"\0"].concat();
    for secret in [plain("s3cret"), ServerSecret::Md5(Md5Secret::derive("bob", b"s3cret"))] {
        let mut login = ServerLogin::new("bob", secret);
        assert_eq!(sent(login.on_authentication(&body(MD5_PASSWORD, b"salt")).unwrap()), expected);
    }

    let mut trusted = ServerLogin::new("bob", ServerSecret::None);
    assert_eq!(trusted.on_authentication(&body(OK, b"")).unwrap(), Answer::Done);
}

#[test]
fn missing_secrets_are_named() {
    let ask = |secret: ServerSecret, code, payload: &[u8]| {
        let mut login = ServerLogin::new("bob", secret);
        login.on_authentication(&body(code, payload)).unwrap_err().to_string()
    };
    let md5 = || ServerSecret::Md5(Md5Secret::derive("bob", b"x"));
    let scram = b"SCRAM-SHA-256\0\0";
    assert!(ask(ServerSecret::None, CLEARTEXT_PASSWORD, b"").contains("none is configured"));
    assert!(ask(md5(), SASL, scram).contains("only an md5 hash"));
    assert!(ask(ServerSecret::VerifierOnly, SASL, scram).contains("only a SCRAM verifier"));
    assert!(ask(ServerSecret::VerifierOnly, MD5_PASSWORD, b"salt").contains("only a SCRAM"));
    assert!(ask(plain("x"), SASL, b"SCRAM-SHA-256-PLUS\0OAUTHBEARER\0\0").contains("OAUTHBEARER"));
}

#[test]
fn what_cannot_be_done_is_named() {
    for (code, word) in [(2, "Kerberos"), (6, "SCM"), (7, "GSSAPI"), (9, "SSPI"), (99, "99")] {
        let error = ServerLogin::new("bob", plain("x")).on_authentication(&body(code, b""));
        let error = error.unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    }
    let twice = || {
        let mut login = ServerLogin::new("bob", plain("x"));
        let _sent = login.on_authentication(&body(CLEARTEXT_PASSWORD, b"")).unwrap();
        login.on_authentication(&body(CLEARTEXT_PASSWORD, b""))
    };
    assert!(matches!(twice(), Err(ServerAuthError::OutOfOrder { .. })));
}

#[test]
fn work_and_memory_that_a_server_can_ask_for_are_bounded() {
    // P2
    let begun = || {
        let mut login = ServerLogin::new("bob", plain("x"));
        let initial = sent(login.on_authentication(&body(SASL, b"SCRAM-SHA-256\0\0")).unwrap());
        let nonce = String::from_utf8(initial).unwrap().split_once(",r=").unwrap().1.to_owned();
        (login, nonce)
    };
    let (mut login, nonce) = begun();
    let greedy = format!("r={nonce}x,s=c2FsdA==,i=4000000000");
    let result = login.on_authentication(&body(SASL_CONTINUE, greedy.as_bytes()));
    assert!(
        matches!(result, Err(ServerAuthError::Iterations { asked: 4_000_000_000 })),
        "{result:?}"
    );

    let (mut login, nonce) = begun();
    let huge = format!("r={nonce}{},s=c2FsdA==,i=4096", "x".repeat(1 << 20));
    let result = login.on_authentication(&body(SASL_CONTINUE, huge.as_bytes()));
    assert!(matches!(result, Err(ServerAuthError::TooLong { .. })), "{result:?}");
    assert!(login.on_authentication(&body(OK, b"")).is_err());

    let (mut login, _) = begun();
    let foreign = b"r=notours,s=c2FsdA==,i=4096";
    assert!(login.on_authentication(&body(SASL_CONTINUE, foreign)).is_err());
}

#[test]
fn debug_shows_no_password() {
    assert!(!format!("{:?}", ServerLogin::new("bob", plain("s3cret"))).contains("s3cret"));
}

proptest! {
    #[test]
    fn arbitrary_messages_never_panic(
        messages in prop::collection::vec((0..13_u32, any::<Vec<u8>>()), 0..6),
    ) {
        let mut login = ServerLogin::new("bob", plain("x"));
        for (code, payload) in messages {
            let _answer = login.on_authentication(&body(code, &payload));
        }
    }

    #[test]
    fn arbitrary_scram_messages_never_panic(first in "[rsiev=,+/a-zA-Z0-9]{0,60}", last: Vec<u8>) {
        let mut login = ServerLogin::new("bob", plain("x"));
        let _answer = login.on_authentication(&body(SASL, b"SCRAM-SHA-256\0\0"));
        let _answer = login.on_authentication(&body(SASL_CONTINUE, first.as_bytes()));
        let _answer = login.on_authentication(&body(SASL_FINAL, &last));
    }
}
