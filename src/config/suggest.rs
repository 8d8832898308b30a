//! Did-you-mean: the known word nearest to an unknown one.

/// The candidate that a typist most likely meant, if one is near enough.
pub(super) fn nearest<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    if word.len() > WORD_BYTES_MAX {
        return None;
    }
    let lower = word.to_lowercase();
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&lower, candidate), candidate))
        .filter(|&(distance, candidate)| distance <= 1 + candidate.len() / 5)
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, candidate)| candidate)
}

/// The clause that names `word`.
pub(super) fn did_you_mean(word: &str) -> String {
    format!("did you mean \"{word}\"?")
}

/// Longer words are no typing errors, and comparing them costs their length times the candidate's.
const WORD_BYTES_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    const WORDS: [&str; 4] = ["size", "min", "max_overflow", "max_waiting"];

    #[test]
    fn a_slip_finds_its_word() {
        for (typed, meant) in [
            ("szie", "size"),
            ("SIZE", "size"),
            ("mni", "min"),
            ("max_overflw", "max_overflow"),
            ("maxwaiting", "max_waiting"),
        ] {
            assert_eq!(nearest(typed, WORDS), Some(meant), "{typed}");
        }
    }

    #[test]
    fn an_unlike_word_finds_none() {
        for typed in ["", "colour", "maximum", &"size".repeat(1000)] {
            assert_eq!(nearest(typed, WORDS), None, "{typed}");
        }
    }
}
