//! What texts were found to be: one that came before is not read again, nor one that differs from it in
//! its numbers alone. Pure.
//!
//! Applications say the same few things, with other literals in them where they do not use parameters.

use super::classify::classify;
use super::lexer::{Lexer, TokenKind};
use super::traits::Traits;

/// Texts that are remembered at most.
const SLOTS: usize = 512;

/// The longest text, in bytes, that is.
const LEN_MAX: usize = 1024;

/// The newest texts, each in the one place that there is for it.
#[derive(Debug, Default)]
pub struct Memo(Vec<Slot>);

#[derive(Debug, Clone, Default)]
struct Slot {
    hash: u64,
    /// Empty: none. Each digit is a `0` if the text may have any others.
    text: Box<[u8]>,
    traits: Traits,
    is_blind: bool,
    /// The hash of a text that came since. It takes the place when it comes again: what comes once
    /// displaces nothing.
    candidate: u64,
}

impl Memo {
    /// What [`classify`] says of `text`.
    pub fn classify(&mut self, text: &[u8]) -> Traits {
        if text.len() > LEN_MAX {
            return classify(text);
        }
        if self.0.is_empty() {
            self.0 = vec![Slot::default(); SLOTS];
        }
        let hash = hash(text);
        let Some(slot) = self.0.get_mut(place(hash)) else { return classify(text) };
        if slot.hash == hash && slot.holds(text) {
            return slot.traits;
        }
        let traits = classify(text);
        if slot.hash == hash {
            // It differs from the one that is here in digits that matter, as the next one may.
            return traits;
        }
        if slot.candidate == hash {
            let candidate = slot.hash;
            let is_blind = is_blind(text);
            let zero = |byte: &u8| if byte.is_ascii_digit() { b'0' } else { *byte };
            let text = if is_blind { text.iter().map(zero).collect() } else { text.into() };
            *slot = Slot { hash, text, traits, is_blind, candidate };
        } else {
            slot.candidate = hash;
        }
        traits
    }
}

impl Slot {
    /// True if `text` is the one that is here, or differs in digits that do not matter.
    fn holds(&self, text: &[u8]) -> bool {
        if !self.is_blind {
            return *self.text == *text;
        }
        let (eights, rest) = text.as_chunks();
        let (known, known_rest) = self.text.as_chunks();
        text.len() == self.text.len()
            && eights.iter().zip(known).all(|(a, b)| without_digits(*a) == u64::from_le_bytes(*b))
            && without_digits(padded(rest)) == u64::from_le_bytes(padded(known_rest))
    }
}

/// True if the text means the same with other digits: none of them is part of a name or of the mark of a
/// string's end. In a string they are part of nothing that is looked for.
fn is_blind(text: &[u8]) -> bool {
    let mut lexer = Lexer::new(text);
    let are_free = lexer.by_ref().all(|token| match token.kind {
        TokenKind::Word
        | TokenKind::Quoted
        | TokenKind::QuotedUnicode
        | TokenKind::Dollar
        | TokenKind::Parameter => !token.of(text).iter().any(u8::is_ascii_digit),
        TokenKind::Space
        | TokenKind::Comment
        | TokenKind::String
        | TokenKind::EscapeString
        | TokenKind::UnicodeString
        | TokenKind::Number
        | TokenKind::Semicolon
        | TokenKind::Sign => true,
    });
    are_free && !lexer.is_ambiguous()
}

/// The same for texts that differ in digits alone.
fn hash(text: &[u8]) -> u64 {
    // Fibonacci hashing (Knuth, The Art of Computer Programming, 6.4) of eight bytes at a time. Whoever
    // finds texts that meet in one place makes their own be read each time.
    let mix = |hash: u64, eight: [u8; 8]| {
        let mixed = (hash ^ without_digits(eight)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed ^ (mixed >> 32)
    };
    let (eights, rest) = text.as_chunks();
    mix(eights.iter().copied().fold(text.len() as u64, mix), padded(rest))
}

/// Where a text with this hash is, if it is anywhere.
fn place(hash: u64) -> usize {
    usize::try_from(hash % SLOTS as u64).unwrap_or_default()
}

/// Less than eight bytes as eight.
fn padded(rest: &[u8]) -> [u8; 8] {
    let mut eight = [0; 8];
    for (to, from) in eight.iter_mut().zip(rest) {
        *to = *from;
    }
    eight
}

/// Eight bytes at once, each digit of ASCII as `0`.
const fn without_digits(eight: [u8; 8]) -> u64 {
    const EACH: u64 = u64::MAX / 255;
    let bytes = u64::from_le_bytes(eight);
    let low = bytes & (EACH * 0x7f);
    let from_zero = low + EACH * (0x80 - b'0' as u64);
    let behind_nine = low + EACH * (0x7f - b'9' as u64);
    let is_digit = (from_zero ^ behind_nine) & !bytes & (EACH * 0x80);
    bytes & !((is_digit >> 7) * 0x0f)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// Says `text` until it is remembered.
    fn teach(memo: &mut Memo, text: &str) {
        for _ in 0..3 {
            assert_eq!(memo.classify(text.as_bytes()), classify(text.as_bytes()), "{text}");
        }
    }

    fn knows(memo: &Memo, text: &str) -> bool {
        memo.0.iter().any(|slot| slot.hash == hash(text.as_bytes()) && slot.holds(text.as_bytes()))
    }

    #[test]
    fn a_text_is_remembered_when_it_comes_again() {
        let mut memo = Memo::default();
        memo.classify(b"select 1");
        assert!(!knows(&memo, "select 1"));
        memo.classify(b"select 1");
        assert!(knows(&memo, "select 1"));
    }

    #[test]
    fn what_differs_in_numbers_is_the_same() {
        let mut memo = Memo::default();
        for (known, others) in [
            (
                "select a from t where b = 17 and c > 1.5",
                ["select a from t where b = 94 and c > 2.0"],
            ),
            ("select '2026-11-29'", ["select '1999-01-01'"]),
            ("select 1 -- note 7", ["select 2 -- note 9"]),
        ] {
            teach(&mut memo, known);
            assert!(others.iter().all(|other| knows(&memo, other)), "{known}");
        }
    }

    #[test]
    fn digits_of_names_and_of_marks_are_not_left_out() {
        for (known, other) in [
            ("select * from crosstab2('x')", "select * from crosstab5('x')"),
            ("select * from \"crosstab5\"('x')", "select * from \"crosstab2\"('x')"),
            ("select $1$ ; set a = b $1$", "select $2$ ; set a = b $1$"),
            ("select $a1$ ; set a = b $a1$", "select $a1$ ; set a = b $a2$"),
            ("select log10(2)", "select log20(2)"),
        ] {
            let mut memo = Memo::default();
            teach(&mut memo, known);
            assert!(knows(&memo, known) && !knows(&memo, other), "{other}");
            assert_eq!(memo.classify(other.as_bytes()), classify(other.as_bytes()));
        }
    }

    #[test]
    fn what_comes_once_displaces_nothing() {
        let mut memo = Memo::default();
        teach(&mut memo, "commit");
        let is_rival = |text: &String| place(hash(text.as_bytes())) == place(hash(b"commit"));
        let mut rivals = (0..).map(|n: u32| format!("select {}", letters(n))).filter(is_rival);
        let (once, twice) = (rivals.next().unwrap(), rivals.next().unwrap());

        memo.classify(once.as_bytes());
        assert!(knows(&memo, "commit"));
        teach(&mut memo, &twice);
        assert!(!knows(&memo, "commit") && knows(&memo, &twice));
    }

    /// A name of its own for each number.
    fn letters(n: u32) -> String {
        n.to_string().bytes().map(|digit| char::from(digit - b'0' + b'a')).collect()
    }

    #[test]
    fn long_texts_are_read_each_time() {
        let mut memo = Memo::default();
        let long = format!("select '{}'", "x".repeat(LEN_MAX));
        teach(&mut memo, &long);
        assert!(memo.0.is_empty());
    }

    #[test]
    fn only_digits_are_left_out() {
        for byte in 0..=u8::MAX {
            let expected = if byte.is_ascii_digit() { b'0' } else { byte };
            assert_eq!(without_digits([byte; 8]).to_le_bytes(), [expected; 8]);
        }
    }

    /// Pieces of texts that have digits wherever there may be some.
    fn piece() -> impl Strategy<Value = &'static str> {
        prop::sample::select(vec![
            "select ",
            "set ",
            "1",
            "23",
            "a1",
            "\"b2\"",
            "'3'",
            "E'\\4'",
            "'\\5'",
            "$6",
            "$t7$",
            "$8$",
            "$",
            "-- 9\n",
            "/* 0 */",
            ";",
            "(",
            ")",
            ",",
            " = ",
            "crosstab2",
            "pg_temp_3",
            "to ",
            "0x1F",
            "1e5",
            "U&'\\0061'",
            "set_config",
            "local ",
            "b'01'",
            "begin",
            "commit",
        ])
    }

    proptest! {
        /// Whatever the digits of one that is known are changed to, it is what it would be if it were read.
        #[test]
        fn a_remembered_text_is_what_it_is_when_it_is_read(
            pieces in vec(piece(), 1..8),
            digits in vec(b'0'..=b'9', 40),
        ) {
            let known = pieces.concat();
            let mut memo = Memo::default();
            teach(&mut memo, &known);
            let mut digits = digits.into_iter().cycle();
            let other: Vec<u8> = known.bytes()
                .map(|byte| if byte.is_ascii_digit() { digits.next().unwrap_or(byte) } else { byte })
                .collect();
            prop_assert_eq!(memo.classify(&other), classify(&other));
        }
    }
}
