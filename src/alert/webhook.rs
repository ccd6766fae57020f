//! A webhook: the alert's JSON as the body of a POST, signed.
//!
//! `X-Repl-Signature: sha256=HEX` is the HMAC-SHA256 of the body under the shared secret. The body carries `SentAt`, so
//! whoever checks the signature can refuse a message that is old, which is what a replayed one is.

use std::fmt;
use std::time::Duration;

use hmac::{Hmac, Mac as _};
use reqwest::header::CONTENT_TYPE;
use reqwest::{Client, StatusCode, redirect};
use sha2::Sha256;

use crate::model::fault::{Fault, FaultKind, Side};
use crate::ports::{Alert, AlertSink, Tier};

/// The header with the signature.
pub const SIGNATURE: &str = "X-Repl-Signature";
/// Longer than a receiver that is well needs, shorter than the pause before the next try.
const PATIENCE: Duration = Duration::from_secs(10);
/// How much of a refusal is told.
const TOLD: usize = 200;
const DURING: &str = "call the webhook";

/// One webhook.
pub struct Webhook {
    client: Client,
    url: String,
    secret: Vec<u8>,
}

impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Neither the secret nor the URL, whose path often is one.
        f.write_str("Webhook(…)")
    }
}

impl Webhook {
    /// The webhook of that URL. Nothing is sent yet. `Refused` where no client for it can be made.
    pub fn new(url: &str, secret: &str) -> Result<Self, Fault> {
        // A redirect would carry the message where nobody has vouched for.
        let client = Client::builder()
            .timeout(PATIENCE)
            .redirect(redirect::Policy::none())
            .build()
            .map_err(|error| Fault::new(FaultKind::Refused, Side::Monitoring, DURING, error.to_string()))?;
        Ok(Self { client, url: url.to_owned(), secret: secret.as_bytes().to_vec() })
    }
}

/// The signature of a body under a secret.
#[must_use]
pub fn signature(secret: &[u8], body: &[u8]) -> String {
    // HMAC takes keys of any length: the error cannot come.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret) else { return String::new() };
    mac.update(body);
    let digits = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    format!("sha256={digits}")
}

impl AlertSink for Webhook {
    fn name(&self) -> &'static str {
        "webhook"
    }

    fn reaches(&self, _tier: Tier) -> bool {
        true
    }

    async fn deliver(&self, alert: &Alert) -> Result<(), Fault> {
        let request = self
            .client
            .post(&self.url)
            .header(CONTENT_TYPE, "application/json")
            .header(SIGNATURE, signature(&self.secret, alert.json.as_bytes()))
            .body(alert.json.clone());
        let unanswered = |error: reqwest::Error| {
            let mut words = error.without_url().to_string();
            words.truncate(words.floor_char_boundary(TOLD));
            Fault::new(FaultKind::Transient, Side::Monitoring, DURING, words)
        };
        let answer = request.send().await.map_err(unanswered)?;
        let status = answer.status();
        if status.is_success() {
            return Ok(());
        }
        let kind = match status {
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => FaultKind::Throttled,
            status if status.is_server_error() => FaultKind::Transient,
            _ => FaultKind::Refused,
        };
        let detail = "the receiver did not take the alert: see that url and secret are those that it expects";
        Err(Fault { status: Some(status.as_u16()), ..Fault::new(kind, Side::Monitoring, DURING, detail) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Test case 2 of RFC 4231.
    #[test]
    fn the_signature_is_hmac_sha256() {
        assert_eq!(
            signature(b"Jefe", b"what do ya want for nothing?"),
            "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
    }

    #[test]
    fn nothing_secret_is_shown() {
        let webhook = Webhook::new("https://hooks.example.com/T0K3N", "s3cret").unwrap();
        let shown = format!("{webhook:?}");
        assert!(!shown.contains("T0K3N") && !shown.contains("s3cret"), "{shown}");
    }
}
