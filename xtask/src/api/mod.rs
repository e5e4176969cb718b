//! The public API of the library as text, so that no change of it goes unnoticed.
//!
//! [`tree`] reads the modules of `src/lib.rs`, [`skeleton`] takes from an item what its users see, and here
//! both become `docs/public-api.txt`, which a test compares. What is listed is what rustdoc shows: items
//! that are `pub` and not hidden, under the path by which they are reached, with their impls. What macros
//! make is not seen, and there are no `pub use …::*`.

mod skeleton;
mod tree;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};
use syn::{File, Item, UseTree};

use tree::{Found, Module};

/// The list, in the workspace.
const LIST: &str = "docs/public-api.txt";

const HEAD: &str = "\
# The public API of the crate `ekya`, without bodies and private fields. Written by `cargo xtask api --write`;
# a test fails when the sources say something else.
";

/// Compares the list with the sources, or writes it anew.
///
/// # Errors
/// When they differ, when the sources cannot be read, or the list not be written.
pub(crate) fn api(write: bool) -> Result<ExitCode> {
    let (file, now) = (workspace().join(LIST), list()?);
    if write {
        fs::write(file, now).context(LIST)?;
    } else {
        compare(&fs::read_to_string(file).context(LIST)?, &now)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// As the sources say now.
fn list() -> Result<String> {
    let root = Module::root(&workspace().join("src/lib.rs"))?;
    let mut list = HEAD.to_owned();
    let mut to_do = vec![&root];
    while let Some(module) = to_do.pop() {
        let mut items = items(&root, module)?;
        items.sort();
        if !items.is_empty() {
            write!(list, "\n## {}\n{}", module.path.join("::"), items.concat())?;
        }
        // The first comes out first.
        to_do.extend(module.modules.iter().rev().filter(|child| child.is_shown));
    }
    Ok(list)
}

/// What a module shows, each with its impls.
fn items(root: &Module, module: &Module) -> Result<Vec<String>> {
    let mut listed = Vec::new();
    for item in &module.items {
        if let Item::Use(used) = item {
            if tree::is_public(&used.vis) && !tree::is_hidden(&used.attrs) {
                let mut path = Vec::new();
                reexports(root, module, &mut path, &used.tree, &mut listed)?;
            }
        } else if tree::is_listed(item) {
            listed.push(shown(root, module, item));
        }
    }
    Ok(listed)
}

/// Lists the names of a `pub use`: where they are listed anyway, or are another crate's, as such; else what
/// they stand for.
fn reexports(
    root: &Module,
    module: &Module,
    path: &mut Vec<String>,
    tree: &UseTree,
    listed: &mut Vec<String>,
) -> Result<()> {
    match tree {
        UseTree::Path(step) => {
            path.push(step.ident.to_string());
            reexports(root, module, path, &step.tree, listed)?;
            path.pop();
        }
        UseTree::Group(group) => {
            for tree in &group.items {
                reexports(root, module, path, tree, listed)?;
            }
        }
        UseTree::Name(name) => {
            path.push(name.ident.to_string());
            match root.find(module, path) {
                Found::Item(of, item) if !of.is_reached(root) => listed.push(shown(root, of, item)),
                Found::Missing => bail!("{}: no {}", module.path.join("::"), path.join("::")),
                Found::Item(..) | Found::Elsewhere => {
                    listed.push(format!("pub use {};\n", path.join("::")));
                }
            }
            path.pop();
        }
        UseTree::Rename(name) => {
            let path = [&**path, &[name.ident.to_string()]].concat().join("::");
            listed.push(format!("pub use {path} as {};\n", name.rename));
        }
        UseTree::Glob(_) => bail!("{}: a `pub use …::*`", module.path.join("::")),
    }
    Ok(())
}

/// An item and its impls as text.
fn shown(root: &Module, of: &Module, item: &Item) -> String {
    let name = tree::name(item).unwrap_or_default();
    let mut impls: Vec<String> = root
        .impls(of, &name)
        .filter_map(|one| skeleton::of_impl(one, |name| root.is_shown_trait(name)))
        .map(|one| text(Item::Impl(one)))
        .collect();
    impls.sort();
    text(skeleton::of_item(item.clone())) + &impls.concat()
}

fn text(item: Item) -> String {
    prettyplease::unparse(&File {
        shebang: None,
        attrs: Vec::new(),
        items: vec![item],
    })
}

/// Compares the list with the sources.
fn compare(listed: &str, now: &str) -> Result<()> {
    let gone = listed
        .lines()
        .filter(|line| !now.lines().any(|l| l == *line));
    let gone = gone.map(|line| format!("-{line}\n"));
    let new = now
        .lines()
        .filter(|line| !listed.lines().any(|l| l == *line));
    let new = new.map(|line| format!("+{line}\n"));
    ensure!(
        listed == now,
        "the public API is not the one in {LIST}:\n{}If that is meant, `cargo xtask api --write` lists it \
         anew, and CHANGELOG.md tells users.",
        gone.chain(new).collect::<String>()
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_public_api_is_as_listed() -> Result<()> {
        compare(&fs::read_to_string(workspace().join(LIST))?, &list()?)
    }

    #[test]
    fn a_difference_is_shown_with_what_to_do() {
        let error = compare("pub fn a() {}\n", "pub fn a(b: u8) {}\n").expect_err("it differs");
        let said = error.to_string();
        assert!(
            said.contains("-pub fn a() {}\n+pub fn a(b: u8) {}\n"),
            "{said}"
        );
        assert!(said.contains("cargo xtask api --write"), "{said}");
    }
}
