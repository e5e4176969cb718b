//! What `cargo test` said, counted.

use std::fmt;

/// Totals over the test programs of one `cargo test`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Summary {
    programs: usize,
    passed: usize,
    failed: usize,
    ignored: usize,
    failures: Vec<String>,
}

impl Summary {
    /// Takes one line of the output.
    pub(crate) fn handle_line(&mut self, line: &str) {
        if let Some(counts) = line.strip_prefix("test result: ") {
            self.programs += 1;
            self.passed += count(counts, "passed");
            self.failed += count(counts, "failed");
            self.ignored += count(counts, "ignored");
        } else if let Some(name) = line
            .strip_prefix("test ")
            .and_then(|rest| rest.strip_suffix(" ... FAILED"))
        {
            self.failures.push(name.to_owned());
        }
    }
}

/// The number before `word` in a line such as `ok. 5 passed; 0 failed; …`.
fn count(counts: &str, word: &str) -> usize {
    let words: Vec<_> = counts
        .split([' ', ';', '.'])
        .filter(|part| !part.is_empty())
        .collect();
    words
        .windows(2)
        .find(|pair| pair[1] == word)
        .and_then(|pair| pair[0].parse().ok())
        .unwrap_or(0)
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            programs,
            passed,
            failed,
            ignored,
            failures,
        } = self;
        write!(
            f,
            "{passed} tests passed, {failed} failed, {ignored} ignored, in {programs} test programs"
        )?;
        failures
            .iter()
            .try_for_each(|name| write!(f, "\n  failed: {name}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "\
running 3 tests
test cache::tests::a ... ok
test cache::tests::b ... FAILED
test slow ... ignored

failures:
    cache::tests::b

test result: FAILED. 1 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s

running 12 tests
test result: ok. 12 passed; 0 failed; 0 ignored; 0 measured; 4 filtered out; finished in 1.25s
";

    #[test]
    fn results_of_all_programs_are_added_and_failures_named() {
        let mut summary = Summary::default();
        OUTPUT.lines().for_each(|line| summary.handle_line(line));
        assert_eq!(
            summary.to_string(),
            "13 tests passed, 1 failed, 1 ignored, in 2 test programs\n  failed: cache::tests::b"
        );
    }
}
