//! The worker's page, asked as programs ask it.

use std::net::TcpListener;

use reqwest::{Client, Method};
use serde_json::Value;
use tokio::net::{TcpSocket, TcpStream};

use super::pair::Setup;

/// Where a worker serves its page.
#[derive(Clone, Debug)]
pub(crate) struct Page {
    address: String,
    client: Client,
}

/// One answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// All headers, one a line.
    pub(crate) headers: String,
    pub(crate) body: String,
}

/// The setup with a page on a free port; `more` stands under `[web]`.
pub(crate) fn serve_page(setup: Setup, more: &str) -> (Setup, Page) {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let tables = format!("{}\n[web]\nlisten = \"{address}\"\n{more}", setup.more);
    (setup.more(&tables), Page { address, client: Client::builder().no_proxy().build().unwrap() })
}

impl Page {
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) async fn get(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.ask((Method::GET, path), headers, "").await.unwrap()
    }

    pub(crate) async fn post(&self, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        self.ask((Method::POST, path), headers, body).await.unwrap()
    }

    /// An answer, or `None` where nobody listens.
    pub(crate) async fn try_get(&self, path: &str) -> Option<Answer> {
        self.ask((Method::GET, path), &[], "").await.ok()
    }

    /// The object under a path, which must be there.
    pub(crate) async fn json(&self, path: &str) -> Value {
        let answer = self.get(path, &[]).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        serde_json::from_str(&answer.body).unwrap()
    }

    /// A bare connection, of which little fits into the kernel's own buffers.
    pub(crate) async fn connect(&self) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        socket.connect(self.address.parse().unwrap()).await.unwrap()
    }

    /// How many connections the worker has taken and not closed, as the kernel knows; one that waits to be taken belongs to
    /// no process and has no inode yet.
    pub(crate) fn callers(&self) -> usize {
        let port = format!(":{:04X}", self.address.parse::<std::net::SocketAddr>().unwrap().port());
        let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
        let taken = table.lines().skip(1).filter(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let established = fields[3] == "01" || fields[3] == "08";
            fields[1].ends_with(&port) && established && fields[9] != "0"
        });
        taken.count()
    }

    /// The answers to so many listeners at once.
    pub(crate) async fn many_listeners(&self, count: usize) -> Vec<u16> {
        let mut open = Vec::new();
        for _ in 0..count {
            open.push(self.client.get(self.url("/api/events")).send().await.unwrap());
        }
        open.iter().map(|answer| answer.status().as_u16()).collect()
    }

    async fn ask(
        &self,
        (method, path): (Method, &str),
        headers: &[(&str, &str)],
        body: &str,
    ) -> Result<Answer, reqwest::Error> {
        let mut request = self.client.request(method, self.url(path)).body(body.to_owned());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = request.send().await?;
        let headers = answer.headers().iter().map(|(name, value)| format!("{name}: {}\n", value.to_str().unwrap()));
        let (status, headers) = (answer.status().as_u16(), headers.collect());
        Ok(Answer { status, headers, body: answer.text().await? })
    }
}
