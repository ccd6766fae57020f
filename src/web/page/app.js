// The page: what the worker says each second, and what is asked for now and then.
import { CHARTS, chart } from "./charts.js";
import { bytes, clock, count, duration, el, fill, many, say, tick, unknown } from "./format.js";
import { alarms, failures, operate, recent, rules, story } from "./panels.js";

/** Without a word for this long the page says that it is not live. */
const SILENCE = 5000;
/** What has waited no longer than this is under way, not late: the worker's own measure. */
const LATE = 60;
/** How far back the rates of the moment look. */
const WINDOW = 60;

const page = { status: null, setup: null, history: null, heard: null, words: [], asked: {} };
const $ = (id) => document.getElementById(id);
const charts = CHARTS.map((about) => chart(about));
$("charts").append(...charts.map((each) => each.figure));

const get = async (path) => {
  const answer = await fetch(path, { headers: { accept: "application/json" } });
  const told = await answer.json();
  if (!answer.ok) throw new Error(told.error ?? `the worker answered ${answer.status}`);
  return told;
};

// The state at a glance ----------------------------------------------------------------------------------------------

/** What is the case, in one word and one sentence: [mood, sign, headline, because]. */
const verdict = (s) => {
  const waits = s.pending.operations;
  const oldest = s.rpo?.seconds ?? s.pending.oldest_age_seconds;
  const late = !unknown(oldest) && page.setup && oldest > page.setup.sla_seconds;
  if (s.state === "draining") return ["warn", "↓", "Draining", "What is under way is finished; nothing new is begun."];
  if (s.state === "paused") {
    const until = s.paused_until ? `until ${new Date(s.paused_until).toLocaleString("en-GB")}` : "until somebody resumes it";
    return ["warn", "‖", "Paused", `Nothing is received or begun ${until}. ${many(waits, "change waits", "changes wait")}.`];
  }
  if (s.caught_up === true) return ["good", "✓", "Caught up", "Nothing waits, and the queue was seen empty within the last minute."];
  const held = s.brake?.held > 0 ? many(s.brake.held, "delete is held", "deletes are held") : null;
  const others = [waits > 0 ? `${many(waits, "more change waits", "more changes wait")} for their turn` : null, s.failed > 0 ? held : null].filter(Boolean).join(", and ");
  const besides = others === "" ? "All else that is known of is at its target." : `${others}.`;
  if (s.failed > 0) return ["bad", "!", `${many(s.failed, "change is", "changes are")} parked`, `${s.failed === 1 ? "It waits until its" : "They wait until their"} cause is mended, see below. ${besides}`];
  if (held) return ["bad", "!", held, `The brake holds ${s.brake.held === 1 ? "it" : "them"} until an operator releases it. ${besides}`];
  if (s.queue.dead_letters > 0) return ["bad", "!", `${many(s.queue.dead_letters, "message is", "messages are")} given up`, `The queue handed ${s.queue.dead_letters === 1 ? "it" : "them"} out too often; changes in ${s.queue.dead_letters === 1 ? "it" : "them"} may be missing. ${besides}`];
  if (s.queue.fault) return ["unknown", "?", "Not known", `The queue cannot be read: ${s.queue.fault}`];
  const exact = page.setup?.queue && !s.rpo?.doubt && !unknown(oldest) && oldest < LATE;
  if (exact && !unknown(s.queue.visible)) {
    const now = waits > 0 ? `${many(waits, "change is", "changes are")} under way, the oldest for ${duration(Math.ceil(oldest))}.` : "Nothing waits at this moment.";
    return ["good", "✓", "Keeping up", `Changes come and go; nothing has waited for a minute. ${now}`];
  }
  if (waits > 0) {
    const age = unknown(oldest) ? "" : `The oldest was made ${duration(Math.round(oldest))} ago${late ? `, beyond the SLA of ${duration(page.setup.sla_seconds)}` : ""}.`;
    return [late ? "bad" : "warn", "…", `Behind by ${many(waits, "change")}`, age];
  }
  if (s.queue.visible > 0) return ["warn", "…", `${many(s.queue.visible, "message waits", "messages wait")} in the queue`, "They have not been read yet."];
  if (page.setup && !page.setup.queue) return ["unknown", "?", "Not known", "This is a sync without a queue: what changes at the source meanwhile is not seen."];
  return ["unknown", "?", "Not known", "Nothing is known to wait, but the queue was not seen empty within the last minute."];
};

/** What is to be seen to: [grave?, what, sentence]. */
const attention = (s) => {
  const told = [];
  if (s.brake?.state === "held") told.push([true, "Deletes are held.", ` ${many(s.brake.held, "delete")} to ${s.brake.target}: ${s.brake.reason}. Release them below once they are meant, or undelete at the source first.`]);
  if (s.queue.fault && (s.failed > 0 || s.brake?.held > 0)) told.push([true, "The queue cannot be read.", ` ${s.queue.fault}`]);
  if (s.quarantined > 0) told.push([false, `${many(s.quarantined, "message")} could not be understood`, " and lie in the quarantine, see below."]);
  if (s.queue.dead_letters > 0) told.push([true, "The queue has given up", ` ${many(s.queue.dead_letters, "message")}: changes in them may be missing; repl check tells what to do.`]);
  if (s.turned_away > 0) told.push([true, "The quarantine is full:", ` ${many(s.turned_away, "message")} went back to the queue.`]);
  if (s.rpo?.doubt && s.state === "running" && !s.queue.fault) told.push([false, "The RPO clock is not exact:", ` ${s.rpo.doubt}`]);
  if (s.metrics?.fault) told.push([false, "Metrics do not arrive.", ` ${s.metrics.fault}`]);
  if (s.receipts?.lost > 0) told.push([true, "Receipts are lost.", ` ${many(s.receipts.lost, "receipt")} could not be written.`]);
  if (s.receipts?.fault) told.push([false, "Receipts are held up.", ` ${s.receipts.fault}`]);
  for (const { way, fault } of s.alerts?.faults ?? []) told.push([false, `Alerts do not leave by ${way}.`, ` ${fault}`]);
  return told;
};

/** Rates of the last minute, from what was heard in it. */
const pace = () => {
  const [first, last] = [page.words[0], page.words.at(-1)];
  const seconds = (last?.t - first?.t) / 1000;
  if (!(seconds >= 5)) return null;
  const per = (read) => (read(last.s) - read(first.s)) / seconds;
  return { done: per((s) => s.replicated.operations), bytes: per((s) => s.replicated.bytes), grows: per((s) => s.pending.operations) };
};

const drain = (waits, rates) => {
  if (waits === 0) return ["0 s", "nothing waits"];
  if (!rates) return ["measuring", "needs a few seconds of figures"];
  if (rates.grows >= 0) return ["not shrinking", rates.grows > 0 ? `grows by ${rates.grows.toFixed(1)} each second` : "neither more nor less than before"];
  return [`about ${duration(Math.ceil(waits / -rates.grows))}`, `shrinks by ${(-rates.grows).toFixed(1)} each second`];
};

const glance = (s) => {
  const [mood, sign, headline, because] = verdict(s);
  $("hero").dataset.mood = mood;
  say("sign", sign);
  say("headline", headline);
  say("because", because);
  fill($("as-of"), "as of ", el("span", { class: "clock" }, clock(new Date(s.as_of))));
  document.title = `${headline} – repl`;
  const rpo = s.rpo?.seconds;
  say("rpo", unknown(rpo) ? "not known" : duration(rpo < 60 ? Math.round(rpo) : rpo), rpo);
  const sla = page.setup ? `; SLA ${duration(page.setup.sla_seconds)}` : "";
  say("rpo-note", `${s.rpo?.doubt ? "not exactly" : "oldest change not at its target"}${sla}`);
  say("pending", many(s.pending.operations, "change"), s.pending.operations);
  say("pending-note", bytes(s.pending.bytes), s.pending.bytes);
  const rates = s.state === "running" ? pace() : null;
  const [time, note] = s.state === "paused" && s.pending.operations > 0 ? ["paused", "nothing moves"] : drain(s.pending.operations, rates);
  say("drain", time);
  say("drain-note", note);
  const { p50, p99, max } = s.latency_seconds;
  say("latency", unknown(p50) ? "none yet" : duration(p50), p50);
  say("latency-note", unknown(p50) ? "no live change since the start" : `99 % within ${duration(p99)}, longest ${duration(max)}`);
  say("replicated", count(s.replicated.operations), s.replicated.operations);
  say("replicated-note", `${bytes(s.replicated.bytes)}${rates ? `; now ${rates.done.toFixed(rates.done < 10 ? 1 : 0)}/s, ${bytes(rates.bytes)}/s` : ""}`, s.replicated.bytes);
  say("failed", count(s.failed), s.failed);
  say("failed-note", s.failed > 0 ? `by ${many(s.groups?.length ?? 0, "cause")}` : "nothing failed for good");
  fill($("notices"), attention(s).map(([grave, what, sentence]) => el("li", { class: grave && "bad" }, el("b", null, what), sentence)));
};

// What is heard each second --------------------------------------------------------------------------------------------

const heard = (s) => {
  page.status = s;
  page.heard = Date.now();
  page.words.push({ t: Date.parse(s.as_of), s });
  while (page.words.length > 1 && page.words.at(-1).t - page.words[0].t > WINDOW * 1000) page.words.shift();
  if (page.words.length > 1 && page.words.at(-1).t < page.words.at(-2).t) page.words = [page.words.at(-1)];
  liveness();
  glance(s);
  rules(s, page.setup);
  alarms(s, page.setup);
  operate(s, page.setup, act);
  now_and_then(s);
  tick();
};

const liveness = (why) => {
  const live = page.heard !== null && Date.now() - page.heard < SILENCE && !why;
  $("live").dataset.live = live ? "yes" : "no";
  document.body.classList.toggle("stale", !live);
  if (live) return say("live-text", "live");
  if (page.heard === null) return say("live-text", why ?? "not live yet");
  say("live-text", `not live since ${clock(new Date(page.heard))}`);
  // What was last heard is not what is: nobody is told "caught up" by a worker that says nothing.
  $("hero").dataset.mood = "unknown";
  say("sign", "?");
  say("headline", "Not known");
  say("because", `No word from the worker since ${clock(new Date(page.heard))}; the figures are those of then.${why ? ` ${why}` : ""}`);
  document.title = "Not known – repl";
};

let source = null;
const listen = () => {
  source?.close();
  source = new EventSource("/api/events");
  source.addEventListener("status", (event) => heard(JSON.parse(event.data)));
  source.addEventListener("fault", (event) => liveness(JSON.parse(event.data).error));
  source.addEventListener("error", () => {
    // The browser connects again by itself, unless it was answered something else than a stream.
    if (source.readyState === EventSource.CLOSED) setTimeout(listen, 3000);
  });
};

// What is asked for now and then ---------------------------------------------------------------------------------------

/** Asks when what it depends on has changed, or after a while, and never twice at once. */
const refresh = async (path, sign, patience, show) => {
  const asked = (page.asked[path] ??= { sign: null, at: 0, busy: false });
  const due = Date.now() - asked.at > patience || (sign !== asked.sign && Date.now() - asked.at > 1500);
  if (!due || asked.busy) return;
  Object.assign(asked, { busy: true, sign, at: Date.now() });
  try {
    show(await get(path));
    tick();
  } catch {
    // The state says that the worker does not answer; these are asked for again.
    asked.sign = null;
  } finally {
    asked.busy = false;
  }
};

const hours = () => Number(document.querySelector("input[name=range]:checked").value);
const draw = () => page.history && charts.forEach((each) => each.draw(page.history, hours()));

const now_and_then = (s) => {
  refresh("/api/failures", JSON.stringify([s.groups, s.quarantined, s.brake]), 15000, (told) => failures(told, page.status, page.setup, act));
  const moved = JSON.stringify([s.replicated, s.failed, s.already_equal, s.superseded, s.not_replicated, s.faults]);
  refresh("/api/recent", moved, 20000, (told) => recent(told, look));
  refresh("/api/history", Math.floor((Date.parse(s.as_of) - 1500) / 60000), 65000, (told) => {
    page.history = told;
    // Until somebody chooses: the shortest time that has all there is.
    const age = told.samples.length > 0 ? (Date.parse(told.as_of) - Date.parse(told.samples[0].at)) / 3600e3 : 0;
    if (!page.chosen) document.querySelector(`input[name=range][value="${age < 1 ? 1 : 6}"]`).checked = true;
    draw();
  });
};

// What a person does ---------------------------------------------------------------------------------------------------

const tell = (mood, text) => {
  $("said").dataset.mood = mood;
  say("said", text);
};

/** Changes something, with the token that stands in the field. */
const act = async (path, body, done) => {
  const token = $("token")?.value ?? "";
  if (token === "") {
    tell("bad", "This needs the token of [web]: put it in below.");
    $("token")?.focus();
    return;
  }
  try {
    const answer = await fetch(path, {
      method: "POST",
      headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
      body: JSON.stringify(body),
    });
    const told = await answer.json();
    if (!answer.ok) throw new Error(told.error ?? `the worker answered ${answer.status}`);
    tell("good", done(told));
    for (const asked of Object.values(page.asked)) asked.sign = null;
  } catch (fault) {
    tell("bad", `Not done: ${fault.message}`);
  }
};

const look = async (key, version) => {
  $("why-key").value = key;
  $("why-version").value = version ?? "";
  fill($("story"), el("p", { class: "empty" }, "Looking at both sides…"));
  try {
    const asked = new URLSearchParams({ key });
    if (version) asked.set("version", version);
    story(await get(`/api/why?${asked}`));
  } catch (fault) {
    fill($("story"), el("p", { class: "said", "data-mood": "bad" }, fault.message));
  }
  tick();
};

$("why-form").addEventListener("submit", (event) => {
  event.preventDefault();
  look($("why-key").value, $("why-version").value);
});
document.querySelector(".range").addEventListener("change", () => {
  page.chosen = true;
  draw();
});

get("/api/setup").then((setup) => {
  page.setup = setup;
  const names = setup.targets.map((target) => target.bucket).join(", ");
  fill($("route"), el("b", null, setup.source.bucket), " → ", el("b", null, names));
  $("route").title = `${setup.source.bucket} (${setup.source.region}) → ${setup.targets.map((target) => `${target.bucket} (${target.region})`).join(", ")}`;
  say("version", `repl ${setup.version}`);
  if (page.status) heard(page.status);
}).catch(() => {});

listen();
setInterval(() => {
  liveness();
  tick();
}, 1000);
