//! Mail through a submission server: the alert in words, its JSON attached.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use lettre::message::header::ContentType;
use lettre::message::{Attachment, Mailbox, MultiPart, SinglePart};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Tls, TlsParameters};
use lettre::{AsyncSmtpTransport, AsyncTransport as _, Message, Tokio1Executor};

use crate::model::fault::{Fault, FaultKind, Side};
use crate::ports::{Alert, AlertSink, Tier};

/// The port that RFC 8314 gives to submission under TLS from the first byte; others begin in the clear and switch.
const IMPLICIT_TLS: u16 = 465;
const PATIENCE: Duration = Duration::from_secs(15);
const DURING: &str = "mail an alert";

/// A mail server and how it is used.
#[derive(Clone, PartialEq, Eq)]
pub struct Settings {
    /// Its host name.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The sender's address.
    pub from: String,
    /// User and password, where it asks for them.
    pub login: Option<(String, String)>,
    /// Who is written to.
    pub to: BTreeMap<Tier, Vec<String>>,
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Settings({}:{}, from {}, to {:?})", self.host, self.port, self.from, self.to)
    }
}

/// Mails through one server.
pub struct Mail {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
    to: BTreeMap<Tier, Vec<Mailbox>>,
}

impl fmt::Debug for Mail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mail(from {})", self.from)
    }
}

impl Mail {
    /// The server of these settings. Nothing is sent yet. Off this machine TLS is demanded, never merely offered.
    /// `Refused` where an address is none, or TLS cannot be set up.
    pub fn new(settings: &Settings) -> Result<Self, Fault> {
        let mailbox = |address: &String| {
            address.parse::<Mailbox>().map_err(|error| refused(format!("{address:?} is no mail address: {error}")))
        };
        let mut to = BTreeMap::new();
        for (tier, addresses) in &settings.to {
            to.insert(*tier, addresses.iter().map(mailbox).collect::<Result<Vec<Mailbox>, Fault>>()?);
        }
        let parameters = || TlsParameters::new(settings.host.clone()).map_err(|error| refused(error.to_string()));
        let here = ["127.0.0.1", "::1", "localhost"].contains(&settings.host.as_str());
        let tls = match settings.port {
            IMPLICIT_TLS => Tls::Wrapper(parameters()?),
            _ if here => Tls::Opportunistic(parameters()?),
            _ => Tls::Required(parameters()?),
        };
        let mut transport = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&settings.host)
            .port(settings.port)
            .tls(tls)
            .timeout(Some(PATIENCE));
        if let Some((user, password)) = &settings.login {
            transport = transport.credentials(Credentials::new(user.clone(), password.clone()));
        }
        Ok(Self { transport: transport.build(), from: mailbox(&settings.from)?, to })
    }

    fn message(&self, alert: &Alert, to: &[Mailbox]) -> Result<Message, Fault> {
        let mut builder = Message::builder().from(self.from.clone()).subject(&alert.subject);
        for mailbox in to {
            builder = builder.to(mailbox.clone());
        }
        let json = Attachment::new("alarm.json".to_owned()).body(alert.json.clone(), json_type());
        let parts = MultiPart::mixed().singlepart(SinglePart::plain(alert.text.clone())).singlepart(json);
        builder.multipart(parts).map_err(|error| refused(error.to_string()))
    }
}

fn json_type() -> ContentType {
    ContentType::parse("application/json").unwrap_or(ContentType::TEXT_PLAIN)
}

fn refused(detail: String) -> Fault {
    Fault::new(FaultKind::Refused, Side::Monitoring, DURING, detail)
}

impl AlertSink for Mail {
    fn name(&self) -> &'static str {
        "mail"
    }

    fn reaches(&self, tier: Tier) -> bool {
        self.to.get(&tier).is_some_and(|to| !to.is_empty())
    }

    async fn deliver(&self, alert: &Alert) -> Result<(), Fault> {
        let Some(to) = self.to.get(&alert.tier) else { return Ok(()) };
        let message = self.message(alert, to)?;
        let sent = self.transport.send(message).await;
        sent.map(|_answer| ()).map_err(|error| {
            let kind = if error.is_permanent() { FaultKind::Refused } else { FaultKind::Transient };
            Fault::new(kind, Side::Monitoring, DURING, error.to_string())
        })
    }
}
