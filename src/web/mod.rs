//! Floor 4: the page and the endpoints beside it, served by the worker on one port.
//!
//! *Secret kept:* HTTP, who may ask (hosts, origins, the token), how many at once, what a browser is shown. *May touch:* one
//! listening socket; the ledger and the pulse to read, and one sample a minute that it keeps in the ledger. *Must not know:*
//! the engine, S3, the config: what is asked of the worker goes through [`Worker`], which is handed in.
//!
//! Nothing here is waited for by replication: connections, listeners, sizes and times are bounded (P10), a caller who
//! stalls is dropped, and a fault ends one answer.

mod guard;
mod history;
mod live;
mod page;
mod recent;
mod routes;
mod server;

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use serde_json::Value;

use crate::ledger::Ledger;
use crate::ports::Clock;
use crate::watch::figures;
use crate::watch::pulse::Pulse;

pub use history::keep as keep_history;
pub use server::{Listener, bind};

/// Who answers for the worker, and does what an operator asks: in the words of the questions that its socket takes.
pub trait Worker: Send + Sync + 'static {
    /// Answers `{"ask": …}`. If dropped, what was asked for may or may not be done.
    fn answer(&self, question: Value) -> impl Future<Output = Result<Value, Refusal>> + Send;
}

/// Why something was not answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Whose fault it is.
    pub fault: RefusalFault,
    /// One sentence for a person.
    pub sentence: String,
}

/// Whose fault a refusal is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalFault {
    /// The question cannot be answered as it is.
    Question,
    /// The worker cannot answer it now.
    Worker,
}

/// The token of the endpoints that change something. `Debug` does not show it.
#[derive(Clone)]
pub struct Token(String);

impl Token {
    /// A token; `None` for one that is empty or cannot stand in a header, which would let nobody in, or everybody.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let sayable = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
        sayable.then(|| Self(text.to_owned()))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// What the server is told at its start.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Names beside `localhost` and the address itself under which the page may be asked for.
    pub hosts: Vec<String>,
    /// Without one nothing can be changed.
    pub token: Option<Token>,
    /// What the figures are about.
    pub figures: figures::Settings,
    /// What does not change while the worker runs: source, targets, rules, SLA, for `/api/setup`.
    pub setup: Value,
}

/// All that an answer is made from.
#[derive(Debug)]
pub struct Site<W, C> {
    worker: Arc<W>,
    ledger: Ledger,
    pulse: Arc<Pulse>,
    clock: C,
    settings: Settings,
    live: live::Live,
    /// Stories told at once: each looks at objects on both sides.
    stories: tokio::sync::Semaphore,
}

/// Stories told at once.
const STORIES: usize = 4;

impl<W: Worker, C: Clock> Site<W, C> {
    /// Puts a site together; nothing is served before [`Listener::serve`].
    #[must_use]
    pub fn new(worker: Arc<W>, (ledger, pulse): (Ledger, Arc<Pulse>), clock: C, settings: Settings) -> Self {
        let (live, stories) = (live::Live::default(), tokio::sync::Semaphore::new(STORIES));
        Self { worker, ledger, pulse, clock, settings, live, stories }
    }
}
