//! A client's side of a login with a password, by rust-postgres's implementation and not ours.

use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{ChannelBinding, ScramSha256};

use super::messages::{message, startup};
use super::raw_client::Client;
use super::reply::Fields;
use super::socket::Address;

/// How the server asked for the password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    Nothing,
    Plain,
    Md5,
    Scram,
}

/// Logs in as the server asks, and says how it asked.
#[track_caller]
pub fn log_in(
    address: &Address,
    parameters: &[(&str, &str)],
    password: &str,
) -> Result<(Client, Asked), Fields> {
    let user = parameters.iter().find(|(name, _)| *name == "user").unwrap().1;
    let mut client = Client::connect(address);
    client.send(&startup(parameters));
    let asked = answer(&mut client, user, password)?;
    if asked != Asked::Nothing {
        client.finish_login()?;
    }
    Ok((client, asked))
}

fn answer(client: &mut Client, user: &str, password: &str) -> Result<Asked, Fields> {
    let question = client.read();
    if question.tag == b'E' {
        return Err(question.fields());
    }
    assert_eq!(question.tag, b'R', "{question:?}");
    match question.body[3] {
        0 => client.finish_login().map(|_reply| Asked::Nothing),
        3 => {
            client.send(&password_message(password.as_bytes()));
            Ok(Asked::Plain)
        }
        5 => {
            let salt = question.body[4..8].try_into().unwrap();
            let hash = md5_hash(user.as_bytes(), password.as_bytes(), salt);
            client.send(&password_message(hash.as_bytes()));
            Ok(Asked::Md5)
        }
        10 => {
            assert_eq!(&question.body[4..], b"SCRAM-SHA-256\0\0");
            scram(client, password)?;
            Ok(Asked::Scram)
        }
        other => panic!("authentication request {other}"),
    }
}

fn scram(client: &mut Client, password: &str) -> Result<(), Fields> {
    let mut scram = ScramSha256::new(password.as_bytes(), ChannelBinding::unsupported());
    let mut first = b"SCRAM-SHA-256\0".to_vec();
    first.extend_from_slice(&u32::try_from(scram.message().len()).unwrap().to_be_bytes());
    first.extend_from_slice(scram.message());
    client.send(&message(b'p', &first));
    let go_on = client.read();
    if go_on.tag == b'E' {
        return Err(go_on.fields());
    }
    assert_eq!(go_on.body[..4], [0, 0, 0, 11]);
    scram.update(&go_on.body[4..]).unwrap();
    client.send(&message(b'p', scram.message()));
    let last = client.read();
    if last.tag == b'E' {
        return Err(last.fields());
    }
    assert_eq!(last.body[..4], [0, 0, 0, 12]);
    // The server proves that it knows the secret as well.
    scram.finish(&last.body[4..]).unwrap();
    Ok(())
}

fn password_message(password: &[u8]) -> Vec<u8> {
    message(b'p', &[password, b"\0"].concat())
}
