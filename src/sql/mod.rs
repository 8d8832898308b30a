//! What a statement text tells without a grammar.

mod affects;
mod classify;
mod clock;
mod keyword;
mod lexer;
mod lone;
mod mask;
mod meaning;
mod memo;
mod mentions;
mod notices;
mod ours;
mod pure;
mod query;
mod read_write;
mod repeat;
mod resets;
mod tag;
mod traits;
mod words;

pub use affects::Affected;
pub use classify::classify;
pub use clock::literal_clock;
pub use lexer::{Lexer, Reading, Token, TokenKind};
pub use lone::{LoneBegin, LoneEnd};
pub use mask::mask_literals;
pub use memo::Memo;
pub use mentions::{Deed, Mention};
pub use notices::draws_notice;
pub use ours::{Ours, may_be_ours};
pub use query::is_query;
pub use read_write::asks_to_write;
pub use repeat::may_repeat;
pub use resets::{Covers, Doubt, Resets};
pub use tag::{TagState, state_of_tag};
pub use traits::Traits;
