"use strict";
const PATIENCE_MS = 3500;  // without an answer for so long there is no connection
const DEAD_MS = 700;       // after a change nobody has read what it changed to
const NOTICE_MS = 8000;
const MOST_PIXELS = 1600;  // a code needs no more, and a small Pi is quicker at it

let state = null;          // as shown
let heard = -Infinity;     // when it came
let dead = 0;              // no wish before this moment
let asked = false;         // a wish is on its way
let moved = false;         // the page has another address now
let noticed = 0;

const $ = id => document.getElementById(id);
const now = () => performance.now();
const connected = () => now() - heard < PATIENCE_MS;
function set(thing, name, value) { if (thing[name] !== value) thing[name] = value }
function put(id, words) { set($(id), "textContent", words) }
function show(id, visible) { set($(id), "hidden", !visible) }
function notice(words, ms) { put("notice", words); noticed = now() + ms }

// --- what there is to see: heading, what to do, and the words on the two buttons
const PHASES = {
  starting: () => ["One moment", "", "", ""],
  showing: () => ["Pair two devices", "Read the other's code here, or let the other read this one.", "Photo of its code", ""],
  calling: view => ["Calling", `${view.peer || "The other device"} is to go on showing its code, near.`, "", "Give up"],
  agreeing: view => [`${view.peer} is there`, "The two agree on a key; that takes some seconds.", "", "Give up"],
  comparing: view => [`Does ${view.peer} show the same?`, "Others may have seen the code: so look at both, and say it at both.", "The same", "Not the same"],
  waiting: view => [`Waiting for ${view.peer}`, "Somebody is to say there that it is the same.", "", "Give up"],
  paired: view => [`Paired with ${view.peer}`, `On this device: bt-selfsecure send ${view.peer}. This page has ended.`, "", ""],
};
function render(view) {
  if (state && (state.phase !== view.phase || state.string !== view.string)) dead = now() + DEAD_MS;
  state = view;
  const [heading, then, main, other] = PHASES[view.phase](view);
  put("doing", heading);
  put("then", then);
  put("own", view.own ? `This device is ${view.name}, ${view.own}` : "\u00a0");
  put("trouble", view.trouble);
  show("trouble", view.trouble);
  show("string", view.string);
  const parts = view.string.replace(/[()]/g, "").split(" "), digits = parts.filter(part => /^\d+$/.test(part));
  put("digits", digits.join(" "));
  put("words", parts.filter(part => !/^\d+$/.test(part)).join(" "));
  show("showing", view.phase === "showing");
  if (view.qr && $("qr").src !== view.qr) $("qr").src = view.qr;
  put("code", view.code);
  put("main", main);
  put("other", other);
  show("bar", main || other);
  show("main", main);
  show("other", other);
  set($("other"), "className", view.phase === "comparing" ? "stop" : "");
  $("bar").classList.toggle("two", Boolean(main && other));
}
function enable() {
  if (!connected()) {
    put("doing", moved ? "This address is out of date" : state && state.phase === "paired" ? PHASES.paired(state)[0] : "No connection to the Pi");
    if (!state || state.phase !== "paired") notice(moved ? "Take the one that it shows now." : "What you tap now is not done. Is pair page running, and the phone in its network?", NOTICE_MS);
  } else if (noticed < now()) put("notice", "");
  const ready = Boolean(state && connected() && !asked && now() >= dead && state.phase !== "paired");
  for (const button of document.querySelectorAll("button")) set(button, "disabled", !ready);
}

// --- what is asked
async function ask(path, body, type) {
  const ended = state && state.phase === "paired";
  const options = body === undefined ? {} : {method: "POST", headers: {"Content-Type": type}, body};
  const answer = await fetch(path, {...options, signal: AbortSignal.timeout(body === undefined ? PATIENCE_MS : 40000)});
  moved = answer.status === 404;
  if (answer.status >= 400 && !(answer.headers.get("content-type") || "").includes("json"))
    throw new Error(answer.status === 413 ? "that picture is too large" : "that can't be used: take a photo as JPEG or PNG");
  const view = await answer.json();
  if (ended) return;
  heard = now();
  render(view);
  if (view.error) notice(view.error[0].toUpperCase() + view.error.slice(1) + ".", NOTICE_MS);
}
async function wish(path, body, type) {
  if (asked) return;
  asked = true;
  enable();
  notice("", 0);
  try { await ask(path, body, type) }
  catch (error) { notice(error instanceof TypeError || error.name === "TimeoutError" ? "It got no answer: try again." : error.message, NOTICE_MS) }
  asked = false;
  enable();
}
const say = wishes => wish("do", JSON.stringify(wishes), "application/json");
async function smaller(file) {
  try {
    const picture = await createImageBitmap(file);
    const scale = Math.min(1, MOST_PIXELS / Math.max(picture.width, picture.height));
    const canvas = document.createElement("canvas");
    canvas.width = Math.round(picture.width * scale);
    canvas.height = Math.round(picture.height * scale);
    canvas.getContext("2d").drawImage(picture, 0, 0, canvas.width, canvas.height);
    return await new Promise(done => canvas.toBlob(made => done(made || file), "image/jpeg", .9));
  } catch { return file }  // the browser does not know it: perhaps the Pi does
}

$("main").addEventListener("click", () => state.phase === "comparing" ? say({wish: "same", string: state.string}) : $("photo").click());
$("other").addEventListener("click", () => say(state.phase === "comparing" ? {wish: "differs", string: state.string} : {wish: "give up"}));
$("photo").addEventListener("change", async () => {
  const [file] = $("photo").files;
  $("photo").value = "";
  if (!file) return;
  const picture = await smaller(file);
  await wish("photo", picture, picture.type || "image/jpeg");
});
$("form").addEventListener("submit", event => {
  event.preventDefault();
  if ($("text").value.trim()) say({wish: "read", code: $("text").value.trim()});
});
async function look() {
  try { if (!asked) await ask("state") } catch { /* the next one */ }
  enable();
  if (!(state && state.phase === "paired")) setTimeout(look, 1000);
}
setInterval(enable, 200);
look();
