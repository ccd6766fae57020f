// Numbers with units, times, and elements. Text goes in as text only: a key may look like markup.

export const el = (tag, attributes, ...children) => {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return made;
};

/** Puts children in place of what is there; an element that has the focus or a selection keeps it if nothing changed. */
export const fill = (place, ...children) => {
  const fresh = el("div", null, ...children);
  if (place.dataset.shown === fresh.innerHTML) return;
  place.dataset.shown = fresh.innerHTML;
  place.replaceChildren(...fresh.childNodes);
};

export const say = (id, text, value) => {
  const place = document.getElementById(id);
  if (place.textContent !== text) place.textContent = text;
  if (value !== undefined) place.dataset.value = value === null ? "null" : String(value);
};

export const unknown = (value) => value === null || value === undefined;

export const count = (number) => (unknown(number) ? "not known" : number.toLocaleString("en-GB"));

export const many = (number, one, more) => `${count(number)} ${number === 1 ? one : more ?? `${one}s`}`;

export const bytes = (number) => {
  if (unknown(number)) return "not known";
  const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
  let unit = 0;
  let value = number;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`;
};

export const duration = (seconds) => {
  if (unknown(seconds)) return "not known";
  if (seconds === 0) return "0 s";
  if (seconds < 1) return `${Math.max(1, Math.round(seconds * 1000))} ms`;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  const parts = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];
  const first = parts.findIndex(([, size]) => whole >= size);
  const [unit, size] = parts[first];
  const [below, smaller] = parts[first + 1];
  const rest = Math.floor((whole % size) / smaller);
  return `${Math.floor(whole / size)} ${unit}${rest > 0 ? ` ${rest} ${below}` : ""}`;
};

export const clock = (moment) => moment.toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });

const relative = (moment) => {
  const seconds = (Date.now() - moment) / 1000;
  if (Math.abs(seconds) < 2) return "now";
  const away = Math.round(Math.abs(seconds));
  const told = away < 60 ? `${away} s` : duration(away);
  return seconds > 0 ? `${told} ago` : `in ${told}`;
};

/** A time as how long ago, with the whole time on hover; `tick` keeps it so. */
export const ago = (text) => {
  if (unknown(text)) return document.createTextNode("–");
  return el("time", { datetime: text, title: new Date(text).toString() }, "…");
};

export const tick = () => {
  for (const time of document.querySelectorAll("time[datetime]")) {
    const told = relative(new Date(time.dateTime));
    if (time.textContent !== told) time.textContent = told;
  }
};

export const tag = (mood, text) => el("span", { class: `tag ${mood}` }, text);

export const key = (text) => el("span", { class: "key" }, text);

export const empty = (text) => el("p", { class: "empty" }, text);

/** A table from heads ([title, numeric?]) and rows of cells. */
export const table = (heads, rows) =>
  el(
    "table",
    null,
    el("thead", null, el("tr", null, heads.map(([title, numeric]) => el("th", { scope: "col", class: numeric && "n" }, title)))),
    el("tbody", null, rows.map((cells) => el("tr", { class: cells.class }, cells.map((cell, at) => el("td", { class: heads[at][1] && "n" }, cell))))),
  );
