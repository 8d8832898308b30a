//! Random sequences: what drivers send, what they never should, and what lies between.

use super::sequence::{Frame, Sequence, Step};
use super::texts::{
    BINARY_COPY, CSV_COPY, LONG, ODD, OTHER_ENCODING, PORTALS, PREPARED, Parameter, QUERIES,
    STATEMENTS, Text,
};
use crate::support::messages::{
    copy_data, copy_done, copy_fail, describe_portal, describe_statement, execute_portal, flush,
    message, parse_typed, query, sync, terminate,
};
use crate::support::random::Random;

/// What a run is about.
#[derive(Debug, Clone)]
pub struct Shape {
    pub clients: usize,
    pub servers: usize,
    /// `prepared_statements`.
    pub statements: usize,
    /// `reuse_unnamed`.
    pub reuses: bool,
}

impl Shape {
    /// There is a server for each client: nobody waits, and it does not matter who has one.
    pub const fn has_one_for_each(&self) -> bool {
        self.servers >= self.clients
    }

    /// One that no other shape has.
    fn number(&self) -> u64 {
        (self.servers * 1000 + self.statements + usize::from(self.reuses) * 500) as u64
    }
}

/// So few that they come again and again in the few steps of a sequence.
const FAVOURITES: usize = 2;

const INT4: u32 = 23;
const TEXT: u32 = 25;

/// Names of statements whose texts name others.
const NAMING: [&str; 2] = ["naming", "naming too"];

/// The sequence of `seed`.
pub fn generate(shape: &Shape, seed: u64) -> Sequence {
    let mut generator = Generator {
        random: Random::new(seed + shape.number() * 1_000_000),
        shape: shape.clone(),
        changes_encoding: seed.is_multiple_of(2),
        changes_tables: false,
        clients: vec![Known::default(); shape.clients],
        client: 0,
        favourites: Vec::new(),
    };
    if shape.reuses {
        generator.choose_favourites();
    }
    generator.sequence()
}

/// What a client probably has, so that more than mistakes are made.
#[derive(Debug, Clone, Default)]
pub(super) struct Known {
    statements: Vec<(String, Text)>,
}

pub(super) struct Generator {
    pub(super) random: Random,
    pub(super) shape: Shape,
    changes_encoding: bool,
    changes_tables: bool,
    clients: Vec<Known>,
    pub(super) client: usize,
    /// What most statements are of, where one that comes again is treated otherwise.
    favourites: Vec<Text>,
}

impl Generator {
    fn sequence(&mut self) -> Sequence {
        let count = 3 + self.random.below(10);
        let mut steps = self.warm_up();
        steps.extend((0..count).map(|_| self.step()));
        Sequence { steps, changes_tables: self.changes_tables }
    }

    /// Queries, as a rule.
    fn choose_favourites(&mut self) {
        while self.favourites.len() < FAVOURITES {
            let text = *self.random.one(PREPARED);
            let begins = ["select", "values", "insert", "update", "delete"];
            if begins.iter().any(|word| text.0.starts_with(word)) || self.random.chance(10) {
                self.favourites.push(Text { text: text.0, parameters: text.1 });
            }
        }
    }

    /// Has some of the favourites parsed twice, which makes them known.
    fn warm_up(&mut self) -> Vec<Step> {
        let count = if self.favourites.is_empty() { 0 } else { self.random.below(2 * FAVOURITES) };
        let mut steps = Vec::new();
        for _ in 0..count {
            let frames = vec![self.parse(""), Frame(sync())];
            let step = Step { client: self.client, frames, cuts: Vec::new() };
            // What else is in flight keeps a Parse from being looked at.
            steps.extend([step.clone(), step]);
        }
        steps
    }

    fn step(&mut self) -> Step {
        self.client = self.random.below(self.shape.clients);
        let mut frames = Vec::new();
        for _ in 0..=self.random.below(3) {
            self.part(&mut frames);
        }
        if self.random.chance(2) {
            let at = self.random.below(frames.len() + 1);
            frames.insert(at, Frame(terminate()));
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
        match self.random.below(120) {
            0..20 => self.query(frames),
            20..25 => self.named_in_sql(frames),
            25..55 => self.segment(frames),
            55..63 => self.whole(frames),
            63..68 => self.portal(frames),
            68..76 => self.copy(frames),
            76..90 => {
                for _ in 0..=self.random.below(4) {
                    let frame = self.any();
                    frames.push(frame);
                }
                if self.random.chance(80) {
                    frames.push(Frame(sync()));
                }
            }
            90..94 => self.function_call(frames),
            94..98 => self.malformed(frames),
            98..100 => frames.push(self.impossible_length()),
            100..105 => self.block(frames),
            105..108 => self.two_portals(frames),
            108..110 => self.many(frames),
            110..114 => self.bulky(frames),
            114..117 => self.two_phase(frames),
            117..119 => self.syncs(frames),
            _ => frames.push(Frame(terminate())),
        }
    }

    /// SQL that names a statement which the client probably has, in quotes or folded.
    fn naming(&mut self) -> String {
        // Those that are called like pgweir's own are not known to SQL.
        let name = match self.random.below(10) {
            // One that names another in its turn.
            0 => (*self.random.one(&NAMING)).to_owned(),
            _ => self.known_name(),
        };
        let name = Some(name).filter(|name| !name.starts_with("pgweir_"));
        let name = name.unwrap_or_default().replace('"', "\"\"");
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
        let name = if self.random.chance(60) { "" } else { *self.random.one(&NAMING) };
        frames.push(self.close_statement(name));
        frames.push(Frame(parse_typed(name, &text, &[])));
        if self.random.chance(40) {
            frames.push(Frame(describe_statement(name)));
        }
        self.run(name, frames);
        self.end(frames);
    }

    pub(super) fn query(&mut self, frames: &mut Vec<Frame>) {
        let mut text = *self.random.one(QUERIES);
        if text == OTHER_ENCODING && !self.changes_encoding {
            text = "show client_encoding";
        }
        let text = self.at_home(text);
        frames.push(Frame(query(&text)));
    }

    /// The text with the tables that the client may write to.
    pub(super) fn at_home(&mut self, text: &str) -> String {
        let number = if self.shape.servers > 1 { self.client } else { self.random.below(2) };
        let word = |word: &str| match word {
            "T" | "C" | "N" => format!("{}{number}", word.to_lowercase()),
            "G" => format!("'{}'", gid(self.client)),
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

    pub(super) fn statement_name(&mut self) -> String {
        if self.shape.reuses && self.random.chance(60) {
            return String::new();
        }
        match self.random.below(100) {
            0..2 => return LONG.to_owned(),
            2..5 => return (*self.random.one(ODD)).to_owned(),
            5 => return "long".repeat(2000),
            _ => {}
        }
        let name = *self.random.one(STATEMENTS);
        if self.changes_encoding && !name.is_ascii() { "e" } else { name }.to_owned()
    }

    pub(super) fn portal_name(&mut self) -> &'static str {
        PORTALS[self.random.below(PORTALS.len())]
    }

    fn text(&mut self) -> Text {
        if !self.favourites.is_empty() && self.random.chance(80) {
            return *self.random.one(&self.favourites);
        }
        let (text, parameters) = *self.random.one(PREPARED);
        Text { text, parameters }
    }

    pub(super) fn parse(&mut self, name: &str) -> Frame {
        let mut text = self.text();
        let is_savepoint = |text: &str| {
            ["savepoint", "rollback to", "release"].iter().any(|word| text.starts_with(word))
        };
        while !name.is_empty() && is_savepoint(text.text) {
            // Where SQL executes it outside a block, PostgreSQL fails (XX000) and closes.
            text = self.text();
        }
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
            // A text in its place is cast when it is planned, or when it is run (`rules.rs`, C).
            _ if text.text.contains("$1::int") => vec![INT4],
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
    pub(super) fn bind(&mut self, portal: &str, name: &str) -> Frame {
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

    pub(super) fn execute(&mut self, portal: &str) -> Frame {
        let most = if self.random.chance(25) { 1 + self.random.below(3) } else { 0 };
        Frame(execute_portal(portal, u32::try_from(most).unwrap()))
    }

    pub(super) fn close_statement(&mut self, name: &str) -> Frame {
        self.clients[self.client].statements.retain(|(other, _)| other != name);
        Frame(message(b'C', &[b"S", name.as_bytes(), b"\0"].concat()))
    }

    /// A name that the client probably knows.
    pub(super) fn known_name(&mut self) -> String {
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

    pub(super) fn run(&mut self, name: &str, frames: &mut Vec<Frame>) {
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

    pub(super) fn end(&mut self, frames: &mut Vec<Frame>) {
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
        let is_csv = is_simple && self.random.chance(15);
        let text = if is_csv { "copy C from stdin (format csv)" } else { "copy C from stdin" };
        let text = self.at_home(text);
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
            let is_csv = is_csv && self.random.chance(80);
            frames.push(if is_csv { Frame(copy_data(CSV_COPY)) } else { self.copy_data() });
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

    pub(super) fn copy_data(&mut self) -> Frame {
        let many;
        let data: &[u8] = match self.random.below(26) {
            0..18 => b"1\tsome text\n2\tmore\n",
            18..22 => b"bad data in a row\n",
            22 => b"",
            23 => CSV_COPY,
            24 => {
                many = b"3\ta row of many in one piece of data\n".repeat(2000);
                &many
            }
            _ => BINARY_COPY,
        };
        Frame(copy_data(data))
    }

    /// Any message, wherever it makes sense or not.
    pub(super) fn any(&mut self) -> Frame {
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
        if self.random.chance(15) {
            frames.push(Frame(query("begin")));
            frames.push(Frame(query("select 1/0")));
        }
        match self.random.below(6) {
            0 | 1 => frames.push(call(177, &["1", "2"])),
            2 => frames.push(call(154, &["1", "0"])),
            3 => frames.push(call(99_999, &[])),
            4 => frames.push(call(177, &["1"])),
            _ => self.large_object(frames),
        }
        if self.random.chance(30) {
            frames.push(Frame(query("rollback")));
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
}

pub(super) fn put_formats(body: &mut Vec<u8>, formats: &[u16]) {
    body.extend_from_slice(&u16::try_from(formats.len()).unwrap().to_be_bytes());
    body.extend(formats.iter().flat_map(|format| format.to_be_bytes()));
}

/// What the prepared transaction of a client is called.
pub(super) fn gid(client: usize) -> String {
    format!("g{client}")
}

/// A `FunctionCall` with its arguments and its result as text.
pub(super) fn call(oid: u32, values: &[&str]) -> Frame {
    let count = u16::try_from(values.len()).unwrap().to_be_bytes();
    let mut body = [&oid.to_be_bytes()[..], &[0, 0], &count].concat();
    for value in values {
        body.extend_from_slice(&u32::try_from(value.len()).unwrap().to_be_bytes());
        body.extend_from_slice(value.as_bytes());
    }
    body.extend_from_slice(&[0, 0]);
    Frame(message(b'F', &body))
}
