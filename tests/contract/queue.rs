//! What every queue promises: a message is somebody's for a while, comes again, and goes when it is acknowledged.

use std::collections::BTreeSet;
use std::time::Duration;

use repl::ports::{ChangeQueue, Content, QueueDepth};

const WAIT: Duration = Duration::from_secs(1);
/// Looks before a message is given up.
const LOOKS: usize = 20;

/// Receives until so many different messages have come; all receipts, by message.
async fn gather<Q: ChangeQueue>(queue: &Q, count: usize) -> Vec<(String, Q::Receipt)> {
    let mut seen = BTreeSet::new();
    let mut gathered = Vec::new();
    for _ in 0..LOOKS {
        let deliveries = queue.receive(WAIT).await.unwrap();
        assert!(deliveries.len() <= 10, "at most ten to a call");
        for delivery in deliveries {
            assert!(matches!(delivery.content, Content::Unreadable(_)), "{delivery:?}");
            seen.insert(delivery.id.clone());
            gathered.push((delivery.id, delivery.receipt));
        }
        if seen.len() >= count {
            return gathered;
        }
    }
    panic!("{} of {count} messages came", seen.len())
}

/// On a queue that hides messages for two seconds and holds twelve that cannot be understood.
pub(crate) async fn messages_come_until_they_are_acknowledged<Q: ChangeQueue>(queue: &Q) {
    let mut first = gather(queue, 12).await;
    let (kept, _) = first.pop().unwrap();
    let done: Vec<Q::Receipt> = first.into_iter().filter(|(id, _)| *id != kept).map(|(_, receipt)| receipt).collect();
    assert!(queue.acknowledge(done).await.unwrap().is_empty());
    // The one that was not acknowledged comes again, and nothing else.
    let again = gather(queue, 1).await;
    assert!(again.iter().all(|(id, _)| *id == kept), "{again:?}");
    let receipts: Vec<Q::Receipt> = again.into_iter().map(|(_, receipt)| receipt).collect();
    // Hidden for longer it is in flight; hidden no more it comes at once.
    assert!(queue.extend(receipts.clone(), Duration::from_secs(600)).await.unwrap().is_empty());
    let depth = queue.depth().await.unwrap();
    assert_eq!((depth.visible, depth.in_flight), (0, 1));
    assert!(queue.receive(Duration::ZERO).await.unwrap().is_empty());
    assert!(queue.extend(receipts, Duration::ZERO).await.unwrap().is_empty());
    let last: Vec<Q::Receipt> = gather(queue, 1).await.into_iter().map(|(_, receipt)| receipt).collect();
    assert!(queue.acknowledge(last).await.unwrap().is_empty());
    let depth = queue.depth().await.unwrap();
    assert_eq!((depth.visible, depth.in_flight), (0, 0));
    assert!(queue.receive(Duration::ZERO).await.unwrap().is_empty());
}

/// On a queue that hides messages for two seconds and holds three that cannot be understood: deleting what is deleted is no
/// fault, and nobody can keep hidden what is not there any more.
pub(crate) async fn what_is_deleted_stays_deleted<Q: ChangeQueue>(queue: &Q) {
    let mut receipts: Vec<Q::Receipt> = gather(queue, 3).await.into_iter().map(|(_, receipt)| receipt).collect();
    let kept = receipts.pop().unwrap();
    assert!(queue.acknowledge(receipts.clone()).await.unwrap().is_empty());
    // SQS takes it for done, others tell that there was nothing to delete.
    let again = queue.acknowledge(receipts.clone()).await.unwrap();
    assert!(again.is_empty() || format!("{again:?}") == format!("{receipts:?}"), "{again:?}");
    let refused =
        queue.extend([receipts.clone(), vec![kept.clone()]].concat(), Duration::from_secs(600)).await.unwrap();
    assert_eq!(format!("{refused:?}"), format!("{receipts:?}"), "those alone");
    assert_eq!(queue.depth().await.unwrap(), QueueDepth { visible: 0, in_flight: 1 });
    assert!(queue.acknowledge(vec![kept]).await.unwrap().is_empty());
    assert!(queue.acknowledge(Vec::new()).await.unwrap().is_empty());
    assert!(queue.extend(Vec::new(), Duration::from_secs(600)).await.unwrap().is_empty());
    assert_eq!(queue.depth().await.unwrap(), QueueDepth { visible: 0, in_flight: 0 });
}
