use bytes::Bytes;
use tokio::time::Instant;

use super::*;
use crate::engine::budget::Limits;
use crate::engine::tests::world::{PIECE, Small, Store};

const PIECES: usize = 10;

/// Both sides have one object.
fn paced(limits: &Limits) -> Paced<Small> {
    let world = Small::new(Store::default());
    for store in [&world.source, &world.target] {
        store.write("k", Bytes::from_static(&[0; PIECE * PIECES]));
    }
    Paced::new(Arc::new(world), Arc::new(Budget::new(limits)), [&TargetId::new("dr")])
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
