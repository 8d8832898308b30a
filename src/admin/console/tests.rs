//! The console by messages, by any messages, and by a real driver.

use bytes::Buf as _;
use postgres_protocol::message::frontend as write;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::time::Instant;
use tokio_postgres::{Config as ClientConfig, NoTls, SimpleQueryMessage};

use super::*;
use crate::telemetry::fake::Fake;

fn console(access: Access) -> Console {
    Console::new(Fake::new().shared(), Arc::new(Averages::new(Instant::now())), access)
}

/// Hands every whole message of `input` to the console.
fn feed(console: &mut Console, input: &mut BytesMut, out: &mut BytesMut) -> ConsoleStep {
    while input.len() >= 5 {
        let length = usize::try_from((&input[1..5]).get_i32()).unwrap();
        if input.len() < length + 1 {
            break;
        }
        let message = input.split_to(length + 1);
        if console.on_message(message[0], &message[5..], out) == ConsoleStep::Close {
            return ConsoleStep::Close;
        }
    }
    ConsoleStep::Continue
}

/// What the console answers to the messages that `request` writes, a word for each.
fn talk(console: &mut Console, request: impl FnOnce(&mut BytesMut)) -> Vec<String> {
    let (mut input, mut out) = (BytesMut::new(), BytesMut::new());
    request(&mut input);
    let step = feed(console, &mut input, &mut out);
    let mut answers = read(out);
    if step == ConsoleStep::Close {
        answers.push("closed".into());
    }
    answers
}

/// Messages in words. Fails on anything that is not a whole message of the protocol.
fn read(mut out: BytesMut) -> Vec<String> {
    let mut answers = Vec::new();
    while !out.is_empty() {
        let tag = out.get_u8();
        let length = usize::try_from(out.get_i32()).unwrap();
        let mut body = out.split_to(length - 4);
        answers.push(match tag {
            b'1' => "parsed".into(),
            b'2' => "bound".into(),
            b'3' => "closed".into(),
            b'C' => string(&mut body),
            b'D' => row(&mut body),
            b'E' => fields(&mut body, b'C'),
            b'I' => "empty".into(),
            b'N' => fields(&mut body, b'D'),
            b'S' => format!("{}={}", string(&mut body), string(&mut body)),
            b'T' => description(&mut body),
            b'Z' => char::from(body.get_u8()).to_string(),
            b'n' => "no data".into(),
            b's' => "suspended".into(),
            b't' => format!("{} parameters", body.get_i16()),
            tag => panic!("message {tag} is none of the console's"),
        });
        assert!(body.is_empty(), "message {tag} is longer than its contents");
    }
    answers
}

fn string(body: &mut BytesMut) -> String {
    let end = body.iter().position(|byte| *byte == 0).unwrap();
    let text = body.split_to(end);
    body.advance(1);
    String::from_utf8(text.to_vec()).unwrap()
}

/// The field of this kind in an error or a notice.
fn fields(body: &mut BytesMut, kind: u8) -> String {
    let mut found = None;
    loop {
        match body.get_u8() {
            0 => return found.unwrap(),
            field if field == kind => found = Some(string(body)),
            _ => drop(string(body)),
        }
    }
}

fn description(body: &mut BytesMut) -> String {
    let column = |body: &mut BytesMut| {
        let name = string(body);
        body.advance(6);
        let oid = body.get_u32();
        body.advance(6);
        format!("{name}:{oid}:{}", body.get_i16())
    };
    let columns = (0..body.get_i16()).map(|_| column(body)).collect::<Vec<_>>();
    columns.join(" ")
}

fn row(body: &mut BytesMut) -> String {
    let value = |body: &mut BytesMut| match usize::try_from(body.get_i32()) {
        Ok(length) => body.split_to(length).escape_ascii().to_string(),
        Err(_) => "NULL".into(),
    };
    let values = (0..body.get_i16()).map(|_| value(body)).collect::<Vec<_>>();
    format!("({})", values.join(" "))
}

/// Parse, Bind, Describe, Execute and Sync of `sql`, unnamed.
fn extended(sql: &str, formats: &[i16], max_rows: i32, buffer: &mut BytesMut) {
    write::parse("", sql, [], buffer).unwrap();
    bind("", "", formats, buffer);
    write::describe(b'P', "", buffer).unwrap();
    write::execute("", max_rows, buffer).unwrap();
    write::sync(buffer);
}

fn bind(portal: &str, statement: &str, formats: &[i16], buffer: &mut BytesMut) {
    let none: [(); 0] = [];
    let no_value = |(), _: &mut BytesMut| Ok(postgres_protocol::IsNull::Yes);
    let bound = write::bind(portal, statement, [], none, no_value, formats.iter().copied(), buffer);
    assert!(bound.is_ok());
}

fn ask(console: &mut Console, sql: &str) -> Vec<String> {
    talk(console, |buffer| write::query(sql, buffer).unwrap())
}

#[test]
fn a_query_is_answered_with_columns_rows_tag_and_status() {
    let mut console = console(Access::Stats);

    let version = format!("(pgweir {})", env!("CARGO_PKG_VERSION"));
    assert_eq!(ask(&mut console, "SHOW VERSION;"), ["version:25:0", &version, "SHOW", "I"]);
    assert_eq!(ask(&mut console, "SELECT 1"), ["?column?:23:0", "(1)", "SELECT 1", "I"]);
    assert_eq!(ask(&mut console, " ; "), ["empty", "I"]);
    let pools = ask(&mut console, "show pools");
    assert!(pools[1].ends_with("transaction NULL)"), "{pools:?}");
}

#[test]
fn several_commands_are_answered_up_to_the_first_error() {
    let mut console = console(Access::Admin);

    let answers = ask(&mut console, "SET datestyle = 'ISO'; SELECT 1; PAUSE; SELECT 1");

    assert_eq!(answers, ["SET", "?column?:23:0", "(1)", "SELECT 1", "0A000", "I"]);
}

#[test]
fn a_text_with_an_error_anywhere_runs_nothing() {
    assert_eq!(ask(&mut console(Access::Admin), "SELECT 1; BOGUS"), ["42601", "I"]);
}

#[test]
fn a_user_of_statistics_may_show_and_nothing_else() {
    let mut stats = console(Access::Stats);

    assert_eq!(ask(&mut stats, "KILL_CLIENT 1"), ["42501", "I"]);
    assert_eq!(ask(&mut stats, "SET query_timeout = 1"), ["42501", "I"]);
    assert_eq!(
        talk(&mut stats, |buffer| extended("SHUTDOWN", &[], 0, buffer)),
        ["parsed", "bound", "no data", "42501", "I"]
    );
    assert_eq!(ask(&mut console(Access::Admin), "KILL_CLIENT 1"), ["0A000", "I"]);
}

#[test]
fn errors_say_what_to_do() {
    let (mut input, mut out) = (BytesMut::new(), BytesMut::new());
    write::query("BOGUS now", &mut input).unwrap();

    let step = feed(&mut console(Access::Admin), &mut input, &mut out);

    assert_eq!(step, ConsoleStep::Continue);
    out.advance(5);
    let text = String::from_utf8_lossy(&out).into_owned();
    assert!(text.starts_with("SERROR\0VERROR\0C42601\0Minvalid command \"bogus now\"\0"), "{text}");
    assert!(text.contains("HSHOW HELP lists the commands\0"), "{text}");
}

#[test]
fn a_block_is_kept_as_postgresql_keeps_it() {
    let mut console = console(Access::Admin);

    assert_eq!(ask(&mut console, "BEGIN"), ["BEGIN", "T"]);
    assert_eq!(ask(&mut console, "SELECT 1").last().unwrap(), "T");
    assert_eq!(ask(&mut console, "BOGUS"), ["42601", "E"]);
    assert_eq!(ask(&mut console, "SHOW VERSION").as_slice()[1..], ["25P02", "E"]);
    assert_eq!(ask(&mut console, "COMMIT"), ["ROLLBACK", "I"]);
    assert_eq!(ask(&mut console, "BEGIN; COMMIT"), ["BEGIN", "COMMIT", "I"]);
}

#[test]
fn help_names_every_show() {
    let answers = ask(&mut console(Access::Stats), "SHOW HELP");

    for (name, _, _) in SHOWS {
        assert!(answers[0].contains(&format!("SHOW {}", name.to_uppercase())), "{name}");
    }
    assert_eq!(answers[1..], ["SHOW", "I"]);
}

#[test]
fn the_greeting_is_what_drivers_look_for() {
    let mut out = BytesMut::new();
    console(Access::Stats).greet(&mut out);

    let told = read(out);

    let version = format!("server_version=15.0 (pgweir {})", env!("CARGO_PKG_VERSION"));
    for expected in [
        &version,
        "client_encoding=UTF8",
        "DateStyle=ISO",
        "TimeZone=GMT",
        "standard_conforming_strings=on",
        "integer_datetimes=on",
        "is_superuser=on",
    ] {
        assert!(told.iter().any(|status| status == expected), "{expected}: {told:?}");
    }
}

#[test]
fn the_extended_protocol_gives_the_same_in_either_format() {
    let mut console = console(Access::Stats);

    let text = talk(&mut console, |buffer| extended("SELECT 1", &[], 0, buffer));
    let binary = talk(&mut console, |buffer| extended("SELECT 1", &[1], 0, buffer));
    let totals = talk(&mut console, |buffer| extended("SHOW TOTALS", &[0, 1], 1, buffer));

    assert_eq!(text, ["parsed", "bound", "?column?:23:0", "(1)", "SELECT 1", "I"]);
    let one = r"(\x00\x00\x00\x01)";
    assert_eq!(binary, ["parsed", "bound", "?column?:23:1", one, "SELECT 1", "I"]);
    let ten = r"(total_server_assignment_count \x00\x01\x00\x00\x00\x00\x00\x00\x00\n)";
    assert_eq!(totals, ["parsed", "bound", "name:25:0 value:1700:1", ten, "suspended", "I"]);
}

#[test]
fn a_portal_goes_on_where_it_was_suspended() {
    let mut console = console(Access::Stats);

    let answers = talk(&mut console, |buffer| {
        write::parse("s", "SHOW STATE", [], buffer).unwrap();
        write::describe(b'S', "s", buffer).unwrap();
        bind("p", "s", &[], buffer);
        write::execute("p", 2, buffer).unwrap();
        write::execute("p", 2, buffer).unwrap();
        write::execute("p", 0, buffer).unwrap();
        write::close(b'P', "p", buffer).unwrap();
        write::close(b'S', "s", buffer).unwrap();
        write::flush(buffer);
        bind("", "s", &[], buffer);
        write::sync(buffer);
    });

    assert_eq!(
        answers,
        [
            "parsed",
            "0 parameters",
            "key:25:0 value:25:0",
            "bound",
            "(active yes)",
            "(paused no)",
            "suspended",
            "(suspended no)",
            "SHOW",
            "SHOW",
            "closed",
            "closed",
            "26000",
            "I"
        ]
    );
}

#[test]
fn after_an_error_everything_waits_for_sync() {
    let mut console = console(Access::Stats);

    let answers = talk(&mut console, |buffer| {
        write::parse("", "BOGUS", [], buffer).unwrap();
        bind("", "", &[], buffer);
        write::query("SELECT 1", buffer).unwrap();
        write::execute("", 0, buffer).unwrap();
        write::sync(buffer);
        write::query("SELECT 1", buffer).unwrap();
    });

    assert_eq!(answers, ["42601", "I", "?column?:23:0", "(1)", "SELECT 1", "I"]);
}

#[test]
fn portals_end_with_their_transaction() {
    let mut console = console(Access::Stats);
    let open = |buffer: &mut BytesMut| {
        write::parse("", "SELECT 1", [], buffer).unwrap();
        bind("p", "", &[], buffer);
        write::sync(buffer);
    };
    let run = |buffer: &mut BytesMut| {
        write::execute("p", 0, buffer).unwrap();
        write::sync(buffer);
    };

    talk(&mut console, open);
    assert_eq!(talk(&mut console, run), ["34000", "I"]);
    ask(&mut console, "BEGIN");
    talk(&mut console, open);
    assert_eq!(talk(&mut console, run), ["(1)", "SELECT 1", "T"]);
}

#[test]
fn names_are_unique_and_bounded() {
    let mut console = console(Access::Stats);
    let prepare = |name: String| {
        move |buffer: &mut BytesMut| {
            write::parse(&name, "SELECT 1", [], buffer).unwrap();
            write::sync(buffer);
        }
    };

    for number in 0..MAX_STATEMENTS {
        let answers = talk(&mut console, prepare(format!("s{number}")));
        assert_eq!(answers, ["parsed", "I"]);
    }

    assert_eq!(talk(&mut console, prepare("s0".into())), ["42P05", "I"]);
    assert_eq!(talk(&mut console, prepare("more".into())), ["53400", "I"]);
    let portals = talk(&mut console, |buffer| {
        for number in 0..=MAX_PORTALS {
            bind(&format!("p{number}"), "s0", &[], buffer);
        }
        write::sync(buffer);
    });
    assert_eq!(portals[MAX_PORTALS..], ["53400", "I"]);
}

#[test]
fn what_breaks_the_protocol_is_refused() {
    let mut console = console(Access::Stats);
    let mut out = BytesMut::new();

    let parameters = [0, 0, 0, 0, 0, 1, 0, 0, 0, 1, b'x', 0, 0];
    let bodies: [(u8, &[u8]); 6] = [
        (b'P', b"no end"),
        (b'P', b"\0SELECT 1\0\xff\xff"),
        (b'D', b"X\0"),
        (b'E', b"\0\0\0\0"),
        (b'B', b"\0\0\0\0\0\0\0\x01\0\x07"),
        (b'Q', b"SELECT 1\0more"),
    ];
    for (tag, body) in bodies {
        assert_eq!(console.on_message(tag, body, &mut out), ConsoleStep::Continue);
        assert_eq!(console.on_message(b'S', &[], &mut out), ConsoleStep::Continue);
        let answers = read(out.split());
        assert_eq!(answers[0], "08P01", "{body:?}");
    }
    let step = console.on_message(b'P', b"\0SELECT 1\0\0\0", &mut out);
    assert_eq!(step, ConsoleStep::Continue);
    assert_eq!(console.on_message(b'B', &parameters, &mut out), ConsoleStep::Continue);
    assert_eq!(read(out.split()), ["parsed", "08P01"]);
    let long = vec![b' '; Console::MAX_MESSAGE + 1];
    assert_eq!(console.on_message(b'S', &[], &mut out), ConsoleStep::Continue);
    assert_eq!(console.on_message(b'Q', &long, &mut out), ConsoleStep::Continue);
    assert_eq!(read(out.split()), ["I", "54000", "I"]);
    assert_eq!(console.on_message(b'F', &[], &mut out), ConsoleStep::Continue);
    assert_eq!(read(out.split()), ["0A000", "I"]);
    assert_eq!(console.on_message(b'?', &[], &mut out), ConsoleStep::Close);
    assert_eq!(read(out.split()), ["08P01"]);
    assert_eq!(console.on_message(b'X', &[], &mut out), ConsoleStep::Close);
    assert!(out.is_empty());
}

/// Bodies that are mostly nonsense, and often nearly right.
fn any_body() -> impl Strategy<Value = Vec<u8>> {
    let pieces = prop::sample::select(vec![
        "\0",
        "\0\0",
        "\0\x01",
        "S",
        "P",
        "SHOW POOLS",
        "SELECT 1",
        "BEGIN",
        "COMMIT",
        ";",
        "p",
        "\u{7f}",
        "'",
        "\0\0\0\x02",
    ]);
    let near = prop::collection::vec(pieces, 0..12).prop_map(|pieces| pieces.concat().into_bytes());
    prop_oneof![near, prop::collection::vec(any::<u8>(), 0..64)]
}

fn any_tag() -> impl Strategy<Value = u8> {
    prop_oneof![4 => prop::sample::select(b"PBDECQSH".to_vec()), 1 => any::<u8>()]
}

proptest! {
    /// Whatever comes, every answer is a message of the protocol, each Sync and each Query outside
    /// a skip has one ReadyForQuery, and what is kept stays bounded.
    #[test]
    fn any_messages_are_answered(
        messages in prop::collection::vec((any_tag(), any_body()), 0..40),
    ) {
        let mut console = console(Access::Admin);
        for (tag, body) in messages {
            let mut out = BytesMut::new();
            let skipping = console.skipping;
            let step = console.on_message(tag, &body, &mut out);
            let answers = read(out);
            let ready = answers.iter().filter(|word| ["I", "T", "E"].contains(&word.as_str()));
            let owed = tag == b'S' || !skipping && (tag == b'Q' || tag == b'F');
            prop_assert_eq!(ready.count(), usize::from(owed));
            prop_assert!(console.statements.len() <= MAX_STATEMENTS);
            prop_assert!(console.portals.len() <= MAX_PORTALS);
            if step == ConsoleStep::Close {
                break;
            }
        }
    }
}

/// A console behind the login that the client's session does for it.
async fn serve(mut stream: DuplexStream) {
    let mut console = console(Access::Stats);
    let startup = stream.read_i32().await.unwrap() - 4;
    stream.read_exact(&mut vec![0; startup.try_into().unwrap()]).await.unwrap();
    let mut out = BytesMut::from(&b"R\0\0\0\x08\0\0\0\0"[..]);
    console.greet(&mut out);
    out.extend_from_slice(b"K\0\0\0\x0c\0\0\0\x01\0\0\0\x01Z\0\0\0\x05I");
    let mut input = BytesMut::new();
    loop {
        stream.write_all_buf(&mut out).await.unwrap();
        if stream.read_buf(&mut input).await.unwrap() == 0 {
            return;
        }
        if feed(&mut console, &mut input, &mut out) == ConsoleStep::Close {
            return;
        }
    }
}

#[tokio::test]
async fn a_driver_reads_every_show_in_both_protocols() {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let mut config = ClientConfig::new();
    let connect = config.user("prometheus").connect_raw(near, NoTls);
    let talk = async {
        let (client, connection) = connect.await.unwrap();
        let questions = async move {
            for (name, show, _) in SHOWS {
                let sql = format!("SHOW {name}");
                let simple = client.simple_query(&sql).await.unwrap();
                let is_row = |message: &&_| matches!(message, SimpleQueryMessage::Row(_));
                let rows = client.query(&sql, &[]).await.unwrap();
                assert_eq!(rows.len(), simple.iter().filter(is_row).count(), "{name}");
                assert_eq!(rows[0].columns().len(), show.columns().len(), "{name}");
            }
            let rows = client.query("SHOW POOLS", &[]).await.unwrap();
            assert_eq!(rows[0].get::<_, &str>("database"), "markets");
            assert_eq!(rows[0].get::<_, i32>("cl_waiting"), 3);
            assert_eq!(rows[0].get::<_, Option<&str>>("load_balance_hosts"), None);
            let refused = client.query("PAUSE", &[]).await.unwrap_err();
            assert_eq!(refused.code().unwrap().code(), "42501");
        };
        tokio::join!(async { drop(connection.await) }, questions);
    };
    let all = Box::pin(async { tokio::join!(serve(far), talk) });
    tokio::time::timeout(std::time::Duration::from_secs(20), all).await.expect("an end");
}
