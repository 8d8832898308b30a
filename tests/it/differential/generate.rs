//! Random sequences: what drivers send, what they never should, and what lies between.

use super::random::Random;
use super::sequence::{Frame, Sequence, Step};
use crate::support::messages::{
    copy_data, copy_done, copy_fail, describe_portal, describe_statement, execute_portal, flush,
    message, parse_typed, query, sync, terminate,
};

/// What a run is about.
#[derive(Debug, Clone)]
pub struct Shape {
    pub clients: usize,
    pub servers: usize,
    /// `prepared_statements`.
    pub statements: usize,
}

/// What every sequence begins with. Table `t0` is client 0's to write to where several servers are
/// at work, for no two clients may wait for each other's locks.
pub const TABLES: &str = "\
    set client_min_messages = error; \
    drop table if exists t0, t1, t2, t3, c0, c1, c2, c3, fixed, n0, n1, n2, n3; \
    create table t0 (a int primary key, b text); create table t1 (like t0 including all); \
    create table t2 (like t0 including all); create table t3 (like t0 including all); \
    create table c0 (a int, b text); create table c1 (like c0); \
    create table c2 (like c0); create table c3 (like c0); \
    create table fixed as select n as a, 'text ' || n as b from generate_series(1, 5) n; \
    set client_min_messages = notice";

pub const ROWS: &str = "\
    delete from t0; delete from t1; delete from t2; delete from t3; \
    delete from c0; delete from c1; delete from c2; delete from c3";

/// What is looked at behind every sequence.
pub const LOOK: &str = "\
    table t0 order by a; table t1 order by a; table t2 order by a; table t3 order by a; \
    table c0 order by 1, 2; table c1 order by 1, 2; table c2 order by 1, 2; table c3 order by 1, 2";

/// A copy in binary format, whole: the row (7, 'x').
pub const BINARY_COPY: &[u8] =
    b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0\0\x02\0\0\0\x04\0\0\0\x07\0\0\0\x01x\xff\xff";

const INT4: u32 = 23;
const TEXT: u32 = 25;

/// The sequence of `seed`.
pub fn generate(shape: &Shape, seed: u64) -> Sequence {
    let mut generator = Generator {
        random: Random::new(seed + ((shape.servers * 1000 + shape.statements) as u64 * 1_000_000)),
        shape: shape.clone(),
        changes_encoding: seed.is_multiple_of(2),
        changes_tables: false,
        clients: vec![Known::default(); shape.clients],
        client: 0,
    };
    generator.sequence()
}

/// What a client probably has, so that more than mistakes are made.
#[derive(Debug, Clone, Default)]
struct Known {
    statements: Vec<(String, Text)>,
}

#[derive(Debug, Clone, Copy)]
struct Text {
    text: &'static str,
    /// The types of its parameters, as values are given for them.
    parameters: &'static [Parameter],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Parameter {
    Number,
    Text,
}

struct Generator {
    random: Random,
    shape: Shape,
    changes_encoding: bool,
    changes_tables: bool,
    clients: Vec<Known>,
    client: usize,
}

const NUMBER: &[Parameter] = &[Parameter::Number];
const BOTH: &[Parameter] = &[Parameter::Number, Parameter::Text];

/// `T` and `C` stand for a table that the client may write to.
const PREPARED: &[(&str, &[Parameter])] = &[
    ("select 1 as one", &[]),
    ("select $1::int4 + 1", NUMBER),
    ("select $1::text || ' and ' || $1", &[Parameter::Text]),
    ("select $1, $2", BOTH),
    ("select * from fixed where a > $1", NUMBER),
    ("select * from fixed order by a", &[]),
    ("select * from T order by a", &[]),
    ("select b from T where a = $1", NUMBER),
    ("insert into T values ($1, $2)", BOTH),
    ("insert into T values ($1, $2) returning *", BOTH),
    ("update T set b = $2 where a = $1", BOTH),
    ("delete from T where a = $1", NUMBER),
    ("select generate_series(1, 7)", &[]),
    ("select date '01/02/2020', timestamptz '2020-06-01 12:00:00+00'", &[]),
    ("select '03/04/2021'::date::text, '1 day 2 hours'::interval::text", &[]),
    ("select 'back\\slash'", &[]),
    ("select 'Größe', length('Größe')", &[]),
    ("select 1/$1::int4", NUMBER),
    ("select 1/0", &[]),
    ("select * from nowhere", &[]),
    ("selec 1", &[]),
    ("", &[]),
    (" ; ", &[]),
    ("select 1; select 2", &[]),
    ("show datestyle", &[]),
    ("show timezone", &[]),
    ("begin", &[]),
    ("commit", &[]),
    ("rollback", &[]),
    ("savepoint s", &[]),
    ("rollback to s", &[]),
    ("deallocate all", &[]),
    ("discard all", &[]),
    ("set timezone to 'Europe/Berlin'", &[]),
    ("copy C from stdin", &[]),
    ("copy fixed to stdout", &[]),
    ("declare cur cursor for select * from fixed", &[]),
    ("fetch 2 from cur", &[]),
    ("lock table T", &[]),
    ("explain (costs off) select * from fixed", &[]),
];

const QUERIES: &[&str] = &[
    "select 1",
    "select 1; select 2; select 3",
    "",
    ";",
    "-- nothing",
    "selec",
    "select 1/0",
    "select 1; select 1/0; select 2",
    "insert into T values (1, 'one')",
    "insert into T values (2, 'two'); select 1/0",
    "insert into T values (3, 'three'); insert into T values (3, 'again')",
    "update T set b = b || '!'",
    "delete from T",
    "select * from T order by a",
    "select count(*) from T",
    "begin",
    "begin; insert into T values (4, 'four'); commit",
    "begin; insert into T values (5, 'five'); rollback",
    "start transaction isolation level serializable",
    "commit",
    "commit and chain",
    "rollback",
    "rollback; begin",
    "end",
    "savepoint s",
    "rollback to s",
    "release s",
    "set local datestyle to 'German'; show datestyle",
    "set local work_mem to '1MB'; show work_mem",
    "set datestyle to 'German'",
    "set datestyle to 'nonsense'",
    "set time zone 'Asia/Tokyo'",
    "set intervalstyle to 'iso_8601'",
    "set application_name to 'it''s me'",
    "set standard_conforming_strings to off",
    OTHER_ENCODING,
    "set names 'UTF8'",
    "reset datestyle",
    "reset timezone",
    "reset all",
    "begin; set timezone to 'Asia/Tokyo'; rollback",
    "begin; set timezone to 'Asia/Tokyo'; commit",
    "show datestyle",
    "show timezone",
    "show application_name",
    "show client_encoding",
    "select date '01/02/2020', timestamptz '2020-06-01 12:00:00+00', interval '1 day 2 hours'",
    "select 'back\\slash'",
    "declare cur cursor for select * from fixed; fetch 1 from cur",
    "declare cur scroll cursor for select * from fixed",
    "fetch 2 from cur",
    "move 1 in cur",
    "close cur",
    "close all",
    "copy C from stdin",
    "copy C from stdin; select 1",
    "select 1; copy C from stdin; select 1/0",
    "copy C from stdin; copy C from stdin",
    "copy C from stdin (format binary)",
    "copy fixed to stdout",
    "copy fixed to stdout; select 1",
    "copy nowhere from stdin",
    "copy (select 1/(3-a) from fixed) to stdout",
    "deallocate all",
    "deallocate prepare all",
    "discard all",
    "discard plans",
    "deallocate all; select 1",
    "select 1; deallocate all; select 1/0",
    "deallocate all; copy C from stdin",
    "prepare q1 as select 5; execute q1; deallocate q1",
    "begin; prepare q2 as select 6; execute q2; deallocate q2; commit",
    "notify nobody, 'hears it'",
    "begin; notify nobody; rollback",
    "deallocate nobody",
    "execute nobody",
    "do $$ begin raise notice 'psst'; end $$",
    "do $$ begin raise exception 'no' using errcode = '22000'; end $$",
    "create table if not exists fixed (a int)",
    "drop table if exists nowhere",
    "create table nowhere_either (a nosuchtype)",
    "begin; create table N (a int); insert into N values (1); table N; rollback",
    "select pg_advisory_xact_lock(1)",
    "begin; select lo_create(4711); select lo_unlink(4711); commit",
    "vacuum fixed",
    "begin; vacuum fixed",
    "explain (costs off) select * from fixed",
];

const STATEMENTS: &[&str] = &["", "a", "b", "c", "d", "A b", "Größe"];
/// PostgreSQL knows a name by its characters, pgweir by its bytes, which are the same name in one
/// encoding only: a sequence has either this or names that are not ASCII.
const OTHER_ENCODING: &str = "set client_encoding to 'LATIN1'";
const PORTALS: &[&str] = &["", "", "", "p", "q", "P 1"];
const LONG: &str = "a name that is longer than the sixty-three bytes that an identifier may have";

impl Generator {
    fn sequence(&mut self) -> Sequence {
        let count = 3 + self.random.below(10);
        let steps = (0..count).map(|_| self.step()).collect();
        Sequence { steps, changes_tables: self.changes_tables }
    }

    fn step(&mut self) -> Step {
        self.client = self.random.below(self.shape.clients);
        let mut frames = Vec::new();
        for _ in 0..=self.random.below(3) {
            self.part(&mut frames);
        }
        let mut cuts = Vec::new();
        if self.random.chance(30) {
            let len = frames.iter().map(|frame| frame.0.len()).sum();
            cuts = (0..=self.random.below(4)).map(|_| self.random.below(len)).collect();
            cuts.sort_unstable();
        }
        Step { client: self.client, frames, cuts }
    }

    /// A few messages that belong together, or do not.
    fn part(&mut self, frames: &mut Vec<Frame>) {
        match self.random.below(100) {
            0..20 => self.query(frames),
            20..25 => self.named_in_sql(frames),
            25..55 => self.segment(frames),
            55..63 => self.whole(frames),
            63..70 => self.portal(frames),
            70..78 => self.copy(frames),
            78..92 => {
                for _ in 0..=self.random.below(4) {
                    let frame = self.any();
                    frames.push(frame);
                }
                if self.random.chance(80) {
                    frames.push(Frame(sync()));
                }
            }
            92..96 => self.function_call(frames),
            96..99 => self.malformed(frames),
            _ => frames.push(Frame(terminate())),
        }
    }

    /// SQL that names a statement which the client probably has, in quotes or folded.
    fn naming(&mut self) -> String {
        let name = self.known_name();
        let is_plain = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase());
        let name = match self.random.below(3) {
            0 if is_plain => name,
            1 if is_plain => name.to_uppercase(),
            _ => format!("\"{}\"", if name.is_empty() { "a" } else { &name }),
        };
        match self.random.below(12) {
            0..3 => format!("deallocate {name}"),
            3 => format!("deallocate prepare {name}"),
            4 => format!("select 1; deallocate {name}; select 2"),
            5 => format!("deallocate {name}; select 1/0"),
            // What SQL prepares is there until the transaction ends, and no longer.
            6 => format!("prepare {name} as select 5; deallocate {name}"),
            7 => format!("explain (costs off) execute {name}"),
            _ => format!("execute {name}"),
        }
    }

    /// Such a text by a Query, by the unnamed statement, or by one with a name.
    fn named_in_sql(&mut self, frames: &mut Vec<Frame>) {
        let text = self.naming();
        if self.random.chance(50) {
            frames.push(Frame(query(&text)));
            return;
        }
        let name = if self.random.chance(60) { "" } else { "naming" };
        frames.push(self.close_statement(name));
        frames.push(Frame(parse_typed(name, &text, &[])));
        if self.random.chance(40) {
            frames.push(Frame(describe_statement(name)));
        }
        self.run(name, frames);
        self.end(frames);
    }

    fn query(&mut self, frames: &mut Vec<Frame>) {
        let mut text = *self.random.one(QUERIES);
        if text == OTHER_ENCODING && !self.changes_encoding {
            text = "show client_encoding";
        }
        let text = self.at_home(text);
        frames.push(Frame(query(&text)));
    }

    /// The text with the tables that the client may write to.
    fn at_home(&mut self, text: &str) -> String {
        let number = if self.shape.servers > 1 { self.client } else { self.random.below(2) };
        let word = |word: &str| match word {
            "T" | "C" | "N" => format!("{}{number}", word.to_lowercase()),
            word => word.to_owned(),
        };
        text.split(' ')
            .map(|piece| {
                let end = piece.trim_end_matches(';');
                format!("{}{}", word(end), &piece[end.len()..])
            })
            .collect::<Vec<_>>()
            .join(" ")
    }

    fn statement_name(&mut self) -> String {
        if self.random.chance(2) {
            return LONG.to_owned();
        }
        let name = *self.random.one(STATEMENTS);
        if self.changes_encoding && !name.is_ascii() { "e" } else { name }.to_owned()
    }

    fn portal_name(&mut self) -> &'static str {
        PORTALS[self.random.below(PORTALS.len())]
    }

    fn text(&mut self) -> Text {
        let (text, parameters) = *self.random.one(PREPARED);
        Text { text, parameters }
    }

    fn parse(&mut self, name: &str) -> Frame {
        let text = self.text();
        let types: Vec<u32> = match self.random.below(10) {
            0..7 => Vec::new(),
            7..9 => text
                .parameters
                .iter()
                .map(|parameter| match parameter {
                    Parameter::Number => INT4,
                    Parameter::Text => TEXT,
                })
                .collect(),
            _ => vec![TEXT],
        };
        let known = &mut self.clients[self.client].statements;
        if name.is_empty() || !known.iter().any(|(other, _)| other == name) {
            known.retain(|(other, _)| other != name);
            known.push((name.to_owned(), text));
        }
        let text = self.at_home(text.text);
        Frame(parse_typed(name, &text, &types))
    }

    /// A Bind, mostly with the parameters that the statement has.
    fn bind(&mut self, portal: &str, name: &str) -> Frame {
        let known = self.clients[self.client].statements.iter().find(|(other, _)| other == name);
        let mut parameters = known.map_or(&[][..], |(_, text)| text.parameters).to_vec();
        if self.random.chance(4) {
            parameters.push(Parameter::Text);
        }
        let mut body = [portal.as_bytes(), b"\0", name.as_bytes(), b"\0"].concat();
        let binary = self.random.chance(15);
        let formats: Vec<u16> = match self.random.below(20) {
            0..14 if !binary => Vec::new(),
            14..18 if !binary => vec![0],
            18 => vec![7; parameters.len()],
            19 => vec![0, 0, 0],
            _ => parameters.iter().map(|one| u16::from(*one == Parameter::Number)).collect(),
        };
        put_formats(&mut body, &formats);
        body.extend_from_slice(&u16::try_from(parameters.len()).unwrap().to_be_bytes());
        for (at, parameter) in parameters.iter().enumerate() {
            let is_binary = formats.get(at) == Some(&1);
            let number = self.random.below(8);
            let value = match parameter {
                _ if self.random.chance(3) => None,
                Parameter::Number if is_binary => {
                    Some(u32::try_from(number).unwrap().to_be_bytes().to_vec())
                }
                Parameter::Number if self.random.chance(5) => Some(b"no number".to_vec()),
                Parameter::Number => Some(number.to_string().into_bytes()),
                Parameter::Text => Some(format!("value {number}").into_bytes()),
            };
            match value {
                None => body.extend_from_slice(&(-1_i32).to_be_bytes()),
                Some(value) => {
                    body.extend_from_slice(&u32::try_from(value.len()).unwrap().to_be_bytes());
                    body.extend_from_slice(&value);
                }
            }
        }
        let results: &[u16] = match self.random.below(20) {
            0..15 => &[],
            15..18 => &[1],
            18 => &[0],
            _ => &[1, 0, 1, 0],
        };
        put_formats(&mut body, results);
        Frame(message(b'B', &body))
    }

    fn execute(&mut self, portal: &str) -> Frame {
        let most = if self.random.chance(25) { 1 + self.random.below(3) } else { 0 };
        Frame(execute_portal(portal, u32::try_from(most).unwrap()))
    }

    fn close_statement(&mut self, name: &str) -> Frame {
        self.clients[self.client].statements.retain(|(other, _)| other != name);
        Frame(message(b'C', &[b"S", name.as_bytes(), b"\0"].concat()))
    }

    /// A name that the client probably knows.
    fn known_name(&mut self) -> String {
        let known = &self.clients[self.client].statements;
        if known.is_empty() || self.random.chance(10) {
            return self.statement_name();
        }
        let at = self.random.below(known.len());
        self.clients[self.client].statements[at].0.clone()
    }

    /// What drivers do: prepare something, or run what was prepared, up to a Sync.
    fn segment(&mut self, frames: &mut Vec<Frame>) {
        for _ in 0..=self.random.below(2) {
            if self.random.chance(50) {
                let name = self.statement_name();
                if !name.is_empty() && self.random.chance(30) {
                    let close = self.close_statement(&name);
                    frames.push(close);
                }
                let parse = self.parse(&name);
                frames.push(parse);
                if self.random.chance(40) {
                    frames.push(Frame(describe_statement(&name)));
                }
                if self.random.chance(60) {
                    self.run(&name, frames);
                }
            } else {
                let name = self.known_name();
                self.run(&name, frames);
            }
        }
        self.end(frames);
    }

    fn run(&mut self, name: &str, frames: &mut Vec<Frame>) {
        let portal = self.portal_name();
        frames.push(self.bind(portal, name));
        if self.random.chance(50) {
            frames.push(Frame(describe_portal(portal)));
        }
        frames.push(self.execute(portal));
        if self.random.chance(15) {
            frames.push(self.execute(portal));
        }
    }

    fn end(&mut self, frames: &mut Vec<Frame>) {
        if self.random.chance(15) {
            frames.push(Frame(flush()));
        }
        if self.random.chance(88) {
            frames.push(Frame(sync()));
        }
    }

    /// A statement run by the unnamed statement and portal, as most drivers do.
    fn whole(&mut self, frames: &mut Vec<Frame>) {
        frames.push(self.parse(""));
        frames.push(self.bind("", ""));
        frames.push(Frame(describe_portal("")));
        frames.push(Frame(execute_portal("", 0)));
        frames.push(Frame(sync()));
    }

    /// Rows a few at a time, over several segments of a block.
    fn portal(&mut self, frames: &mut Vec<Frame>) {
        let portal = self.portal_name();
        if self.random.chance(70) {
            frames.push(Frame(query("begin")));
        }
        frames.push(Frame(parse_typed("", "select generate_series(1, 7)", &[])));
        frames.push(Frame(message(b'B', &[portal.as_bytes(), b"\0\0\0\0\0\0\0\0"].concat())));
        for _ in 0..=self.random.below(4) {
            frames.push(Frame(execute_portal(portal, 2)));
            if self.random.chance(50) {
                frames.push(Frame(sync()));
            }
        }
        if self.random.chance(50) {
            frames.push(Frame(message(b'C', &[b"P", portal.as_bytes(), b"\0"].concat())));
        }
        self.end(frames);
        if self.random.chance(70) {
            frames.push(Frame(query("commit")));
        }
    }

    /// A copy, in the simple or the extended protocol, with data that is good or not.
    fn copy(&mut self, frames: &mut Vec<Frame>) {
        let is_simple = self.random.chance(60);
        let text = self.at_home("copy C from stdin");
        if is_simple {
            frames.push(Frame(query(&text)));
        } else {
            frames.push(Frame(parse_typed("", &text, &[])));
            frames.push(Frame(message(b'B', b"\0\0\0\0\0\0\0\0")));
            frames.push(Frame(execute_portal("", 0)));
            if self.random.chance(30) {
                frames.push(Frame(sync()));
            }
        }
        for _ in 0..self.random.below(4) {
            frames.push(self.copy_data());
        }
        if self.random.chance(90) {
            let is_good = self.random.chance(80);
            frames.push(Frame(if is_good { copy_done() } else { copy_fail("enough") }));
        }
        if self.random.chance(10) {
            frames.push(self.copy_data());
            frames.push(Frame(copy_done()));
        }
        if !is_simple || self.random.chance(20) {
            self.end(frames);
        }
    }

    fn copy_data(&mut self) -> Frame {
        let data: &[u8] = match self.random.below(12) {
            0..9 => b"1\tsome text\n2\tmore\n",
            9..11 => b"bad data in a row\n",
            _ => BINARY_COPY,
        };
        Frame(copy_data(data))
    }

    /// Any message, wherever it makes sense or not.
    fn any(&mut self) -> Frame {
        let name = self.statement_name();
        let portal = self.portal_name();
        match self.random.below(14) {
            0..3 => self.parse(&name),
            3..5 => {
                let name = self.known_name();
                self.bind(portal, &name)
            }
            5 => Frame(describe_statement(&name)),
            6 => Frame(describe_portal(portal)),
            7..9 => self.execute(portal),
            9 => self.close_statement(&name),
            10 => Frame(message(b'C', &[b"P", portal.as_bytes(), b"\0"].concat())),
            11 => Frame(sync()),
            12 => Frame(flush()),
            _ => match self.random.below(4) {
                0 => self.copy_data(),
                1 => Frame(copy_done()),
                2 => Frame(copy_fail("out of place")),
                _ => Frame(query("select 'in between'")),
            },
        }
    }

    fn function_call(&mut self, frames: &mut Vec<Frame>) {
        // int4pl, div by zero in int4div, a function that is not there, one too few arguments.
        match self.random.below(6) {
            0 | 1 => frames.push(call(177, &["1", "2"])),
            2 => frames.push(call(154, &["1", "0"])),
            3 => frames.push(call(99_999, &[])),
            4 => frames.push(call(177, &["1"])),
            _ => self.large_object(frames),
        }
    }

    /// What libpq does with a large object, in a block that leaves nothing of it.
    fn large_object(&mut self, frames: &mut Vec<Frame>) {
        let oid = (4800 + self.client).to_string();
        // lo_create, lo_open to read and write, lowrite, lo_lseek, loread, lo_close, lo_unlink.
        let calls: [(u32, &[&str]); 7] = [
            (715, &[&oid]),
            (952, &[&oid, "393216"]),
            (955, &["0", "some text"]),
            (956, &["0", "5", "0"]),
            (954, &["0", "100"]),
            (953, &["0"]),
            (964, &[&oid]),
        ];
        frames.push(Frame(query("begin")));
        for (oid, values) in calls {
            if self.random.chance(90) {
                frames.push(call(oid, values));
            }
        }
        frames.push(Frame(query("rollback")));
    }

    /// Messages whose bodies break the protocol, and types that do not exist.
    fn malformed(&mut self, frames: &mut Vec<Frame>) {
        let bodies: &[(u8, &[u8])] = &[
            (b'P', b"a\0select 1"),
            (b'P', b"a\0select 1\0\0\x02\0\0\0\x17"),
            (b'P', b"a\0select 1\0\0\0more"),
            (b'P', b""),
            (b'B', b"p"),
            (b'B', b"p\0a"),
            (b'B', b"\0\0\0\0\0\x01\0\0\0\x09x"),
            (b'B', b"\0\0\0\0\0\0\0\0more"),
            (b'D', b""),
            (b'D', b"Xa\0"),
            (b'D', b"Sa\0more"),
            (b'D', b"Sa"),
            (b'C', b"Xa\0"),
            (b'C', b"Sa\0more"),
            (b'C', b"Pa"),
            (b'E', b"p"),
            (b'E', b"\0\0\0\0\0more"),
            (b'S', b"more"),
            (b'H', b"more"),
            (b'Q', b"select 1"),
            (b'Q', b"select 1\0more"),
            (b'F', b"\0\0"),
            (b'!', b""),
            (b'p', b"password\0"),
            (b'R', b"\0\0\0\0"),
            (b'\0', b""),
        ];
        let (tag, body) = *self.random.one(bodies);
        frames.push(Frame(message(tag, body)));
        if self.random.chance(80) {
            frames.push(Frame(sync()));
        }
    }
}

fn put_formats(body: &mut Vec<u8>, formats: &[u16]) {
    body.extend_from_slice(&u16::try_from(formats.len()).unwrap().to_be_bytes());
    body.extend(formats.iter().flat_map(|format| format.to_be_bytes()));
}

/// A `FunctionCall` with its arguments and its result as text.
fn call(oid: u32, values: &[&str]) -> Frame {
    let count = u16::try_from(values.len()).unwrap().to_be_bytes();
    let mut body = [&oid.to_be_bytes()[..], &[0, 0], &count].concat();
    for value in values {
        body.extend_from_slice(&u32::try_from(value.len()).unwrap().to_be_bytes());
        body.extend_from_slice(value.as_bytes());
    }
    body.extend_from_slice(&[0, 0]);
    Frame(message(b'F', &body))
}
