//! Playing a sequence to both sides, in one order.

use std::collections::VecDeque;
use std::fmt;

use pgweir::telemetry::counters::StatementOutcome;

use super::direct::Direct;
use super::generate::{Shape, gid};
use super::link::{Answer, Connection};
use super::rules::{agree, are_told_together, is_told_to_nobody, tells_of_length, tells_of_loss};
use super::sequence::{Frame, Sequence, Step};
use super::texts::{LOOK, ROWS, TABLES};
use crate::support::messages::{copy_fail, flush, query, sync};
use crate::support::postgres::{DATABASE, Postgres, USER};
use crate::support::proxy::Proxy;
use crate::support::reply::Message;
use crate::support::wait::wait_until;

/// Both sides of the comparison.
pub struct Bench {
    direct: Postgres,
    proxied: Postgres,
    proxy: Proxy,
    shape: Shape,
    clients: Vec<Pair>,
    transcript: Vec<String>,
}

/// A client, once with a server of its own and once behind pgweir.
struct Pair {
    direct: Direct,
    through: Connection,
    /// Sent to pgweir, whose servers others have: not yet sent to PostgreSQL.
    waiting: Option<Vec<Frame>>,
}

/// What pgweir said where PostgreSQL said something else.
#[derive(Debug, Clone)]
pub struct Difference(pub String);

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

type Played<T = ()> = Result<T, Difference>;

impl Bench {
    pub fn start(shape: &Shape) -> Self {
        let (direct, proxied) = (Postgres::start(), Postgres::start());
        let proxy = Proxy::start(&proxied, &configuration(shape));
        let mut bench = Self {
            direct,
            proxied,
            proxy,
            shape: shape.clone(),
            clients: Vec::new(),
            transcript: Vec::new(),
        };
        bench.set_up();
        bench
    }

    /// Begins anew before the same servers, with nothing left of what was played.
    pub fn restart(&mut self) {
        self.clients.clear();
        self.transcript.clear();
        // A backend that crashed takes all others with it.
        for postgres in [&self.direct, &self.proxied] {
            wait_until("PostgreSQL answers", || postgres.answers());
            // What is prepared would keep its locks.
            let mut observer = postgres.client();
            for gid in observer.ask("select gid from pg_prepared_xacts").rows() {
                observer.ask(&format!("rollback prepared '{}'", gid[0]));
            }
        }
        self.proxy = Proxy::start(&self.proxied, &configuration(&self.shape));
        self.set_up();
    }

    fn set_up(&mut self) {
        let done = self.connect_all().and_then(|()| self.play_query(0, TABLES));
        done.unwrap_or_else(|difference| panic!("{difference}"));
    }

    fn connect_all(&mut self) -> Played {
        for _ in 0..self.shape.clients {
            let pair = self.connect()?;
            self.clients.push(pair);
        }
        Ok(())
    }

    fn connect(&mut self) -> Played<Pair> {
        let login = |database| [("user", USER), ("database", database)];
        let (direct, expected) = Connection::open(&self.direct.address(), &login(DATABASE));
        let (through, said) = Connection::open(&self.proxy.address, &login("main"));
        for (expected, said) in expected.iter().zip(&said) {
            if !agree(expected, said) {
                return self.fail(format!("login: {expected:?} became {said:?}"));
            }
        }
        let version = major_version(&expected);
        Ok(Pair { direct: Direct::new(direct, version), through, waiting: None })
    }

    /// How often a Parse of an unnamed statement was not sent.
    pub fn reused(&self) -> u64 {
        let outcomes = StatementOutcome::ALL.into_iter();
        let pool = self.proxy.pool();
        let mut counts = outcomes.zip(pool.traffic.statements.values());
        counts.find(|(one, _)| *one == StatementOutcome::Reused).map_or(0, |(_, count)| count)
    }

    /// Plays a sequence, and brings both sides back to where they were.
    pub fn play(&mut self, sequence: &Sequence) -> Played {
        self.transcript.clear();
        let mut steps: VecDeque<Step> = sequence.steps.iter().cloned().collect();
        while let Some(mut step) = self.next_step(&mut steps)? {
            if let Some(rest) = step.split_behind_copy_data() {
                steps.push_front(rest);
            }
            if self.is_lent_out_for(step.client) {
                self.wait(step);
            } else if let Some(rest) = self.play_step(step)? {
                steps.push_front(rest);
            }
        }
        self.clean_up(sequence)
    }

    /// The first step whose client may go on. Where none may, one that holds a server is made to give
    /// it back.
    fn next_step(&mut self, steps: &mut VecDeque<Step>) -> Played<Option<Step>> {
        let waits = self.clients.iter().any(|pair| pair.waiting.is_some());
        let may_go = |bench: &Self, step: &Step| {
            let pair = &bench.clients[step.client];
            // One waits at a time. A server that only has something prepared on it is given back
            // before its client says so: nobody waits for that.
            pair.waiting.is_none()
                && (!bench.is_lent_out_for(step.client) || (!waits && !bench.is_prepared_only()))
        };
        if let Some(at) = steps.iter().position(|step| may_go(self, step)) {
            return Ok(steps.remove(at));
        }
        if steps.is_empty() && !waits {
            return Ok(None);
        }
        let holder = self.clients.iter().position(|pair| !pair.direct.is_free());
        let holder = holder.expect("a client waits for a server that nobody has");
        self.set_free(holder)?;
        self.next_step(steps)
    }

    /// Every server is with another client.
    fn is_lent_out_for(&self, client: usize) -> bool {
        let holders = self.clients.iter().filter(|pair| !pair.direct.is_free()).count();
        self.clients[client].direct.is_free() && holders >= self.shape.servers
    }

    fn is_prepared_only(&self) -> bool {
        self.clients.iter().any(|pair| pair.direct.is_open && !pair.direct.has_bound)
    }

    /// Sends a step to pgweir, where it waits for a server.
    fn wait(&mut self, mut step: Step) {
        step.take_out_incomparable(self.clients[step.client].direct.loses_track());
        self.transcript.push(format!("client {} waits", step.client));
        let pair = &mut self.clients[step.client];
        pair.through.send(&step.bytes());
        pair.waiting = Some(step.frames);
    }

    /// Plays a step. What is behind the point where its server goes to one who waits is given back.
    fn play_step(&mut self, step: Step) -> Played<Option<Step>> {
        let client = step.client;
        let waiter = self.clients.iter().position(|pair| pair.waiting.is_some());
        let mut expected = Vec::new();
        let mut sent = Step { client, frames: Vec::new(), cuts: step.cuts };
        let mut frames = step.frames.into_iter();
        let held = !self.clients[client].direct.is_free();
        let mut gives_back = false;
        for frame in frames.by_ref() {
            if self.clients[client].direct.is_deadly(&frame) {
                continue;
            }
            let said = self.play_direct(client, &frame)?;
            if self.clients[client].direct.is_described_in_failed_block(&said) {
                continue;
            }
            expected.extend(said);
            sent.frames.push(frame);
            gives_back = held && self.clients[client].direct.is_free() && waiter.is_some();
            if gives_back || self.clients[client].direct.is_closed() {
                break;
            }
        }
        self.send_through(&sent, waiter.is_some());
        self.expect(client, &expected)?;
        if gives_back && let Some(waiter) = waiter {
            self.play_waiting(waiter)?;
        }
        let frames: Vec<_> = frames.collect();
        Ok((!frames.is_empty()).then_some(Step { client, frames, cuts: Vec::new() }))
    }

    fn play_direct(&mut self, client: usize, frame: &Frame) -> Played<Vec<Message>> {
        self.transcript.push(format!("client {client}: {frame:?}"));
        let mut said = match self.clients[client].direct.send(frame) {
            Ok(said) => said,
            Err(unexpected) => return self.fail(format!("a mistake of the tester: {unexpected}")),
        };
        if is_told_to_nobody(frame) || frame.has_impossible_length() {
            return Ok(Vec::new());
        }
        for message in &said {
            self.transcript.push(format!("    {}", shown(message)));
        }
        if self.clients[client].direct.has_crashed() {
            said.pop();
        }
        Ok(said)
    }

    /// Sends a step to pgweir, in pieces where nobody waits for what comes between them.
    fn send_through(&mut self, step: &Step, in_one: bool) {
        let pair = &mut self.clients[step.client];
        let mut bytes = step.bytes();
        if pair.direct.is_open {
            // Where the connection ends, what is answered before is asked for before.
            let last = step.frames.last().filter(|_| pair.direct.is_closed());
            let at = bytes.len() - last.map_or(0, |frame| frame.0.len());
            bytes.splice(at..at, flush());
        }
        let mut at = 0;
        for cut in step.cuts.iter().filter(|_| !in_one) {
            let cut = (*cut).min(bytes.len());
            pair.through.send(&bytes[at..cut]);
            at = cut;
            std::thread::yield_now();
        }
        pair.through.send(&bytes[at..]);
    }

    /// The waiting client has been lent the server: what it sent is answered.
    fn play_waiting(&mut self, client: usize) -> Played {
        let Some(frames) = self.clients[client].waiting.take() else { return Ok(()) };
        self.transcript.push(format!("client {client} has waited"));
        let mut expected = Vec::new();
        for frame in &frames {
            expected.extend(self.play_direct(client, frame)?);
            if self.clients[client].direct.is_closed() {
                break;
            }
        }
        let direct = &self.clients[client].direct;
        // What is sent to a connection that has ended resets it, and what was said last may be lost.
        if direct.is_open && !direct.is_closed() {
            self.clients[client].through.send(&flush());
        }
        self.expect(client, &expected)
    }

    /// Reads what a client behind pgweir is told, which is `expected`.
    fn expect(&mut self, client: usize, expected: &[Message]) -> Played {
        let any_order = self.clients[client].direct.reports_by_history();
        for expected in expected.chunk_by(|one, next| any_order && are_told_together(one, next)) {
            let mut answers: Vec<_> =
                expected.iter().map(|_| self.clients[client].through.read()).collect();
            let mut expected: Vec<_> = expected.iter().collect();
            if expected.len() > 1 {
                expected.sort_by(|one, next| one.body.cmp(&next.body));
                answers.sort_by(|one, next| body_of(one).cmp(body_of(next)));
            }
            for (expected, answer) in expected.into_iter().zip(answers) {
                let told = match answer {
                    Answer::Message(said) if agree(expected, &said) => continue,
                    Answer::Message(said) => shown(&said),
                    other => format!("{other:?}"),
                };
                let expected = shown(expected);
                return self.fail(format!(
                    "client {client}:\nPostgreSQL says {expected}\npgweir says     {told}"
                ));
            }
        }
        if self.clients[client].direct.is_closed() {
            let pair = &mut self.clients[client];
            let mut last = pair.through.read();
            if pair.direct.has_crashed() {
                // A client of its own as well: what is left of the session is not compared.
                last = match last {
                    Answer::Message(told) if tells_of_loss(&told) => Answer::End,
                    other => other,
                };
            } else if pair.direct.is_ended_by_length()
                && matches!(&last, Answer::Message(told) if told.tag == b'E' && tells_of_length(told))
            {
                last = pair.through.read();
            }
            match last {
                Answer::End => {}
                other => return self.fail(format!("client {client}: closed, but {other:?}")),
            }
            self.clients[client] = self.connect()?;
        }
        Ok(())
    }

    /// Ends whatever a client is in, so that it needs no server.
    fn set_free(&mut self, client: usize) -> Played {
        let frames = [
            copy_fail("the end"),
            copy_fail("again"),
            copy_fail("and again"),
            sync(),
            query("rollback"),
        ];
        for frame in frames {
            if self.clients[client].direct.is_free() {
                break;
            }
            let step = Step { client, frames: vec![Frame(frame)], cuts: Vec::new() };
            self.play_step(step)?;
        }
        Ok(())
    }

    fn clean_up(&mut self, sequence: &Sequence) -> Played {
        for client in 0..self.clients.len() {
            self.set_free(client)?;
        }
        for client in 0..self.clients.len() {
            if sequence.prepares_transactions() {
                self.play_query(client, &format!("rollback prepared '{}'", gid(client)))?;
            }
            self.play_query(client, "discard all")?;
        }
        self.play_query(0, LOOK)?;
        self.play_query(0, if sequence.changes_tables { TABLES } else { ROWS })
    }

    fn play_query(&mut self, client: usize, text: &str) -> Played {
        let frame = Frame(query(text));
        self.play_step(Step { client, frames: vec![frame], cuts: Vec::new() }).map(|_| ())
    }

    fn fail<T>(&self, what: impl fmt::Display) -> Played<T> {
        Err(Difference(format!("{}\n{what}", self.transcript.join("\n"))))
    }
}

fn configuration(shape: &Shape) -> String {
    let Shape { servers, statements, reuses, .. } = shape;
    // Whose BEGIN is put off has no server yet: who waits for whom would be another matter.
    let defers = shape.has_one_for_each();
    format!(
        "pool.size = {servers}\npool.prepared_statements = {statements}\npool.reuse_unnamed = {reuses}\n\
         pool.defer_begin = {defers}"
    )
}

fn body_of(answer: &Answer) -> &[u8] {
    if let Answer::Message(message) = answer { &message.body } else { &[] }
}

fn shown(message: &Message) -> String {
    let body = message.body.get(..300).unwrap_or(&message.body);
    format!("{} {}", char::from(message.tag), body.escape_ascii())
}

/// PostgreSQL's major version, as a login is told it.
fn major_version(login: &[Message]) -> u32 {
    let told = login.iter().find_map(|message| {
        let value =
            message.body.strip_prefix(b"server_version\0").filter(|_| message.tag == b'S')?;
        std::str::from_utf8(value).ok()?.split('.').next()?.parse().ok()
    });
    told.expect("every login is told the server's version")
}
