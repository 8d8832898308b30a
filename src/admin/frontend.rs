//! The bodies of the messages that the console understands, read with every bound checked.

use super::refusal::Refusal;

/// A message's body, read from its front.
#[derive(Debug)]
struct Body<'a> {
    rest: &'a [u8],
    /// For the error.
    message: &'static str,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Parse<'a> {
    pub name: &'a str,
    pub sql: &'a str,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Bind<'a> {
    pub portal: &'a str,
    pub statement: &'a str,
    pub parameters: usize,
    pub formats: Vec<Format>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Execute<'a> {
    pub portal: &'a str,
    /// 0: all of them.
    pub max_rows: usize,
}

/// What Describe and Close are about.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Target<'a> {
    Statement(&'a str),
    Portal(&'a str),
}

/// How a column's values are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Text,
    Binary,
}

/// The text of a Query.
pub(super) fn query(body: &[u8]) -> Result<&str, Refusal> {
    let mut body = Body { rest: body, message: "Query" };
    let sql = body.string()?;
    body.end(sql)
}

pub(super) fn parse(body: &[u8]) -> Result<Parse<'_>, Refusal> {
    let mut body = Body { rest: body, message: "Parse" };
    let (name, sql) = (body.string()?, body.string()?);
    // Types of parameters, of which there are none.
    for _ in 0..body.count()? {
        body.take(4)?;
    }
    body.end(Parse { name, sql })
}

pub(super) fn bind(body: &[u8]) -> Result<Bind<'_>, Refusal> {
    let mut body = Body { rest: body, message: "Bind" };
    let (portal, statement) = (body.string()?, body.string()?);
    for _ in 0..body.count()? {
        body.take(2)?;
    }
    let parameters = body.count()?;
    for _ in 0..parameters {
        // -1 is NULL, and has no bytes.
        let length = usize::try_from(body.int4()?).unwrap_or(0);
        body.take(length)?;
    }
    let formats = (0..body.count()?).map(|_| body.format()).collect::<Result<_, _>>()?;
    body.end(Bind { portal, statement, parameters, formats })
}

pub(super) fn execute(body: &[u8]) -> Result<Execute<'_>, Refusal> {
    let mut body = Body { rest: body, message: "Execute" };
    let portal = body.string()?;
    // PostgreSQL takes a negative number for 0 as well.
    let max_rows = usize::try_from(body.int4()?).unwrap_or(0);
    body.end(Execute { portal, max_rows })
}

/// Of Describe and Close; `message` names it in errors.
pub(super) fn target<'a>(body: &'a [u8], message: &'static str) -> Result<Target<'a>, Refusal> {
    let mut body = Body { rest: body, message };
    let kind = body.take(1)?;
    let name = body.string()?;
    match kind {
        b"S" => body.end(Target::Statement(name)),
        b"P" => body.end(Target::Portal(name)),
        _ => Err(body.malformed()),
    }
}

impl<'a> Body<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Refusal> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or_else(|| self.malformed())?;
        self.rest = rest;
        Ok(taken)
    }

    /// Up to and without a zero byte.
    fn string(&mut self) -> Result<&'a str, Refusal> {
        let end = memchr::memchr(0, self.rest).ok_or_else(|| self.malformed())?;
        let bytes = self.take(end)?;
        self.take(1)?;
        std::str::from_utf8(bytes).map_err(|_| self.malformed())
    }

    fn int2(&mut self) -> Result<i16, Refusal> {
        let bytes = self.take(2)?.try_into().map_err(|_| self.malformed())?;
        Ok(i16::from_be_bytes(bytes))
    }

    fn int4(&mut self) -> Result<i32, Refusal> {
        let bytes = self.take(4)?.try_into().map_err(|_| self.malformed())?;
        Ok(i32::from_be_bytes(bytes))
    }

    fn count(&mut self) -> Result<usize, Refusal> {
        usize::try_from(self.int2()?).map_err(|_| self.malformed())
    }

    fn format(&mut self) -> Result<Format, Refusal> {
        match self.int2()? {
            0 => Ok(Format::Text),
            1 => Ok(Format::Binary),
            _ => Err(self.malformed()),
        }
    }

    /// Hands out `value` if nothing is left.
    fn end<T>(&self, value: T) -> Result<T, Refusal> {
        if self.rest.is_empty() { Ok(value) } else { Err(self.malformed()) }
    }

    const fn malformed(&self) -> Refusal {
        Refusal::Malformed { message: self.message }
    }
}
