//! What of an item its users see: no bodies, no documentation, no private fields.

use proc_macro2::{Ident, Span};
use syn::punctuated::Punctuated;
use syn::token::{Colon, Underscore};
use syn::{
    Attribute, Block, Expr, ExprInfer, Field, FieldMutability, Fields, FnArg, ImplItem, Item,
    ItemImpl, Pat, Signature, TraitItem, Type, TypeInfer, Visibility,
};

use super::tree::{is_hidden, is_public};

/// Attributes that change what a user may do.
const TELLING: [&str; 4] = ["cfg", "derive", "deprecated", "non_exhaustive"];

pub(super) fn of_item(mut item: Item) -> Item {
    match &mut item {
        Item::Const(one) => {
            strip(&mut one.attrs);
            *one.expr = some_value();
        }
        Item::Static(one) => {
            strip(&mut one.attrs);
            *one.expr = some_value();
        }
        Item::Enum(one) => {
            strip(&mut one.attrs);
            for variant in &mut one.variants {
                strip(&mut variant.attrs);
                let fields = variant.fields.iter_mut();
                fields.for_each(|field| strip(&mut field.attrs));
            }
        }
        Item::Fn(one) => {
            strip(&mut one.attrs);
            call_only(&mut one.sig);
            *one.block = empty();
        }
        Item::Struct(one) => {
            strip(&mut one.attrs);
            public_fields(&mut one.fields);
        }
        Item::Trait(one) => {
            strip(&mut one.attrs);
            one.items.retain_mut(of_trait_item);
        }
        Item::Type(one) => strip(&mut one.attrs),
        _ => {}
    }
    item
}

/// False where it is hidden.
fn of_trait_item(item: &mut TraitItem) -> bool {
    let attributes = match item {
        TraitItem::Const(one) => &mut one.attrs,
        TraitItem::Fn(one) => {
            // That there is one says that users need not write it.
            one.default = one.default.as_ref().map(|_| empty());
            &mut one.attrs
        }
        TraitItem::Type(one) => &mut one.attrs,
        _ => return true,
    };
    let is_seen = !is_hidden(attributes);
    strip(attributes);
    is_seen
}

/// Leaves out what is a function's own business: that it changes its arguments.
fn call_only(signature: &mut Signature) {
    for input in &mut signature.inputs {
        match input {
            FnArg::Receiver(this) if this.reference.is_none() => this.mutability = None,
            FnArg::Typed(argument) => {
                if let Pat::Ident(name) = &mut *argument.pat {
                    name.mutability = None;
                }
            }
            FnArg::Receiver(_) => {}
        }
    }
}

/// An impl, if it shows anything: of a type, what is public; of a trait that `is_shown`, that it is there.
pub(super) fn of_impl(one: &ItemImpl, is_shown: impl Fn(&str) -> bool) -> Option<ItemImpl> {
    let mut one = one.clone();
    strip(&mut one.attrs);
    if let Some((_, path, _)) = &one.trait_ {
        let name = &path.segments.last()?.ident;
        one.items.retain(|item| matches!(item, ImplItem::Type(_)));
        return is_shown(&name.to_string()).then_some(one);
    }
    one.items.retain_mut(|item| match item {
        ImplItem::Const(item) => {
            let is_seen = is_public(&item.vis) && !is_hidden(&item.attrs);
            strip(&mut item.attrs);
            item.expr = some_value();
            is_seen
        }
        ImplItem::Fn(item) => {
            let is_seen = is_public(&item.vis) && !is_hidden(&item.attrs);
            strip(&mut item.attrs);
            call_only(&mut item.sig);
            item.block = empty();
            is_seen
        }
        _ => false,
    });
    (!one.items.is_empty()).then_some(one)
}

fn strip(attributes: &mut Vec<Attribute>) {
    attributes.retain(|one| TELLING.iter().any(|name| one.path().is_ident(name)));
}

/// Leaves `_` in the place of private fields: who has some cannot be built or taken apart outside.
fn public_fields(fields: &mut Fields) {
    match fields {
        Fields::Named(fields) => {
            let all = fields.named.len();
            let mut named: Punctuated<Field, _> = Punctuated::new();
            named.extend(
                fields
                    .named
                    .iter()
                    .filter(|one| is_public(&one.vis))
                    .cloned(),
            );
            named.iter_mut().for_each(|field| strip(&mut field.attrs));
            if named.len() < all {
                named.push(Field {
                    attrs: Vec::new(),
                    vis: Visibility::Inherited,
                    mutability: FieldMutability::None,
                    ident: Some(Ident::new("_", Span::call_site())),
                    colon_token: Some(Colon::default()),
                    ty: some_type(),
                });
            }
            fields.named = named;
        }
        Fields::Unnamed(fields) => {
            for field in &mut fields.unnamed {
                strip(&mut field.attrs);
                if !is_public(&field.vis) {
                    (field.vis, field.ty) = (Visibility::Inherited, some_type());
                }
            }
        }
        Fields::Unit => {}
    }
}

fn some_type() -> Type {
    Type::Infer(TypeInfer {
        underscore_token: Underscore::default(),
    })
}

fn some_value() -> Expr {
    Expr::Infer(ExprInfer {
        attrs: Vec::new(),
        underscore_token: Underscore::default(),
    })
}

fn empty() -> Block {
    Block {
        brace_token: syn::token::Brace::default(),
        stmts: Vec::new(),
    }
}
