//! What a statement takes and gives, as its clients are told it: types of parameters, columns.

use std::hash::{BuildHasher, Hasher};
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use foldhash::quality::FixedState;

use super::store::Statement;
use crate::wire::backend;

/// A digest of what a Describe of a statement tells. Two that differ are two of which a client that
/// knows the one would misread the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape(NonZeroU64);

/// The first part of the answer: what the statement takes.
#[derive(Debug, Clone, Copy, Default)]
pub struct Parameters(u64);

impl Parameters {
    /// Of the body of a `ParameterDescription`.
    pub fn of(body: &[u8]) -> Self {
        Self(FixedState::default().hash_one(body))
    }
}

impl Shape {
    /// `row`: the body of the `RowDescription`; `None` for a statement that gives no rows.
    pub fn of(parameters: Parameters, row: Option<&[u8]>) -> Self {
        let mut hasher = FixedState::default().build_hasher();
        hasher.write_u64(parameters.0);
        if let Some(row) = row {
            // The table that a column is of does not count: one that was dropped and made again alike
            // gives the same, as PostgreSQL has it too.
            let mut columns = 0_usize;
            for column in backend::columns(row) {
                columns += 1;
                hasher.write(column.name);
                hasher.write_u8(0);
                hasher.write(&column.type_oid);
                hasher.write(&column.type_modifier);
            }
            // A row without columns is a row.
            hasher.write_usize(columns + 1);
        }
        Self(NonZeroU64::new(hasher.finish()).unwrap_or(NonZeroU64::MIN))
    }
}

/// A Describe whose answer is looked at.
#[derive(Debug)]
pub struct Describes {
    pub statement: Arc<Statement>,
    /// What the client calls it.
    pub name: Box<[u8]>,
    pub why: Why,
    /// Serial number of the Parse in front of it.
    pub serial: u64,
    /// How often tables had been altered before that was sent.
    pub epoch: u64,
}

/// Why a statement is described.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// The client asks.
    Asked,
    /// The client has just parsed it, and knows nothing else.
    Parsed,
    /// It was prepared for a client that has parsed it before.
    Provided,
    /// The same, where what is found may not be what others find.
    ProvidedAside,
}

/// A shape, if it is known.
#[derive(Debug, Default)]
pub struct Known(AtomicU64);

impl Known {
    pub fn get(&self) -> Option<Shape> {
        NonZeroU64::new(self.0.load(Relaxed)).map(Shape)
    }

    pub fn set(&self, shape: Shape) {
        self.0.store(shape.0.get(), Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INT4: u32 = 23;
    const TEXT: u32 = 25;

    /// A `RowDescription` of columns with name, table, type and modifier.
    fn row(columns: &[(&str, u32, u32, i32)]) -> Vec<u8> {
        let mut body = u16::try_from(columns.len()).unwrap().to_be_bytes().to_vec();
        for (name, table, type_oid, modifier) in columns {
            body.extend_from_slice(name.as_bytes());
            body.push(0);
            body.extend_from_slice(&table.to_be_bytes());
            body.extend_from_slice(&1_u16.to_be_bytes());
            body.extend_from_slice(&type_oid.to_be_bytes());
            body.extend_from_slice(&4_u16.to_be_bytes());
            body.extend_from_slice(&modifier.to_be_bytes());
            body.extend_from_slice(&0_u16.to_be_bytes());
        }
        body
    }

    fn shape(columns: &[(&str, u32, u32, i32)]) -> Shape {
        Shape::of(Parameters::of(b"\0\0"), Some(&row(columns)))
    }

    #[test]
    fn names_types_modifiers_and_their_number_make_a_difference() {
        let one = shape(&[("a", 1, INT4, -1)]);
        assert_eq!(one, shape(&[("a", 1, INT4, -1)]));
        for other in [
            shape(&[("b", 1, INT4, -1)]),
            shape(&[("a", 1, TEXT, -1)]),
            shape(&[("a", 1, INT4, 8)]),
            shape(&[("a", 1, INT4, -1), ("b", 1, INT4, -1)]),
            shape(&[]),
            Shape::of(Parameters::of(b"\0\0"), None),
            Shape::of(Parameters::of(b"\0\x01\0\0\0\x17"), Some(&row(&[("a", 1, INT4, -1)]))),
        ] {
            assert_ne!(one, other);
        }
        assert_ne!(shape(&[]), Shape::of(Parameters::of(b"\0\0"), None));
    }

    #[test]
    fn the_table_that_a_column_is_of_makes_none() {
        assert_eq!(shape(&[("a", 1, INT4, -1)]), shape(&[("a", 2, INT4, -1)]));
    }
}
