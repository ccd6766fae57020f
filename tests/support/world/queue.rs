//! A standard queue: messages come in any order, sometimes twice, and again when their visibility ends.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use repl::model::fault::{Fault, FaultKind, Side};
use repl::ports::{ChangeQueue, Content, Delivery, QueueDepth};
use tokio::time::Instant;

use super::weather::{Fate, Fuse, Place, TIMEOUT, Verb, Weather};

/// Messages of one receive.
const BATCH: usize = 10;

#[derive(Clone, Debug)]
struct Message {
    id: u64,
    content: Content,
    visible: Instant,
    /// How often it was handed out: part of the receipt, as SQS gives a new one each time.
    handed_out: u64,
}

#[derive(Debug)]
struct Mailbox {
    messages: Vec<Message>,
    next: u64,
    /// How many deliveries there were.
    deliveries: u64,
    visibility: Duration,
    /// So many of a thousand messages handed out stay visible: somebody gets them a second time.
    twice: u64,
    order: Order,
}

/// Whether a queue keeps the order of what is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// As it likes.
    Any,
    /// First in, first out.
    Kept,
}

/// What deletes one delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Receipt {
    id: u64,
    handed_out: u64,
}

/// One client's way to a queue.
#[derive(Clone, Debug)]
pub(crate) struct FakeQueue {
    mailbox: Arc<Mutex<Mailbox>>,
    pub(crate) weather: Arc<Weather>,
    pub(crate) fuse: Arc<Fuse>,
}

impl FakeQueue {
    pub(crate) fn new(weather: Arc<Weather>, visibility: Duration, twice: u64, order: Order) -> Self {
        let mailbox = Mailbox { messages: Vec::new(), next: 0, deliveries: 0, visibility, twice, order };
        Self { mailbox: Arc::new(Mutex::new(mailbox)), weather, fuse: Arc::default() }
    }

    /// The same queue as another client reaches it.
    pub(crate) fn for_client(&self, fuse: &Arc<Fuse>) -> Self {
        Self { fuse: Arc::clone(fuse), ..self.clone() }
    }

    /// Puts a message in, to be seen from `after` on.
    pub(crate) fn send(&self, content: Content, after: Duration) {
        let mut mailbox = self.mailbox.lock().unwrap();
        mailbox.next += 1;
        let message = Message { id: mailbox.next, content, visible: Instant::now() + after, handed_out: 0 };
        mailbox.messages.push(message);
    }

    /// Messages that nobody deleted.
    pub(crate) fn left(&self) -> usize {
        self.mailbox.lock().unwrap().messages.len()
    }

    /// How often a message was handed to somebody.
    pub(crate) fn deliveries(&self) -> u64 {
        self.mailbox.lock().unwrap().deliveries
    }

    pub(crate) fn never_twice(&self) {
        self.mailbox.lock().unwrap().twice = 0;
    }

    fn take(&self) -> Vec<Delivery<Receipt>> {
        let now = Instant::now();
        let mut mailbox = self.mailbox.lock().unwrap();
        let Mailbox { messages, deliveries, visibility, twice, order, .. } = &mut *mailbox;
        let mut visible: Vec<&mut Message> = messages.iter_mut().filter(|message| message.visible <= now).collect();
        let mut taken = Vec::new();
        while taken.len() < BATCH && !visible.is_empty() {
            let first = *order == Order::Kept || self.weather.roll(|dice| dice.per_mille(700));
            let at = if first { 0 } else { self.weather.roll(|dice| dice.below(visible.len() as u64)) };
            let message = visible.remove(at as usize);
            message.handed_out += 1;
            *deliveries += 1;
            if !self.weather.roll(|dice| dice.per_mille(*twice)) {
                message.visible = now + *visibility;
            }
            taken.push(Delivery {
                receipt: Receipt { id: message.id, handed_out: message.handed_out },
                id: format!("message-{}", message.id),
                body: format!("{:?}", message.content),
                content: message.content.clone(),
            });
        }
        taken
    }

    async fn ask<T>(&self, verb: Verb, act: impl FnOnce(&mut Mailbox) -> T) -> Result<T, Fault> {
        self.fuse.step().await;
        self.weather.way().await;
        match self.weather.fate(&Place::only(Side::Queue), verb, None) {
            Fate::Before(fault) => Err(late(fault).await),
            fate => {
                let done = act(&mut self.mailbox.lock().unwrap());
                self.fuse.step().await;
                self.weather.way().await;
                if let Fate::After(fault) = fate { Err(late(fault).await) } else { Ok(done) }
            }
        }
    }
}

async fn late(fault: Fault) -> Fault {
    if fault.status.is_none() {
        tokio::time::sleep(TIMEOUT).await;
    }
    fault
}

impl ChangeQueue for FakeQueue {
    type Receipt = Receipt;

    async fn receive(&self, wait: Duration) -> Result<Vec<Delivery<Receipt>>, Fault> {
        let deadline = Instant::now() + wait;
        self.ask(Verb::Receive, |_| ()).await?;
        loop {
            let taken = self.take();
            let now = Instant::now();
            if !taken.is_empty() || now >= deadline {
                self.fuse.step().await;
                self.weather.way().await;
                // The answer may get lost: what was handed out is hidden for nothing.
                let kept = self.mailbox.lock().unwrap().order == Order::Kept;
                let rough = !taken.is_empty() && !kept && self.weather.faults_left() > 0;
                if rough && self.weather.roll(|dice| dice.per_mille(20)) {
                    return Err(Fault::new(FaultKind::Transient, Side::Queue, "receive messages", "no answer"));
                }
                return Ok(taken);
            }
            tokio::time::sleep(Duration::from_millis(500).min(deadline - now)).await;
        }
    }

    async fn acknowledge(&self, receipts: Vec<Receipt>) -> Result<Vec<Receipt>, Fault> {
        self.ask(Verb::Acknowledge, |mailbox| {
            // A receipt of an earlier delivery is accepted and deletes nothing.
            mailbox.messages.retain(|message| {
                !receipts.iter().any(|receipt| receipt.id == message.id && receipt.handed_out == message.handed_out)
            });
            Vec::new()
        })
        .await
    }

    async fn extend(&self, receipts: Vec<Receipt>, visibility: Duration) -> Result<Vec<Receipt>, Fault> {
        self.ask(Verb::Extend, |mailbox| {
            let now = Instant::now();
            let (mut refused, receipts) = (Vec::new(), receipts);
            for receipt in receipts {
                let held = mailbox.messages.iter_mut().find(|message| {
                    message.id == receipt.id && message.handed_out == receipt.handed_out && message.visible > now
                });
                match held {
                    Some(message) => message.visible = now + visibility,
                    None => refused.push(receipt),
                }
            }
            refused
        })
        .await
    }

    async fn depth(&self) -> Result<QueueDepth, Fault> {
        self.ask(Verb::Depth, |mailbox| {
            let now = Instant::now();
            let visible = mailbox.messages.iter().filter(|message| message.visible <= now).count() as u64;
            QueueDepth { visible, in_flight: mailbox.messages.len() as u64 - visible }
        })
        .await
    }
}
