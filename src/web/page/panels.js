// The parts of the page below the state.
import { ago, bytes, count, duration, el, empty, fill, key, many, table, tag, unknown } from "./format.js";

const $ = (id) => document.getElementById(id);

// Rules and alarms -----------------------------------------------------------------------------------------------------

export const rules = (s, setup) => {
  const rows = s.rules.map((rule) => {
    const meant = setup?.rules.find((each) => each.id === rule.id);
    const target = setup?.targets.find((each) => each.id === rule.target);
    const tags = Object.entries(meant?.tags ?? {}).map(([name, value]) => `${name}=${value}`);
    const scope = [meant?.prefix ? `keys ${meant.prefix}…` : "all keys", ...tags].join(", ");
    const state = rule.status !== "enabled" ? tag("", "disabled") : rule.failed > 0 ? tag("bad", `${count(rule.failed)} parked`) : rule.pending.operations > 0 ? tag("warn", "behind") : tag("good", "nothing waits");
    return [
      [el("b", null, rule.id), el("div", { class: "sub" }, scope)],
      target ? [el("span", null, target.bucket), el("div", { class: "sub" }, target.region)] : rule.target,
      [count(rule.pending.operations), el("div", { class: "sub" }, bytes(rule.pending.bytes))],
      [count(rule.replicated.operations), el("div", { class: "sub" }, bytes(rule.replicated.bytes))],
      state,
    ];
  });
  fill($("rules"), table([["Rule"], ["Target"], ["Waiting", true], ["Replicated", true], ["State"]], rows));
};

const TIERS = [["management", "Management"], ["critical", "Critical"], ["standard", "Standard"]];

export const alarms = (s, setup) => {
  if (s.alarms === null) {
    const where = setup?.alarms === "cloudwatch" ? "CloudWatch evaluates the alarms, and tells the three tiers by SNS: look there." : "No alarm has been evaluated yet.";
    fill($("alarms"), empty(where));
    return;
  }
  fill($("alarms"), TIERS.map(([id, name]) => tier(name, s.alarms.filter((alarm) => alarm.tier === id))));
};

const tier = (name, all) => {
  const firing = all.filter((alarm) => alarm.state === "ALARM");
  const blind = all.filter((alarm) => alarm.state === "INSUFFICIENT_DATA");
  const fine = all.length - firing.length - blind.length;
  const mark = firing.length > 0 ? tag("bad", `${count(firing.length)} in alarm`) : fine > 0 ? tag("good", "quiet") : tag("", "no data");
  const names = (some) => some.map((alarm) => alarm.name.replace(/^.*-/, "")).join(", ");
  return el(
    "div",
    { class: "tier" },
    el("header", null, el("h3", null, name), mark),
    el("ul", null, firing.map((alarm) => el("li", null, el("b", null, alarm.name), el("span", { class: "sub" }, ago(alarm.since)), el("p", { class: "sub" }, alarm.reason)))),
    el("p", { class: "sub" }, `${fine} of ${all.length} within their threshold${blind.length > 0 ? `; no data for ${names(blind)}` : ""}`),
  );
};

// Failures -------------------------------------------------------------------------------------------------------------

export const failures = (told, s, setup, act) => {
  const parts = [...(told.groups ?? []).map((group) => cause(group, setup, act))];
  for (const brake of (s?.brake?.targets ?? []).filter((each) => each.state === "held")) parts.push(held(brake, setup, act));
  if (told.quarantined_total > 0) parts.push(quarantine(told, setup, act));
  fill_live($("failures"), parts.length > 0 ? parts : [empty("Nothing is parked: whatever failed was tried again and is done, or is on its way.")]);
};

/** Buttons have listeners, which equal markup does not show: so these parts are only replaced where their text differs. */
const fill_live = (place, parts) => {
  const shown = parts.map((part) => part.outerHTML).join("");
  if (place.dataset.shown === shown) return;
  place.dataset.shown = shown;
  const open = [...place.querySelectorAll("details[open]")].map((each) => each.id);
  place.replaceChildren(...parts);
  for (const id of open) document.getElementById(id)?.setAttribute("open", "");
};

const button = (setup, label, name, press) => (setup?.writable ? el("button", { type: "button", "aria-label": name, onclick: press }, label) : null);

const cause = (group, setup, act) => {
  const what = (told) => `${many(told.retried ?? 0, "object")} of group ${group.id} tried again now.`;
  return el(
    "div",
    { class: "group", "data-group": group.id },
    el("h3", null, group.cause),
    el("p", { class: "count" }, `${many(group.count, "object")}, ${bytes(group.bytes)}`),
    el("p", { class: "sub" }, group.fault),
    el("p", { class: "act" }, button(setup, "Try again now", `Try group ${group.id} again now`, () => act("/api/failures/retry", { group: group.id }, what))),
    el("p", { class: "sub" }, `group ${group.id}${group.rule ? `, rule ${group.rule}` : ""}, target ${group.target}; `, "oldest ", duration(Math.round(group.oldest_age_seconds / 60) * 60 || 60), "; example ", key(group.example)),
    el("details", { id: `fix-${group.id}` }, el("summary", null, "What mends it"), el("p", { class: "fix" }, group.fix)),
  );
};

const held = (brake, setup, act) =>
  el(
    "div",
    { class: "group" },
    el("h3", null, `Brake of target ${brake.target}`),
    el("p", { class: "count" }, many(brake.held, "delete")),
    el("p", { class: "sub" }, `${brake.reason}. Undelete at the source what is not meant; then let go of the rest.`),
    el("p", { class: "act" }, button(setup, "Release", `Release the brake of ${brake.target}`, () => {
      if (confirm(`Let ${many(brake.held, "delete")} go to ${brake.target}?`)) act("/api/brake/release", { target: brake.target }, (told) => `${many(told.released, "delete")} let go.`);
    })),
  );

const quarantine = (told, setup, act) =>
  el(
    "div",
    { class: "group" },
    el("h3", null, "Messages that could not be understood"),
    el("p", { class: "count" }, `${many(told.quarantined_total, "message")}, ${bytes(told.quarantined_bytes)}`),
    el("p", { class: "sub" }, "They are kept with their reason. After an upgrade, read them again."),
    el("p", { class: "act" }, button(setup, "Read again", "Read all messages of the quarantine again", () => act("/api/failures/retry", { messages: true }, (told) => `${many(told.redriven ?? 0, "message")} understood; ${many(told.still_quarantined?.length ?? 0, "message")} still not.`))),
    el(
      "details",
      { id: "quarantined" },
      el("summary", null, "The oldest of them"),
      el("ul", null, told.quarantined.slice(0, 10).map((message) => el("li", null, el("p", { class: "sub" }, `${message.id}, ${new Date(message.received).toLocaleString("en-GB")}: ${message.reason}`), el("p", { class: "fix mono" }, message.body)))),
    ),
  );

// Recent objects and one object's story --------------------------------------------------------------------------------

const OUTCOMES = {
  replicated: ["good", "replicated"],
  "already-equal": ["good", "was equal"],
  superseded: ["", "superseded"],
  "not-replicated": ["", "not replicated"],
  gone: ["", "gone at the source"],
  failed: ["bad", "failed"],
  pending: ["warn", "pending"],
  parked: ["bad", "parked"],
  held: ["bad", "held by the brake"],
  missing: ["bad", "missing"],
  different: ["bad", "different"],
  unknown: ["", "not known"],
};

const outcome = (name) => tag(...(OUTCOMES[name] ?? ["", name]));

export const recent = (told, look) => {
  if (told.recent.length === 0) {
    fill_live($("recent"), [empty("Nothing has happened yet. Objects of live changes appear here as they arrive; those of a sync only if something went wrong.")]);
    return;
  }
  const rows = told.recent.map((each) => {
    const open = el("a", { href: "#h-why", onclick: () => look(each.key), title: "Why is it where it is?" }, key(each.key));
    const what = each.parked_in !== null ? tag("bad", "parked") : each.retry_at !== null ? tag("warn", "tried again") : outcome(each.outcome);
    return [ago(each.at), [open, each.reason ? el("div", { class: "sub" }, each.reason) : null], [what, el("div", { class: "sub" }, `to ${each.target}`)], unknown(each.lag_seconds) ? "–" : duration(each.lag_seconds)];
  });
  fill_live($("recent"), [table([["When"], ["Key"], ["Outcome"], ["Took", true]], rows)]);
};

const FIELDS = ["bucket", "region", "key", "kind", "version", "etag", "size", "modified", "storage_class", "encryption", "checksum", "content_type", "retain_until", "legal_hold", "fault"];
/** A replica's own, which differ by nature. */
const OWN = ["bucket", "region", "version", "modified"];

const cell = (value) => {
  if (unknown(value)) return "–";
  if (typeof value === "object") return Object.values(value).filter((each) => !unknown(each)).join(" ") || "–";
  return String(value);
};

export const story = (told) => {
  const parts = told.targets.map((at) => {
    const rows = FIELDS.map((field) => [field, cell(told.source[field]), cell(at.target?.[field])]).filter(([, one, other]) => one !== "–" || other !== "–");
    for (const row of rows) if (row[1] !== row[2] && !OWN.includes(row[0])) row.class = "differs";
    return el(
      "div",
      null,
      el("h3", null, at.name, outcome(at.state), el("span", { class: "sub" }, at.rule ? `rule ${at.rule}` : "no rule")),
      at.reason ? el("p", null, at.reason) : null,
      el("p", null, el("b", null, "Next: "), at.next),
      el("div", { class: "scroll" }, table([["Field"], ["Source"], ["Target"]], rows)),
    );
  });
  const events = told.events.slice(-20).reverse().map((event) => [event.at ? ago(event.at) : "–", event.kind, [event.by ?? "", event.reason ? el("div", { class: "sub" }, event.reason) : null], el("span", { class: "key" }, event.version)]);
  const attempts = told.attempts.slice(-20).reverse().map((each) => [ago(each.at), each.target, outcome(each.outcome), [each.fault ?? "–", each.next ? el("div", { class: "sub" }, each.next) : null]]);
  fill_live($("story"), [
    el(
      "div",
      { class: "story" },
      el("p", null, key(told.key), el("span", { class: "sub" }, `  as of ${new Date(told.as_of).toLocaleTimeString("en-GB")}`)),
      parts,
      el("h3", null, "Events"),
      events.length > 0 ? el("div", { class: "scroll" }, table([["When"], ["Change"], ["Told by"], ["Version"]], events)) : empty("None that the ledger remembers."),
      el("h3", null, "Attempts"),
      attempts.length > 0 ? el("div", { class: "scroll" }, table([["When"], ["Target"], ["Outcome"], ["Fault"]], attempts)) : empty("None that the ledger remembers."),
    ),
  ]);
};

// Operating ------------------------------------------------------------------------------------------------------------

const KEPT = "repl-token";

export const operate = (s, setup, act) => {
  const place = $("operate");
  if (!setup) return;
  if (!setup.writable) {
    fill(place, empty("This page only shows: no token is configured under [web], so nothing can be changed from here."));
    return;
  }
  if (!place.dataset.made) {
    place.dataset.made = "yes";
    const token = el("input", { id: "token", type: "password", autocomplete: "off", value: sessionStorage.getItem(KEPT) ?? "" });
    token.addEventListener("change", () => sessionStorage.setItem(KEPT, token.value));
    const until = el("input", { id: "until", autocomplete: "off", placeholder: "for good, or 30m" });
    const pause = () => act("/api/pause", until.value === "" ? {} : { until: until.value }, (told) => (told.paused_until ? `Paused until ${new Date(told.paused_until).toLocaleString("en-GB")}.` : "Paused until somebody resumes it."));
    place.append(
      el(
        "form",
        { class: "ask", onsubmit: (event) => event.preventDefault() },
        el("label", { class: "grow" }, "Token of [web], kept in this tab only", token),
        el("label", { id: "until-label" }, "Pause for", until),
        el("button", { id: "pause", type: "button", onclick: pause }, "Pause"),
        el("button", { id: "resume", type: "button", class: "main", onclick: () => act("/api/resume", {}, () => "Resumed.") }, "Resume"),
      ),
    );
  }
  const paused = s.paused === true;
  $("pause").hidden = $("until-label").hidden = paused;
  $("resume").hidden = !paused;
};
