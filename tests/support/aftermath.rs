//! What must be so once a worker that was killed has been started again and has nothing left to do.

use std::collections::BTreeMap;
use std::time::Duration;

use super::compare::{Version, compare, list};
use super::pair::{Bucket, Pair};
use super::worker::spawn_repl_into;

const PATIENCE: Duration = Duration::from_secs(120);

/// No upload is left open.
pub(crate) async fn assert_no_uploads(bucket: &Bucket) {
    let open = bucket.s3.list_multipart_uploads().bucket(&bucket.name).send().await.unwrap();
    assert_eq!(open.uploads().iter().map(|upload| upload.key()).collect::<Vec<_>>(), Vec::<Option<&str>>::new());
}

/// No upload is left open that has a part; how many there are without one. A worker that dies between the store's answer
/// and its own note cannot know that upload any more, and has sent nothing to it: a lifecycle rule ends it.
pub(crate) async fn assert_no_orphaned_parts(bucket: &Bucket) -> usize {
    let open = bucket.s3.list_multipart_uploads().bucket(&bucket.name).send().await.unwrap();
    for upload in open.uploads() {
        let (key, id) = (upload.key().unwrap(), upload.upload_id().unwrap());
        let parts = bucket.s3.list_parts().bucket(&bucket.name).key(key).upload_id(id).send().await.unwrap();
        assert_eq!(parts.parts().len(), 0, "an orphaned upload of {key}");
    }
    open.uploads().len()
}

/// Nothing is pending, parked, held, waiting in the queue or given up there.
pub(crate) async fn ledger_is_empty(pair: &Pair) {
    let said = ["status.out", "status.err"].map(|name| pair.directory.path().join(name));
    let status = spawn_repl_into(pair, &["status", "--json"], said).end(PATIENCE).await.json();
    let left = (&status["pending"]["operations"], &status["failed"], &status["brake"]["held"]);
    assert_eq!(left, (&0.into(), &0.into(), &0.into()), "{status}");
    assert_eq!((pair.queue_depth().await, pair.dead_letters().await), (0, 0));
}

/// Every difference between both sides, where a version may be there once more behind one that came late (P3) and a marker
/// that came after its successors may not (P4), and for no other reason; and how many there are for these two.
pub(crate) async fn compare_in_spite_of_late_ones(pair: &Pair) -> (Vec<String>, usize) {
    let (shapes, mut found): (Vec<String>, Vec<String>) =
        compare(pair).await.into_iter().partition(|line| line.contains(": source has "));
    if shapes.is_empty() {
        return (found, 0);
    }
    let (source, target) = (by_key(pair, &pair.source).await, by_key(pair, &pair.target).await);
    let mut excused = 0;
    for line in shapes {
        let key = line.split_once(": source has ").unwrap().0;
        let (wanted, there) = (source[key].as_slice(), target.get(key).map_or(&[] as &[Entry], Vec::as_slice));
        match too_many(wanted, there) {
            Ok(late) => excused += late,
            Err(reason) => found.push(format!("{line}: {reason}")),
        }
    }
    (found, excused)
}

/// One version: of which source version it is; `None` for a delete marker.
pub(crate) type Entry = Option<String>;

/// The versions of each key, the oldest first, by the source's ids.
async fn by_key(pair: &Pair, bucket: &Bucket) -> BTreeMap<String, Vec<Entry>> {
    let mut keys = BTreeMap::<String, Vec<Entry>>::new();
    for version in list(bucket).await.into_iter().rev() {
        let of = if version.marker { None } else { Some(source_version(pair, bucket, &version).await) };
        keys.entry(version.key).or_default().push(of);
    }
    keys
}

async fn source_version(pair: &Pair, bucket: &Bucket, version: &Version) -> String {
    if bucket.name == pair.source.name {
        return version.id.clone();
    }
    let asked = bucket.s3.head_object().bucket(&bucket.name).key(&version.key).version_id(&version.id);
    asked.send().await.unwrap().metadata.unwrap_or_default()["repl-source-version"].clone()
}

/// How many versions stand there a second time because an older one came late, and how many markers do not because they
/// came after their successors. The newest one is always due.
pub(crate) fn too_many(wanted: &[Entry], there: &[Entry]) -> Result<usize, String> {
    let mut places = Vec::with_capacity(there.len());
    for entry in there {
        let place = match entry {
            Some(_) => wanted.iter().position(|other| other == entry),
            // A marker is told by what it hides.
            None => {
                let hides = places.last().map_or(0, |place| place + 1);
                let same = wanted.get(hides).is_some_and(Option::is_none).then_some(hides);
                same.or_else(|| wanted.iter().position(Option::is_none))
            }
        };
        places.push(place.ok_or_else(|| format!("{entry:?} is no source version"))?);
    }
    let (mut rest, mut left_out) = (0, 0);
    for place in &places {
        let hidden = wanted[rest..].iter().take(place.saturating_sub(rest)).take_while(|entry| entry.is_none()).count();
        if *place == rest + hidden {
            (rest, left_out) = (place + 1, left_out + hidden);
        }
    }
    if rest < wanted.len() || places.last() != Some(&(wanted.len() - 1)) {
        return Err(format!("not every version in its place: {places:?} of {}", wanted.len()));
    }
    let mut late = 0;
    for (at, place) in places.iter().enumerate() {
        let Some(before) = places[..at].iter().rposition(|other| other == place) else { continue };
        let came = |between: usize| places[between] < *place && !places[..between].contains(&places[between]);
        if !(before + 1..at).any(came) {
            return Err(format!("a version too many: {places:?} at {at}"));
        }
        late += 1;
    }
    Ok(late + left_out)
}
