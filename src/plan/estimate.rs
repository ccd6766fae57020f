//! What bringing one object will use, before anything is done: the requests of the way that the engine goes
//! (DESIGN 4.2), from what a listing tells of the object.

use super::parts::{self, Layout, SourceLayout, WORTH_COPYING};
use super::route::Rule;
use crate::model::object::ETag;
use crate::model::usage::{Place, Request, STANDARD, Usage};

/// What the target has under the object's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nothing: the object is new there.
    Absent,
    /// A delete marker, which hides older versions.
    Hidden,
    /// Something else: it is written over.
    Occupied,
    /// The very same: a backfill finds that out, and writes nothing.
    Equal,
}

/// Which version is brought, and how its place in the order is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Whichever is current: a comparison's way, and that of rules that keep only the newest.
    Current,
    /// The newest of a history: read as current, it goes on top.
    Newest,
    /// A version that newer ones wait behind: both histories are listed first.
    Older,
}

/// From which size on the store copies by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerSide {
    /// Never: all bytes go through the worker.
    Never,
    /// Where it saves something.
    Large,
    /// Always.
    Always,
}

/// Whether uses of KMS keys are expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keys {
    /// None.
    Unused,
    /// One for each request that moves bytes: no Bucket Key.
    EachRequest,
}

/// One object version to be brought.
#[derive(Clone, Copy, Debug)]
pub struct Bringing<'a> {
    /// Length in bytes.
    pub size: u64,
    /// The source's ETag: it tells of parts.
    pub etag: Option<&'a ETag>,
    /// The source object's storage class; `None` is `STANDARD`.
    pub class: Option<&'a str>,
    /// The rule that brings it.
    pub rule: &'a Rule,
    /// What is there already.
    pub standing: Standing,
    /// How it is brought.
    pub way: Way,
    /// Who moves the bytes.
    pub server_side: ServerSide,
    /// Uses of the source's key.
    pub source_key: Keys,
    /// Uses of the target's key.
    pub target_key: Keys,
}

impl Bringing<'_> {
    /// Counts all that it will use.
    pub fn count(&self, usage: &mut Usage) {
        let target = Place::Target(self.rule.target.clone());
        let mut tally = Tally { usage, bringing: self, target };
        tally.all();
        if self.standing != Standing::Equal {
            usage.stores(&self.rule.target, self.target_class(), self.size);
        }
    }

    fn source_class(&self) -> &str {
        self.class.unwrap_or(STANDARD)
    }

    fn target_class(&self) -> &str {
        self.rule.storage_class.as_deref().unwrap_or_else(|| self.source_class())
    }

    fn part_count(&self) -> Option<u32> {
        self.etag.and_then(ETag::parts)
    }

    /// Whether one GET begins it, its headers being all that has to be known.
    fn begins_with_get(&self) -> bool {
        self.server_side != ServerSide::Always && self.size < WORTH_COPYING && self.part_count().is_none()
    }

    fn is_copied(&self) -> bool {
        match self.server_side {
            ServerSide::Never => false,
            ServerSide::Large => self.size >= WORTH_COPYING,
            ServerSide::Always => true,
        }
    }

    /// The number of parts at the target; `None` for one request.
    fn parts(&self) -> Option<u64> {
        match self.part_count() {
            // The source's own boundaries stay where S3 permits them.
            Some(count) if u64::from(count) <= parts::MAX_PARTS => Some(u64::from(count)),
            Some(_) => self.laid_out(&SourceLayout::UntoldParts),
            None => self.laid_out(&SourceLayout::Single { comparable: self.rule.kms_key_for(None).is_none() }),
        }
    }

    fn laid_out(&self, source: &SourceLayout) -> Option<u64> {
        let layout = if self.is_copied() { parts::copied } else { parts::layout };
        match layout(self.size, source) {
            Layout::Single | Layout::TooLarge => None,
            Layout::Parts(sizes) => Some(sizes.len() as u64),
        }
    }
}

struct Tally<'u, 'b> {
    usage: &'u mut Usage,
    bringing: &'b Bringing<'b>,
    target: Place,
}

impl Tally<'_, '_> {
    fn source(&mut self, request: Request, count: u64) {
        self.usage.request(&Place::Source, request, self.bringing.source_class(), count);
        if request == Request::Get && self.bringing.source_key == Keys::EachRequest {
            self.usage.uses_key(&Place::Source, count);
        }
    }

    fn target(&mut self, request: Request, count: u64) {
        let class = match request {
            Request::Put | Request::Copy | Request::Create | Request::Part | Request::PartCopy | Request::Complete => {
                self.bringing.target_class()
            }
            Request::Head
            | Request::Get
            | Request::List
            | Request::GetAttributes
            | Request::PutAttributes
            | Request::Delete => STANDARD,
        };
        self.usage.request(&self.target, request, class, count);
        let keyed =
            matches!(request, Request::Put | Request::Copy | Request::Create | Request::Part | Request::PartCopy);
        if keyed && self.bringing.target_key == Keys::EachRequest {
            self.usage.uses_key(&self.target, count);
        }
    }

    fn bytes(&mut self) {
        self.usage.reads(self.bringing.source_class(), self.bringing.size);
        self.usage.moves(&self.bringing.rule.target, self.bringing.size);
    }

    fn heads(&mut self) {
        self.source(Request::Head, 1);
        self.target(Request::Head, 1);
    }

    /// Both histories, and the head of the target's newest where there is one.
    fn histories(&mut self) {
        self.source(Request::List, 1);
        self.target(Request::List, 1);
        // A marker on top is known by its version id, and what lies below it needs no look.
        if !matches!(self.bringing.standing, Standing::Absent | Standing::Hidden) {
            self.target(Request::Head, 1);
        }
    }

    fn all(&mut self) {
        let (way, standing) = (self.bringing.way, self.bringing.standing);
        match (way, standing) {
            (Way::Current | Way::Newest, Standing::Absent | Standing::Hidden) => self.carry_unseen(),
            (Way::Current, Standing::Occupied) => {
                self.lose();
                self.heads();
                self.carry();
            }
            (Way::Current, Standing::Equal) => {
                self.lose();
                if self.bringing.begins_with_get() {
                    self.heads();
                }
            }
            (Way::Newest, Standing::Occupied | Standing::Equal) => {
                self.lose();
                if standing == Standing::Occupied || self.bringing.begins_with_get() {
                    self.histories();
                }
            }
            (Way::Older, _) => self.histories(),
        }
        let carried_after_look = matches!(
            (way, standing),
            (Way::Newest, Standing::Occupied) | (Way::Older, Standing::Absent | Standing::Hidden | Standing::Occupied)
        );
        if carried_after_look {
            self.carry();
        }
    }

    /// A write under the condition that nothing is there, lost because something is.
    fn lose(&mut self) {
        if self.bringing.begins_with_get() {
            self.source(Request::Get, 1);
            self.target(Request::Put, 1);
            self.bytes();
        } else {
            // Larger ones are looked for first.
            self.heads();
        }
    }

    /// Carries bytes to a key that was not looked at.
    fn carry_unseen(&mut self) {
        if !self.bringing.begins_with_get() {
            self.target(Request::Head, 1);
            // A HEAD does not tell a missing key from a missing bucket: the GET behind it does.
            self.target(Request::Get, 1);
        }
        self.carry();
    }

    fn carry(&mut self) {
        if !self.bringing.begins_with_get() {
            self.source(Request::Head, 1);
            if self.bringing.rule.tags.is_empty() {
                // A HEAD does not tell how many tags there are.
                self.source(Request::GetAttributes, 1);
            }
            if self.bringing.part_count().is_some_and(|count| count > 1) {
                self.source(Request::GetAttributes, 1);
            }
        }
        self.bytes();
        match (self.bringing.parts(), self.bringing.is_copied()) {
            (None, false) => {
                self.source(Request::Get, 1);
                self.target(Request::Put, 1);
            }
            (None, true) => self.target(Request::Copy, 1),
            (Some(count), copied) => {
                self.target(Request::Create, 1);
                if copied {
                    self.target(Request::PartCopy, count);
                } else {
                    self.source(Request::Get, count);
                    self.target(Request::Part, count);
                }
                self.target(Request::Complete, 1);
            }
        }
        if self.bringing.rule.acl {
            self.source(Request::GetAttributes, 1);
            self.target(Request::PutAttributes, 1);
        }
    }
}

/// Counts what making a delete marker uses: a look at both sides, and a DELETE.
pub fn count_marker(usage: &mut Usage, rule: &Rule, way: Way) {
    let target = Place::Target(rule.target.clone());
    match way {
        Way::Current => {
            usage.request(&Place::Source, Request::Head, STANDARD, 1);
            usage.request(&target, Request::Head, STANDARD, 1);
        }
        Way::Newest | Way::Older => {
            usage.request(&Place::Source, Request::List, STANDARD, 1);
            usage.request(&target, Request::List, STANDARD, 1);
            usage.request(&target, Request::Head, STANDARD, 1);
        }
    }
    usage.request(&target, Request::Delete, STANDARD, 1);
}

/// Requests that one attempt may need beyond [`Bringing::count`] at its worst: tags and locks that are put back, a page
/// of parts of an upload that goes on, a look after a lost answer.
const MORE_READS: u64 = 6;
const MORE_WRITES: u64 = 4;

/// The most that one attempt to bring an object may use: what is set aside for it before it begins.
#[must_use]
pub fn ceiling(bringing: &Bringing<'_>) -> Usage {
    let mut usage = Usage::default();
    let way = match bringing.way {
        Way::Current => Way::Current,
        Way::Newest | Way::Older => Way::Newest,
    };
    let worst = Bringing { standing: Standing::Occupied, way, ..*bringing };
    worst.count(&mut usage);
    let target = Place::Target(bringing.rule.target.clone());
    usage.request(&Place::Source, Request::GetAttributes, bringing.source_class(), MORE_READS);
    usage.request(&target, Request::Head, bringing.target_class(), MORE_READS);
    usage.request(&target, Request::Get, bringing.target_class(), MORE_READS);
    usage.request(&target, Request::PutAttributes, STANDARD, MORE_WRITES);
    usage
}

#[cfg(test)]
mod tests;
