//! Who may connect, beyond having a certificate: an allow list that can change while nodes run.

use std::collections::BTreeSet;

use parking_lot::RwLock;

use super::identity::Who;

/// Decides which holders of a certificate are let in. Empty, it lets all of them in.
#[derive(Debug, Default)]
pub struct Access {
    lists: RwLock<Lists>,
}

#[derive(Debug, Default)]
struct Lists {
    /// By name; everybody when absent.
    allowed: Option<BTreeSet<String>>,
    revoked: BTreeSet<String>,
}

impl Access {
    /// Lets in nobody but these, by name.
    pub fn allow_only<'a>(&self, names: impl IntoIterator<Item = &'a str>) {
        let names = names.into_iter().map(str::to_owned).collect();
        self.lists.write().allowed = Some(names);
    }

    /// Lets a name in no more, whatever the allow list says.
    pub fn revoke(&self, name: &str) {
        self.lists.write().revoked.insert(name.to_owned());
    }

    /// Takes a revocation back.
    pub fn restore(&self, name: &str) {
        self.lists.write().revoked.remove(name);
    }

    /// Whether it is let in.
    #[must_use]
    pub fn allows(&self, who: &Who) -> bool {
        let lists = self.lists.read();
        let is_listed = |allowed: &BTreeSet<String>| allowed.contains(&*who.name);
        lists.allowed.as_ref().is_none_or(is_listed) && !lists.revoked.contains(&*who.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::security::Role;

    #[test]
    fn revocation_beats_the_list() {
        let who = Who::new("edge-1", Role::Node).unwrap();
        let access = Access::default();
        assert!(access.allows(&who));
        access.allow_only(["edge-2"]);
        assert!(!access.allows(&who));
        access.allow_only(["edge-1"]);
        assert!(access.allows(&who));
        access.revoke("edge-1");
        assert!(!access.allows(&who));
        access.restore("edge-1");
        assert!(access.allows(&who));
    }
}
