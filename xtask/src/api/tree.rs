//! The modules of a crate, as they are written.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use syn::{Attribute, Item, ItemImpl, ItemMod, Meta, Type, UseTree, Visibility};

/// A module with what is in it. Those for tests, and those in place of others where a feature is absent, are
/// left out.
pub(super) struct Module {
    /// From the crate's name on.
    pub(super) path: Vec<String>,
    /// Whether its parent shows it: it is public and not hidden.
    pub(super) is_shown: bool,
    /// All but modules.
    pub(super) items: Vec<Item>,
    pub(super) modules: Vec<Self>,
}

/// What a path leads to.
pub(super) enum Found<'a> {
    /// An item, in the module where it is written.
    Item(&'a Module, &'a Item),
    /// Something that is listed by its own path, or in another crate.
    Elsewhere,
    Missing,
}

impl Module {
    /// The crate whose first file is this.
    pub(super) fn root(file: &Path) -> Result<Self> {
        let folder = file.parent().unwrap_or(Path::new(""));
        Self::read(file, folder, vec!["ekya".to_owned()], true)
    }

    /// The module in `file`, whose modules lie in `folder`.
    fn read(file: &Path, folder: &Path, path: Vec<String>, is_shown: bool) -> Result<Self> {
        let text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
        let file = syn::parse_file(&text).with_context(|| file.display().to_string())?;
        Self::of(file.items, folder, path, is_shown)
    }

    fn of(items: Vec<Item>, folder: &Path, path: Vec<String>, is_shown: bool) -> Result<Self> {
        let mut module = Self {
            path,
            is_shown,
            items: Vec::new(),
            modules: Vec::new(),
        };
        for item in items {
            match item {
                Item::Mod(child) if is_left_out(&child.attrs) => {}
                Item::Mod(child) => module.modules.push(module.child(child, folder)?),
                item => module.items.push(item),
            }
        }
        Ok(module)
    }

    fn child(&self, child: ItemMod, folder: &Path) -> Result<Self> {
        let name = child.ident.to_string();
        let inner = folder.join(&name);
        let is_shown = is_public(&child.vis) && !is_hidden(&child.attrs);
        let path = [&*self.path, &[name]].concat();
        match child.content {
            Some((_, items)) => Self::of(items, &inner, path, is_shown),
            None => Self::read(&file_of(&inner), &inner, path, is_shown),
        }
    }

    fn module(&self, name: &str) -> Option<&Self> {
        let mut modules = self.modules.iter();
        modules.find(|child| child.path.last().is_some_and(|last| last == name))
    }

    fn at(&self, path: &[String]) -> Option<&Self> {
        let mut names = path.iter().skip(1);
        names.try_fold(self, |module, name| module.module(name))
    }

    /// Whether a user can name this module; asked of one in `root`.
    pub(super) fn is_reached(&self, root: &Self) -> bool {
        let above = (1..=self.path.len()).map(|length| root.at(&self.path[..length]));
        above.flatten().all(|module| module.is_shown)
    }

    /// Follows a path that is written in `module` of this crate.
    pub(super) fn find<'a>(&'a self, module: &'a Self, path: &[String]) -> Found<'a> {
        let [first, rest @ ..] = path else {
            return Found::Elsewhere;
        };
        let (mut at, mut rest) = match first.as_str() {
            "crate" => (self, rest),
            "self" => (module, rest),
            "super" => {
                let parent = self.at(&module.path[..module.path.len() - 1]);
                (parent.unwrap_or(self), rest)
            }
            name if rest.is_empty() || module.module(name).is_some() => (module, path),
            _ => return Found::Elsewhere,
        };
        while let [name, more @ ..] = rest {
            match at.module(name) {
                None if at.path != module.path && at.is_reached(self) => return Found::Elsewhere,
                Some(_) if more.is_empty() => return Found::Elsewhere,
                Some(inner) => (at, rest) = (inner, more),
                None => return self.find_in(at, name),
            }
        }
        Found::Missing
    }

    fn find_in<'a>(&'a self, module: &'a Self, wanted: &str) -> Found<'a> {
        let mut items = module.items.iter();
        let item = items.find(|item| name(item).is_some_and(|name| name == wanted));
        if let Some(item) = item {
            return Found::Item(module, item);
        }
        let used = module.items.iter().find_map(|item| match item {
            Item::Use(used) => path_to(&used.tree, wanted),
            _ => None,
        });
        used.map_or(Found::Missing, |path| self.find(module, &path))
    }

    /// All modules, this one first.
    fn all(&self) -> Vec<&Self> {
        let inner = self.modules.iter().flat_map(Self::all);
        std::iter::once(self).chain(inner).collect()
    }

    /// The impls for the type of that name in module `of`. Where several types have the name, those in its
    /// own module.
    pub(super) fn impls(&self, of: &Self, wanted: &str) -> impl Iterator<Item = &ItemImpl> {
        let all = self.all();
        let names = all.iter().flat_map(|module| &module.items).filter_map(name);
        let is_only = names.filter(|name| name == wanted).count() == 1;
        let (of, wanted) = (of.path.clone(), wanted.to_owned());
        let here = all.into_iter().filter(move |one| is_only || one.path == of);
        here.flat_map(|module| &module.items)
            .filter_map(move |item| match item {
                Item::Impl(one) if type_name(&one.self_ty).as_ref() == Some(&wanted) => Some(one),
                _ => None,
            })
    }

    /// Whether a trait of that name may be seen: it is public, or none of this crate.
    pub(super) fn is_shown_trait(&self, wanted: &str) -> bool {
        let mut items = self.all().into_iter().flat_map(|module| &module.items);
        let own = items.find(|item| matches!(item, Item::Trait(one) if one.ident == wanted));
        own.is_none_or(is_listed)
    }
}

/// `name.rs` or `name/mod.rs`.
fn file_of(inner: &Path) -> PathBuf {
    let file = inner.with_extension("rs");
    if file.exists() {
        file
    } else {
        inner.join("mod.rs")
    }
}

pub(super) fn is_public(visibility: &Visibility) -> bool {
    matches!(visibility, Visibility::Public(_))
}

/// Whether an item is public and not hidden.
pub(super) fn is_listed(item: &Item) -> bool {
    let (visibility, attributes) = match item {
        Item::Const(one) => (&one.vis, &one.attrs),
        Item::Enum(one) => (&one.vis, &one.attrs),
        Item::Fn(one) => (&one.vis, &one.attrs),
        Item::Static(one) => (&one.vis, &one.attrs),
        Item::Struct(one) => (&one.vis, &one.attrs),
        Item::Trait(one) => (&one.vis, &one.attrs),
        Item::Type(one) => (&one.vis, &one.attrs),
        _ => return false,
    };
    is_public(visibility) && !is_hidden(attributes)
}

/// The name that an item defines.
pub(super) fn name(item: &Item) -> Option<String> {
    let name = match item {
        Item::Const(one) => &one.ident,
        Item::Enum(one) => &one.ident,
        Item::Fn(one) => &one.sig.ident,
        Item::Static(one) => &one.ident,
        Item::Struct(one) => &one.ident,
        Item::Trait(one) => &one.ident,
        Item::Type(one) => &one.ident,
        _ => return None,
    };
    Some(name.to_string())
}

fn type_name(of: &Type) -> Option<String> {
    match of {
        Type::Path(path) => path.path.segments.last().map(|last| last.ident.to_string()),
        _ => None,
    }
}

/// The path by which a `use` brings in a name.
fn path_to(tree: &UseTree, wanted: &str) -> Option<Vec<String>> {
    match tree {
        UseTree::Path(step) => {
            let rest = path_to(&step.tree, wanted)?;
            Some([vec![step.ident.to_string()], rest].concat())
        }
        UseTree::Group(group) => group.items.iter().find_map(|tree| path_to(tree, wanted)),
        UseTree::Name(name) => (name.ident == wanted).then(|| vec![wanted.to_owned()]),
        UseTree::Rename(_) | UseTree::Glob(_) => None,
    }
}

fn is_left_out(attributes: &[Attribute]) -> bool {
    words(attributes, "cfg").any(|words| words == "test" || words.starts_with("not"))
}

pub(super) fn is_hidden(attributes: &[Attribute]) -> bool {
    words(attributes, "doc").any(|words| words == "hidden")
}

/// What stands in the brackets of attributes of that name.
fn words<'a>(attributes: &'a [Attribute], name: &'a str) -> impl Iterator<Item = String> + 'a {
    let of_name = attributes
        .iter()
        .filter(move |one| one.path().is_ident(name));
    of_name.filter_map(|one| match &one.meta {
        Meta::List(list) => Some(list.tokens.to_string()),
        _ => None,
    })
}
