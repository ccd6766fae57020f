//! The templates of deploy/, read by deploy/local/templates.py.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

/// What the destination stack needs and no default can say.
pub(crate) const NEEDED: [(&str, &str); 4] = [
    ("SourceKeyArn", "arn:aws:kms:us-east-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"),
    ("BinaryBucket", "acme-releases"),
    ("BinaryKey", "repl/1.0.0/repl-aarch64"),
    ("BinarySha256", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
];

/// A file of deploy/.
pub(crate) fn file(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(path)
}

/// The text of a file of deploy/.
pub(crate) fn text(path: &str) -> String {
    std::fs::read_to_string(file(path)).unwrap_or_else(|error| panic!("deploy/{path}: {error}"))
}

/// Runs templates.py.
pub(crate) fn tool(words: &[&str]) -> Output {
    let mut python = Command::new("python3");
    python.arg(file("local/templates.py")).args(words);
    python.output().expect("python3 is needed to read the templates: install Python 3.10 or newer")
}

/// The JSON that templates.py prints.
pub(crate) fn told(words: &[&str]) -> Value {
    let output = tool(words);
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Parameters as words.
pub(crate) fn assigned(given: &[(&str, &str)]) -> Vec<String> {
    given.iter().map(|(name, value)| format!("{name}={value}")).collect()
}

/// All resources that one of the two stacks makes.
#[derive(Debug)]
pub(crate) struct Stack(Vec<Value>);

impl Stack {
    /// The source stack with these parameters.
    pub(crate) fn source(given: &[(&str, &str)]) -> Self {
        Self::resolve("source", &assigned(given))
    }

    /// The destination stack with these parameters besides those that it needs.
    pub(crate) fn destination(given: &[(&str, &str)]) -> Self {
        Self::resolve("destination", &[assigned(&NEEDED), assigned(given)].concat())
    }

    fn resolve(stack: &str, given: &[String]) -> Self {
        let words: Vec<&str> = ["resolve", stack].into_iter().chain(given.iter().map(String::as_str)).collect();
        Self(told(&words).as_array().unwrap().clone())
    }

    /// The properties of all resources of a type.
    pub(crate) fn of(&self, kind: &str) -> Vec<&Value> {
        self.0.iter().filter(|resource| resource["type"] == kind).map(|resource| &resource["properties"]).collect()
    }

    /// What becomes of the resources of a type when they leave the stack.
    pub(crate) fn deletion_of(&self, kind: &str) -> Vec<String> {
        let found = self.0.iter().filter(|resource| resource["type"] == kind);
        found.map(|resource| resource["DeletionPolicy"].as_str().unwrap_or("Delete").to_owned()).collect()
    }

    /// The properties of the resource at a place such as `Keys/BucketKey`.
    pub(crate) fn at(&self, place: &str) -> &Value {
        let found = self.0.iter().find(|resource| resource["place"] == place);
        &found.unwrap_or_else(|| panic!("there is no {place}"))["properties"]
    }

    /// Whether there is such a resource.
    pub(crate) fn has(&self, place: &str) -> bool {
        self.0.iter().any(|resource| resource["place"] == place)
    }

    /// The script that an instance runs when it starts for the first time.
    pub(crate) fn user_data(&self) -> &str {
        self.at("Worker/LaunchTemplate")["LaunchTemplateData"]["UserData"].as_str().unwrap()
    }

    /// A file that this script writes.
    pub(crate) fn written(&self, path: &str) -> String {
        let (_, from) = self.user_data().split_once(&format!("cat > {path} <<'END'\n")).expect("it is written");
        format!("{}\n", from.split_once("\nEND\n").expect("an end").0)
    }
}

/// The statements of a policy document.
pub(crate) fn statements(document: &Value) -> Vec<Value> {
    assert_eq!(document["Version"], "2012-10-17", "{document}");
    document["Statement"].as_array().unwrap().clone()
}

/// A text, or a list of them: policies may say either.
pub(crate) fn list(value: &Value) -> Vec<String> {
    let one = |value: &Value| value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned();
    value.as_array().map_or_else(|| vec![one(value)], |values| values.iter().map(one).collect())
}
