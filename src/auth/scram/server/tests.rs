//! Our side of SCRAM against rust-postgres's.

use postgres_protocol::authentication::sasl::{ChannelBinding, ScramSha256};
use proptest::prelude::*;

use super::*;
use crate::config::Secret;

const NONCE: [u8; 18] = *b"eighteen bytes....";

/// The verifier of RFC 7677's example: password `pencil` with the salt given there.
fn rfc_7677_verifier() -> ScramVerifier {
    let salt = "W22ZaJ0SNY7soEsUEjb6gQ==";
    let salted = pbkdf2(b"pencil", &STANDARD.decode(salt).unwrap(), 4096);
    ScramVerifier {
        iterations: 4096,
        salt: salt.to_owned(),
        stored_key: sha256(&hmac_sha256(&salted, &[b"Client Key"])),
        server_key: hmac_sha256(&salted, &[b"Server Key"]),
    }
}

fn pbkdf2(password: &[u8], salt: &[u8], iterations: u32) -> Key {
    let mut key = [0; 32];
    key[..password.len()].copy_from_slice(password);
    let mut last = hmac_sha256(&key, &[salt, &[0, 0, 0, 1]]);
    let mut sum = last;
    for _ in 1..iterations {
        last = hmac_sha256(&key, &[&last]);
        sum = xor(sum, last);
    }
    sum
}

fn rfc_7677_server() -> ScramServer {
    ScramServer {
        verifier: Arc::new(rfc_7677_verifier()),
        server_nonce: "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0".to_owned(),
    }
}

#[test]
fn rfc_7677_example_is_reproduced() {
    let (first, server) =
        rfc_7677_server().client_first(b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO").unwrap();
    assert_eq!(
        first,
        "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
    );

    let last = server.client_final(
        b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
          p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
    );
    assert_eq!(last.unwrap(), "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
}

#[test]
fn final_message_is_bound_to_its_exchange() {
    let step = || rfc_7677_server().client_first(b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO").unwrap().1;
    let last = |binding: &str, nonce: &str, proof: &str| {
        step().client_final(format!("c={binding},r={nonce},p={proof}").as_bytes())
    };
    let nonce = "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
    let proof = "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";

    assert!(last("biws", nonce, proof).is_ok());
    // A man in the middle who turned `y` into `n` is found out here.
    assert_eq!(last("eSws", nonce, proof), Err(ScramError::BindingMismatch));
    assert_eq!(last("biws", "rOprNGfwEbeRWgbNEkqO", proof), Err(ScramError::NonceMismatch));
    assert_eq!(last("biws", nonce, &STANDARD.encode([0; 32])), Err(ScramError::WrongProof));
}

/// Plays a whole exchange with the reference client.
fn exchange(
    server: ScramServer,
    password: &str,
    binding: ChannelBinding,
) -> Result<(), ScramError> {
    let mut client = ScramSha256::new(password.as_bytes(), binding);
    let (first, server) = server.client_first(client.message())?;
    client.update(first.as_bytes()).unwrap();
    let last = server.client_final(client.message())?;
    client.finish(last.as_bytes()).unwrap();
    Ok(())
}

#[test]
fn reference_client_is_let_in_with_the_right_password_only() {
    // P13: postgres-protocol's `unrequested` is gs2 `y`, `unsupported` is gs2 `n`. The second
    // password changes under SASLprep, the third must not go through it (a lone combining bidi mix).
    for password in ["pencil", "ﬁne\u{00a0}ÄÖ \u{2168}", "\u{0627}1", "", "a\tb"] {
        let verifier = Arc::new(ScramVerifier::derive(&Secret::new(password)));
        let server = || ScramServer::start(Arc::clone(&verifier), NONCE);
        assert_eq!(exchange(server(), password, ChannelBinding::unsupported()), Ok(()));
        assert_eq!(exchange(server(), password, ChannelBinding::unrequested()), Ok(()));
        assert_eq!(
            exchange(server(), "Pencil", ChannelBinding::unsupported()),
            Err(ScramError::WrongProof)
        );
    }
}

#[test]
fn channel_binding_is_refused() {
    let server = ScramServer::mock("alice", &[0; 32], NONCE);

    let binding = ChannelBinding::tls_server_end_point(vec![1, 2, 3]);

    assert_eq!(exchange(server, "x", binding), Err(ScramError::BindingNotOffered));
}

#[test]
fn mock_takes_the_same_steps_and_lets_nobody_in() {
    // P14
    let server = || ScramServer::mock("alice", &[9; 32], NONCE);
    assert_eq!(
        exchange(server(), "pencil", ChannelBinding::unsupported()),
        Err(ScramError::WrongProof)
    );

    let (one, _) = server().client_first(b"n,,n=,r=abc").unwrap();
    let (two, _) = server().client_first(b"n,,n=,r=abc").unwrap();
    assert_eq!(one, two);
}

proptest! {
    #[test]
    fn arbitrary_messages_never_panic(first: Vec<u8>, last: Vec<u8>, nonce in "[!-+--~]{1,20}") {
        prop_assert!(ScramServer::mock("a", &[0; 32], NONCE).client_first(&first).is_err());
        let hello = format!("n,,n=,r={nonce}");
        let server = ScramServer::mock("a", &[0; 32], NONCE);
        let (_, server) = server.client_first(hello.as_bytes()).unwrap();
        prop_assert!(server.client_final(&last).is_err());
    }

    #[test]
    fn any_wrong_proof_is_refused(proof: [u8; 32]) {
        let server = ScramServer::mock("a", &[0; 32], NONCE);
        let (first, server) = server.client_first(b"n,,n=,r=abc").unwrap();
        let nonce = first.split(',').next().unwrap();
        let last = format!("c=biws,{nonce},p={}", STANDARD.encode(proof));
        prop_assert_eq!(server.client_final(last.as_bytes()), Err(ScramError::WrongProof));
    }
}
