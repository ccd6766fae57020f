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
    budget: Arc<Budget>,
}

impl<W: World> Paced<W> {
    /// Paces the source and these targets; requests and bytes of all of them count together.
    pub fn new<'t>(world: Arc<W>, budget: Arc<Budget>, targets: impl IntoIterator<Item = &'t TargetId>) -> Self {
        let paced = |bucket| PacedStore { world: Arc::clone(&world), bucket, budget: Arc::clone(&budget) };
        let source = paced(Bucket::Source);
        let targets = targets.into_iter().map(|id| (id.clone(), paced(Bucket::Target(id.clone())))).collect();
        Self { source, targets, world, budget }
    }
}

/// Which bucket of a world.
enum Bucket<S> {
    Source,
    Target(TargetId),
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

    fn clock(&self) -> &Self::Clock {
        self.world.clock()
    }
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

    async fn head(&self, key: &Key, pick: &Pick) -> Result<Found, Fault> {
        self.turn().await?.head(key, pick).await
    }

    async fn part_sizes(&self, key: &Key, head: &Head) -> Result<Option<Vec<u64>>, Fault> {
        self.turn().await?.part_sizes(key, head).await
    }

    async fn tags(&self, key: &Key, pick: &Pick) -> Result<Tags, Fault> {
        self.turn().await?.tags(key, pick).await
    }

    async fn acl(&self, key: &Key, pick: &Pick) -> Result<Vec<Grant>, Fault> {
        self.turn().await?.acl(key, pick).await
    }

    async fn list_objects(&self, prefix: &str, from: &ListFrom, most: Option<u16>) -> Result<ObjectPage, Fault> {
        self.turn().await?.list_objects(prefix, from, most).await
    }

    async fn list_versions(&self, prefix: &str, after: Option<(Key, VersionId)>) -> Result<VersionPage, Fault> {
        self.turn().await?.list_versions(prefix, after).await
    }

    async fn versioning(&self) -> Result<Versioning, Fault> {
        self.turn().await?.versioning().await
    }

    async fn put(
        &self,
        object: &NewObject,
        payload: Payload,
        checksum: Option<&Checksum>,
        condition: &Condition,
    ) -> Result<Written, Fault> {
        self.turn().await?.put(object, payload, checksum, condition).await
    }

    async fn create_upload(&self, object: &NewObject, checksum: Option<UploadChecksum>) -> Result<OpenUpload, Fault> {
        self.turn().await?.create_upload(object, checksum).await
    }

    async fn upload_part(
        &self,
        upload: UploadRef<'_>,
        number: u32,
        payload: Payload,
        checksum: Option<&Checksum>,
    ) -> Result<Part, Fault> {
        self.turn().await?.upload_part(upload, number, payload, checksum).await
    }

    async fn copy_part(
        &self,
        upload: UploadRef<'_>,
        number: u32,
        source: &CopySource,
        range: Option<(u64, u64)>,
    ) -> Result<Part, Fault> {
        self.turn().await?.copy_part(upload, number, source, range).await
    }

    async fn list_parts(&self, upload: UploadRef<'_>) -> Result<Vec<Part>, Fault> {
        self.turn().await?.list_parts(upload).await
    }

    async fn complete_upload(&self, upload: UploadRef<'_>, completion: &Completion) -> Result<Written, Fault> {
        self.turn().await?.complete_upload(upload, completion).await
    }

    async fn abort_upload(&self, upload: UploadRef<'_>) -> Result<(), Fault> {
        self.turn().await?.abort_upload(upload).await
    }

    async fn copy(
        &self,
        object: &NewObject,
        source: &CopySource,
        algorithm: Option<Algorithm>,
        condition: &Condition,
    ) -> Result<Written, Fault> {
        self.turn().await?.copy(object, source, algorithm, condition).await
    }

    async fn put_tags(&self, key: &Key, pick: &Pick, tags: &Tags) -> Result<(), Fault> {
        self.turn().await?.put_tags(key, pick, tags).await
    }

    async fn put_acl(&self, key: &Key, pick: &Pick, grants: &[Grant]) -> Result<(), Fault> {
        self.turn().await?.put_acl(key, pick, grants).await
    }

    async fn put_lock(&self, key: &Key, pick: &Pick, lock: &Lock) -> Result<(), Fault> {
        self.turn().await?.put_lock(key, pick, lock).await
    }

    async fn delete(&self, key: &Key, condition: &Condition) -> Result<Option<VersionId>, Fault> {
        self.turn().await?.delete(key, condition).await
    }
}

#[cfg(test)]
mod tests;
