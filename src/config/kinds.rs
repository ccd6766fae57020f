//! The kinds of value that a config holds: what each accepts, and how it is read.

use std::net::{IpAddr, SocketAddr};
use std::num::{NonZeroU32, NonZeroU64};
use std::path::PathBuf;
use std::time::Duration;

use toml_edit::Value;

use super::file::{Kind, describe};
use super::settings::{Concurrency, Secret, Share};
use super::units::{parse_duration, parse_rate, parse_share, parse_size};

const HOUR_OF_SECONDS: u64 = 3600;
/// One day.
pub(super) const DAY: Duration = Duration::from_secs(24 * HOUR_OF_SECONDS);

pub(super) const TEXT: Kind<String> = Kind { accepted: "a text that is not empty", read: filled };
pub(super) const SWITCH: Kind<bool> =
    Kind { accepted: "true or false", read: |value| value.as_bool().ok_or_else(|| wrong(value)) };
pub(super) const PRIORITY: Kind<i64> =
    Kind { accepted: "a whole number", read: |value| value.as_integer().ok_or_else(|| wrong(value)) };
pub(super) const COUNT: Kind<u64> = Kind { accepted: "a whole number, 0 or more", read: count };
pub(super) const PERIODS: Kind<NonZeroU32> =
    Kind { accepted: "a number of evaluation periods, 1 or more", read: positive };
/// SQS's bounds of `maxReceiveCount`.
pub(super) const RECEIVES: Kind<u32> = Kind {
    accepted: "a number from 1 to 1000",
    read: |value| {
        let number = count(value)?;
        let legal = u32::try_from(number).ok().filter(|number| (1..=1000).contains(number));
        legal.ok_or_else(|| format!("{number} is out of range"))
    },
};
pub(super) const PORT: Kind<u16> = Kind {
    accepted: "a port from 1 to 65535",
    read: |value| {
        let number = count(value)?;
        u16::try_from(number).ok().filter(|port| *port > 0).ok_or_else(|| format!("{number} is out of range"))
    },
};
pub(super) const DURATION: Kind<Duration> = Kind {
    accepted: "a duration such as \"15m\", \"500ms\" or \"1h30m\" (units d, h, m, s, ms)",
    read: |value| parse_duration(with_unit(value)?),
};
pub(super) const REMINDER: Kind<Option<Duration>> = Kind {
    accepted: "\"off\" or a duration such as \"4h\"",
    read: |value| match with_unit(value)? {
        "off" => Ok(None),
        every => parse_duration(every).map(Some),
    },
};
pub(super) const DAYS: Kind<u32> = Kind { accepted: "a duration of whole days such as \"30d\"", read: days };
pub(super) const SIZE: Kind<u64> = Kind {
    accepted: "a size such as \"48MiB\", \"1GiB\" or \"10MB\" (units B, kB, KiB, MB, MiB, GB, GiB, TB, TiB, PB, PiB)",
    read: |value| parse_size(with_unit(value)?),
};
pub(super) const BANDWIDTH: Kind<Option<NonZeroU64>> = Kind {
    accepted: "\"unlimited\" or a rate such as \"20MiB/s\"",
    read: |value| match with_unit(value)? {
        "unlimited" => Ok(None),
        rate => {
            let bytes = parse_rate(rate)?;
            NonZeroU64::new(bytes).map(Some).ok_or_else(|| format!("{rate:?} would let nothing through"))
        }
    },
};
pub(super) const REQUEST_RATE: Kind<Option<NonZeroU32>> = Kind {
    accepted: "\"unlimited\" or a number of requests per second, 1 or more",
    read: |value| match value.as_str() {
        Some("unlimited") => Ok(None),
        Some(other) => Err(format!("{other:?} is no number")),
        None => positive(value).map(Some),
    },
};
pub(super) const CONCURRENCY: Kind<Concurrency> = Kind {
    accepted: "\"auto\" or a number, 1 or more",
    read: |value| match value.as_str() {
        Some("auto") => Ok(Concurrency::Auto),
        Some(other) => Err(format!("{other:?} is no number")),
        None => positive(value).map(Concurrency::Fixed),
    },
};
pub(super) const SHARE: Kind<Share> =
    Kind { accepted: "a percentage such as \"5%\" or \"0.5%\"", read: |value| parse_share(with_unit(value)?) };
pub(super) const LISTEN: Kind<Option<SocketAddr>> = Kind {
    accepted: "\"off\" or an IP address and port such as \"127.0.0.1:9464\" or \"[::1]:9464\"",
    read: |value| match text(value)? {
        "off" => Ok(None),
        address => address.parse().map(Some).map_err(|_| format!("{address:?} is not an IP address and port")),
    },
};
pub(super) const HOST: Kind<String> = Kind {
    accepted: "a host name or IP address without scheme and port, such as \"repl.example.com\"",
    read: |value| {
        checked(value, |text| {
            let is_name = text.chars().all(|letter| letter.is_ascii_alphanumeric() || "-._".contains(letter));
            (!is_name && text.parse::<IpAddr>().is_err()).then(|| format!("{text:?} is not a host"))
        })
    },
};
pub(super) const SECRET: Kind<Secret> = Kind {
    accepted: "a text, or \"file:/path\" of the file that holds it",
    read: |value| match text(value)?.strip_prefix("file:") {
        Some("") => Err("there is no path after \"file:\"".to_owned()),
        Some(path) => Ok(Secret::File(PathBuf::from(path))),
        None => filled(value).map(Secret::Inline),
    },
};
pub(super) const PATH: Kind<PathBuf> =
    Kind { accepted: "a directory such as \"/var/lib/repl\"", read: |value| filled(value).map(PathBuf::from) };
pub(super) const BUCKET: Kind<String> = Kind {
    accepted: "a bucket name of 3 to 63 lower-case letters, digits, hyphens and dots, such as \"acme-primary\"",
    read: |value| checked(value, bucket_fault),
};
pub(super) const REGION: Kind<String> = Kind {
    accepted: "a region such as \"eu-west-2\"",
    read: |value| checked(value, |text| (!is_word(text)).then(|| format!("{text:?} is not a region"))),
};
pub(super) const URL: Kind<String> = Kind {
    accepted: "an http:// or https:// address such as \"https://s3.example.com:9000\"",
    read: |value| {
        let address = text(value)?.trim_end_matches('/').to_owned();
        Address::parse(&address)?;
        Ok(address)
    },
};
pub(super) const ACCOUNT: Kind<String> = Kind {
    accepted: "an account id of 12 digits, in quotes",
    read: |value| checked(value, |text| (!is_account(text)).then(|| format!("{text:?} is not an account id"))),
};
pub(super) const ROLE_ARN: Kind<String> = Kind {
    accepted: "a role's full ARN such as \"arn:aws:iam::111122223333:role/repl\"",
    read: |value| {
        checked(value, |text| {
            let role = Arn::parse(text).filter(|arn| arn.service == "iam" && is_account(arn.account));
            let role = role.filter(|arn| arn.resource.strip_prefix("role/").is_some_and(|name| !name.is_empty()));
            role.is_none().then(|| format!("{text:?} is not the ARN of a role"))
        })
    },
};
pub(super) const TOPIC_ARN: Kind<String> = Kind {
    accepted: "a topic's full ARN such as \"arn:aws:sns:eu-west-2:111122223333:execs\"",
    read: |value| {
        checked(value, |text| {
            let topic = Arn::parse(text).filter(|arn| arn.service == "sns" && is_account(arn.account));
            let topic = topic.filter(|arn| !arn.region.is_empty() && !arn.resource.contains(':'));
            topic.is_none().then(|| format!("{text:?} is not the ARN of a topic"))
        })
    },
};
pub(super) const KMS_ARN: Kind<String> = Kind {
    accepted: "a key's full ARN such as \"arn:aws:kms:eu-west-2:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab\"",
    read: |value| checked(value, kms_fault),
};
pub(super) const EMAIL: Kind<String> = Kind {
    accepted: "an e-mail address such as \"ops@example.com\"",
    read: |value| {
        checked(value, |text| {
            let plain = !text.chars().any(|letter| letter.is_whitespace() || letter.is_control());
            let parts = text.split_once('@');
            let whole = parts.is_some_and(|(user, host)| !user.is_empty() && !host.is_empty() && !host.contains('@'));
            (!plain || !whole).then(|| format!("{text:?} is not an e-mail address"))
        })
    },
};
pub(super) const NAMESPACE: Kind<String> = Kind {
    accepted: "a CloudWatch namespace of letters, digits and . - _ / # : that does not begin with \"AWS/\"",
    read: |value| {
        checked(value, |text| {
            let letters = text.chars().all(|letter| letter.is_ascii_alphanumeric() || ".-_/#:".contains(letter));
            let legal =
                letters && (1..=255).contains(&text.len()) && !text.starts_with("AWS/") && !text.starts_with(':');
            (!legal).then(|| format!("{text:?} is not a namespace for our own metrics"))
        })
    },
};
pub(super) const NAME_PREFIX: Kind<String> = Kind {
    accepted: "1 to 64 letters, digits, hyphens and underscores, such as \"repl\"",
    read: |value| checked(value, |text| (!is_word(text)).then(|| format!("{text:?} cannot begin the name of a topic"))),
};
/// A rule's id is a metric dimension too: CloudWatch takes ASCII only, not beginning with a colon; native ids have at
/// most 255 letters (aws-semantics 2.2 and 7.3).
pub(super) const RULE_ID: Kind<String> = Kind {
    accepted: "1 to 255 printable ASCII letters, the first no colon",
    read: |value| {
        checked(value, |text| {
            let printable = text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
            let legal = printable && text.len() <= 255 && !text.trim().is_empty() && !text.starts_with(':');
            (!legal).then(|| format!("{text:?} cannot be the id of a rule"))
        })
    },
};
/// S3 allows a key 1,024 bytes (aws-semantics 3.1).
pub(super) const KEY_PREFIX: Kind<String> = Kind {
    accepted: "the beginning of a key, at most 1024 bytes",
    read: |value| checked(value, |text| (text.len() > 1024).then(|| format!("it has {} bytes", text.len()))),
};
pub(super) const TAG_NAME: Kind<String> = Kind {
    accepted: "a tag name of 1 to 128 letters",
    read: |value| {
        let sized = |text: &str| (1..=128).contains(&text.chars().count());
        checked(value, |text| (!sized(text)).then(|| format!("it has {} letters", text.chars().count())))
    },
};
pub(super) const TAG_VALUE: Kind<String> = Kind {
    accepted: "a tag value of at most 256 letters",
    read: |value| {
        let letters = |text: &str| text.chars().count();
        checked(value, |text| (letters(text) > 256).then(|| format!("it has {} letters", letters(text))))
    },
};

fn wrong(value: &Value) -> String {
    format!("it is {}", describe(value))
}

fn text(value: &Value) -> Result<&str, String> {
    value.as_str().ok_or_else(|| wrong(value))
}

/// The text of a value that needs a unit; a bare number is told so.
fn with_unit(value: &Value) -> Result<&str, String> {
    match value {
        Value::String(text) => Ok(text.value()),
        Value::Integer(number) => Err(format!("{} has no unit", number.value())),
        Value::Float(number) => Err(format!("{} has no unit", number.value())),
        Value::Boolean(_) | Value::Datetime(_) | Value::Array(_) | Value::InlineTable(_) => Err(wrong(value)),
    }
}

fn filled(value: &Value) -> Result<String, String> {
    let text = text(value)?;
    if text.trim().is_empty() { Err("it is empty".to_owned()) } else { Ok(text.to_owned()) }
}

/// A text in which `fault` finds nothing.
fn checked(value: &Value, fault: impl FnOnce(&str) -> Option<String>) -> Result<String, String> {
    let text = text(value)?;
    fault(text).map_or_else(|| Ok(text.to_owned()), Err)
}

fn count(value: &Value) -> Result<u64, String> {
    let number = value.as_integer().ok_or_else(|| wrong(value))?;
    u64::try_from(number).map_err(|_| format!("{number} is negative"))
}

fn positive(value: &Value) -> Result<NonZeroU32, String> {
    let number = count(value)?;
    let narrow = u32::try_from(number).map_err(|_| format!("{number} is too large"))?;
    NonZeroU32::new(narrow).ok_or_else(|| "0 would let nothing through".to_owned())
}

fn days(value: &Value) -> Result<u32, String> {
    let text = with_unit(value)?;
    let millis = parse_duration(text)?.as_millis();
    if millis == 0 || millis % DAY.as_millis() != 0 {
        return Err(format!("{text:?} is not a number of whole days"));
    }
    u32::try_from(millis / DAY.as_millis()).map_err(|_| format!("{text:?} is too long"))
}

/// What is wrong with a bucket name, by the naming rules of general purpose buckets in the S3 user guide.
fn bucket_fault(name: &str) -> Option<String> {
    let edge = |letter: Option<char>| letter.is_some_and(|l| l.is_ascii_lowercase() || l.is_ascii_digit());
    let inner = |l: char| l.is_ascii_lowercase() || l.is_ascii_digit() || l == '-' || l == '.';
    if name.starts_with("arn:") || name.starts_with("s3://") {
        return Some(format!("{name:?} is not a bare bucket name"));
    }
    if !(3..=63).contains(&name.len()) {
        return Some(format!("{name:?} has {} letters", name.chars().count()));
    }
    if !name.chars().all(inner) || !edge(name.chars().next()) || !edge(name.chars().last()) || name.contains("..") {
        return Some(format!("{name:?} is not a legal bucket name"));
    }
    if name.parse::<IpAddr>().is_ok() {
        return Some(format!("{name:?} looks like an IP address"));
    }
    let begins = ["xn--", "sthree-"].iter().any(|reserved| name.starts_with(reserved));
    let ends = ["-s3alias", "--ol-s3", ".mrap", "--x-s3", "--table-s3"].iter().any(|reserved| name.ends_with(reserved));
    (begins || ends).then(|| format!("{name:?} is reserved by S3 for something that is no general purpose bucket"))
}

fn kms_fault(text: &str) -> Option<String> {
    let alias = text.starts_with("alias/") || text.contains(":alias/");
    let Some(arn) = Arn::parse(text) else {
        let what = if alias { "an alias" } else { "not a full key ARN" };
        return Some(format!(
            "{text:?} is {what}, and an alias or bare id resolves in the account and region of the caller"
        ));
    };
    if alias {
        return Some(format!(
            "{text:?} is an alias, which can be pointed at another key and resolves in the account of the caller"
        ));
    }
    let id = arn.resource.strip_prefix("key/").filter(|id| is_word(id));
    let whole = arn.service == "kms" && !arn.region.is_empty() && is_account(arn.account) && id.is_some();
    (!whole).then(|| format!("{text:?} is not the ARN of a KMS key"))
}

/// Whether a text is 1 to 64 ASCII letters, digits, hyphens and underscores.
pub(super) fn is_word(text: &str) -> bool {
    let letters = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
    letters && (1..=64).contains(&text.len())
}

fn is_account(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Whether a text is shaped like a region of AWS: `eu-west-2`, `us-gov-east-1`, `ap-southeast-4`.
pub(super) fn is_aws_region(text: &str) -> bool {
    let mut parts: Vec<&str> = text.split('-').collect();
    let number = parts.pop().is_some_and(|last| !last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit()));
    let word = |part: &&str| part.len() >= 2 && part.bytes().all(|byte| byte.is_ascii_lowercase());
    number && parts.len() >= 2 && parts.iter().all(word)
}

/// The parts of an ARN.
pub(super) struct Arn<'t> {
    pub(super) service: &'t str,
    pub(super) region: &'t str,
    pub(super) account: &'t str,
    pub(super) resource: &'t str,
}

impl<'t> Arn<'t> {
    /// Takes an ARN apart; `None` where it is none.
    pub(super) fn parse(text: &'t str) -> Option<Self> {
        let mut parts = text.strip_prefix("arn:aws")?.splitn(5, ':');
        let partition = parts.next()?;
        let legal = partition.is_empty() || partition.starts_with('-');
        let arn =
            Self { service: parts.next()?, region: parts.next()?, account: parts.next()?, resource: parts.next()? };
        (legal && !arn.resource.is_empty()).then_some(arn)
    }
}

/// The parts of an http(s) address that matter here.
pub(super) struct Address<'t> {
    /// Scheme, host and port: what a client connects to.
    pub(super) origin: &'t str,
    /// The host, without port and brackets.
    pub(super) host: &'t str,
    /// What follows, empty or with its leading slash.
    pub(super) path: &'t str,
    encrypted: bool,
}

impl<'t> Address<'t> {
    /// Takes an address apart. The reasons never show it, since it could hold a password.
    pub(super) fn parse(text: &'t str) -> Result<Self, String> {
        let (encrypted, rest) = match (text.strip_prefix("https://"), text.strip_prefix("http://")) {
            (Some(rest), _) => (true, rest),
            (None, Some(rest)) => (false, rest),
            (None, None) => return Err("it begins with neither \"http://\" nor \"https://\"".to_owned()),
        };
        if rest.contains(['?', '#', '@']) || rest.contains(|letter: char| letter.is_whitespace() || letter.is_control())
        {
            return Err("it has a user, a query, a fragment or a space".to_owned());
        }
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let origin = text.strip_suffix(path).unwrap_or(text);
        let (host, port) = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, "")) if host.parse::<IpAddr>().is_ok() => (host, None),
            Some((host, port)) if host.parse::<IpAddr>().is_ok() => (host, Some(port.strip_prefix(':').unwrap_or(""))),
            Some(_) => return Err("its host is not an IPv6 address".to_owned()),
            None => authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port))),
        };
        let legal = host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._:".contains(&byte));
        if host.is_empty() || !legal {
            return Err("it has no legal host name".to_owned());
        }
        if port.is_some_and(|port| !port.parse::<u16>().is_ok_and(|port| port > 0)) {
            return Err("its port is not a number from 1 to 65535".to_owned());
        }
        Ok(Self { origin, host, path, encrypted })
    }

    /// Whether bytes would cross a network in the clear.
    pub(super) fn is_exposed(&self) -> bool {
        let address = self.host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
        let named = self.host == "localhost" || self.host.ends_with(".localhost");
        !self.encrypted && !address && !named
    }
}
