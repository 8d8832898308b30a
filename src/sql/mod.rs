//! What a statement text tells without a grammar.

mod classify;
mod clock;
mod keyword;
mod lexer;
mod mask;
mod pure;
mod tag;
mod traits;

pub use classify::classify;
pub use clock::literal_clock;
pub use lexer::{Lexer, Reading, Token, TokenKind};
pub use mask::mask_literals;
pub use tag::{TagState, state_of_tag};
pub use traits::Traits;
