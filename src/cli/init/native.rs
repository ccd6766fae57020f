//! A bucket's own replication in the words of the config; what has no equivalent is told.

use super::draft::Rule;
use crate::aws::s3::replication::NativeRule;

/// The rules in the config's words, each with its notes. `target` names the target of a destination bucket.
pub(super) fn translate(rules: &[NativeRule], target: impl Fn(&str) -> String) -> Vec<Rule> {
    let mut ids = Vec::new();
    let mut translated = Vec::new();
    for (nth, rule) in rules.iter().enumerate() {
        let mut notes = notes(rule);
        let id = id(rule.id.as_deref(), nth, &ids, &mut notes);
        ids.push(id.clone());
        let tagged = !rule.tags.is_empty();
        if tagged && rule.delete_markers == Some(true) {
            notes.push("native replicates no delete markers of a rule with tags, whatever it says".to_owned());
        }
        translated.push(Rule {
            id,
            target: target(&rule.bucket),
            priority: rule.priority,
            prefix: rule.prefix.clone(),
            tags: rule.tags.clone(),
            // The older form has no switch, and replicates them (aws-semantics 2.1).
            delete_markers: !tagged && rule.delete_markers.unwrap_or(rule.older_form),
            enabled: rule.enabled,
            storage_class: rule.storage_class.clone(),
            kms_key: rule.kms_key.clone(),
            owner: rule.owner_translation,
            notes,
        });
    }
    translated
}

/// The rule's id, made to be one that a metric may carry, and no other rule has.
fn id(native: Option<&str>, nth: usize, taken: &[String], notes: &mut Vec<String>) -> String {
    let told = native.unwrap_or_default();
    let plain: String =
        told.chars().map(|letter| if letter == ' ' || letter.is_ascii_graphic() { letter } else { '-' }).collect();
    let plain = plain.trim_start_matches(':').to_owned();
    let mut id = if plain.trim().is_empty() { format!("rule-{}", nth + 1) } else { plain };
    while taken.contains(&id) {
        id.push_str("-2");
    }
    if native.is_some_and(|told| told != id) {
        notes.push(format!("its native ID was {told:?}, which cannot name a metric"));
    }
    id
}

/// What is done otherwise than natively.
fn notes(rule: &NativeRule) -> Vec<String> {
    let mut notes = Vec::new();
    let mut note = |holds: bool, text: &str| {
        if holds {
            notes.push(text.to_owned());
        }
    };
    note(
        rule.replica_modifications,
        "ReplicaModifications has no equivalent: changes made to replicas are not brought back; two-way replication is a \
         second config for the other direction",
    );
    note(
        rule.encrypted_objects == Some(false) || (rule.encrypted_objects.is_none() && rule.kms_key.is_none()),
        "native leaves objects under SSE-KMS out here (SseKmsEncryptedObjects is not enabled); repl brings them, if it may \
         decrypt them",
    );
    note(
        rule.time_control.is_some(),
        "Replication Time Control has no equivalent: [sla] threshold and its alarm tell when it is not kept",
    );
    note(rule.metrics, "Metrics has no equivalent to switch: repl always sends its own, under the same names");
    note(
        rule.existing_objects,
        "ExistingObjectReplication has no equivalent here: `repl sync --full` brings what is there already",
    );
    notes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::object::Tags;

    fn native() -> NativeRule {
        NativeRule {
            id: Some("all".to_owned()),
            enabled: true,
            bucket: "acme-dr".to_owned(),
            encrypted_objects: Some(true),
            ..NativeRule::default()
        }
    }

    fn one(rule: NativeRule) -> Rule {
        translate(&[rule], |bucket| format!("t-{bucket}")).remove(0)
    }

    #[test]
    fn every_word_of_a_rule_comes_along() {
        let tags = Tags::from([("class".to_owned(), "gold".to_owned())]);
        let rule = one(NativeRule {
            priority: Some(7),
            prefix: "a/".to_owned(),
            tags: tags.clone(),
            enabled: false,
            storage_class: Some("STANDARD_IA".to_owned()),
            kms_key: Some("arn:key".to_owned()),
            owner_translation: true,
            ..native()
        });
        assert_eq!((rule.target.as_str(), rule.priority, rule.prefix.as_str()), ("t-acme-dr", Some(7), "a/"));
        assert_eq!((rule.tags, rule.enabled, rule.owner), (tags, false, true));
        assert_eq!((rule.storage_class.as_deref(), rule.kms_key.as_deref()), (Some("STANDARD_IA"), Some("arn:key")));
        assert_eq!(rule.notes, Vec::<String>::new());
    }

    #[test]
    fn delete_markers_are_as_native_would_have_them() {
        assert!(one(NativeRule { older_form: true, ..native() }).delete_markers, "the older form brings them");
        assert!(!one(native()).delete_markers);
        assert!(one(NativeRule { delete_markers: Some(true), ..native() }).delete_markers);
        assert!(!one(NativeRule { delete_markers: Some(false), older_form: true, ..native() }).delete_markers);
        let tags = Tags::from([("a".to_owned(), "b".to_owned())]);
        let tagged = one(NativeRule { delete_markers: Some(true), tags, ..native() });
        assert!(!tagged.delete_markers && tagged.notes.len() == 1, "{tagged:?}");
    }

    #[test]
    fn what_has_no_equivalent_is_told() {
        let rule = one(NativeRule {
            replica_modifications: true,
            encrypted_objects: Some(false),
            time_control: Some(15),
            metrics: true,
            existing_objects: true,
            ..native()
        });
        for word in ["ReplicaModifications", "SseKmsEncryptedObjects", "Time Control", "Metrics", "ExistingObject"] {
            assert!(rule.notes.iter().any(|note| note.contains(word)), "{word}: {:?}", rule.notes);
        }
    }

    #[test]
    fn ids_are_made_unique_and_plain() {
        let named = |id: Option<&str>| NativeRule { id: id.map(str::to_owned), ..native() };
        let rules = translate(
            &[named(Some("é:1")), named(Some("::")), named(None), named(Some("a")), named(Some("a"))],
            str::to_owned,
        );
        let ids: Vec<&str> = rules.iter().map(|rule| rule.id.as_str()).collect();
        assert_eq!(ids, ["-:1", "rule-2", "rule-3", "a", "a-2"]);
        assert!(rules[0].notes[0].contains("its native ID was \"é:1\""));
    }
}
