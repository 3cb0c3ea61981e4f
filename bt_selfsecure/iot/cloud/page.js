"use strict";
// Everything that comes from devices is put in as text, never as markup.
const PERIOD_MS = 2000, SLOW_EACH = 5, KEPT = 30;
const $ = id => document.getElementById(id);
let token = "", role = "", turn = 0, alone = 0;

function make(kind, text, cls) {
  const made = document.createElement(kind);
  if (text !== undefined) made.textContent = text;
  if (cls) made.className = cls;
  return made;
}
class Refused extends Error { constructor(status, text) { super(text); this.status = status; } }
async function ask(method, path) {
  const answer = await fetch(path, { method, headers: { Authorization: `Bearer ${token}` }, cache: "no-store" });
  if (answer.status === 204) return null;
  const body = await answer.json();
  if (!answer.ok) throw new Refused(answer.status, body.error);
  return body;
}
const day = new Intl.DateTimeFormat(undefined, { dateStyle: "medium" });
const clock = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });
const both = new Intl.DateTimeFormat(undefined, { dateStyle: "short", timeStyle: "medium" });
function when(ms) {
  if (!(ms > 0 && ms < 8.64e15)) return "at an unknown time";
  return (Date.now() - ms < 43200000 ? clock : both).format(ms);
}
const shown = value => typeof value === "number" && !Number.isInteger(value) ? String(+value.toPrecision(6)) :
  typeof value === "string" ? value : JSON.stringify(value);

// --- lists whose elements stay as they are while they are there: what is open stays open
function keyed(parent, items, key, create, update) {
  const had = new Map([...parent.children].map(each => [each.dataset.key, each]));
  let before = null;
  for (const item of items) {
    const name = String(key(item));
    let node = had.get(name);
    had.delete(name);
    if (!node) { node = create(item); node.dataset.key = name; }
    update(node, item);
    const place = before ? before.nextSibling : parent.firstChild;
    if (place !== node) parent.insertBefore(node, place);
    before = node;
  }
  for (const node of had.values()) node.remove();
}

function state(node, item) {
  const cls = `state ${!item.trust.trusted ? "bad" : item.connected ? "" : "off"}`.trim();
  if (node.className !== cls) node.className = cls;
  put(node, !item.trust.trusted ? "not trusted" : item.connected ? "connected" : "away");
}
function put(node, text) { if (node.textContent !== text) node.textContent = text; }

// --- gateways and devices
function gateway(item) {
  const node = make("details", undefined, "gateway");
  const summary = make("summary");
  summary.append(make("b", item.name), " ", make("span"), " ", make("span", "", "note"));
  const inside = make("div", undefined, "inside");
  inside.append(make("p", "", "note"), make("div"), make("button", "More devices"));
  inside.lastChild.hidden = true;
  inside.lastChild.addEventListener("click", () => { node.many = (node.many || 100) + 100; fill(node); });
  node.append(summary, inside);
  node.addEventListener("toggle", () => { if (node.open) fill(node); });
  if (alone++ < 1) node.open = true;
  return node;
}
function showGateway(node, item) {
  const [name, mark, count] = node.firstChild.children;
  put(name, item.name); state(mark, item);
  put(count, `${item.devices} ${item.devices === 1 ? "device" : "devices"}`);
  const why = item.connected ? `since ${when(item.since_ms)}` : `left ${when(item.since_ms)}: ${item.reason}`;
  put(node.lastChild.firstChild, `${why}; ${item.trust.why}; certificate ${item.id}, until ${day.format(item.expires * 1000)}`);
}
async function fill(node) {
  const [, list, more] = node.lastChild.children;
  let found = [], next = "";
  do {
    const page = await ask("GET", `/v1/devices?gateway=${node.dataset.key}&limit=100${next ? `&after=${next}` : ""}`);
    found = found.concat(page.devices); next = page.next;
  } while (next && found.length < (node.many || 100));
  more.hidden = !next;
  keyed(list, found, each => each.id, device, showDevice);
}
function device(item) {
  const node = make("details", undefined, "device");
  const summary = make("summary");
  summary.append(make("b"), make("span", undefined, "values"), make("span"));
  const inside = make("div");
  inside.append(make("p", "", "note"), make("div", undefined, "ask"), make("div", undefined, "history"));
  node.append(summary, inside);
  if (["operator", "owner"].includes(role)) {
    const read = make("button", "Read now"), said = make("span");
    said.setAttribute("role", "status");
    read.addEventListener("click", async () => {
      put(said, "Asking");
      try { await ask("POST", `/v1/devices/${node.dataset.key}/ask`); put(said, "Read"); showPast(node); }
      catch (error) { put(said, error.message); }
    });
    inside.children[1].append(read, said);
  }
  node.addEventListener("toggle", () => { if (node.open) showPast(node); });
  return node;
}
function showDevice(node, item) {
  const [name, values, mark] = node.firstChild.children;
  put(name, item.name || item.id); state(mark, item);
  const said = Object.entries(item.readings);
  const text = said.map(([sensor, value]) => `${sensor} ${shown(value)}`).join("\n");
  if (values.dataset.text !== text) {
    values.dataset.text = text;
    values.replaceChildren(...said.flatMap(([sensor, value]) => {
      const pair = make("span", `${sensor} `);
      pair.append(make("b", shown(value)));
      return [pair, " "];
    }));
    if (!said.length) values.textContent = "no readings yet";
  }
  const read = item.read_ms ? `; read ${when(item.read_ms)}` : "";
  put(node.lastChild.firstChild, `Since ${when(item.since_ms)}${read}; ${item.trust.why}; certificate ${item.id}` +
    (item.expires ? `, until ${day.format(item.expires * 1000)}` : ""));
  if (node.open) showPast(node);
}
async function showPast(node) {
  const { readings } = await ask("GET", `/v1/devices/${node.dataset.key}/readings?limit=${KEPT}`);
  const names = [...new Set(readings.flatMap(each => Object.keys(each.readings)))].sort();
  const blocks = [];
  for (const name of names) {
    const points = readings.filter(each => typeof each.readings[name] === "number").reverse();
    if (points.length > 1) blocks.push(line(name, points.map(each => [each.time_ms, each.readings[name]])));
  }
  const box = make("div", undefined, "wide"); box.tabIndex = 0;
  box.setAttribute("role", "region"); box.setAttribute("aria-label", "Last readings");
  const table = make("table"), head = make("tr");
  head.append(...["time", ...names].map(each => { const th = make("th", each); th.scope = "col"; return th; }));
  table.append(make("thead"), make("tbody")); table.tHead.append(head);
  for (const each of readings.slice(0, 5)) {
    const row = make("tr"), time = make("th", when(each.time_ms)); time.scope = "row";
    row.append(time, ...names.map(name => make("td", name in each.readings ? shown(each.readings[name]) : "")));
    table.tBodies[0].append(row);
  }
  box.append(table); blocks.push(box);
  const place = node.lastChild.children[2];
  if (place.contains(document.activeElement)) return;
  place.replaceChildren(...blocks);
}
function line(name, points) {
  const NS = "http://www.w3.org/2000/svg", svg = document.createElementNS(NS, "svg");
  const [times, values] = [points.map(p => p[0]), points.map(p => p[1])];
  const [t0, t1, low, high] = [Math.min(...times), Math.max(...times), Math.min(...values), Math.max(...values)];
  const x = t => 4 + 592 * (t - t0) / (t1 - t0 || 1), y = v => 44 - 40 * (v - low) / (high - low || 1);
  svg.setAttribute("viewBox", "0 0 600 48"); svg.setAttribute("preserveAspectRatio", "none"); svg.setAttribute("class", "line");
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", `${name}: ${points.length} readings from ${shown(low)} to ${shown(high)}, last ${shown(values.at(-1))}`);
  const path = document.createElementNS(NS, "polyline");
  path.setAttribute("points", points.map(p => `${x(p[0]).toFixed(1)},${y(p[1]).toFixed(1)}`).join(" "));
  path.setAttribute("fill", "none"); path.setAttribute("stroke", "#0072b2"); path.setAttribute("stroke-width", "2");
  path.setAttribute("vector-effect", "non-scaling-stroke");
  svg.append(path);
  const block = make("div"); block.append(make("span", `${name}, ${shown(low)} to ${shown(high)}`, "note"), svg);
  return block;
}

// --- alerts, structure, trust
function newAlert(item) {
  const node = make("li");
  node.append(make("span", "", "text"), make("span", "", "note"), make("span", "", "when"));
  if (["operator", "owner"].includes(role)) {
    const button = make("button", "Seen");
    button.setAttribute("aria-label", `Seen: ${item.text}, of ${item.name}`);
    button.addEventListener("click", async () => { await ask("POST", `/v1/alerts/${item.number}/seen`); refresh(); });
    node.append(button);
  }
  return node;
}
function showAlert(node, item) {
  node.className = item.seen_ms ? "seen" : "";
  put(node.children[0], item.text + (item.value === null ? "" : ` (${shown(item.value)})`));
  put(node.children[1], `${item.name || item.device}${item.seen_by ? `; seen by ${item.seen_by}` : ""}`);
  put(node.children[2], when(item.received_ms));
  if (node.children[3]) node.children[3].hidden = item.seen_ms !== null;
}
function showConnection(node, item, names) {
  const where = item.gateway ? `to ${names.get(item.gateway) || item.gateway}` : "to the cloud";
  const left = item.left_ms === null ? "" : `; left ${when(item.left_ms)}: ${item.reason}`;
  node.replaceChildren(make("span", when(item.joined_ms), "when"), make("span", `${item.name || item.member} came ${where}${left}`));
}
function showTrust(state) {
  const list = make("ul");
  list.append(make("li", `The owner is ${state.owner.name}, until ${day.format(state.owner.expires * 1000)}.`));
  for (const party of state.parties) list.append(make("li", `Signatures of ${party.name} count, too, until ${day.format(party.expires * 1000)}.`));
  for (const id of state.revoked) { const li = make("li", `Revoked: ${id}`, "bad-text"); list.append(li); }
  $("trust").replaceChildren(list);
}

// --- again and again
let busy = false, unseen = 0;
async function refresh() {
  if (busy || !token) return;
  busy = true;
  try {
    const network = await ask("GET", "/v1/network");
    role = network.role;
    $("enter").hidden = true; $("shown").hidden = false; $("trouble").hidden = true;
    put($("name"), network.name);
    put($("who"), `${network.owner}; cloud \u201c${network.cloud}\u201d; ${clock.format(network.now_ms)}`);
    for (const [id, count] of [["gateways", network.gateways], ["devices", network.devices], ["unseen", network.unseen_alerts]])
      put($(id), count.toLocaleString());
    if (network.unseen_alerts > unseen) put($("told"), `${network.unseen_alerts} alerts that nobody has seen`);
    unseen = network.unseen_alerts;
    $("problems").hidden = !network.problems.length;
    $("problems").replaceChildren(...network.problems.map(each => make("li", each)));
    const [{ gateways }, { alerts }, { connections }] = await Promise.all(
      [ask("GET", "/v1/gateways"), ask("GET", "/v1/alerts?limit=20"), ask("GET", "/v1/connections?limit=15")]);
    keyed($("tree"), gateways, each => each.id, gateway, showGateway);
    await Promise.all([...$("tree").children].filter(each => each.open).map(fill));
    $("no-alerts").hidden = alerts.length > 0;
    keyed($("alerts"), alerts, each => each.number, newAlert, showAlert);
    const last = each => each.left_ms ?? each.joined_ms;
    connections.sort((one, other) => last(other) - last(one));
    const names = new Map(gateways.map(each => [each.id, each.name]));
    keyed($("structure"), connections, each => each.number, () => make("li"), (node, item) => showConnection(node, item, names));
    if (role !== "partner" && turn++ % SLOW_EACH === 0) showTrust(await ask("GET", "/v1/trust"));
  } catch (error) {
    if (error instanceof Refused && [401, 403].includes(error.status)) {
      sessionStorage.removeItem("token"); token = ""; $("enter").hidden = false; $("shown").hidden = true;
    }
    put($("trouble"), error instanceof Refused ? error.message : "The cloud does not answer: what is shown is old.");
    $("trouble").hidden = false;
  } finally { busy = false; }
}
$("enter").addEventListener("submit", event => {
  event.preventDefault();
  token = $("token").value.trim(); $("token").value = "";
  sessionStorage.setItem("token", token);
  refresh();
});
const given = /^#token=([\w-]+)$/.exec(location.hash);
if (given) {
  sessionStorage.setItem("token", given[1]);
  history.replaceState(null, "", location.pathname);
}
token = sessionStorage.getItem("token") || "";
$("enter").hidden = Boolean(token);
refresh();
setInterval(() => { if (!document.hidden) refresh(); }, PERIOD_MS);
document.addEventListener("visibilitychange", () => { if (!document.hidden) refresh(); });
