//! What a statement text tells without a grammar.
