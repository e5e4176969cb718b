//! What somebody may have meant.

/// Less alike than that, and a guess would rather confuse. Between 0 (nothing in common) and 1 (equal):
/// a letter too many, too few, wrong or swapped in a word of five gives 0.87 and more, `gpu` for `cpu` 0.78.
const ALIKE: f64 = 0.8;

/// The one of `known` that `word` is most like, if it is like any.
pub(super) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    let alike = |one: &str| strsim::jaro_winkler(&word, &one.to_lowercase());
    let scored = known.into_iter().map(|one| (alike(one), one));
    let best = scored.max_by(|(a, _), (b, _)| a.total_cmp(b));
    best.filter(|(score, _)| *score >= ALIKE)
        .map(|(_, one)| one)
}

/// `; did you mean …?`, to be put behind a complaint about `word`, or nothing.
pub(super) fn did_you_mean<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    nearest(word, known).map_or_else(String::new, |one| format!("; did you mean `{one}`?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_recognised_and_other_words_are_not() {
        let known = ["windows", "window_seconds", "seed", "state"];
        assert_eq!(nearest("window_secs", known), Some("window_seconds"));
        assert_eq!(nearest("window", known), Some("windows"));
        assert_eq!(nearest("Sede", known), Some("seed"));
        assert_eq!(nearest("teacher", known), None);
        assert_eq!(nearest("gpu", ["cpu", "cuda"]), None);
        assert_eq!(nearest("", known), None);
        assert_eq!(nearest("seed", []), None);
    }
}
