//! What a comparison leaves behind: counts, and evidence as JSON lines.

use std::io::{self, Write};

use serde_json::{Map, Value, json};

use super::{Finding, Seen, Told, Verdict};
use crate::model::fault::{Fault, FaultKind, Side};

/// The counts of a comparison.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    counts: [u64; Verdict::ALL.len()],
    /// Bytes of the source objects that were judged.
    pub bytes: u64,
    /// Parts of listings that failed, each in one sentence; only the first few.
    pub holes: Vec<String>,
    /// How many parts of listings failed.
    pub failed_ranges: u64,
    /// Objects that could not be looked at for a fault that is not theirs.
    pub obstacles: u64,
    /// The first of those faults.
    pub first_obstacle: Option<String>,
}

/// Failed ranges that are kept by name: all are in the report.
const NAMED_HOLES: usize = 20;

impl Tally {
    /// Counts one outcome.
    pub fn count(&mut self, told: &Told) {
        match told {
            Told::Finding(finding) => {
                let place = Verdict::ALL.iter().position(|verdict| *verdict == finding.verdict);
                let size = finding.source.as_ref().and_then(|seen| seen.size).unwrap_or(0);
                self.bytes = self.bytes.saturating_add(size);
                if let Some(count) = place.and_then(|place| self.counts.get_mut(place)) {
                    *count += 1;
                }
                if let Some(fault) = &finding.obstacle {
                    self.obstacles += 1;
                    self.first_obstacle.get_or_insert_with(|| format!("{}: {fault}", finding.key));
                }
            }
            Told::Hole { side, target, hole } => {
                self.failed_ranges += 1;
                if self.holes.len() < NAMED_HOLES {
                    let (name, bounds) = (side.name(), hole.bounds());
                    self.holes.push(format!("{name} listing for target {target}, {bounds}: {}", hole.fault));
                }
            }
        }
    }

    /// How many outcomes had this verdict.
    #[must_use]
    pub fn of(&self, verdict: Verdict) -> u64 {
        let place = Verdict::ALL.iter().position(|known| *known == verdict);
        place.and_then(|place| self.counts.get(place)).copied().unwrap_or_default()
    }

    /// Objects in scope at the source that were judged.
    #[must_use]
    pub fn compared(&self) -> u64 {
        [Verdict::Identical, Verdict::Missing, Verdict::Different, Verdict::Unprovable]
            .map(|kind| self.of(kind))
            .iter()
            .sum()
    }

    /// Whether the sides differ in anything.
    #[must_use]
    pub fn differs(&self) -> bool {
        [Verdict::Missing, Verdict::Different, Verdict::Extra].into_iter().any(|verdict| self.of(verdict) > 0)
    }

    /// Whether something was not compared that should have been.
    #[must_use]
    pub fn incomplete(&self) -> bool {
        self.failed_ranges > 0 || self.obstacles > 0
    }

    /// The counts, as fields of the documented object.
    #[must_use]
    pub fn fields(&self) -> Map<String, Value> {
        let mut fields = Map::new();
        fields.insert("compared".to_owned(), json!(self.compared()));
        for verdict in Verdict::ALL {
            fields.insert(verdict.name().to_owned(), json!(self.of(verdict)));
        }
        fields.insert("incomplete".to_owned(), json!(self.incomplete()));
        fields.insert("failed_ranges".to_owned(), json!(self.failed_ranges));
        fields
    }
}

/// Which findings are written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Breadth {
    /// All that are not identical.
    Differences,
    /// Every one.
    All,
}

/// A report being written: a header line, one line per finding, a trailer line.
#[derive(Debug)]
pub struct Report<W> {
    out: W,
    breadth: Breadth,
}

impl<W: Write> Report<W> {
    /// Begins with a header line of these fields.
    pub fn begin(mut out: W, breadth: Breadth, header: Map<String, Value>) -> Result<Self, Fault> {
        line(&mut out, "header", header)?;
        Ok(Self { out, breadth })
    }

    /// Writes one outcome down, where it is one to be written down.
    pub fn add(&mut self, told: &Told) -> Result<(), Fault> {
        match told {
            Told::Finding(finding) => {
                if self.breadth == Breadth::Differences && finding.verdict == Verdict::Identical {
                    return Ok(());
                }
                line(&mut self.out, "object", finding_fields(finding))
            }
            Told::Hole { side, target, hole } => {
                let fields = json!({
                    "side": side.name(),
                    "target": target.as_str(),
                    "after": hole.after.as_ref().map(|key| key.as_str()),
                    "upto": hole.upto.as_ref().map(|key| key.as_str()),
                    "fault": hole.fault.kind.name(),
                    "reason": hole.fault.to_string(),
                });
                line(&mut self.out, "failed-range", as_fields(fields))
            }
        }
    }

    /// Ends with a trailer line of these fields, and hands the sink back, flushed. A report without one is not whole.
    pub fn end(mut self, trailer: Map<String, Value>) -> Result<W, Fault> {
        line(&mut self.out, "trailer", trailer)?;
        self.out.flush().map_err(unwritable)?;
        Ok(self.out)
    }
}

fn line(out: &mut impl Write, kind: &str, fields: Map<String, Value>) -> Result<(), Fault> {
    let mut whole = Map::with_capacity(fields.len() + 1);
    whole.insert("kind".to_owned(), json!(kind));
    whole.extend(fields);
    serde_json::to_writer(&mut *out, &whole).map_err(|error| unwritable(error.into()))?;
    out.write_all(b"\n").map_err(unwritable)
}

/// A report that cannot be written is no evidence: the comparison stops.
#[allow(clippy::needless_pass_by_value, reason = "as `map_err` hands it over")]
fn unwritable(error: io::Error) -> Fault {
    Fault::new(FaultKind::Refused, Side::Local, "write the report", error.to_string())
}

fn as_fields(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(fields) => fields,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => Map::new(),
    }
}

fn finding_fields(finding: &Finding) -> Map<String, Value> {
    as_fields(json!({
        "target": finding.target.as_str(),
        "rule": finding.rule.as_ref().map(|rule| rule.as_str()),
        "key": finding.key.as_str(),
        "target_key": finding.target_key.as_str(),
        "verdict": finding.verdict.name(),
        "by": finding.by,
        "evidence": finding.evidence,
        "source": finding.source.as_ref().map(seen),
        "replica": finding.replica.as_ref().map(seen),
    }))
}

fn seen(seen: &Seen) -> Value {
    json!({
        "version": seen.version.as_ref().map(|version| version.as_str()),
        "etag": seen.etag.as_ref().map(|etag| etag.as_str()),
        "size": seen.size,
        "modified": seen.modified.rfc3339(),
    })
}

#[cfg(test)]
mod tests;
