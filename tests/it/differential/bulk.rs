//! What takes many messages, or large ones: blocks with savepoints, portals that take turns, pipelines,
//! texts and values longer than buffers.

use super::generate::{Generator, gid};
use super::sequence::{Frame, split};
use super::texts::{PREPARED, Parameter};
use crate::support::messages::{
    bind_portal, copy_data, copy_done, describe_portal, execute_portal, extended, message,
    parse_typed, query, run, sync,
};

/// What is done between savepoints.
const IN_BLOCK: &[&str] = &[
    "savepoint s",
    "savepoint t",
    "savepoint s",
    "rollback to s",
    "rollback to t",
    "release s",
    "release t",
    "select 1/0",
    "select 2",
    "insert into T values (6, 'six')",
    "set local datestyle to 'German'",
    "set datestyle to 'SQL'",
    "set timezone to 'Asia/Tokyo'",
    "set application_name to 'in a block'",
    "show datestyle",
    "show timezone",
    "declare cur cursor for select * from fixed",
    "fetch 2 from cur",
    "set transaction read only",
    "commit and chain",
    "rollback and chain",
    "notify nobody, 'yet'",
];

impl Generator {
    /// A block with savepoints and errors, by Queries and segments in turn.
    pub(super) fn block(&mut self, frames: &mut Vec<Frame>) {
        frames.push(Frame(query("begin")));
        for _ in 0..2 + self.random.below(8) {
            let text = *self.random.one(IN_BLOCK);
            let text = self.at_home(text);
            match self.random.below(5) {
                0 => frames.extend(split(&extended(&text, &[]))),
                1 => {
                    let name = self.known_name();
                    self.run(&name, frames);
                    self.end(frames);
                }
                _ => frames.push(Frame(query(&text))),
            }
        }
        if self.random.chance(80) {
            let end = if self.random.chance(70) { "commit" } else { "rollback" };
            frames.push(Frame(query(end)));
        }
    }

    /// Two portals of a block that take turns, over several segments.
    pub(super) fn two_portals(&mut self, frames: &mut Vec<Frame>) {
        let (name, portals) = (self.known_name(), ["p", "q"]);
        frames.push(Frame(query("begin")));
        frames.push(Frame(parse_typed("", "select * from fixed order by a", &[])));
        frames.push(Frame(bind_portal("p", "", &[])));
        frames.push(self.bind("q", &name));
        for _ in 0..2 + self.random.below(6) {
            let portal = *self.random.one(&portals);
            match self.random.below(10) {
                0..4 => frames.push(Frame(execute_portal(portal, 2))),
                4 => frames.push(self.execute(portal)),
                5 => frames.push(Frame(describe_portal(portal))),
                6 => frames.push(Frame(message(b'C', &[b"P", portal.as_bytes(), b"\0"].concat()))),
                7 => frames.push(Frame(query("savepoint s"))),
                _ => frames.push(Frame(sync())),
            }
        }
        frames.push(Frame(sync()));
        frames.push(Frame(query("commit")));
    }

    /// Many small requests in one go.
    pub(super) fn many(&mut self, frames: &mut Vec<Frame>) {
        let name = self.known_name();
        let kind = self.random.below(5);
        for _ in 0..10 + self.random.below(30) {
            match kind {
                0 => self.run(&name, frames),
                1 => {
                    self.run(&name, frames);
                    frames.push(Frame(sync()));
                }
                2 => frames.push(Frame(query("select 1"))),
                3 => {
                    let name = self.statement_name();
                    frames.push(self.parse(&name));
                    frames.push(Frame(sync()));
                }
                _ => {
                    let frame = self.any();
                    frames.push(frame);
                    frames.push(Frame(sync()));
                }
            }
        }
        frames.push(Frame(sync()));
    }

    pub(super) fn syncs(&mut self, frames: &mut Vec<Frame>) {
        for _ in 0..2 + self.random.below(5) {
            frames.push(Frame(sync()));
        }
        if self.random.chance(50) {
            self.query(frames);
            frames.push(Frame(sync()));
        }
    }

    /// A transaction that is prepared, and perhaps ended.
    pub(super) fn two_phase(&mut self, frames: &mut Vec<Frame>) {
        let gid = gid(self.client);
        let prepare = format!("prepare transaction '{gid}'");
        frames.push(Frame(query("rollback; begin; insert into p values (1)")));
        if self.random.chance(30) {
            frames.push(Frame(query("select 1/0")));
        }
        let is_simple = self.random.chance(60);
        frames.extend(split(&if is_simple { query(&prepare) } else { extended(&prepare, &[]) }));
        let end = match self.random.below(4) {
            0 | 1 => format!("commit prepared '{gid}'"),
            2 => format!("rollback prepared '{gid}'"),
            _ => return,
        };
        let is_simple = self.random.chance(60);
        frames.extend(split(&if is_simple { query(&end) } else { extended(&end, &[]) }));
    }

    /// Texts, names and values longer than any buffer.
    pub(super) fn bulky(&mut self, frames: &mut Vec<Frame>) {
        let len = 20_000 + self.random.below(60_000);
        let long = "x".repeat(len);
        match self.random.below(9) {
            0 => frames.push(Frame(query(&format!("select '{long}'")))),
            1 => {
                let text = *self.random.one(&["select 1", "begin", "select 1/0", "commit"]);
                frames.push(Frame(query(&format!("/* {long} */ {text}"))));
            }
            2 => frames.extend(split(&extended("select $1::text, length($1)", &[&long]))),
            3 => {
                let text = self.at_home("insert into T values (8, $1) returning b");
                frames.extend(split(&extended(&text, &[&long])));
            }
            4 => {
                let name = self.statement_name();
                let close = self.close_statement(&name);
                frames.push(close);
                frames.push(Frame(parse_typed(&name, &format!("select length('{long}')"), &[])));
                frames.extend(split(&run(&name, &[])));
                frames.push(Frame(sync()));
            }
            5 => {
                frames.extend(split(&extended(
                    "select repeat('wide', $1::int) from fixed",
                    &["20000"],
                )));
            }
            6 => {
                let text = self.at_home("copy C from stdin");
                frames.push(Frame(query(&text)));
                frames.push(Frame(copy_data(format!("5\t{long}\n").as_bytes())));
                frames.push(Frame(copy_done()));
            }
            7 => frames.extend(split(&extended("select $1::int4", &[&long]))),
            _ => self.bulky_bind(&long, frames),
        }
    }

    /// A long value for whatever the statement wants.
    fn bulky_bind(&mut self, long: &str, frames: &mut Vec<Frame>) {
        let name = self.known_name();
        let takes_text = PREPARED.iter().find(|(_, parameters)| *parameters == [Parameter::Text]);
        if let Some((text, _)) = takes_text
            && self.random.chance(50)
        {
            frames.push(Frame(parse_typed("", text, &[])));
            frames.extend(split(&run("", &[long])));
        }
        frames.extend(split(&run(&name, &[long])));
        frames.push(Frame(sync()));
    }
}
