//! Floor 3: the ways on which alerts leave where there is no AWS to take them: a webhook, a mail server.
//!
//! *Secret kept:* how a webhook is signed, how a mail is built and handed over. *May touch:* the network. *Must not
//! know:* what an alarm is, who else is told, when to try again.

pub mod mail;
pub mod webhook;
