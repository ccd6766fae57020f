//! The difference between two JSON values, leaf by leaf, for people.

use serde_json::Value;

/// One leaf that differs; `None` where that side has none.
#[derive(Clone, Debug, PartialEq)]
pub struct Leaf {
    /// Where: `rules.repl-tiering.transitions[0]`.
    pub path: String,
    /// What it was.
    pub before: Option<Value>,
    /// What it is to be.
    pub after: Option<Value>,
}

/// The leaves that differ, in the order of the documents. `null` counts as nothing.
#[must_use]
pub fn leaves(before: &Value, after: &Value) -> Vec<Leaf> {
    let mut found = Vec::new();
    compare("", Some(before), Some(after), &mut found);
    found
}

fn compare(path: &str, before: Option<&Value>, after: Option<&Value>, found: &mut Vec<Leaf>) {
    let (before, after) = (something(before), something(after));
    if before == after {
        return;
    }
    let branches = |value: Option<&Value>| value.is_none_or(|value| !children(value).is_empty());
    let alike = match (before, after) {
        (Some(one), Some(other)) => one.is_array() == other.is_array(),
        (None, _) | (_, None) => true,
    };
    if alike && branches(before) && branches(after) {
        let (old, new) = (before.map(children).unwrap_or_default(), after.map(children).unwrap_or_default());
        let at = |list: &[(String, &Value)], name: &str| list.iter().position(|(other, _)| other == name);
        let names = old.iter().chain(new.iter().filter(|(name, _)| at(&old, name).is_none())).map(|(name, _)| name);
        for name in names {
            let side = |list: &[(String, &'_ Value)]| {
                at(list, name).and_then(|place| list.get(place).map(|(_, v)| (*v).clone()))
            };
            let (one, other) = (side(&old), side(&new));
            let path = match (path, name.starts_with('[')) {
                ("", false) => name.clone(),
                (_, false) => format!("{path}.{name}"),
                (_, true) => format!("{path}{name}"),
            };
            compare(&path, one.as_ref(), other.as_ref(), found);
        }
        return;
    }
    found.push(Leaf { path: path.to_owned(), before: before.cloned(), after: after.cloned() });
}

fn something(value: Option<&Value>) -> Option<&Value> {
    value.filter(|value| !value.is_null())
}

fn children(value: &Value) -> Vec<(String, &Value)> {
    match value {
        Value::Object(fields) => fields.iter().map(|(name, value)| (name.clone(), value)).collect(),
        Value::Array(list) => list.iter().enumerate().map(|(nth, value)| (format!("[{nth}]"), value)).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn told(before: &Value, after: &Value) -> Vec<String> {
        let side = |value: &Option<Value>| value.as_ref().map_or("-".to_owned(), Value::to_string);
        leaves(before, after)
            .iter()
            .map(|leaf| format!("{} {} {}", leaf.path, side(&leaf.before), side(&leaf.after)))
            .collect()
    }

    #[test]
    fn only_what_differs_is_told() {
        let before = json!({"a": 1, "b": {"c": [1, 2]}, "d": null, "e": "x"});
        assert_eq!(told(&before, &before), Vec::<String>::new());
        let after = json!({"a": 1, "b": {"c": [1, 3, 4]}, "d": "new", "f": {}});
        assert_eq!(told(&before, &after), ["b.c[1] 2 3", "b.c[2] - 4", "d - \"new\"", "e \"x\" -", "f - {}"]);
    }

    #[test]
    fn something_made_or_removed_is_told_leaf_by_leaf() {
        assert_eq!(told(&Value::Null, &json!({"a": {"b": 1, "c": null}})), ["a.b - 1"]);
        assert_eq!(told(&json!({"a": [1]}), &Value::Null), ["a[0] 1 -"]);
        assert_eq!(told(&json!({"a": "managed"}), &json!({"a": {"key": "k"}})), ["a \"managed\" {\"key\":\"k\"}"]);
    }
}
