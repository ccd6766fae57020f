//! A real headless Chromium, driven by WebDriver. It is started once per test binary and ends with it.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use fantoccini::elements::Element;
use fantoccini::wd::WebDriverCompatibleCommand;
use fantoccini::{Client, ClientBuilder, Locator};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};

use super::worker::eventually;

/// How long the page may take to show something: generous, as the machine may be busy with other things.
const PATIENCE: Duration = Duration::from_secs(60);

/// The running driver; it ends when its stdin does, also with a test binary that was killed.
struct Driver {
    address: String,
    _process: Child,
    _input: ChildStdin,
}

fn driver() -> &'static Driver {
    static DRIVER: OnceLock<Driver> = OnceLock::new();
    DRIVER.get_or_init(|| {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/local/browser.py");
        let mut process = Command::new("python3")
            .arg(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 is needed to start the browser: install Python 3.10 or newer");
        let input = process.stdin.take().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(!line.is_empty(), "there is no browser: deploy/local/browser.py says above what to install");
        let told: Value = serde_json::from_str(&line).unwrap();
        Driver { address: told["webdriver"].as_str().unwrap().to_owned(), _process: process, _input: input }
    })
}

/// What a person says to a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Yes,
    No,
}

/// One window.
#[derive(Debug)]
pub(crate) struct Browser(Client);

impl Browser {
    /// A new window that shows this address.
    pub(crate) async fn open(address: &str) -> Self {
        let args = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"];
        let capabilities = json!({
            "goog:chromeOptions": {"args": args},
            "goog:loggingPrefs": {"browser": "ALL"},
        });
        let client = ClientBuilder::new(HttpConnector::new())
            .capabilities(capabilities.as_object().unwrap().clone())
            .connect(&driver().address)
            .await
            .expect("a session of Chromium");
        client.set_window_size(1280, 900).await.unwrap();
        client.goto(address).await.unwrap();
        Self(client)
    }

    /// What a script returns.
    pub(crate) async fn run(&self, script: &str) -> Value {
        self.0.execute(script, Vec::new()).await.unwrap()
    }

    /// What a script returns that is given one argument.
    pub(crate) async fn run_with(&self, script: &str, argument: &str) -> Value {
        self.0.execute(script, vec![json!(argument)]).await.unwrap()
    }

    async fn text(&self, place: &str) -> String {
        let script = "return document.querySelector(arguments[0])?.innerText ?? ''";
        self.run_with(script, place).await.as_str().unwrap().to_owned()
    }

    /// Waits until a place shows this text.
    pub(crate) async fn shows(&self, place: &str, text: &str) {
        let what = format!("{place} shows {text:?}");
        eventually(&what, PATIENCE, async || self.text(place).await.contains(text)).await;
    }

    /// Waits until the value behind what a place shows is this one.
    pub(crate) async fn marks(&self, place: &str, value: &str) {
        let script = "return document.querySelector(arguments[0])?.dataset.value ?? null";
        let what = format!("{place} has the value {value}");
        eventually(&what, PATIENCE, async || self.run_with(script, place).await == value).await;
    }

    async fn find(&self, place: &str) -> Element {
        self.0.wait().at_most(PATIENCE).for_element(Locator::Css(place)).await.unwrap()
    }

    /// Types into a field, in place of what is there.
    pub(crate) async fn write(&self, place: &str, text: &str) {
        let field = self.find(place).await;
        field.clear().await.unwrap();
        field.send_keys(text).await.unwrap();
    }

    /// Presses what a person would scroll to first.
    pub(crate) async fn press(&self, place: &str) {
        self.find(place).await;
        self.run_with("document.querySelector(arguments[0]).scrollIntoView({block: 'center'})", place).await;
        self.find(place).await.click().await.unwrap();
    }

    /// Answers the question that the page asks.
    pub(crate) async fn confirm(&self, yes: Answer) {
        match yes {
            Answer::Yes => self.0.accept_alert().await.unwrap(),
            Answer::No => self.0.dismiss_alert().await.unwrap(),
        }
    }

    pub(crate) async fn resize(&self, width: u32, height: u32) {
        let metrics = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500});
        self.devtools("Emulation.setDeviceMetricsOverride", metrics).await;
    }

    pub(crate) async fn darken(&self) {
        let dark = json!({"features": [{"name": "prefers-color-scheme", "value": "dark"}]});
        self.devtools("Emulation.setEmulatedMedia", dark).await;
    }

    /// Keeps what is shown as target/artifacts/NAME.png.
    pub(crate) async fn keep(&self, name: &str) {
        let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("../artifacts");
        std::fs::create_dir_all(&place).unwrap();
        let picture = self.0.screenshot().await.unwrap();
        assert!(picture.starts_with(b"\x89PNG"), "a picture of {name}");
        std::fs::write(place.join(format!("{name}.png")), picture).unwrap();
    }

    /// What the console complained of, such as broken scripts and what the security policy forbids; not that a worker which
    /// a test has killed does not answer.
    pub(crate) async fn complaints(&self) -> Vec<String> {
        let log = self.ask("se/log", json!({"type": "browser"})).await;
        let said = log.as_array().unwrap().iter().map(|entry| entry["message"].as_str().unwrap().to_owned());
        said.filter(|message| !message.contains("net::ERR_")).collect()
    }

    async fn devtools(&self, command: &str, parameters: Value) {
        self.ask("goog/cdp/execute", json!({"cmd": command, "params": parameters})).await;
    }

    async fn ask(&self, path: &'static str, body: Value) -> Value {
        self.0.issue_cmd(Own { path, body }).await.unwrap()
    }
}

/// A command of Chromium's own.
#[derive(Clone, Debug)]
struct Own {
    path: &'static str,
    body: Value,
}

impl WebDriverCompatibleCommand for Own {
    fn endpoint(
        &self,
        base: &reqwest::Url,
        session: Option<&str>,
    ) -> Result<reqwest::Url, <reqwest::Url as std::str::FromStr>::Err> {
        base.join(&format!("session/{}/{}", session.unwrap(), self.path))
    }

    fn method_and_body(&self, _url: &reqwest::Url) -> (reqwest::Method, Option<String>) {
        (reqwest::Method::POST, Some(self.body.to_string()))
    }
}
