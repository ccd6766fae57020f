use super::*;
use crate::audit::range::Hole;
use crate::model::object::{ETag, Key, Timestamp, VersionId};

fn finding(key: &str, verdict: Verdict) -> Told {
    let seen = Seen {
        version: Some(VersionId::new("v1")),
        etag: Some(ETag::new("e")),
        size: Some(3),
        modified: Timestamp(1_000),
        storage_class: None,
    };
    Told::Finding(Box::new(Finding {
        target: "dr".into(),
        rule: Some("all".into()),
        key: Key::new(key),
        target_key: Key::new(key),
        source: Some(seen),
        replica: None,
        verdict,
        by: "listing",
        evidence: "it is not there".to_owned(),
        obstacle: None,
    }))
}

fn hole() -> Told {
    let fault = Fault::new(FaultKind::Denied, Side::Target, "list objects", "no");
    let hole = Hole { after: Some(Key::new("a")), upto: None, fault };
    Told::Hole { side: Side::Target, target: "dr".into(), hole }
}

fn written(breadth: Breadth, told: &[Told]) -> Vec<Value> {
    let mut report = Report::begin(Vec::new(), breadth, Map::from_iter([("seed".to_owned(), json!(7))])).unwrap();
    told.iter().for_each(|told| report.add(told).unwrap());
    let bytes = report.end(Map::new()).unwrap();
    String::from_utf8(bytes).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn one_line_each_between_header_and_trailer() {
    let odd = "new\nline \"quoted\" \u{1F600}";
    let told = [finding("same", Verdict::Identical), finding(odd, Verdict::Missing), hole()];
    let lines = written(Breadth::Differences, &told);
    let kinds: Vec<&str> = lines.iter().map(|line| line["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["header", "object", "failed-range", "trailer"]);
    assert_eq!(
        (&lines[0]["seed"], &lines[1]["key"], &lines[1]["verdict"]),
        (&json!(7), &json!(odd), &json!("missing"))
    );
    assert_eq!((&lines[1]["source"]["version"], &lines[1]["replica"]), (&json!("v1"), &Value::Null));
    assert_eq!((&lines[2]["after"], &lines[2]["upto"]), (&json!("a"), &Value::Null));
    assert_eq!(written(Breadth::All, &told).len(), 5);
}

#[test]
fn counts_add_up() {
    let mut tally = Tally::default();
    for verdict in Verdict::ALL {
        tally.count(&finding("k", verdict));
    }
    assert_eq!(tally.compared(), 4, "identical, missing, different, unprovable");
    assert!(tally.differs() && !tally.incomplete());
    tally.count(&hole());
    assert!(tally.incomplete());
    assert!(tally.holes[0].contains("after \"a\" to its end"), "{:?}", tally.holes);
    assert_eq!(tally.fields()["missing"], json!(1));
    assert!(!Tally::default().differs() && !Tally::default().incomplete());
}
