//! A look at one object on both sides, where listings do not tell enough.

use tokio::sync::Semaphore;

use super::content::{Bodies, Body, compare};
use super::judge::{self, Content};
use super::range::patiently;
use super::{Finding, Further, Seen, Settings, Verdict};
use crate::model::fault::{Fault, FaultKind, Side};
use crate::model::object::{Found, Head, Key, Tags, TargetId};
use crate::model::stamp::Stamp;
use crate::plan::route::{self, Choice, Rule};
use crate::ports::{ListFrom, ObjectStore, Pick};

/// Bodies compared at once: each holds two connections and a piece of either body.
pub(super) const BODIES: usize = 4;

/// One object, or one version, that is to be compared.
#[derive(Clone, Debug)]
pub(super) struct Pairing {
    pub(super) key: Key,
    pub(super) target_key: Key,
    pub(super) source_pick: Pick,
    pub(super) target_pick: Pick,
    pub(super) source: Option<Seen>,
    pub(super) replica: Option<Seen>,
}

/// How far listings are believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Listings {
    /// A key that is not listed is not there.
    Proof,
    /// It is looked for: stores that list by directories were seen to leave keys out between pages (SeaweedFS 4.48).
    Hint,
}

/// Looks at objects of one target.
#[derive(Debug)]
pub(super) struct Looker<'a, S> {
    pub(super) settings: &'a Settings,
    pub(super) source: &'a S,
    pub(super) store: &'a S,
    pub(super) target: &'a TargetId,
    /// How far this pair's listings are believed.
    pub(super) listings: Listings,
    pub(super) looks: Semaphore,
    pub(super) bodies: Semaphore,
}

impl<'a, S: ObjectStore> Looker<'a, S> {
    pub(super) fn new(settings: &'a Settings, source: &'a S, store: &'a S, target: &'a TargetId) -> Self {
        let looks = Semaphore::new(settings.looks.max(1));
        Self { settings, source, store, target, listings: Listings::Proof, looks, bodies: Semaphore::new(BODIES) }
    }

    /// A finding on a pairing.
    pub(super) fn finding(
        &self,
        pairing: &Pairing,
        rule: Option<&Rule>,
        verdict: Verdict,
        (by, evidence): (&'static str, String),
    ) -> Finding {
        Finding {
            target: self.target.clone(),
            rule: rule.map(|rule| rule.id.clone()),
            key: pairing.key.clone(),
            target_key: pairing.target_key.clone(),
            source: pairing.source.clone(),
            replica: pairing.replica.clone(),
            verdict,
            by,
            evidence,
            obstacle: None,
        }
    }

    /// What a failed look means for a pairing.
    pub(super) fn failed(&self, pairing: &Pairing, rule: Option<&Rule>, fault: Fault) -> Finding {
        let mut finding = self.finding(pairing, rule, Verdict::Unprovable, (fault.kind.name(), fault.to_string()));
        finding.obstacle = is_obstacle(fault.kind).then_some(fault);
        finding
    }

    /// The rule that holds for a source object, asking for its tags where rules need them; `None` where none does.
    pub(super) async fn rule(&self, key: &Key, pick: &Pick) -> Result<Option<&'a Rule>, Fault> {
        let rules = &self.settings.rules;
        match route::choose(rules, self.target, key, None) {
            Choice::Rule(rule) => Ok(Some(rule)),
            Choice::Nothing(_) => Ok(None),
            Choice::NeedsTags => {
                let tags = self.tags(self.source, key, pick).await?;
                Ok(match route::choose(rules, self.target, key, Some(&tags)) {
                    Choice::Rule(rule) => Some(rule),
                    Choice::Nothing(_) | Choice::NeedsTags => None,
                })
            }
        }
    }

    /// Compares one pairing as closely as is asked; `None` where the source has nothing (any more).
    pub(super) async fn compare(&self, mut pairing: Pairing, rule: &Rule) -> Option<Finding> {
        let mut looked = self.compare_heads(&mut pairing, rule).await;
        if looked.as_ref().is_err_and(|fault| matches!(fault.kind, FaultKind::Raced | FaultKind::Gone)) {
            // It changed while it was compared: what it is now is compared.
            looked = self.compare_heads(&mut pairing, rule).await;
        }
        looked.unwrap_or_else(|fault| Some(self.failed(&pairing, Some(rule), fault)))
    }

    async fn compare_heads(&self, pairing: &mut Pairing, rule: &Rule) -> Result<Option<Finding>, Fault> {
        let (source, target) = tokio::try_join!(
            self.head(self.source, &pairing.key, &pairing.source_pick),
            self.head(self.store, &pairing.target_key, &pairing.target_pick),
        )?;
        let Found::Object(source) = source else {
            return if self.is_listed(&pairing.key, &pairing.source_pick).await? {
                let evidence = "the source lists it, and says that it is not there when it is looked at".to_owned();
                Ok(Some(self.finding(pairing, Some(rule), Verdict::Unprovable, ("source", evidence))))
            } else {
                Ok(None)
            };
        };
        pairing.source = Some(Seen::from(&*source));
        let Found::Object(target) = target else {
            let what = if target == Found::DeleteMarker { "a delete marker is current" } else { "nothing is there" };
            let evidence = ("head", format!("at the target {what}"));
            return Ok(Some(self.finding(pairing, Some(rule), Verdict::Missing, evidence)));
        };
        pairing.replica = Some(Seen::from(&*target));
        let content = self.content(pairing, &source, &target).await?;
        let (verdict, proof) = match content {
            Content::Differs(by, detail) => (Verdict::Different, (by, detail)),
            Content::Same(by, detail) => match self.beyond_bytes(pairing, rule, (&source, &target)).await? {
                None => (Verdict::Identical, (by, detail)),
                Some(proof) => (Verdict::Different, proof),
            },
            Content::Unknown(reason) | Content::ByParts(reason) => {
                match self.beyond_bytes(pairing, rule, (&source, &target)).await? {
                    None => (Verdict::Unprovable, ("nothing", reason)),
                    Some(proof) => (Verdict::Different, proof),
                }
            }
        };
        Ok(Some(self.finding(pairing, Some(rule), verdict, proof)))
    }

    /// Whether the source's listing has it, now: a source object is left out only when its listing says so too.
    async fn is_listed(&self, key: &Key, pick: &Pick) -> Result<bool, Fault> {
        let _look = self.looks.acquire().await.ok();
        match pick {
            Pick::Current => {
                // Of all keys that begin so, the key itself is the first.
                let page = patiently(|| self.source.list_objects(key.as_str(), &ListFrom::Start, Some(1))).await?;
                Ok(page.entries.iter().any(|entry| entry.key == *key))
            }
            Pick::Version(version) => {
                let mut after = None;
                loop {
                    let page = patiently(|| self.source.list_versions(key.as_str(), after.clone())).await?;
                    if page.entries.iter().any(|entry| entry.key == *key && entry.version == *version) {
                        return Ok(true);
                    }
                    after = page.next.filter(|(next, _)| next == key);
                    if after.is_none() {
                        return Ok(false);
                    }
                }
            }
        }
    }

    /// What is known of the bytes; reads them where asked.
    async fn content(&self, pairing: &Pairing, source: &Head, target: &Head) -> Result<Content, Fault> {
        let told = judge::by_heads(source, target, &self.settings.source_bucket);
        if self.settings.bytes == Further::Look && source.size == target.size {
            return self.bytes(pairing, source, target).await;
        }
        let Content::ByParts(detail) = told else { return Ok(told) };
        let _look = self.looks.acquire().await.ok();
        let (ours, theirs) = tokio::try_join!(
            patiently(|| self.source.part_sizes(&pairing.key, source)),
            patiently(|| self.store.part_sizes(&pairing.target_key, target)),
        )?;
        Ok(match (ours, theirs) {
            (Some(ours), Some(theirs)) if ours == theirs => Content::Differs("parts", detail),
            (Some(_) | None, _) => match judge::by_stamp(source, target, &self.settings.source_bucket) {
                Content::Unknown(_) => {
                    Content::Unknown(format!("{detail}, which may only tell of other parts; `--deep` reads the bytes"))
                }
                believed => believed,
            },
        })
    }

    async fn bytes(&self, pairing: &Pairing, source: &Head, target: &Head) -> Result<Content, Fault> {
        let _body = self.bodies.acquire().await.ok();
        let ours = Body { store: self.source, key: &pairing.key, head: source, side: Side::Source };
        let theirs = Body { store: self.store, key: &pairing.target_key, head: target, side: Side::Target };
        Ok(match compare(&ours, &theirs).await? {
            Bodies::Equal => Content::Same("bytes", format!("all {} bytes read and equal", source.size)),
            Bodies::DifferAt(at) => Content::Differs(
                "bytes",
                format!("of {} bytes, the one at offset {at} is the first that differs", source.size),
            ),
        })
    }

    /// The difference in metadata or tags, where asked for and where there is one.
    async fn beyond_bytes(
        &self,
        pairing: &Pairing,
        rule: &Rule,
        (source, target): (&Head, &Head),
    ) -> Result<Option<(&'static str, String)>, Fault> {
        if self.settings.metadata == Further::Look {
            let found = judge::metadata(source, target, rule);
            if !found.is_empty() {
                return Ok(Some(("metadata", found.join("; "))));
            }
        }
        if self.settings.tags == Further::Look {
            let (source_pick, target_pick) = (pinned(source), pinned(target));
            let (ours, theirs) = tokio::try_join!(
                self.tags(self.source, &pairing.key, &source_pick),
                self.tags(self.store, &pairing.target_key, &target_pick),
            )?;
            let found = judge::maps_differ("tag", &ours, &theirs);
            if !found.is_empty() {
                return Ok(Some(("tags", found.join("; "))));
            }
        }
        Ok(None)
    }

    /// A HEAD, with patience.
    pub(super) async fn head(&self, store: &S, key: &Key, pick: &Pick) -> Result<Found, Fault> {
        let _look = self.looks.acquire().await.ok();
        patiently(|| store.head(key, pick)).await
    }

    async fn tags(&self, store: &S, key: &Key, pick: &Pick) -> Result<Tags, Fault> {
        let _look = self.looks.acquire().await.ok();
        patiently(|| store.tags(key, pick)).await
    }

    /// The stamp of a target version, where it is ours of this source.
    pub(super) fn stamp(&self, head: &Head) -> Option<Stamp> {
        Stamp::read(&head.attributes.metadata).filter(|stamp| stamp.origin == self.settings.source_bucket)
    }
}

fn pinned(head: &Head) -> Pick {
    Pick::Version(head.version.clone())
}

/// Whether a fault says that one could not look, rather than how this object is.
fn is_obstacle(kind: FaultKind) -> bool {
    match kind {
        FaultKind::Throttled
        | FaultKind::Transient
        | FaultKind::Denied
        | FaultKind::Refused
        | FaultKind::Corrupt
        | FaultKind::Ledger => true,
        FaultKind::Raced
        | FaultKind::Gone
        | FaultKind::KeyUnusable
        | FaultKind::Archived
        | FaultKind::Ineligible
        | FaultKind::Foreign => false,
    }
}
