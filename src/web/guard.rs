//! Who may ask: no page of somebody else's that a browser on this machine has open, and for changes only who has the token.

use std::net::{IpAddr, SocketAddr};

use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use subtle::ConstantTimeEq as _;

use super::Token;

/// What every answer says to a browser: run nothing but our own files, show us in nobody's frame, keep nothing.
const HEADERS: [(HeaderName, &str); 8] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CACHE_CONTROL, "no-store"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (HeaderName::from_static("permissions-policy"), "camera=(), geolocation=(), microphone=()"),
];

/// Why a request is turned away: a status and one sentence.
pub(super) type Denied = (StatusCode, String);

/// Sets the headers of every answer.
pub(super) fn secure(headers: &mut HeaderMap) {
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
}

/// Refuses requests under a name that is none of ours (a foreign name that leads here is DNS rebinding), and those that a
/// foreign page has a browser make.
pub(super) fn admit(
    (method, uri): (&Method, &Uri),
    headers: &HeaderMap,
    here: SocketAddr,
    hosts: &[String],
) -> Result<(), Denied> {
    let mut named = headers.get_all(header::HOST).iter();
    let (first, further) = (named.next(), named.next());
    let host = first.filter(|_| further.is_none()).and_then(|host| host.to_str().ok()?.parse::<Authority>().ok());
    let Some(host) = host else {
        return Err((StatusCode::BAD_REQUEST, "the request needs one Host header with a name in it".to_owned()));
    };
    for authority in [Some(&host), uri.authority()].into_iter().flatten() {
        if !is_ours(authority, here, hosts) {
            let sentence = format!(
                "this page does not answer under the name {:?}: ask for localhost or {}, or put the name into `[web] hosts`",
                authority.host(),
                here.ip()
            );
            return Err((StatusCode::FORBIDDEN, sentence));
        }
    }
    let told = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    if let Some(origin) = told("origin").filter(|origin| !is_same(origin, &host)) {
        return Err((StatusCode::FORBIDDEN, format!("a page of another origin, {origin:?}, may not ask")));
    }
    let foreign = matches!(told("sec-fetch-site"), Some("cross-site" | "same-site"));
    // To follow a link to the page is no harm; to have a browser ask for anything else is.
    if foreign && !(*method == Method::GET && uri.path() == "/") {
        return Err((StatusCode::FORBIDDEN, "another page had a browser ask for this".to_owned()));
    }
    Ok(())
}

fn is_ours(authority: &Authority, here: SocketAddr, hosts: &[String]) -> bool {
    if authority.as_str().contains('@') {
        return false;
    }
    let host = authority.host().trim_end_matches('.');
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    match address {
        Ok(address) => {
            address.is_loopback() || address.to_canonical() == here.ip().to_canonical() || among(hosts, host)
        }
        Err(_) => host.eq_ignore_ascii_case("localhost") || among(hosts, host),
    }
}

fn among(hosts: &[String], host: &str) -> bool {
    hosts.iter().any(|known| known.eq_ignore_ascii_case(host))
}

/// Whether an `Origin` is the host that is asked; a proxy in front may have made HTTPS of it.
fn is_same(origin: &str, host: &Authority) -> bool {
    let rest = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    rest.is_some_and(|rest| rest.eq_ignore_ascii_case(host.as_str()))
}

/// Lets only who has the token change something.
pub(super) fn authorize(headers: &HeaderMap, token: Option<&Token>) -> Result<(), Denied> {
    let Some(Token(token)) = token else {
        let sentence = "nothing can be changed here: the config has no token under [web]";
        return Err((StatusCode::FORBIDDEN, sentence.to_owned()));
    };
    let given = headers.get(header::AUTHORIZATION).map(HeaderValue::as_bytes).unwrap_or_default();
    let (scheme, given) = given.split_at_checked(7).unwrap_or_default();
    let is_bearer = scheme.eq_ignore_ascii_case(b"Bearer ");
    if is_bearer && bool::from(given.ct_eq(token.as_bytes())) {
        return Ok(());
    }
    let sentence = "this changes something and needs `Authorization: Bearer TOKEN` with the token of [web]";
    Err((StatusCode::UNAUTHORIZED, sentence.to_owned()))
}

#[cfg(test)]
mod tests;
