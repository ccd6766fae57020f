//! Policy documents of AWS: statements put in and taken out by their Sid, and equality of meaning instead of spelling.

use serde_json::{Map, Value, json};

/// The policy with this statement in place of the one with the same Sid, or added; all others stay as they are. A
/// policy that says the same already comes back unchanged.
#[must_use]
pub fn with_statement(policy: &Value, statement: &Value) -> Value {
    let sid = sid(statement);
    let mut statements = statements(policy);
    match statements.iter_mut().find(|old| self::sid(old) == sid) {
        Some(old) if canonical(old) == canonical(statement) => return policy.clone(),
        Some(old) => *old = statement.clone(),
        None => statements.push(statement.clone()),
    }
    rebuilt(policy, statements)
}

/// The policy without the statement of that Sid; `null` where none is left.
#[must_use]
pub fn without_statement(policy: &Value, unwanted: &str) -> Value {
    let all = statements(policy);
    let rest: Vec<Value> = all.iter().filter(|statement| sid(statement) != Some(unwanted)).cloned().collect();
    if rest.len() == all.len() {
        return policy.clone();
    }
    if rest.is_empty() { Value::Null } else { rebuilt(policy, rest) }
}

/// Whether two policies mean the same: the order of lists and of keys, and a list of one, make no difference.
#[must_use]
pub fn same(one: &Value, other: &Value) -> bool {
    canonical(one) == canonical(other)
}

fn sid(statement: &Value) -> Option<&str> {
    statement.get("Sid").and_then(Value::as_str)
}

fn statements(policy: &Value) -> Vec<Value> {
    match policy.get("Statement") {
        Some(Value::Array(list)) => list.clone(),
        Some(one) => vec![one.clone()],
        None => Vec::new(),
    }
}

fn rebuilt(policy: &Value, statements: Vec<Value>) -> Value {
    let mut document = policy.as_object().cloned().unwrap_or_else(|| {
        let mut new = Map::new();
        new.insert("Version".to_owned(), json!("2012-10-17"));
        new
    });
    document.insert("Statement".to_owned(), Value::Array(statements));
    Value::Object(document)
}

/// One spelling for all that mean the same.
fn canonical(value: &Value) -> Value {
    match value {
        Value::Array(list) => {
            let mut list: Vec<Value> = list.iter().map(canonical).collect();
            list.sort_by_key(Value::to_string);
            list.dedup();
            match <[Value; 1]>::try_from(list) {
                Ok([only]) => only,
                Err(list) => Value::Array(list),
            }
        }
        Value::Object(fields) => {
            let mut fields: Vec<(String, Value)> =
                fields.iter().map(|(name, value)| (name.clone(), canonical(value))).collect();
            fields.sort_by(|one, other| one.0.cmp(&other.0));
            Value::Object(fields.into_iter().collect())
        }
        // A condition's `true` and `"true"` are one.
        Value::Bool(flag) => Value::String(flag.to_string()),
        Value::Number(number) => Value::String(number.to_string()),
        Value::Null | Value::String(_) => value.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ours(bucket: &str) -> Value {
        json!({"Sid": "repl", "Effect": "Allow", "Principal": {"Service": "s3.amazonaws.com"},
            "Action": "sqs:SendMessage", "Resource": "arn:q", "Condition": {"ArnLike": {"aws:SourceArn": bucket}}})
    }

    fn foreign() -> Value {
        json!({"Sid": "theirs", "Effect": "Deny", "Principal": "*", "Action": ["sqs:*"], "Resource": "arn:q"})
    }

    #[test]
    fn a_statement_is_added_replaced_and_left() {
        let made = with_statement(&Value::Null, &ours("a"));
        assert_eq!(made, json!({"Version": "2012-10-17", "Statement": [ours("a")]}));
        let old = json!({"Version": "2008-10-17", "Id": "x", "Statement": foreign()});
        let both = with_statement(&old, &ours("a"));
        assert_eq!(both, json!({"Version": "2008-10-17", "Id": "x", "Statement": [foreign(), ours("a")]}));
        let moved = with_statement(&both, &ours("b"));
        assert_eq!(moved["Statement"], json!([foreign(), ours("b")]));
        assert_eq!(with_statement(&moved, &ours("b")), moved);
    }

    #[test]
    fn another_spelling_is_left_as_it_is() {
        let mut spelt = ours("a");
        spelt["Action"] = json!(["sqs:SendMessage"]);
        spelt["Principal"] = json!({"Service": ["s3.amazonaws.com"]});
        let policy = json!({"Statement": [spelt]});
        assert_eq!(with_statement(&policy, &ours("a")), policy);
        assert!(same(&policy, &json!({"Statement": ours("a")})));
        assert!(!same(&policy, &json!({"Statement": ours("b")})));
    }

    #[test]
    fn a_statement_is_taken_out_and_others_stay() {
        let both = with_statement(&json!({"Statement": [foreign()]}), &ours("a"));
        assert_eq!(without_statement(&both, "repl"), json!({"Statement": [foreign()]}));
        assert_eq!(without_statement(&both, "else"), both);
        assert_eq!(without_statement(&with_statement(&Value::Null, &ours("a")), "repl"), Value::Null);
        assert_eq!(without_statement(&Value::Null, "repl"), Value::Null);
    }
}
