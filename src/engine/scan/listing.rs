//! The source's listing as ranges read it: versions, or current objects where nobody wants the past.

use std::sync::Arc;

use super::Depth;
use crate::audit::range::{Page, Pages, Versions};
use crate::engine::Shared;
use crate::model::fault::Fault;
use crate::model::object::{Key, Listed, VersionEntry, VersionId};
use crate::ports::{ListFrom, ObjectStore, World};

/// The source's listing, each page paid for.
#[derive(Debug)]
pub(super) struct Listing<W: World> {
    pub(super) shared: Arc<Shared<W>>,
    /// What is listed under each prefix.
    pub(super) prefixes: Arc<[(String, Depth)]>,
}

impl<W: World> Clone for Listing<W> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), prefixes: Arc::clone(&self.prefixes) }
    }
}

/// Where a page starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// At the first key after this one; at the very first for `None`.
    Key(Option<Key>),
    /// Where a listing of current objects goes on.
    Token(String),
    /// After this version.
    Version(Key, VersionId),
}

impl<W: World> Pages for Listing<W> {
    type Item = Versions;
    type From = Place;

    fn start(&self, after: Option<&Key>) -> Place {
        Place::Key(after.cloned())
    }

    async fn page(&self, prefix: &str, from: Place) -> Result<Page<Versions, Place>, Fault> {
        self.shared.budget.request().await;
        let known = self.prefixes.iter().find(|(known, _)| known == prefix);
        let page = match known.map_or(Depth::All, |(_, depth)| *depth) {
            Depth::All => self.versions(prefix, from).await,
            Depth::Current => self.current(prefix, from).await,
        };
        page.inspect_err(|fault| {
            self.shared.pulse.fault(fault);
            tracing::warn!(%fault, prefix, "a page of the source could not be listed");
        })
    }
}

impl<W: World> Listing<W> {
    async fn versions(&self, prefix: &str, from: Place) -> Result<Page<Versions, Place>, Fault> {
        let after = match from {
            Place::Key(after) => after.map(|after| (after, VersionId::unnamed())),
            Place::Version(key, version) => Some((key, version)),
            Place::Token(_) => None,
        };
        let page = self.shared.world.source().list_versions(prefix, after).await?;
        let next = page.next.map(|(key, version)| Place::Version(key, version));
        Ok(Page { items: Versions::grouped(page.entries), next, order: page.order })
    }

    /// Current objects, as the newest versions that they are; which ones, such a listing does not tell.
    async fn current(&self, prefix: &str, from: Place) -> Result<Page<Versions, Place>, Fault> {
        let from = match from {
            Place::Key(after) => after.map_or(ListFrom::Start, ListFrom::After),
            Place::Token(token) => ListFrom::Token(token),
            Place::Version(key, _) => ListFrom::After(key),
        };
        let page = self.shared.world.source().list_objects(prefix, &from, None).await?;
        let newest = |listed: Listed| VersionEntry {
            key: listed.key,
            version: VersionId::unnamed(),
            latest: true,
            modified: listed.modified,
            object: Some((listed.etag, listed.size)),
            storage_class: listed.storage_class,
        };
        let items = Versions::grouped(page.entries.into_iter().map(newest).collect());
        let next = page.next.map(|next| match next {
            ListFrom::Start => Place::Key(None),
            ListFrom::After(key) => Place::Key(Some(key)),
            ListFrom::Token(token) => Place::Token(token),
        });
        Ok(Page { items, next, order: page.order })
    }
}
