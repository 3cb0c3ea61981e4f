"use strict";
const PATIENCE_MS = 3500;  // without an answer for so long there is no connection
const DEAD_MS = 700;       // after a change nobody has read what it changed to
const NOTICE_MS = 8000;
const MOST = 16;           // series that can be told apart
const SHAPES = ["M-6-6h12v12h-12z", "M0-7L7 6H-7z", "M0-8L8 0L0 8L-8 0z", "M-7 0a7 7 0 1 0 14 0a7 7 0 1 0-14 0z",
  "M0 7L7-6H-7z", "M-7-2.5h4.5v-4.5h5v4.5h4.5v5h-4.5v4.5h-5v-4.5h-4.5z", "M-7 0L-3.5-6.5H3.5L7 0L3.5 6.5H-3.5z", "M-7-7L7 0L-7 7z"];
const COLOURS = ["#003a8c", "#b33c00", "#00604d", "#7a0070", "#000000", "#8c0000", "#5c4300", "#35508c"];
const DASHES = ["", "9 5", "2 5", "9 4 2 4"];

let state = null;          // as shown
let heard = -Infinity;     // when it came
let dead = 0;              // no wish before this moment
let moved = false;         // the sweep has another address now
let asked = false;         // a wish is on its way
let chosen = null;         // in the list of places
let drawn = "";
let redo = null;           // the place that the question names
let asks = 0;              // the runs that it names
let hung = false;          // a wish got no answer
let next = 0, noticed = 0;

const $ = id => document.getElementById(id);
const now = () => performance.now();
const metres = place => `${place.distance_m}\u00a0m` + (state.turns > 1 ? ` ·\u00a0turn\u00a0${place.turn + 1}` : "");
const same = (one, other) => JSON.stringify(one) === JSON.stringify(other);
const at = place => `${place.turn} ${place.distance_m}`;
const runs = count => `${count} run${count === 1 ? "" : "s"}`;
const connected = () => now() - heard < PATIENCE_MS;
const ready = () => state && !state.over && !asked && connected() && now() >= dead;

// --- nothing is touched that does not change
function set(thing, name, value) { if (thing[name] !== value) thing[name] = value }
function put(id, words) { set($(id), "textContent", words) }
function show(id, visible) { set($(id), "hidden", !visible) }
function fit(parent, count, make) {
  while (parent.children.length > count) parent.lastElementChild.remove();
  while (parent.children.length < count) parent.append(make());
}
function element(tag, attributes = {}) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}
function cells(row, words) {
  fit(row, words.length, () => row.children.length ? element("td") : element("th", {scope: "row"}));
  words.forEach((word, n) => set(row.children[n], "textContent", word));
}
function rows(table, lines) {
  const body = table.tBodies[0];
  fit(body, lines.length, () => element("tr"));
  lines.forEach((line, n) => cells(body.children[n], line));
}

// --- what there is to see
function render(view) {
  if (state && !same(state.ground, view.ground)) {
    dead = now() + DEAD_MS;
    if ($("sure").open) notice("Nothing is withdrawn: the sweep has gone on meanwhile.", NOTICE_MS);
    $("sure").close();
  }
  dead = Math.max(dead, now() + 1000 * view.dead_s);
  state = view;
  if ($("sure").open && writtenAt(redo) !== asks) question();
  if (hung) notice("Your last tap got no answer: it was done if the screen shows it, and else not.", NOTICE_MS);
  hung = false;
  const phase = view.place ? view.ground.phase : "done", place = view.place;
  put("count", `${runs(view.done)} done, ${view.left} to go`);
  put("doing", view.over ? "The sweep has ended"
    : phase === "done" ? (view.left ? `Ended, ${runs(view.left)} left out` : "All runs are done")
    : phase === "asking" ? (view.trouble ? "Stopped at " : "Move to ") + title(place)
    : view.countdown_s !== null ? "Step away" : title(place) + ": measuring");
  put("trouble", view.trouble);
  show("trouble", view.trouble && phase !== "done");
  put("then", phase === "done" ? (view.skipped.length ? `Skipped: ${view.skipped.map(metres).join(", ")}` : "")
    : view.then ? `Then: ${title(view.then)}` : "Then: the end");
  put("command", view.report);
  const movers = place ? [...place.nodes].sort((one, other) => urgent(other) - urgent(one)) : [];
  rows($("who"), movers.map(node =>
    [node.name, `${node.does}, ${node.where}`, node.moves === null ? "put there" : node.moves ? "moves" : "stays"]));
  show("who", place);
  put("run", phase !== "under way" || !view.run ? ""
    : `${view.run.bearer}, ${view.run.packets} packets, run ${view.run.repeat + 1} of ${view.repeats}: ${view.doing}`);
  show("burst", phase === "under way");
  set($("burst"), "value", view.progress[1] ? view.progress[0] / view.progress[1] : 0);
  plot(view);
  losses(view);
  fit($("lines"), view.lines.length, () => element("li"));
  view.lines.forEach((line, n) => set($("lines").children[view.lines.length - 1 - n], "textContent", line));
  choices(view);
  $("bar").classList.toggle("turns", view.turns > 1);
  $("main").classList.toggle("stop", phase === "under way");
  put("main", view.over ? "Ended" : phase === "done" ? "End the sweep" : phase === "under way" ? "Interrupt"
    : view.trouble ? "Try again" : "In place: start");
  tick();
}
const urgent = node => node.moves ? 2 : node.moves === null ? 1 : 0;
const title = place => `${place.distance_m}\u00a0m` + (state.turns > 1 ? `, turn ${place.turn + 1} of ${state.turns}` : "");

function losses(view) {
  const names = [...new Set(view.points.flatMap(point => Object.keys(point.losses)))];
  const head = $("places").tHead.rows[0];
  fit(head, names.length + 2, () => element("th", {scope: "col"}));
  ["place", "runs", ...names].forEach((word, n) => set(head.children[n], "textContent", word));
  rows($("places"), view.places.map(place => {
    const here = view.points.filter(point => at(point) === at(place));
    return [metres(place), `${place.done}/${place.of}`, ...names.map(name => here.map(point =>
      point.losses[name] ? `${(100 * point.losses[name][0]).toFixed(1)} %` : "–").join(" / ") || "–")];
  }));
}

const option = () => $("which").selectedOptions[0];
function choices(view) {
  const skipped = new Set(view.skipped.map(at));
  const options = view.places.filter(place => place.done || skipped.has(at(place)));
  const wanted = options.find(place => at(place) === chosen) || options.find(place => view.skipped.length && at(place) === at(view.skipped.at(-1)))
    || options.find(place => view.place && at(place) === at(view.place)) || options.at(-1);
  fit($("which"), options.length, () => element("option"));
  options.forEach((place, n) => {
    const made = $("which").children[n];
    set(made, "value", at(place));
    set(made, "textContent", `${metres(place)} · ${skipped.has(at(place)) ? "skipped" : runs(place.done)}`);
    made.place = place;
    made.skipped = skipped.has(at(place));
  });
  if (wanted) set($("which"), "value", at(wanted));
  label();
}
const label = () => put("again", option() ? `${option().skipped ? "Unskip" : "Redo"} ${metres(option().place)}` : "Redo");
const writtenAt = place => state.places.find(each => at(each) === at(place)).done;
function question() {
  asks = writtenAt(redo);
  put("question", `Withdraw ${runs(asks)} at ${metres(redo)}, and measure there again?`);
  put("yes", `Withdraw and redo ${metres(redo)}`);
  dead = Math.max(dead, now() + DEAD_MS);
}

function tick() {  // what changes by itself
  const lost = !connected() && (state ? !state.over : now() > PATIENCE_MS), able = ready();
  if (lost) put("doing", moved ? "This address is out of date: see the terminal" : "No connection to the Pi");
  show("report", state && (!state.place || lost));
  const counting = state && !lost && state.countdown_s !== null;
  show("timer", counting);
  if (counting) put("timer", `${Math.ceil(Math.max(0, state.countdown_s - (now() - heard) / 1000))} s`);
  set($("main"), "disabled", !able);
  set($("which"), "disabled", !able || !option());
  set($("again"), "disabled", !able || !option());
  set($("skip"), "disabled", !able || !state.place);
  set($("yes"), "disabled", !able);
  set($("no"), "disabled", now() < dead);  // a second tap on Redo lands here
  if (lost && state) notice("What you tap now is not done. The sweep goes on without this page, or it has ended.");
  else if (lost || now() > noticed) notice("");
}
function notice(words, lasts = 0) {
  put("notice", words);
  noticed = now() + lasts;
}

// --- the picture
function svg(tag, attributes, words) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (words !== undefined) made.textContent = words;
  return made;
}
function mark(n, x, y) {
  const colour = COLOURS[n % 8];
  return svg("path", {d: SHAPES[n % 8], fill: n < 8 ? colour : "#fff", stroke: colour, "stroke-width": 2, transform: `translate(${x} ${y})`});
}
function stroke(n, attributes, tag = "line") {
  return svg(tag, {...attributes, stroke: COLOURS[n % 8], "stroke-width": 3, fill: "none"});
}
function gather(view) {
  const series = new Map();
  const several = new Set(view.points.map(point => point.bearer)).size > 1;
  for (const point of view.points) for (const [name, share] of Object.entries(point.losses)) {
    const key = [...(several ? [point.bearer] : []), name, ...(view.turns > 1 ? [`turn ${point.turn + 1}`] : [])].join(" · ");
    if (!series.has(key)) series.set(key, []);
    series.get(key).push([point.distance_m, ...share]);
  }
  return series;
}
function plot(view) {
  let part = "", series = gather(view);
  for (const [name, words] of [["turn", turn => `turn ${turn + 1}`], ["bearer", bearer => bearer]]) {
    if (series.size <= MOST) break;
    const here = {...view.points.at(-1), ...view.place, ...(view.run && {bearer: view.run.bearer})}[name];
    const points = view.points.filter(point => point[name] === here);
    if (!points.length) break;
    view = {...view, points};
    series = gather(view);
    part += (part && ", ") + words(here);
  }
  put("part", `Drawn of ${part} alone; the table has all.`);
  show("part", part);
  const distances = [...new Set(view.places.map(place => place.distance_m))].sort((a, b) => a - b);
  if (drawn === (drawn = JSON.stringify([view.points, distances, part]))) return;
  const furthest = Math.max(...distances), half = d => 4.7 * `${d}`.length, step = Math.min(5, 40 / Math.max(1, series.size));
  const aside = step * (series.size - 1) / 2 + 10;  // marks reach so far to both sides of their place
  const W = 362, H = 240, left = 50, bottom = 28, top = 12, right = Math.max(30, aside, half(furthest) + 2);
  const most = [.05, .1, .2, .5, 1].find(limit => view.points.every(point => Object.values(point.losses).every(share => share[2] <= limit))) || 1;
  const x = d => left + aside + (W - left - aside - right) * d / furthest, y = v => top + (H - top - bottom) * (1 - v / most);
  const picture = svg("svg", {viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": "Loss against distance, all runs of a place pooled; the table below has the figures"});
  const ticks = most === .2 ? 4 : 5;
  for (let i = 0; i <= ticks; i++) {
    const v = most * i / ticks;
    picture.append(svg("line", {x1: left, x2: W - right, y1: y(v), y2: y(v), stroke: i ? "#999" : "#000", "stroke-width": i ? 1 : 2}));
    picture.append(svg("text", {x: left - 6, y: y(v) + 5, "text-anchor": "end"}, `${+(100 * v).toFixed(2)}%`));
  }
  let free = W;  // from the right: the furthest place is always named
  for (const d of distances.reverse()) {
    picture.append(svg("line", {x1: x(d), x2: x(d), y1: H - bottom, y2: H - bottom + 6, stroke: "#000", "stroke-width": 2}));
    if (x(d) + half(d) > free) continue;
    free = x(d) - half(d) - 6;
    picture.append(svg("text", {x: x(d), y: H - 7, "text-anchor": "middle"}, `${d}`));
  }
  picture.append(svg("text", {x: W - right, y: H - bottom - 6, "text-anchor": "end"}, "metres"));
  $("key").replaceChildren(...[...series].map(([name, values], n) => {
    const shift = (n - (series.size - 1) / 2) * step;
    values.sort((a, b) => a[0] - b[0]);
    picture.append(stroke(n, {points: values.map(v => `${x(v[0]) + shift},${y(v[1])}`).join(" "), "stroke-dasharray": DASHES[n % 4]}, "polyline"));
    for (const [d, v, low, high] of values)
      picture.append(stroke(n, {x1: x(d) + shift, x2: x(d) + shift, y1: y(low), y2: y(high)}), mark(n, x(d) + shift, y(v)));
    const item = element("span"), sample = svg("svg", {viewBox: "-20 -10 40 20", "aria-hidden": "true"});
    sample.append(stroke(n, {x1: -20, x2: 20, y1: 0, y2: 0, "stroke-dasharray": DASHES[n % 4]}), mark(n, 0, 0));
    item.append(sample, name);
    return item;
  }));
  $("plot").replaceChildren(picture);
}

// --- what is said and heard
async function ask(path, wish) {
  const answer = await fetch(path, {signal: AbortSignal.timeout(PATIENCE_MS), ...(wish && {
    method: "POST", headers: {"Content-Type": "application/json"}, body: JSON.stringify(wish)})});
  moved = answer.status === 404;
  const view = await answer.json();
  if (state && view.now < state.now && view.now > state.now - 60) return view;  // overtaken on the way
  heard = now();
  render(view);
  return view;
}
async function look() {
  clearTimeout(next);
  try { await ask("state") } catch { /* `tick` says so, when patience is over */ }
  tick();
  if (!state || !state.over) next = setTimeout(look, 1000);
}
async function wish(name, place, runs) {
  if (!ready()) return;
  asked = true;
  chosen = null;
  tick();
  try {
    const view = await ask("do", {wish: name, place, runs, at: state.now + (now() - heard) / 1000, ground: state.ground});
    if (view.error) notice(`Nothing is done: ${view.error}.`, NOTICE_MS);
  } catch {
    heard = -Infinity;
    hung = true;
  }
  asked = false;
  dead = Math.max(dead, now() + DEAD_MS);
  tick();
}
$("main").onclick = () => wish({asking: "placed", "under way": "stop", done: "end"}[state.ground.phase]);
$("skip").onclick = () => wish("skip");
$("which").onchange = () => { chosen = $("which").value; label() };
$("again").onclick = () => {
  if (!ready() || !option()) return;
  const {turn, distance_m} = option().place;
  if (option().skipped) return wish("back", {turn, distance_m});
  redo = {turn, distance_m};
  question();
  tick();
  $("sure").showModal();
};
$("no").onclick = () => $("sure").close();
$("yes").onclick = () => { $("sure").close(); wish("redo", redo, asks) };
window.addEventListener("offline", () => { heard = -Infinity; tick() });
window.addEventListener("online", look);
document.addEventListener("visibilitychange", () => { if (!document.hidden) look() });
setInterval(tick, 250);
look();
