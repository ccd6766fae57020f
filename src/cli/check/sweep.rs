//! Takes away what the probes left, whatever became of them: everything under this check's own prefix.

use super::Probes;
use super::finding::{Check, Finding};
use super::side::Bucket;
use crate::cli::fix::{grant, statement};
use crate::model::fault::{Fault, FaultKind};
use crate::model::object::Key;
use crate::ports::{Condition, ListFrom, ObjectStore, UploadRef};

impl Probes<'_> {
    /// The row of a bucket that was written to.
    pub(super) async fn sweep(&self, bucket: &Bucket<'_>) -> Check {
        Check::of("clean-up", bucket.side, self.remove_probes(bucket)).await
    }

    async fn remove_probes(&self, bucket: &Bucket<'_>) -> Finding {
        let place = bucket.place;
        for (key, id) in bucket.store.open_uploads(&self.prefix()).await.unwrap_or_default() {
            // What is aborted already is gone, and what cannot be is told by the multipart probe.
            bucket.store.abort_upload(UploadRef { key: &key, id: &id }).await.ok();
        }
        let page = match bucket.store.list_versions(&self.prefix(), None).await {
            Ok(page) => page,
            Err(fault) => return self.hide(bucket, &fault).await,
        };
        let mut left = None;
        for entry in &page.entries {
            if let Err(fault) = bucket.store.erase(&entry.key, &entry.version).await {
                left = Some(fault);
            }
        }
        match left {
            None => Finding::pass("nothing of this check is left"),
            Some(fault) => {
                let hidden = self.hide(bucket, &fault).await;
                let statement = statement(&["s3:DeleteObjectVersion"], &place.own());
                if fault.kind == FaultKind::Denied {
                    hidden.with_fix(format!(
                        "{}; or have a lifecycle rule expire noncurrent versions under \".repl/\"",
                        grant(&statement, "the bucket's policy")
                    ))
                } else {
                    hidden
                }
            }
        }
    }

    /// What cannot be removed version by version is deleted as any object: with versions it is hidden then.
    async fn hide(&self, bucket: &Bucket<'_>, why: &Fault) -> Finding {
        // Perhaps more than is there: what was refused was written nowhere.
        let visible = self.visible(bucket).await.unwrap_or_else(|_| self.keys_written(bucket));
        let mut left = 0_usize;
        for key in visible {
            left += usize::from(bucket.store.delete(&key, &Condition::Any).await.is_err());
        }
        let prefix = self.prefix();
        Finding::skipped(if left == 0 {
            format!("versions of a few bytes stay under {prefix:?}, behind delete markers: {why}")
        } else {
            format!("{left} objects of a few bytes may stay under {prefix:?}: {why}")
        })
    }

    /// What can be seen of this check.
    async fn visible(&self, bucket: &Bucket<'_>) -> Result<Vec<Key>, Fault> {
        let (mut keys, mut from) = (Vec::new(), Some(ListFrom::Start));
        while let Some(start) = from {
            let page = bucket.store.list_objects(&self.prefix(), &start, None).await?;
            keys.extend(page.entries.into_iter().map(|object| object.key));
            from = page.next;
        }
        Ok(keys)
    }
}
