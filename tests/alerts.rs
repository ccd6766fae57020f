//! The ways on which alerts leave without AWS, against scripted servers on this machine.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests panic")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::thread::JoinHandle;

use repl::alert::mail::{Mail, Settings};
use repl::alert::webhook::{Webhook, signature};
use repl::model::fault::FaultKind;
use repl::ports::{Alert, AlertSink, Tier};

fn alert() -> Alert {
    Alert {
        tier: Tier::Critical,
        subject: "ALARM: repl-SystemHealth (acme-primary)".to_owned(),
        text: "The replication fails.\n.\nSee `repl status` – now.\n".to_owned(),
        json: "{\"AlarmName\":\"repl-SystemHealth\"}".to_owned(),
    }
}

/// Answers one HTTP request with that status; head and body as they came.
fn http_server(status: &'static str) -> (String, JoinHandle<(String, String)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/T0K3N", listener.local_addr().unwrap());
    let thread = std::thread::spawn(move || {
        let (socket, _) = listener.accept().unwrap();
        let mut reader = BufReader::new(socket.try_clone().unwrap());
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert!(reader.read_line(&mut head).unwrap() > 0, "{head}");
        }
        let length =
            head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ").map(str::to_owned));
        let mut body = vec![0; length.expect("a length").parse().unwrap()];
        reader.read_exact(&mut body).unwrap();
        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nlocation: http://127.0.0.1:1/\r\n\r\n");
        (&socket).write_all(answer.as_bytes()).unwrap();
        (head, String::from_utf8(body).unwrap())
    });
    (url, thread)
}

#[tokio::test]
async fn a_webhook_is_signed() {
    let (url, server) = http_server("204 No Content");
    let webhook = Webhook::new(&url, "s3cret").unwrap();
    assert!(Tier::ALL.into_iter().all(|tier| webhook.reaches(tier)));
    webhook.deliver(&alert()).await.unwrap();
    let (head, body) = server.join().unwrap();
    assert_eq!(body, alert().json);
    let expected = format!("x-repl-signature: {}", signature(b"s3cret", body.as_bytes()));
    assert!(head.lines().any(|line| line.eq_ignore_ascii_case(&expected)), "{expected} in {head}");
    assert!(head.starts_with("POST /T0K3N "), "{head}");
}

/// What the receiver says decides; a redirect is not followed; no fault shows the URL.
#[tokio::test]
async fn a_webhook_that_refuses_is_told() {
    for (status, kind) in [
        ("401 Unauthorized", FaultKind::Refused),
        ("307 Temporary Redirect", FaultKind::Refused),
        ("429 Too Many Requests", FaultKind::Throttled),
        ("500 Internal Server Error", FaultKind::Transient),
    ] {
        let (url, server) = http_server(status);
        let fault = Webhook::new(&url, "s3cret").unwrap().deliver(&alert()).await.unwrap_err();
        server.join().unwrap();
        assert_eq!(fault.kind, kind, "{fault}");
        assert!(!fault.to_string().contains("T0K3N"), "{fault}");
    }
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let fault = Webhook::new(&format!("http://{gone}/T0K3N"), "s").unwrap().deliver(&alert()).await.unwrap_err();
    assert!(fault.kind == FaultKind::Transient && !fault.to_string().contains("T0K3N"), "{fault}");
}

/// Speaks just enough SMTP for one mail; the commands and the mail as they came.
fn mail_server(verdict: &'static str) -> (u16, JoinHandle<(Vec<String>, String)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let thread = std::thread::spawn(move || {
        let (socket, _) = listener.accept().unwrap();
        let say = |line: &str| (&socket).write_all(format!("{line}\r\n").as_bytes()).unwrap();
        let mut lines = BufReader::new(socket.try_clone().unwrap()).lines();
        let (mut commands, mut mail) = (Vec::new(), String::new());
        say("220 mail.example.com");
        while let Some(Ok(line)) = lines.next() {
            let command = line.to_uppercase();
            commands.push(line);
            if command.starts_with("DATA") {
                say("354 go on");
                for line in lines.by_ref().map(Result::unwrap).take_while(|line| line != ".") {
                    mail.push_str(&line);
                    mail.push('\n');
                }
                say(verdict);
            } else if command.starts_with("EHLO") {
                say("250-mail.example.com");
                say("250 AUTH PLAIN");
            } else if command.starts_with("AUTH") {
                say("235 welcome");
            } else if command.starts_with("QUIT") {
                say("221 bye");
                break;
            } else {
                say("250 fine");
            }
        }
        (commands, mail)
    });
    (port, thread)
}

fn settings(host: &str, port: u16) -> Settings {
    Settings {
        host: host.to_owned(),
        port,
        from: "repl@example.com".to_owned(),
        login: Some(("repl".to_owned(), "pässword".to_owned())),
        to: [(Tier::Critical, vec!["oncall@example.com".to_owned(), "second@example.com".to_owned()])].into(),
    }
}

#[tokio::test]
async fn a_mail_goes_to_the_addresses_of_its_tier() {
    let (port, server) = mail_server("250 taken");
    let mail = Mail::new(&settings("127.0.0.1", port)).unwrap();
    assert_eq!(Tier::ALL.map(|tier| mail.reaches(tier)), [false, true, false]);
    mail.deliver(&alert()).await.unwrap();
    drop(mail);
    let (commands, mail) = server.join().unwrap();
    let expected = ["MAIL FROM:<repl@example.com>", "RCPT TO:<oncall@example.com>", "RCPT TO:<second@example.com>"];
    assert!(expected.iter().all(|command| commands.iter().any(|found| found.starts_with(command))), "{commands:?}");
    assert!(commands.iter().any(|command| command.starts_with("AUTH PLAIN ")), "{commands:?}");
    assert!(mail.contains("Subject: ALARM: repl-SystemHealth (acme-primary)"), "{mail}");
    assert!(mail.contains("The replication fails.") && mail.contains("alarm.json"), "{mail}");
}

#[tokio::test]
async fn a_mail_that_is_refused_is_told() {
    for (verdict, kind) in [("554 no", FaultKind::Refused), ("451 later", FaultKind::Transient)] {
        let (port, server) = mail_server(verdict);
        let mail = Mail::new(&settings("127.0.0.1", port)).unwrap();
        assert_eq!(mail.deliver(&alert()).await.unwrap_err().kind, kind);
        drop(mail);
        server.join().unwrap();
    }
    let wrong = Settings { from: "nobody".to_owned(), ..settings("127.0.0.1", 25) };
    assert!(Mail::new(&wrong).unwrap_err().detail.contains("\"nobody\" is no mail address"));
    assert!(!format!("{:?}", settings("127.0.0.1", 25)).contains("pässword"));
}

/// A host elsewhere that offers no TLS is given neither password nor alert.
#[tokio::test]
async fn a_mail_server_elsewhere_must_speak_tls() {
    let listener = TcpListener::bind("127.0.0.2:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = std::thread::spawn(move || {
        let (socket, _) = listener.accept().unwrap();
        (&socket).write_all(b"220 mail.example.com\r\n").unwrap();
        let mut heard = Vec::new();
        for line in BufReader::new(socket.try_clone().unwrap()).lines().map_while(Result::ok) {
            (&socket).write_all(b"250 mail.example.com\r\n").unwrap();
            heard.push(line);
        }
        heard
    });
    let mail = Mail::new(&settings("127.0.0.2", port)).unwrap();
    mail.deliver(&alert()).await.unwrap_err();
    drop(mail);
    let heard = server.join().unwrap();
    assert!(heard.iter().all(|line| !line.starts_with("AUTH") && !line.starts_with("MAIL")), "{heard:?}");
}
