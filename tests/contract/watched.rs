//! The sinks of the watch: the fakes, CloudWatch and SNS on a server, a webhook and a mail server on this machine.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_config::SdkConfig;
use aws_sdk_cloudwatch::types::{Dimension as RawDimension, Statistic};
use aws_smithy_types::DateTime;
use base64::Engine as _;
use repl::alert::mail::{Mail, Settings};
use repl::alert::webhook::{Webhook, signature};
use repl::aws::cloudwatch::{CloudWatch, Resolution};
use repl::aws::sns::Topics;
use repl::aws::{Endpoint, HotPath};
use repl::model::fault::Side;
use repl::model::object::Timestamp;
use repl::ports::{Dimension, Tier};

use super::servers::{Server, Way};
use super::sinks::{Audience, Figures, Heard};
use super::world::sinks::{Answer, FakeMetrics, FakePost, Statistics};

/// A minute that is now.
#[allow(clippy::disallowed_methods, reason = "CloudWatch takes no figures of another time")]
fn this_minute() -> Timestamp {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    Timestamp(now.as_secs() / 60 * 60_000)
}

/// The metrics of the simulation.
#[derive(Default)]
pub(crate) struct InMemory(FakeMetrics);

impl Figures for InMemory {
    type Sink = FakeMetrics;

    fn sink(&self) -> &FakeMetrics {
        &self.0
    }

    async fn deaf(&self) -> FakeMetrics {
        FakeMetrics::answering([Answer::Refuse])
    }

    fn minute(&self) -> Timestamp {
        this_minute()
    }

    async fn read(&self, name: &str, dimensions: &[Dimension], minute: Timestamp) -> Option<Statistics> {
        self.0.statistics(name, dimensions, minute)
    }
}

/// The real thing where nobody listens.
fn closed(config: &SdkConfig) -> SdkConfig {
    config.clone().into_builder().endpoint_url("http://127.0.0.1:1").build()
}

fn monitoring(way: &Way) -> Endpoint {
    Endpoint { endpoint: way.endpoint.endpoint.clone(), ..Endpoint::in_region("us-east-1", Side::Monitoring) }
}

/// CloudWatch, one namespace for each.
pub(crate) struct InCloudWatch {
    namespace: String,
    way: Way,
    sink: CloudWatch,
    raw: aws_sdk_cloudwatch::Client,
}

impl InCloudWatch {
    pub(crate) async fn new(namespace: &str, resolution: Resolution) -> Self {
        let way = Way::new(Server::Ministack, HotPath::Lean).await;
        let sink = CloudWatch::new(&way.config, &monitoring(&way), namespace, resolution);
        let raw = aws_sdk_cloudwatch::Client::new(&way.config);
        Self { namespace: namespace.to_owned(), way, sink, raw }
    }
}

impl Figures for InCloudWatch {
    type Sink = CloudWatch;

    fn sink(&self) -> &CloudWatch {
        &self.sink
    }

    async fn deaf(&self) -> CloudWatch {
        CloudWatch::new(&closed(&self.way.config), &monitoring(&self.way), &self.namespace, Resolution::Standard)
    }

    fn minute(&self) -> Timestamp {
        this_minute()
    }

    async fn read(&self, name: &str, dimensions: &[Dimension], minute: Timestamp) -> Option<Statistics> {
        let raw = |one: &Dimension| RawDimension::builder().name(one.name).value(&one.value).build();
        let at = i64::try_from(minute.0 / 1000).unwrap();
        let statistics = [Statistic::Sum, Statistic::SampleCount, Statistic::Minimum, Statistic::Maximum];
        let asked = self.raw.get_metric_statistics().namespace(&self.namespace).metric_name(name);
        let asked = asked.set_dimensions(Some(dimensions.iter().map(raw).collect())).period(60);
        let asked = asked.start_time(DateTime::from_secs(at)).end_time(DateTime::from_secs(at + 60));
        let told = asked.set_statistics(Some(statistics.to_vec())).send().await.unwrap();
        let point = told.datapoints().first()?;
        assert_eq!(told.datapoints().len(), 1, "{told:?}");
        Some(Statistics {
            sum: point.sum().unwrap(),
            count: point.sample_count().unwrap(),
            least: point.minimum().unwrap(),
            most: point.maximum().unwrap(),
            unit: point.unit().unwrap().as_str().to_owned(),
        })
    }
}

/// The post of the simulation.
pub(crate) struct ByFakePost(FakePost, std::sync::Mutex<usize>);

impl Default for ByFakePost {
    fn default() -> Self {
        Self(FakePost::failing("post", 0), std::sync::Mutex::default())
    }
}

impl Audience for ByFakePost {
    type Way = FakePost;

    fn way(&self) -> &FakePost {
        &self.0
    }

    async fn deaf(&self) -> FakePost {
        FakePost::failing("post", 1)
    }

    async fn heard(&self) -> Vec<Heard> {
        let mut seen = self.1.lock().unwrap();
        let new = self.0.heard().split_off(*seen);
        *seen += new.len();
        let told = |alert: repl::ports::Alert| Heard {
            tier: Some(alert.tier),
            subject: Some(alert.subject),
            text: Some(alert.text),
            json: alert.json,
        };
        new.into_iter().map(told).collect()
    }
}

/// Topics of SNS, each with a queue behind it; the management's has none and is not configured.
pub(crate) struct BySns {
    way: Way,
    topics: Topics,
    arns: BTreeMap<Tier, String>,
    raw: aws_sdk_sqs::Client,
    inboxes: BTreeMap<Tier, String>,
}

impl BySns {
    pub(crate) async fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let prefix = format!("told-{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let way = Way::new(Server::Ministack, HotPath::Lean).await;
        let (sns, raw) = (aws_sdk_sns::Client::new(&way.config), aws_sdk_sqs::Client::new(&way.config));
        let (mut arns, mut inboxes) = (BTreeMap::new(), BTreeMap::new());
        for tier in [Tier::Standard, Tier::Critical] {
            let name = format!("{prefix}-{}", tier.name());
            let arn = sns.create_topic().name(&name).send().await.unwrap().topic_arn.unwrap();
            let url = raw.create_queue().queue_name(&name).send().await.unwrap().queue_url.unwrap();
            let inbox = format!("arn:aws:sqs:us-east-1:000000000000:{name}");
            sns.subscribe().topic_arn(&arn).protocol("sqs").endpoint(inbox).send().await.unwrap();
            arns.insert(tier, arn);
            inboxes.insert(tier, url);
        }
        let topics = Topics::new(&way.config, &monitoring(&way), arns.clone());
        Self { way, topics, arns, raw, inboxes }
    }
}

impl Audience for BySns {
    type Way = Topics;

    fn way(&self) -> &Topics {
        &self.topics
    }

    async fn deaf(&self) -> Topics {
        Topics::new(&closed(&self.way.config), &monitoring(&self.way), self.arns.clone())
    }

    async fn heard(&self) -> Vec<Heard> {
        let mut heard = Vec::new();
        for (tier, url) in &self.inboxes {
            loop {
                let received = self.raw.receive_message().queue_url(url).max_number_of_messages(10).send().await;
                let some = received.unwrap().messages.unwrap_or_default();
                if some.is_empty() {
                    break;
                }
                for one in some {
                    let outer: serde_json::Value = serde_json::from_str(one.body().unwrap()).unwrap();
                    let told = |field: &str| outer[field].as_str().unwrap().to_owned();
                    let (subject, json) = (Some(told("Subject")), told("Message"));
                    heard.push(Heard { tier: Some(*tier), subject, text: None, json });
                    self.raw
                        .delete_message()
                        .queue_url(url)
                        .receipt_handle(one.receipt_handle.unwrap())
                        .send()
                        .await
                        .unwrap();
                }
            }
        }
        heard
    }
}

/// Takes every connection of a listener, each to its end, until the test is over.
fn listen(take: impl Fn(&TcpStream, &Sender<Heard>) + Send + 'static) -> (u16, Receiver<Heard>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (told, heard) = channel();
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            take(&socket.unwrap(), &told);
        }
    });
    (port, heard)
}

/// A port at which nobody is.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A webhook's receiver, which refuses what is not signed.
pub(crate) struct ByWebhook {
    webhook: Webhook,
    heard: std::sync::Mutex<Receiver<Heard>>,
}

impl Default for ByWebhook {
    fn default() -> Self {
        let (port, heard) = listen(take_call);
        let webhook = Webhook::new(&format!("http://127.0.0.1:{port}/hook"), "s3cret").unwrap();
        Self { webhook, heard: heard.into() }
    }
}

fn take_call(mut socket: &TcpStream, told: &Sender<Heard>) {
    let mut reader = BufReader::new(socket.try_clone().unwrap());
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).unwrap() == 0 {
            return;
        }
    }
    let header = |name: &str| {
        let found = head.lines().find_map(|line| line.split_once(": ").filter(|(of, _)| of.eq_ignore_ascii_case(name)));
        found.map(|(_, value)| value.to_owned()).unwrap()
    };
    let mut body = vec![0; header("content-length").parse().unwrap()];
    reader.read_exact(&mut body).unwrap();
    let signed = header("x-repl-signature") == signature(b"s3cret", &body);
    let verdict = if signed { "204 No Content" } else { "401 Unauthorized" };
    if signed {
        told.send(Heard { tier: None, subject: None, text: None, json: String::from_utf8(body).unwrap() }).ok();
    }
    write!(socket, "HTTP/1.1 {verdict}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").unwrap();
}

impl Audience for ByWebhook {
    type Way = Webhook;

    fn way(&self) -> &Webhook {
        &self.webhook
    }

    async fn deaf(&self) -> Webhook {
        Webhook::new(&format!("http://127.0.0.1:{}/hook", free_port()), "s3cret").unwrap()
    }

    async fn heard(&self) -> Vec<Heard> {
        self.heard.lock().unwrap().try_iter().collect()
    }
}

/// A mail server; nobody of the management has an address.
pub(crate) struct ByMail {
    mail: Mail,
    heard: std::sync::Mutex<Receiver<Heard>>,
}

fn mail(port: u16) -> Mail {
    let to = [Tier::Standard, Tier::Critical].map(|tier| (tier, vec![format!("{}@example.com", tier.name())]));
    let (host, from) = ("127.0.0.1".to_owned(), "repl@example.com".to_owned());
    Mail::new(&Settings { host, port, from, login: None, to: to.into() }).unwrap()
}

impl Default for ByMail {
    fn default() -> Self {
        let (port, heard) = listen(take_mail);
        Self { mail: mail(port), heard: heard.into() }
    }
}

/// Speaks as much SMTP as a mail needs.
fn take_mail(mut socket: &TcpStream, told: &Sender<Heard>) {
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut lines = BufReader::new(socket.try_clone().unwrap()).lines().map_while(Result::ok);
    let mut say = |line: &str| socket.write_all(format!("{line}\r\n").as_bytes()).is_ok();
    let mut tier = None;
    say("220 mail.example.com");
    while let Some(line) = lines.next() {
        let answer = match line.get(..4).unwrap_or_default() {
            "EHLO" => "250 mail.example.com",
            "RCPT" => {
                tier = Tier::ALL.into_iter().find(|tier| line.contains(&format!("<{}@", tier.name())));
                "250 fine"
            }
            "DATA" => {
                say("354 go on");
                let body: Vec<String> = lines.by_ref().take_while(|line| line != ".").collect();
                // A dot that begins a line was sent twice.
                let body = body.iter().map(|line| line.strip_prefix('.').unwrap_or(line).to_owned() + "\r\n");
                told.send(read_mail(tier, &body.collect::<String>())).ok();
                "250 taken"
            }
            "QUIT" => {
                say("221 bye");
                return;
            }
            _ => "250 fine",
        };
        if !say(answer) {
            return;
        }
    }
}

fn read_mail(tier: Option<Tier>, mail: &str) -> Heard {
    let header = |of: &str, name: &str| {
        let found = of.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")).map(str::to_owned));
        found.unwrap_or_default()
    };
    let (head, body) = mail.split_once("\r\n\r\n").unwrap();
    let boundary = head.split_once("boundary=\"").unwrap().1.split_once('"').unwrap().0;
    let boundary = format!("--{boundary}");
    let mut parts = body.split(&boundary).skip(1).map(|part| {
        let (head, body) = part.split_once("\r\n\r\n").unwrap();
        decoded(&header(head.trim_start(), "Content-Transfer-Encoding"), body.strip_suffix("\r\n").unwrap())
    });
    let (text, json) = (parts.next().unwrap(), parts.next().unwrap());
    Heard { tier, subject: Some(header(head, "Subject")), text: Some(text.replace("\r\n", "\n")), json }
}

fn decoded(encoding: &str, body: &str) -> String {
    let bytes = match encoding {
        "base64" => base64::engine::general_purpose::STANDARD.decode(body.replace("\r\n", "")).unwrap(),
        "quoted-printable" => {
            let joined = body.replace("=\r\n", "");
            let mut pieces = joined.split('=');
            let first = pieces.next().unwrap().as_bytes().to_vec();
            pieces.fold(first, |mut bytes, piece| {
                bytes.push(u8::from_str_radix(&piece[..2], 16).unwrap());
                bytes.extend_from_slice(&piece.as_bytes()[2..]);
                bytes
            })
        }
        _ => body.as_bytes().to_vec(),
    };
    String::from_utf8(bytes).unwrap()
}

impl Audience for ByMail {
    type Way = Mail;

    fn way(&self) -> &Mail {
        &self.mail
    }

    async fn deaf(&self) -> Mail {
        mail(free_port())
    }

    async fn heard(&self) -> Vec<Heard> {
        self.heard.lock().unwrap().try_iter().collect()
    }
}
