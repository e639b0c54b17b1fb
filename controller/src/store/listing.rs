//! Progress of listing one kind of object.
#![forbid(unsafe_code)]

use std::collections::HashSet;

use crate::model::ObjectName;

/// Which known objects a running list has not named yet.
#[derive(Debug, Default)]
pub(super) struct Listing {
    unseen: HashSet<ObjectName>,
    complete: bool,
}

impl Listing {
    /// A list begins; one that was under way is forgotten.
    pub(super) fn begin(&mut self, known: impl Iterator<Item = ObjectName>) {
        self.unseen = known.collect();
    }

    /// The object was named.
    pub(super) fn seen(&mut self, name: &ObjectName) {
        self.unseen.remove(name);
    }

    /// The list ends: the objects that it did not name are gone.
    pub(super) fn end(&mut self) -> HashSet<ObjectName> {
        self.complete = true;
        std::mem::take(&mut self.unseen)
    }

    /// Whether a list has ever ended.
    pub(super) const fn complete(&self) -> bool {
        self.complete
    }
}
