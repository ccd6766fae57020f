// Charts in SVG: axes with units, gaps where nothing is known, a cursor for pointer and keyboard.
import { bytes, count, duration, el } from "./format.js";

const SVG = "http://www.w3.org/2000/svg";
const HEIGHT = 170;
const EDGE = { left: 58, right: 8, top: 10, bottom: 22 };

const svg = (tag, attributes, ...children) => {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes ?? {})) made.setAttribute(name, value);
  made.append(...children);
  return made;
};

const rate = (perMinute) => {
  const each = perMinute / 60;
  return `${each >= 10 || each === 0 ? Math.round(each) : each.toFixed(each >= 1 ? 1 : 2)}/s`;
};

/** What is drawn. `of` reads a sample: null is a gap. */
export const CHARTS = [
  {
    id: "latency",
    title: "Latency of live changes",
    scale: "log",
    unit: duration,
    ticks: [0.01, 0.1, 1, 10, 60, 600, 3600, 36000, 360000],
    nothing: "no live change arrived in this time",
    series: [
      { name: "median", of: (s) => s.latency_seconds.p50, look: "line c1" },
      { name: "99 %", of: (s) => s.latency_seconds.p99, look: "line c1 dash" },
      { name: "longest", of: (s) => s.latency_seconds.max, look: "line c2 dots" },
    ],
  },
  {
    id: "pending",
    title: "Waiting at the end of each minute",
    unit: count,
    series: [
      { name: "changes", of: (s) => s.pending.operations, look: "line c1", area: true },
      { name: "parked", of: (s) => s.failed, look: "line c3 dash" },
    ],
    also: (s) => bytes(s.pending.bytes),
  },
  {
    id: "throughput",
    title: "Throughput",
    unit: rate,
    least: 60,
    series: [{ name: "changes replicated", of: (s) => s.replicated.operations, bar: "f1" }],
    also: (s) => `${bytes(s.replicated.bytes / 60)}/s`,
  },
  {
    id: "errors",
    title: "Errors each minute",
    unit: count,
    series: [
      { name: "errors of S3 and KMS", of: (s) => s.errors, bar: "f3" },
      { name: "throttled", of: (s) => s.throttles, bar: "f2" },
    ],
  },
];

const nice = (most, least) => {
  const goal = Math.max(most, least);
  const power = 10 ** Math.floor(Math.log10(goal));
  const step = [1, 2, 5, 10].map((each) => each * power).find((each) => goal / each <= 2.5) ?? power;
  const fit = [step / 2, step].find((each) => goal / each <= 4 && (least < 1 || each >= least / 4)) ?? step;
  return { top: Math.ceil(goal / fit) * fit, step: fit };
};

const linear = (most, least) => {
  const { top, step } = nice(most, least ?? 4);
  const ticks = [];
  for (let tick = 0; tick <= top + step / 2; tick += step) ticks.push(tick);
  return { ticks, share: (value) => value / top };
};

const logarithmic = (values, ticks) => {
  const seen = values.filter((value) => value > 0);
  const low = ticks.findLast((tick) => tick <= Math.min(...seen)) ?? ticks[0];
  const high = ticks.find((tick) => tick >= Math.max(...seen) && tick > low) ?? ticks.at(-1);
  const span = Math.log(high / low);
  return {
    ticks: ticks.filter((tick) => tick >= low && tick <= high),
    share: (value) => Math.max(0, Math.min(1, Math.log(Math.max(value, low) / low) / span)),
  };
};

const hour = (moment) => new Date(moment).toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" });

/** One chart in its figure; `draw(history, hours)` shows the last hours. */
export const chart = (about) => {
  const read = el("span", { class: "read" });
  const plot = svg("svg", { class: "plot", role: "img", tabindex: "0" });
  const legend = el("div", { class: "legend" }, about.series.map((series) => {
    const mark = series.bar
      ? svg("rect", { class: series.bar, x: 5, y: 0, width: 10, height: 8, rx: 1 })
      : svg("line", { class: series.look, x1: 1, x2: 19, y1: 4, y2: 4 });
    const sample = svg("svg", { viewBox: "0 0 20 8", "aria-hidden": "true" }, mark);
    return el("span", null, sample, series.name);
  }));
  const figure = el("figure", { id: `chart-${about.id}` }, el("figcaption", null, el("h3", null, about.title), read), plot, legend);
  let drawn = null;

  const draw = (history, hours) => {
    drawn = { history, hours };
    const width = Math.max(240, plot.clientWidth || 480);
    const now = Date.parse(history.as_of);
    const from = now - hours * 3600e3;
    const minute = history.interval_seconds * 1000;
    const samples = history.samples.map((sample) => ({ ...sample, t: Date.parse(sample.at) })).filter((sample) => sample.t >= from);
    const values = samples.flatMap((sample) => about.series.map((series) => series.of(sample))).filter((value) => value !== null);
    plot.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    const x = (t) => EDGE.left + ((t - from) / (now - from)) * (width - EDGE.left - EDGE.right);
    const floor = HEIGHT - EDGE.bottom;
    const parts = [];
    if (values.length === 0) {
      plot.replaceChildren(
        svg("line", { class: "axis", x1: EDGE.left, x2: width - EDGE.right, y1: floor, y2: floor }),
        svg("text", { class: "nothing", x: (EDGE.left + width) / 2, y: HEIGHT / 2 }, samples.length > 0 ? (about.nothing ?? "nothing") : "no minute of this time was sampled yet"),
      );
      plot.setAttribute("aria-label", `${about.title}: nothing to show`);
      read.textContent = "";
      return;
    }
    const scale = about.scale === "log" && values.some((value) => value > 0) ? logarithmic(values, about.ticks) : linear(Math.max(...values), about.least);
    const y = (value) => floor - scale.share(value) * (floor - EDGE.top);
    for (const value of scale.ticks) {
      parts.push(svg("line", { class: value === scale.ticks[0] ? "axis" : "grid", x1: EDGE.left, x2: width - EDGE.right, y1: y(value), y2: y(value) }));
      parts.push(svg("text", { x: EDGE.left - 8, y: y(value) + 4, "text-anchor": "end" }, about.unit(value)));
    }
    const steps = [10, 15, 30, 60, 120, 180, 240, 360].map((minutes) => minutes * 60e3);
    const step = steps.find((each) => ((now - from) / each) * 62 <= width - EDGE.left) ?? steps.at(-1);
    const offset = new Date(now).getTimezoneOffset() * 60e3;
    for (let t = Math.ceil((from - offset) / step) * step + offset; t <= now; t += step) {
      if (x(t) > EDGE.left + 14 && x(t) < width - 14) parts.push(svg("text", { x: x(t), y: HEIGHT - 4, "text-anchor": "middle" }, hour(t)));
    }
    for (const series of about.series) parts.push(...(series.bar ? bars(series, samples, { x, y, floor, minute }) : lines(series, samples, { x, y, floor, minute })));
    const cursor = svg("line", { class: "cursor", y1: EDGE.top, y2: floor, visibility: "hidden" });
    plot.replaceChildren(...parts, cursor);
    const last = samples.at(-1);
    plot.setAttribute("aria-label", `${about.title}: ${words(last)} at ${hour(last.t)}; highest ${about.unit(Math.max(...values))}. Arrow keys read it.`);
    plot.onpointermove = (event) => {
      const box = plot.getBoundingClientRect();
      const t = from + ((((event.clientX - box.left) * width) / box.width - EDGE.left) / (width - EDGE.left - EDGE.right)) * (now - from);
      point(samples.reduce((best, sample) => (Math.abs(sample.t + minute / 2 - t) < Math.abs(best.t + minute / 2 - t) ? sample : best)));
    };
    let at = samples.length - 1;
    plot.onkeydown = (event) => {
      if (event.key !== "ArrowLeft" && event.key !== "ArrowRight") return;
      event.preventDefault();
      at = Math.max(0, Math.min(samples.length - 1, at + (event.key === "ArrowLeft" ? -1 : 1)));
      point(samples[at]);
    };
    const point = (sample) => {
      cursor.setAttribute("visibility", "visible");
      cursor.setAttribute("x1", x(sample.t + minute / 2));
      cursor.setAttribute("x2", x(sample.t + minute / 2));
      read.textContent = `${hour(sample.t)}  ${words(sample)}`;
    };
    plot.onpointerleave = plot.onblur = () => {
      cursor.setAttribute("visibility", "hidden");
      read.textContent = words(last);
    };
    read.textContent = words(last);
  };

  const words = (sample) => {
    const told = about.series.map((series) => `${series.name} ${series.of(sample) === null ? "–" : about.unit(series.of(sample))}`);
    if (about.also) told.push(about.also(sample));
    return told.join(" · ");
  };

  new ResizeObserver(() => drawn && draw(drawn.history, drawn.hours)).observe(figure);
  return { figure, draw };
};

/** Runs of minutes without a gap, as lines; a run of one minute is a dot. */
const lines = (series, samples, { x, y, floor, minute }) => {
  const runs = [];
  let before = null;
  for (const sample of samples) {
    const value = series.of(sample);
    if (value === null) {
      before = null;
      continue;
    }
    if (before === null || sample.t - before > minute * 1.5) runs.push([]);
    runs.at(-1).push([x(sample.t + minute / 2), y(value)]);
    before = sample.t;
  }
  return runs.flatMap((run) => {
    const ends = run.length === 1 ? [[run[0][0] - 1.5, run[0][1]], [run[0][0] + 1.5, run[0][1]]] : run;
    const path = `M${ends.map(([px, py]) => `${px.toFixed(1)} ${py.toFixed(1)}`).join("L")}`;
    const area = svg("path", { class: "area", d: `${path}L${ends.at(-1)[0].toFixed(1)} ${floor}L${ends[0][0].toFixed(1)} ${floor}Z` });
    return [...(series.area ? [area] : []), svg("path", { class: series.look, d: path })];
  });
};

const bars = (series, samples, { x, y, floor, minute }) =>
  samples
    .filter((sample) => series.of(sample) > 0)
    .map((sample) => {
      const width = Math.max(1, x(sample.t + minute) - x(sample.t) - 0.6);
      const top = Math.min(y(series.of(sample)), floor - 1);
      return svg("rect", { class: series.bar, x: x(sample.t).toFixed(1), y: top.toFixed(1), width: width.toFixed(1), height: (floor - top).toFixed(1) });
    });
