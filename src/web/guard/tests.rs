use super::*;

fn ask(method: Method, uri: &str, headers: &[(&str, &str)]) -> Result<(), StatusCode> {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap());
    }
    let hosts = ["repl.example.com".to_owned(), "10.0.0.7".to_owned()];
    let here = "192.168.1.5:9464".parse().unwrap();
    admit((&method, &uri.parse().unwrap()), &map, here, &hosts).map_err(|(status, _)| status)
}

/// A name of somebody else's that leads here is how a foreign page reads local servers.
#[test]
fn only_our_names_are_answered() {
    for host in [
        "localhost",
        "LOCALHOST:9464",
        "127.0.0.1:1",
        "[::1]:9464",
        "192.168.1.5",
        "Repl.Example.Com",
        "localhost.",
        "10.0.0.7",
    ] {
        assert_eq!(ask(Method::GET, "/api/status", &[("host", host)]), Ok(()), "{host}");
    }
    for host in ["evil.example", "localhost.evil.example", "192.168.1.6", "x@localhost", "127.0.0.1.nip.io", "[::2]"] {
        assert_eq!(ask(Method::GET, "/", &[("host", host)]), Err(StatusCode::FORBIDDEN), "{host}");
    }
    assert_eq!(ask(Method::GET, "/", &[]), Err(StatusCode::BAD_REQUEST));
    assert_eq!(ask(Method::GET, "/", &[("host", "localhost"), ("host", "evil.example")]), Err(StatusCode::BAD_REQUEST));
    assert_eq!(ask(Method::GET, "http://evil.example/", &[("host", "localhost")]), Err(StatusCode::FORBIDDEN));
}

#[test]
fn a_foreign_page_cannot_have_a_browser_ask() {
    let with = |method, path, name, value| ask(method, path, &[("host", "localhost:9464"), (name, value)]);
    for origin in ["http://localhost:9464", "https://localhost:9464"] {
        assert_eq!(with(Method::POST, "/api/pause", "origin", origin), Ok(()), "{origin}");
    }
    for origin in
        ["http://localhost:9465", "http://localhost", "null", "http://evil.example", "file://localhost:9464", ""]
    {
        assert_eq!(with(Method::POST, "/api/pause", "origin", origin), Err(StatusCode::FORBIDDEN), "{origin}");
    }
    for site in ["cross-site", "same-site"] {
        assert_eq!(with(Method::GET, "/api/why?key=a", "sec-fetch-site", site), Err(StatusCode::FORBIDDEN));
        assert_eq!(with(Method::GET, "/", "sec-fetch-site", site), Ok(()), "a link to the page");
        assert_eq!(with(Method::POST, "/", "sec-fetch-site", site), Err(StatusCode::FORBIDDEN));
    }
    for site in ["same-origin", "none"] {
        assert_eq!(with(Method::GET, "/api/why?key=a", "sec-fetch-site", site), Ok(()));
    }
}

#[test]
fn only_the_token_changes_something() {
    let token = Token::new("s3cret-T0ken").unwrap();
    let with = |value: &str, token: Option<&Token>| {
        let headers = [(header::AUTHORIZATION, HeaderValue::from_str(value).unwrap())].into_iter().collect();
        authorize(&headers, token).map_err(|(status, _)| status)
    };
    for right in ["Bearer s3cret-T0ken", "bearer s3cret-T0ken"] {
        assert_eq!(with(right, Some(&token)), Ok(()));
    }
    for wrong in [
        "",
        "Bearer",
        "Bearer ",
        "Bearer s3cret-T0kem",
        "Bearer s3cret-T0ke",
        "Bearer s3cret-T0kenn",
        "Basic s3cret-T0ken",
    ] {
        assert_eq!(with(wrong, Some(&token)), Err(StatusCode::UNAUTHORIZED), "{wrong:?}");
    }
    assert_eq!(authorize(&HeaderMap::new(), Some(&token)).map_err(|(status, _)| status), Err(StatusCode::UNAUTHORIZED));
    assert_eq!(with("Bearer ", None), Err(StatusCode::FORBIDDEN));
    for unusable in ["", " ", "a b", "tö"] {
        assert!(Token::new(unusable).is_none(), "{unusable:?}");
    }
    assert!(!format!("{token:?}").contains("s3cret"));
}
