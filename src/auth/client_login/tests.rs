//! Logins of clients, each method with each kind of secret.

use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{ChannelBinding, ScramSha256};
use proptest::prelude::*;

use super::*;
use crate::auth::{UsersFile, md5_password};

const SECRETS: [&str; 3] = ["plain", "md5", "scram"];

fn users() -> UsersFile {
    let md5 = md5_password("md5", "pencil");
    let scram = postgres_protocol::password::scram_sha_256(b"pencil");
    let text =
        format!("\"plain\" \"pencil\"\n\"md5\" \"{md5}\"\n\"scram\" \"{scram}\"\n\"empty\" \"\"\n");
    UsersFile::parse(&text).unwrap()
}

fn entropy() -> Entropy {
    Entropy::new([5; 32], *b"twenty-two bytes......")
}

fn start(method: AuthMethod, user: &str) -> Step {
    Login::start(method, user, users().account(user), &entropy())
}

/// What a client with this password makes of a login: the codes that it was asked, and the end.
fn log_in(method: AuthMethod, user: &str, password: &str) -> (Vec<u32>, Result<(), LoginRefusal>) {
    let mut scram = ScramSha256::new(password.as_bytes(), ChannelBinding::unsupported());
    let mut asked = Vec::new();
    let mut step = start(method, user);
    loop {
        let (frame, next) = match step {
            Step::Send { frame, next } => (frame, next),
            Step::Done { last } => {
                if let Some(last) = last {
                    asked.push(code(&last));
                    scram.finish(&last[9..]).unwrap();
                }
                return (asked, Ok(()));
            }
            Step::Refuse(why) => return (asked, Err(why)),
        };
        asked.push(code(&frame));
        let answer = match code(&frame) {
            CLEARTEXT_PASSWORD => [password.as_bytes(), b"\0"].concat(),
            MD5_PASSWORD => {
                let salt = frame[9..].try_into().unwrap();
                [md5_hash(user.as_bytes(), password.as_bytes(), salt).as_bytes(), b"\0"].concat()
            }
            SASL => initial_response(scram.message()),
            SASL_CONTINUE => {
                scram.update(&frame[9..]).unwrap();
                scram.message().to_vec()
            }
            other => panic!("asked for {other}"),
        };
        step = next.on_password_message(&answer);
    }
}

fn initial_response(message: &[u8]) -> Vec<u8> {
    let len = i32::try_from(message.len()).unwrap().to_be_bytes();
    [b"SCRAM-SHA-256\0".as_slice(), &len, message].concat()
}

fn code(frame: &[u8]) -> u32 {
    assert_eq!(frame[0], b'R');
    let len = u32::from_be_bytes(frame[1..5].try_into().unwrap());
    assert_eq!(usize::try_from(len).unwrap(), frame.len() - 1);
    u32::from_be_bytes(frame[5..9].try_into().unwrap())
}

fn reason(result: (Vec<u32>, Result<(), LoginRefusal>)) -> RefusalReason {
    result.1.unwrap_err().reason
}

#[test]
fn right_password_is_let_in_by_every_pair_that_can_work() {
    // P18: the matrix of methods and forms of secrets.
    const SCRAM: &[u32] = &[SASL, SASL_CONTINUE, SASL_FINAL];
    let cases: [(AuthMethod, [Option<&[u32]>; 3]); 3] = [
        (AuthMethod::Plain, [Some(&[CLEARTEXT_PASSWORD]); 3]),
        (AuthMethod::Md5, [Some(&[MD5_PASSWORD]), Some(&[MD5_PASSWORD]), Some(SCRAM)]),
        (AuthMethod::ScramSha256, [Some(SCRAM), None, Some(SCRAM)]),
    ];
    for (method, expected) in cases {
        for (user, asked) in SECRETS.into_iter().zip(expected) {
            if let Some(asked) = asked {
                let got = log_in(method, user, "pencil");
                assert_eq!(got, (asked.to_vec(), Ok(())), "{method:?} {user}");
            } else {
                let got = reason(log_in(method, user, "pencil"));
                assert_eq!(got, RefusalReason::Md5CannotScram, "{method:?} {user}");
            }
        }
    }
}

#[test]
fn wrong_password_and_unknown_user_look_the_same() {
    // P14
    for method in [AuthMethod::Plain, AuthMethod::Md5, AuthMethod::ScramSha256] {
        let (asked_known, known) = log_in(method, "plain", "Pencil");
        let (asked_unknown, unknown) = log_in(method, "stranger", "Pencil");
        assert_eq!(asked_known, asked_unknown, "{method:?}");
        let (known, unknown) = (known.unwrap_err(), unknown.unwrap_err());
        assert_ne!(known.reason, unknown.reason);
        assert_eq!(unknown.reason, RefusalReason::UnknownUser);
        let told = |user: &str| {
            let message = format!("password authentication failed for user \"{user}\"");
            ClientMessage::new(SqlState(*b"28P01"), message)
        };
        assert_eq!(known.client_message(), told("plain"));
        assert_eq!(unknown.client_message(), told("stranger"));
        assert!(unknown.to_string().contains("does not name it"));
    }
}

#[test]
fn empty_secret_and_empty_password_let_nobody_in() {
    for method in [AuthMethod::Plain, AuthMethod::Md5, AuthMethod::ScramSha256] {
        assert!(log_in(method, "empty", "").1.is_err(), "{method:?}");
        assert!(log_in(method, "stranger", "").1.is_err(), "{method:?}");
    }
    assert_eq!(reason(log_in(AuthMethod::ScramSha256, "empty", "")), RefusalReason::EmptySecret);
}

#[test]
fn trust_asks_nothing_but_a_place_in_the_users_file() {
    let trust = |account| Login::start(AuthMethod::Trust, "x", account, &entropy());
    assert!(matches!(start(AuthMethod::Trust, "md5"), Step::Done { last: None }));
    assert!(matches!(trust(Account::NoUsersFile), Step::Done { last: None }));
    let Step::Refuse(refusal) = trust(Account::Unknown) else { panic!("let in") };
    assert_eq!(refusal.client_message().sqlstate, SqlState(*b"28000"));
    assert_eq!(refusal.client_message().message, "\"trust\" authentication failed for user \"x\"");
}

#[test]
fn without_a_users_file_no_password_is_right() {
    for method in [AuthMethod::Plain, AuthMethod::Md5, AuthMethod::ScramSha256] {
        let step = Login::start(method, "x", Account::NoUsersFile, &entropy());
        let Step::Send { next, .. } = step else { panic!("{method:?}: {step:?}") };
        assert_eq!(next.doom, Some(RefusalReason::NoUsersFile));
    }
}

#[test]
fn mechanism_without_a_first_message_gets_an_empty_challenge() {
    let Step::Send { next, .. } = start(AuthMethod::ScramSha256, "plain") else { panic!() };
    let step = next.on_password_message(b"SCRAM-SHA-256\0\xff\xff\xff\xff");
    let Step::Send { frame, next } = step else { panic!("{step:?}") };
    assert_eq!((code(&frame), frame.len()), (SASL_CONTINUE, 9));
    let step = next.on_password_message(b"n,,n=,r=abc");
    assert!(matches!(step, Step::Send { .. }), "{step:?}");
}

#[test]
fn broken_messages_are_told_as_such_to_known_and_unknown_alike() {
    // P1, P9, P10, P13
    let bodies: [(AuthMethod, Vec<u8>); 8] = [
        (AuthMethod::ScramSha256, b"SCRAM-SHA-256".to_vec()),
        (AuthMethod::ScramSha256, b"SCRAM-SHA-256\0\x7f\xff\xff\xffn,,n=,r=a".to_vec()),
        (AuthMethod::ScramSha256, b"SCRAM-SHA-256\0\xff\xff\xff\xfen,,n=,r=a".to_vec()),
        (AuthMethod::ScramSha256, b"SCRAM-SHA-256-PLUS\0\0\0\0\x01p".to_vec()),
        (AuthMethod::ScramSha256, initial_response(b"p=tls-unique,,n=,r=a")),
        (AuthMethod::Plain, b"no terminator".to_vec()),
        (AuthMethod::Plain, [vec![b'x'; 70_000], vec![0]].concat()),
        (AuthMethod::Md5, b"two\0strings\0".to_vec()),
    ];
    for (method, body) in bodies {
        let told = ["plain", "stranger"].map(|user| {
            let Step::Send { next, .. } = start(method, user) else { panic!() };
            let Step::Refuse(why) = next.on_password_message(&body) else { panic!("{body:?}") };
            why.client_message()
        });
        assert_eq!(told[0].sqlstate, SqlState(*b"08P01"), "{body:?}");
        assert_eq!(told[0], told[1], "{body:?}");
    }
}

#[test]
fn nothing_shows_a_secret() {
    for method in [AuthMethod::Plain, AuthMethod::Md5, AuthMethod::ScramSha256] {
        let shown = format!("{:?} {:?}", start(method, "plain"), entropy());
        assert!(!shown.contains("pencil"), "{shown}");
    }
}

proptest! {
    #[test]
    fn no_bytes_panic_or_let_a_stranger_in(
        which in 0..3_usize,
        bodies: Vec<Vec<u8>>,
        prefixed: bool,
    ) {
        let method = [AuthMethod::Plain, AuthMethod::Md5, AuthMethod::ScramSha256][which];
        let mut step = Login::start(method, "stranger", Account::Unknown, &entropy());
        for body in bodies {
            let Step::Send { next, .. } = step else { break };
            let body = if prefixed { initial_response(&body) } else { body };
            step = next.on_password_message(&body);
            let let_in = matches!(step, Step::Done { .. });
            prop_assert!(!let_in);
        }
    }
}
