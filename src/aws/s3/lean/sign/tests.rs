use std::error::Error as _;
use std::sync::atomic::{AtomicU32, AtomicU64};

use aws_credential_types::provider::future;
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningSettings, UriPathNormalizationMode,
};
use aws_smithy_runtime_api::client::identity::Identity as SdkIdentity;
use proptest::prelude::*;

use super::super::super::headers::{encode, encode_path};
use super::*;

/// Hands out other credentials every time, good for a while after `now`.
#[derive(Debug)]
struct Numbered {
    asked: Arc<AtomicU32>,
    now: Arc<AtomicU64>,
    good_for: Option<u64>,
}

impl ProvideCredentials for Numbered {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        let number = self.asked.fetch_add(1, Ordering::Relaxed);
        let now = UNIX_EPOCH + Duration::from_secs(self.now.load(Ordering::Relaxed));
        let until = self.good_for.map(|seconds| now + Duration::from_secs(seconds));
        let token = Some("a+token/with=signs".to_owned());
        future::ProvideCredentials::ready(Ok(Credentials::new(format!("id{number}"), "secret", token, until, "test")))
    }
}

fn signer(good_for: Option<u64>, now: u64) -> (Signer, Arc<AtomicU32>, Arc<AtomicU64>) {
    let (asked, now) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU64::new(now)));
    let provider = Numbered { asked: Arc::clone(&asked), now: Arc::clone(&now), good_for };
    let time = Arc::clone(&now);
    let signer = Signer {
        provider: SharedCredentialsProvider::new(provider),
        clock: Box::new(move || UNIX_EPOCH + Duration::from_secs(time.load(Ordering::Relaxed))),
        region: "eu-west-2".to_owned(),
        service: "s3".to_owned(),
        known: Mutex::new(None),
        ahead: AtomicI64::new(0),
        asking: tokio::sync::Mutex::default(),
        failures: AtomicU64::new(0),
    };
    (signer, asked, now)
}

fn value<'a>(headers: &'a [(HeaderName, HeaderValue)], name: &str) -> &'a str {
    let found = headers.iter().find(|(other, _)| other == name);
    std::str::from_utf8(found.unwrap_or_else(|| panic!("no {name}")).1.as_bytes()).unwrap()
}

/// What the crate's own signer says of the same request.
fn by_the_crate(request: &Unsigned<'_>, id: &str, now: u64) -> String {
    let credentials = Credentials::new(id, "secret", Some("a+token/with=signs".to_owned()), None, "test");
    let identity: SdkIdentity = credentials.into();
    let mut settings = SigningSettings::default();
    settings.percent_encoding_mode = PercentEncodingMode::Single;
    settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
    settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
    let params = aws_sigv4::sign::v4::SigningParams::builder()
        .identity(&identity)
        .region("eu-west-2")
        .name("s3")
        .time(UNIX_EPOCH + Duration::from_secs(now))
        .settings(settings)
        .build()
        .unwrap()
        .into();
    let question = if request.query.is_empty() { "" } else { "?" };
    let uri = format!("https://bucket.example{}{question}{}", request.path, request.query);
    let headers =
        request.headers.iter().map(|(name, value)| (name.as_str(), std::str::from_utf8(value.as_bytes()).unwrap()));
    let body = SignableBody::Precomputed(request.payload.to_owned());
    let signable = SignableRequest::new(request.method, uri, headers, body).unwrap();
    let (instructions, _) = aws_sigv4::http_request::sign(signable, &params).unwrap().into_parts();
    instructions.headers().find(|(name, _)| *name == "authorization").unwrap().1.to_owned()
}

/// Midnight of 2026-11-21.
const MIDNIGHT: u64 = 1_795_219_200;

proptest! {
    #[test]
    fn signatures_are_those_of_the_crate(
        key in "[ -~é日\\n\\t/.%+]{0,40}",
        version in proptest::option::of("[ -~é]{0,12}"),
        words in proptest::collection::btree_map("[a-z0-9-]{1,12}", "[!-~é日][ -~é日]{0,20}", 0..6),
        unsigned in any::<bool>(),
        second in 0..2 * DAY,
    ) {
        let path = format!("/bucket/{}", encode_path(&key));
        let query = version.map_or_else(String::new, |version| format!("partNumber=1&uploadId={}&versionId=", encode(&version)));
        let mut headers = vec![(hyper::header::HOST, HeaderValue::from_static("bucket.example"))];
        for (name, value) in &words {
            let name = HeaderName::try_from(format!("x-amz-meta-{name}")).unwrap();
            headers.push((name, HeaderValue::try_from(value).unwrap()));
        }
        let payload = if unsigned { UNSIGNED.to_owned() } else { hash(key.as_bytes()) };
        let request = Unsigned { method: "PUT", path: &path, query: &query, headers, payload: &payload };
        let now = MIDNIGHT + second;
        let expected = by_the_crate(&request, "id0", now);
        let (signer, ..) = signer(None, now);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let signed = runtime.block_on(signer.sign(request)).unwrap();
        prop_assert_eq!(value(&signed, "authorization"), expected);
        prop_assert_eq!(value(&signed, "x-amz-security-token"), "a+token/with=signs");
        prop_assert_eq!(value(&signed, "x-amz-content-sha256"), payload);
        prop_assert!(expected_time(value(&signed, "x-amz-date"), second));
    }
}

fn expected_time(told: &str, second: u64) -> bool {
    let date = if second < DAY { "20261121" } else { "20261122" };
    told == format!("{date}T{}Z", time_of_day(second % DAY))
}

/// From AWS's published example of a GET with a range, "Authenticating Requests: Using the Authorization Header".
#[test]
fn the_published_example_is_reproduced() {
    let headers: Vec<(HeaderName, HeaderValue)> = [
        ("host", "examplebucket.s3.amazonaws.com"),
        ("range", "bytes=0-9"),
        ("x-amz-content-sha256", OF_NOTHING),
        ("x-amz-date", "20130524T000000Z"),
    ]
    .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
    .into();
    let names = signed_names(&headers);
    let hashed = hash(&canonical("GET", ["/test.txt", ""], &headers, [&names, OF_NOTHING]));
    assert_eq!(hashed, "7344ae5b7ee6c3e7e6b0fe0640412a37625d1fbfff95c48bbb2dc43964946972");
    let secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
    let key = generate_signing_key(secret, UNIX_EPOCH + Duration::from_secs(1_369_353_600), "us-east-1", "s3");
    let to_sign = format!("{ALGORITHM}\n20130524T000000Z\n20130524/us-east-1/s3/aws4_request\n{hashed}");
    let signature = mac::sign(&mac::Key::new(mac::HMAC_SHA256, key.as_ref()), to_sign.as_bytes());
    assert_eq!(hex(signature.as_ref()), "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41");
}

async fn id_used(signer: &Signer) -> String {
    let request = Unsigned { method: "GET", path: "/", query: "", headers: Vec::new(), payload: OF_NOTHING };
    let signed = signer.sign(request).await.unwrap();
    let spoken = value(&signed, "authorization");
    spoken.split("Credential=").nth(1).unwrap().split('/').take(2).collect::<Vec<_>>().join(" ")
}

#[tokio::test]
async fn credentials_are_kept_until_shortly_before_their_end() {
    let (signer, asked, now) = signer(Some(3600), MIDNIGHT);
    assert_eq!(id_used(&signer).await, "id0 20261121");
    now.fetch_add(3600 - BEFORE_EXPIRY.as_secs() - 1, Ordering::Relaxed);
    assert_eq!(id_used(&signer).await, "id0 20261121");
    now.fetch_add(1, Ordering::Relaxed);
    assert_eq!(id_used(&signer).await, "id1 20261121");
    assert_eq!(asked.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn a_new_day_needs_a_new_key_and_no_new_credentials() {
    let (signer, asked, now) = signer(Some(3600), MIDNIGHT + DAY - 60);
    assert_eq!(id_used(&signer).await, "id0 20261121");
    now.fetch_add(120, Ordering::Relaxed);
    assert_eq!(id_used(&signer).await, "id0 20261122");
    assert_eq!(asked.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn credentials_that_a_store_calls_worn_out_are_replaced() {
    let (signer, asked, _) = signer(None, MIDNIGHT);
    let (first, second) = tokio::join!(id_used(&signer), id_used(&signer));
    assert_eq!((first.as_str(), second.as_str()), ("id0 20261121", "id0 20261121"));
    assert_eq!(asked.load(Ordering::Relaxed), 1, "asked for together, looked up once");
    signer.forget();
    assert_eq!(id_used(&signer).await, "id1 20261121");
}

/// A source of credentials that is down: each answer takes its time.
#[derive(Debug)]
struct Down(Arc<AtomicU32>);

impl ProvideCredentials for Down {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(async {
            let number = self.0.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_secs(4)).await;
            Err(CredentialsError::provider_error(format!("busy {number}")))
        })
    }
}

#[tokio::test(start_paused = true)]
async fn those_who_wait_for_credentials_share_the_failure_too() {
    let asked = Arc::new(AtomicU32::new(0));
    let provider = SharedCredentialsProvider::new(Down(Arc::clone(&asked)));
    let signer = Signer { provider, ..signer(None, MIDNIGHT).0 };
    let begun = tokio::time::Instant::now();
    let ask = async || signer.identity(UNIX_EPOCH, 0).await.err().map(|error| error.source().unwrap().to_string());
    let all = tokio::join!(ask(), ask(), ask());
    let busy = |number| Some(format!("busy {number}"));
    assert_eq!(all, (busy(0), busy(0), busy(0)));
    assert_eq!((asked.load(Ordering::Relaxed), begun.elapsed()), (1, Duration::from_secs(4)));
    assert_eq!(ask().await, busy(1), "who comes later asks anew");
}

#[tokio::test]
async fn a_clock_that_is_off_is_set_by_the_stores() {
    let (signer, ..) = signer(None, MIDNIGHT);
    for (seconds, date) in [(-1, "20261120"), (2 * 86_400, "20261123"), (0, "20261121")] {
        signer.set_clock(DateTime::from_secs(i64::try_from(MIDNIGHT).unwrap() + seconds));
        assert!(id_used(&signer).await.ends_with(date), "{seconds}");
    }
}
