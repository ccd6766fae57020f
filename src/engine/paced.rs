//! A world whose stores are asked no faster than the budget permits, and read no faster: for those who know no budget.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use futures_util::stream;

use crate::model::digest::{Algorithm, Checksum};
use crate::model::fault::{Fault, FaultKind, Side};
use crate::model::object::{Found, Head, Key, Lock, Tags, TargetId, VersionId, Versioning};
use crate::ports::{
    ByteStream, Completion, Condition, CopySource, Fetched, Got, Grant, ListFrom, NewObject, ObjectPage, ObjectStore,
    OpenUpload, Part, Payload, Pick, Read, UploadChecksum, UploadRef, VersionPage, World, Written,
};

use super::budget::Budget;

/// The same world, paced.
#[derive(Debug)]
pub struct Paced<W: World> {
    world: Arc<W>,
    source: PacedStore<W>,
    targets: BTreeMap<TargetId, PacedStore<W>>,
    receipts: Option<PacedStore<W>>,
    budget: Arc<Budget>,
}

impl<W: World> Paced<W> {
    /// Paces the source and these targets; requests and bytes of all of them count together.
    pub fn new<'t>(world: Arc<W>, budget: Arc<Budget>, targets: impl IntoIterator<Item = &'t TargetId>) -> Self {
        let paced = |bucket| PacedStore { world: Arc::clone(&world), bucket, budget: Arc::clone(&budget) };
        let source = paced(Bucket::Source);
        let targets = targets.into_iter().map(|id| (id.clone(), paced(Bucket::Target(id.clone())))).collect();
        let receipts = world.receipts().map(|_| paced(Bucket::Receipts));
        Self { source, targets, receipts, world, budget }
    }
}

/// Which bucket of a world.
enum Bucket<S> {
    Source,
    Target(TargetId),
    Receipts,
    Other(Box<S>),
}

/// One store, paced.
pub struct PacedStore<W: World> {
    world: Arc<W>,
    bucket: Bucket<W::Store>,
    budget: Arc<Budget>,
}

impl<W: World> fmt::Debug for PacedStore<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PacedStore")
    }
}

impl<W: World> PacedStore<W> {
    /// The store itself, once one more request may be sent to it.
    async fn turn(&self) -> Result<&W::Store, Fault> {
        self.budget.request().await;
        let store = match &self.bucket {
            Bucket::Source => Some(self.world.source()),
            Bucket::Target(id) => self.world.target(id),
            Bucket::Receipts => self.world.receipts(),
            Bucket::Other(store) => Some(&**store),
        };
        store.ok_or_else(|| Fault::new(FaultKind::Refused, Side::Local, "find the bucket", "there is no such target"))
    }
}

/// A body that comes no faster than the bandwidth permits.
fn slowed(body: ByteStream, budget: Arc<Budget>) -> ByteStream {
    ByteStream::new(stream::unfold((body, budget), |(mut body, budget)| async move {
        let piece = body.next().await?;
        if let Ok(bytes) = &piece {
            budget.bandwidth(bytes.len()).await;
        }
        Some((piece, (body, budget)))
    }))
}

impl<W: World> World for Paced<W> {
    type Store = PacedStore<W>;
    type Queue = W::Queue;
    type Keys = W::Keys;
    type Clock = W::Clock;

    fn source(&self) -> &Self::Store {
        &self.source
    }

    fn beside_source(&self, bucket: &str) -> Self::Store {
        let bucket = Bucket::Other(Box::new(self.world.beside_source(bucket)));
        PacedStore { world: Arc::clone(&self.world), bucket, budget: Arc::clone(&self.budget) }
    }

    fn target(&self, id: &TargetId) -> Option<&Self::Store> {
        self.targets.get(id)
    }

    fn queue(&self) -> Option<&Self::Queue> {
        self.world.queue()
    }

    fn keys(&self, id: &TargetId) -> Option<&Self::Keys> {
        self.world.keys(id)
    }

    fn receipts(&self) -> Option<&Self::Store> {
        self.receipts.as_ref()
    }

    fn clock(&self) -> &Self::Clock {
        self.world.clock()
    }
}

/// The store's own methods, each once it is its turn.
macro_rules! after_a_turn {
    ($($name:ident($($argument:ident: $kind:ty),*) -> $out:ty;)*) => {
        $(async fn $name(&self, $($argument: $kind),*) -> Result<$out, Fault> {
            self.turn().await?.$name($($argument),*).await
        })*
    };
}

impl<W: World> ObjectStore for PacedStore<W> {
    async fn get(&self, key: &Key, read: Read) -> Result<Fetched, Fault> {
        Ok(match self.turn().await?.get(key, read).await? {
            Fetched::Object(got) => {
                let Got { head, body } = *got;
                Fetched::Object(Box::new(Got { head, body: slowed(body, Arc::clone(&self.budget)) }))
            }
            nothing @ (Fetched::DeleteMarker | Fetched::Missing) => nothing,
        })
    }

    after_a_turn! {
        head(key: &Key, pick: &Pick) -> Found;
        part_sizes(key: &Key, head: &Head) -> Option<Vec<u64>>;
        tags(key: &Key, pick: &Pick) -> Tags;
        acl(key: &Key, pick: &Pick) -> Vec<Grant>;
        list_objects(prefix: &str, from: &ListFrom, most: Option<u16>) -> ObjectPage;
        list_versions(prefix: &str, after: Option<(Key, VersionId)>) -> VersionPage;
        versioning() -> Versioning;
        put(object: &NewObject, payload: Payload, checksum: Option<&Checksum>, condition: &Condition) -> Written;
        create_upload(object: &NewObject, checksum: Option<UploadChecksum>) -> OpenUpload;
        upload_part(upload: UploadRef<'_>, number: u32, payload: Payload, checksum: Option<&Checksum>) -> Part;
        copy_part(upload: UploadRef<'_>, number: u32, source: &CopySource, range: Option<(u64, u64)>) -> Part;
        list_parts(upload: UploadRef<'_>) -> Vec<Part>;
        complete_upload(upload: UploadRef<'_>, completion: &Completion) -> Written;
        abort_upload(upload: UploadRef<'_>) -> ();
        copy(object: &NewObject, source: &CopySource, algorithm: Option<Algorithm>, condition: &Condition) -> Written;
        put_tags(key: &Key, pick: &Pick, tags: &Tags) -> ();
        put_acl(key: &Key, pick: &Pick, grants: &[Grant]) -> ();
        put_lock(key: &Key, pick: &Pick, lock: &Lock) -> ();
        delete(key: &Key, condition: &Condition) -> Option<VersionId>;
    }
}

#[cfg(test)]
mod tests;
