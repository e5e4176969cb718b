//! What stands in pages between fences, for tests that try it.

/// The fenced blocks of a page in that language.
pub(crate) fn blocks(page: &str, language: &str) -> Vec<String> {
    let fence = format!("```{language}\n");
    let parts = page.split(&fence).skip(1);
    parts
        .map(|part| part.split_once("\n```").unwrap().0.to_owned())
        .collect()
}
