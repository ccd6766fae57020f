//! What stands at the target alone: a stranger, or a replica whose source is gone.

use super::compare::Scope;
use super::look::{Looker, Pairing};
use super::range::patiently;
use super::walk::is_asked;
use super::{Finding, Seen, Verdict};
use crate::model::fault::Fault;
use crate::model::object::{Found, Key, Listed};
use crate::plan::route::Rule;
use crate::ports::{ObjectStore, Pick};

/// What proves that an object is at the target only because a delete marker has not come there.
pub(super) const BY_MARKER: &str = "delete-marker";

/// Judges a target object that no listed source object stands behind. `None` where another scope answers for it, no
/// rule claims it, or the source has it after all.
pub(super) async fn judge<S: ObjectStore>(
    looker: &Looker<'_, S>,
    scope: &Scope,
    key: Key,
    target: Listed,
) -> Option<Finding> {
    let rules = &looker.settings.rules;
    let claiming: Vec<&Rule> = scope.claiming(rules, &key).collect();
    let rule = claiming
        .iter()
        .copied()
        .filter(|rule| is_asked(looker.settings, scope, rule))
        .max_by_key(|rule| rule.priority)?;
    if belongs_elsewhere(rules, scope, &target.key) {
        return None;
    }
    let pairing = Pairing {
        key,
        target_key: target.key.clone(),
        source_pick: Pick::Current,
        target_pick: Pick::Current,
        source: None,
        replica: Some(Seen::from(&target)),
    };
    match explain(looker, scope, &pairing, (rule, claiming.iter().any(|rule| rule.delete_markers))).await {
        Ok(finding) => finding,
        Err(fault) => Some(looker.failed(&pairing, Some(rule), fault)),
    }
}

/// Whether a rule with a longer rewrite of keys claims the target key: then that scope answers for it.
fn belongs_elsewhere(rules: &[Rule], scope: &Scope, target_key: &Key) -> bool {
    rules.iter().any(|rule| {
        rule.enabled
            && rule.target == scope.target
            && rule.target_prefix.len() > scope.target_prefix.len()
            && target_key.as_str().strip_prefix(&rule.target_prefix).is_some_and(|key| key.starts_with(&rule.prefix))
    })
}

async fn explain<S: ObjectStore>(
    looker: &Looker<'_, S>,
    scope: &Scope,
    pairing: &Pairing,
    (rule, brings_markers): (&Rule, bool),
) -> Result<Option<Finding>, Fault> {
    let told = |verdict, evidence: &str| {
        Ok(Some(looker.finding(pairing, Some(rule), verdict, ("source", evidence.to_owned()))))
    };
    let Found::Object(replica) = looker.head(looker.store, &pairing.target_key, &Pick::Current).await? else {
        return Ok(None);
    };
    match newest(looker, &pairing.key).await? {
        Newest::Object => {
            // Written since the source was listed, or its rule asks for tags that it does not have.
            Ok(match looker.rule(&pairing.key, &Pick::Current).await? {
                Some(rule) if is_asked(looker.settings, scope, rule) => looker.compare(pairing.clone(), rule).await,
                Some(_) | None => None,
            })
        }
        Newest::Marker if brings_markers => {
            let evidence = "deleted at the source by a delete marker that has not come to the target".to_owned();
            Ok(Some(looker.finding(pairing, Some(rule), Verdict::Extra, (BY_MARKER, evidence))))
        }
        Newest::Marker => told(Verdict::Kept, "deleted at the source; the rule does not bring delete markers"),
        Newest::Nothing if looker.stamp(&replica).is_some() => {
            told(Verdict::Kept, "a replica whose source was deleted for good, which is never replicated")
        }
        Newest::Nothing => told(Verdict::Extra, "the source has no such key, and no stamp says that it had"),
    }
}

enum Newest {
    Object,
    Marker,
    Nothing,
}

async fn newest<S: ObjectStore>(looker: &Looker<'_, S>, key: &Key) -> Result<Newest, Fault> {
    match looker.head(looker.source, key, &Pick::Current).await? {
        Found::Object(_) => return Ok(Newest::Object),
        Found::DeleteMarker => return Ok(Newest::Marker),
        Found::Missing => {}
    }
    // Some stores do not tell a delete marker on a HEAD.
    let page = patiently(|| looker.source.list_versions(key.as_str(), None)).await?;
    let first = page.entries.iter().find(|entry| entry.key == *key);
    Ok(match first {
        Some(entry) if entry.object.is_none() => Newest::Marker,
        Some(_) | None => Newest::Nothing,
    })
}
