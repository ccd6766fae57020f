use bytes::Bytes;
use tokio::time::Instant;

use super::*;
use crate::engine::budget::Limits;
use crate::model::object::{Attributes, ETag, Encryption, Timestamp};
use crate::ports::{ChangeQueue, Clock, Delivery, KeyService, KeyState, QueueDepth};

fn nobody() -> Fault {
    Fault::new(FaultKind::Refused, Side::Local, "play a store", "that is not asked for here")
}

/// A store that has one object, of pieces of 64 KiB, under every key. It answers at once.
#[derive(Debug)]
struct Store;

const PIECE: usize = 64 << 10;
const PIECES: usize = 10;

fn head() -> Head {
    Head {
        version: VersionId::null(),
        etag: ETag::new("e"),
        size: (PIECE * PIECES) as u64,
        modified: Timestamp(0),
        attributes: Attributes::default(),
        encryption: Encryption::Untold,
        checksum: None,
        tag_count: None,
    }
}

macro_rules! unasked {
    ($($name:ident($($argument:ident: $kind:ty),*) -> $out:ty;)*) => {
        $(async fn $name(&self, $($argument: $kind),*) -> Result<$out, Fault> { Err(nobody()) })*
    };
}

impl ObjectStore for Store {
    async fn get(&self, _key: &Key, _read: Read) -> Result<Fetched, Fault> {
        let pieces = std::iter::repeat_n(Ok(Bytes::from_static(&[0; PIECE])), PIECES);
        Ok(Fetched::Object(Box::new(Got { head: head(), body: ByteStream::new(stream::iter(pieces)) })))
    }

    async fn head(&self, _key: &Key, _pick: &Pick) -> Result<Found, Fault> {
        Ok(Found::Object(Box::new(head())))
    }

    unasked! {
        part_sizes(_0: &Key, _1: &Head) -> Option<Vec<u64>>;
        tags(_0: &Key, _1: &Pick) -> Tags;
        acl(_0: &Key, _1: &Pick) -> Vec<Grant>;
        list_objects(_0: &str, _1: &ListFrom, _2: Option<u16>) -> ObjectPage;
        list_versions(_0: &str, _1: Option<(Key, VersionId)>) -> VersionPage;
        versioning() -> Versioning;
        put(_0: &NewObject, _1: Payload, _2: Option<&Checksum>, _3: &Condition) -> Written;
        create_upload(_0: &NewObject, _1: Option<UploadChecksum>) -> OpenUpload;
        upload_part(_0: UploadRef<'_>, _1: u32, _2: Payload, _3: Option<&Checksum>) -> Part;
        copy_part(_0: UploadRef<'_>, _1: u32, _2: &CopySource, _3: Option<(u64, u64)>) -> Part;
        list_parts(_0: UploadRef<'_>) -> Vec<Part>;
        complete_upload(_0: UploadRef<'_>, _1: &Completion) -> Written;
        abort_upload(_0: UploadRef<'_>) -> ();
        copy(_0: &NewObject, _1: &CopySource, _2: Option<Algorithm>, _3: &Condition) -> Written;
        put_tags(_0: &Key, _1: &Pick, _2: &Tags) -> ();
        put_acl(_0: &Key, _1: &Pick, _2: &[Grant]) -> ();
        put_lock(_0: &Key, _1: &Pick, _2: &Lock) -> ();
        delete(_0: &Key, _1: &Condition) -> Option<VersionId>;
    }
}

impl ChangeQueue for Store {
    type Receipt = ();

    unasked! {
        receive(_wait: std::time::Duration) -> Vec<Delivery<()>>;
        acknowledge(_receipts: Vec<()>) -> Vec<()>;
        extend(_receipts: Vec<()>, _visibility: std::time::Duration) -> Vec<()>;
        depth() -> QueueDepth;
    }
}

impl KeyService for Store {
    unasked! {
        describe(_arn: &str) -> KeyState;
        prove(_arn: &str, _bucket: &str) -> ();
    }
}

impl Clock for Store {
    fn now(&self) -> Timestamp {
        Timestamp(0)
    }
}

#[derive(Debug)]
struct Bare;

impl World for Bare {
    type Store = Store;
    type Queue = Store;
    type Keys = Store;
    type Clock = Store;

    fn source(&self) -> &Store {
        &Store
    }

    fn beside_source(&self, _bucket: &str) -> Store {
        Store
    }

    fn target(&self, _id: &TargetId) -> Option<&Store> {
        Some(&Store)
    }

    fn queue(&self) -> Option<&Store> {
        None
    }

    fn keys(&self, _id: &TargetId) -> Option<&Store> {
        None
    }

    fn clock(&self) -> &Store {
        &Store
    }
}

fn paced(limits: &Limits) -> Paced<Bare> {
    Paced::new(Arc::new(Bare), Arc::new(Budget::new(limits)), [&TargetId::new("dr")])
}

/// Both sides together wait for their turn.
#[tokio::test(start_paused = true)]
async fn requests_come_no_faster_than_permitted() {
    let world = paced(&Limits { requests_per_second: Some(4), ..Limits::default() });
    let target = world.target(&"dr".into()).unwrap();
    let start = Instant::now();
    for _ in 0..12 {
        world.source().head(&"k".into(), &Pick::Current).await.unwrap();
        target.head(&"k".into(), &Pick::Current).await.unwrap();
    }
    let seconds = start.elapsed().as_secs_f64();
    assert!((4.5..=6.0).contains(&seconds), "24 requests at 4 a second with one second's burst took {seconds} s");
    let unbounded = paced(&Limits::default());
    let start = Instant::now();
    unbounded.beside_source("b").head(&"k".into(), &Pick::Current).await.unwrap();
    assert!(start.elapsed().is_zero());
}

#[tokio::test(start_paused = true)]
async fn bodies_come_no_faster_than_the_bandwidth() {
    let world = paced(&Limits { bandwidth: Some(128 << 10), ..Limits::default() });
    let start = Instant::now();
    let mut read = 0;
    for store in [world.source(), world.target(&"dr".into()).unwrap()] {
        let whole = Read { pick: Pick::Current, range: None, if_match: None };
        let Fetched::Object(mut got) = store.get(&"k".into(), whole).await.unwrap() else { panic!("an object") };
        while let Some(piece) = got.body.next().await {
            read += piece.unwrap().len();
        }
    }
    assert_eq!(read, 2 * PIECE * PIECES);
    let seconds = start.elapsed().as_secs_f64();
    assert!((8.5..=10.5).contains(&seconds), "1,280 KiB at 128 KiB/s with one second's burst took {seconds} s");
}
