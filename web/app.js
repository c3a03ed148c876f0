// The built-in page: publish an event, watch events arrive, drop off and resume.

import { Stream, call } from "./stream.js";

const ROWS = 200;
const SAMPLES = 50;
const TOPICS_TRACKED = 10_000;
const PAYLOAD_SHOWN = 4_000;

const $ = (id) => document.getElementById(id);
const key = () => $("key").value.trim();
const patterns = () => $("topics").value.split(",").map((t) => t.trim()).filter(Boolean);

function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

/* The key. In `weir dev` it comes in the fragment, which browsers do not send anywhere. */

function takeKeyFromAddress() {
  const given = new URLSearchParams(location.hash.slice(1)).get("key");
  if (!given) return false;
  history.replaceState(null, "", location.pathname + location.search);
  $("key").value = given;
  return true;
}

function needKey() {
  const missing = !key();
  $("key").setAttribute("aria-invalid", String(missing));
  if (missing) $("key").focus();
  return !missing;
}

/* Publishing */

/** When each event of this page was published, to tell how long it took to arrive. */
const published = new Map();

function newId() {
  const bytes = crypto.getRandomValues(new Uint8Array(12));
  return "web-" + Array.from(bytes, (b) => b.toString(16).padStart(2, "0")).join("");
}

function readPayload() {
  const text = $("payload").value.trim();
  try {
    const value = JSON.parse(text);
    $("payload").removeAttribute("aria-invalid");
    return { value };
  } catch (error) {
    $("payload").setAttribute("aria-invalid", "true");
    return { problem: `The payload is not JSON: ${error.message}` };
  }
}

function newEvent(payload) {
  const event = { topic: $("topic").value.trim(), payload };
  const type = $("event-type").value.trim();
  if (type) event.type = type;
  return event;
}

function tell(good, ...parts) {
  const note = $("published");
  note.hidden = false;
  note.className = good ? "note" : "note note-error";
  note.replaceChildren(...parts);
}

async function publish(submitted) {
  submitted.preventDefault();
  if (!needKey()) return tell(false, "Enter an API key first.");
  const { value, problem } = readPayload();
  if (problem) return tell(false, problem);
  const event = { ...newEvent(value), id: $("event-id").value.trim() || newId() };
  const began = performance.now();
  published.set(event.id, began);
  if (published.size > ROWS) published.delete(published.keys().next().value);
  try {
    const answer = await call(key(), "POST", "/v1/events", event);
    const took = (performance.now() - began).toFixed(1);
    tell(true, "Stored as sequence ", make("code", { textContent: answer.sequence }), ` in ${took} ms.`);
  } catch (error) {
    published.delete(event.id);
    tell(false, ...describe(error));
  }
}

function describe(error) {
  const parts = [];
  if (error.code) parts.push(make("code", { textContent: error.code }), " ");
  parts.push(error.message);
  if (error.requestId) parts.push(" (request ", make("code", { textContent: error.requestId }), ")");
  return parts;
}

/* Proof: every event names the sequence of the one before it on its topic. */

const ledger = {
  reset() {
    this.last = 0;
    this.heads = new Map();
    this.count = this.missing = this.repeated = 0;
    this.delays = [];
  },
  /** A declared loss: what follows is measured anew. */
  gap({ reason }) {
    this.heads.clear();
    if (reason !== "expired") this.last = 0;
  },
  take({ topic, sequence, previous }) {
    this.count++;
    if (sequence <= this.last) this.repeated++;
    if (previous > (this.heads.get(topic) ?? Infinity)) this.missing++;
    if (this.heads.size >= TOPICS_TRACKED) this.heads.clear();
    this.heads.set(topic, sequence);
    this.last = Math.max(this.last, sequence);
  },
  delay(milliseconds) {
    this.delays.push(milliseconds);
    if (this.delays.length > SAMPLES) this.delays.shift();
  },
  middleDelay() {
    return [...this.delays].sort((a, b) => a - b)[this.delays.length >> 1];
  },
};
ledger.reset();

/* The list of events: rows wait for the next frame, so a flood costs one layout per frame. */

let waiting = [];

function show(row) {
  if (waiting.push(row) > ROWS) waiting.shift();
  if (waiting.length === 1) requestAnimationFrame(paint);
}

function paint() {
  const list = $("events");
  const fresh = waiting.reverse();
  waiting = [];
  list.prepend(...fresh.map((row) => row()));
  while (list.childElementCount > ROWS) list.lastElementChild.remove();
  $("empty").hidden = list.childElementCount > 0;
  paintFacts();
}

function paintFacts() {
  $("fact-count").textContent = ledger.count;
  $("fact-sequence").textContent = ledger.last || "–";
  const delay = ledger.middleDelay();
  $("fact-latency").textContent = delay === undefined ? "–" : `${delay.toFixed(1)} ms`;
  $("fact-proof").textContent = `${ledger.missing}, ${ledger.repeated}`;
  $("fact-proof").classList.toggle("wrong", ledger.missing + ledger.repeated > 0);
  $("fact-cursor").textContent = stream?.cursor ?? "–";
  $("copy-cursor").disabled = !stream?.cursor;
}

function eventRow(event, note) {
  const time = new Date(event.published_at);
  const text = JSON.stringify(event.payload, null, JSON.stringify(event.payload)?.length > 72 ? 2 : 0);
  const topic = make("span", { className: "topic" }, event.topic);
  if (event.type) topic.append(make("span", { className: "badge", textContent: event.type }));
  if (note.away) topic.append(make("span", { className: "badge", textContent: "while away" }));
  const when = make("time", { className: "when", dateTime: event.published_at, title: event.published_at });
  when.textContent = (note.delay === undefined ? "" : `${note.delay.toFixed(1)} ms · `) + time.toLocaleTimeString();
  const cut = text.length > PAYLOAD_SHOWN ? text.slice(0, PAYLOAD_SHOWN) + " …" : text;
  return make(
    "li",
    { className: "event", title: `id ${event.id}` },
    make("span", { className: "sequence", textContent: event.sequence }),
    topic,
    when,
    make("pre", { textContent: cut }),
  );
}

function mark(kind, ...parts) {
  show(() => make("li", { className: `mark ${kind}` }, ...parts));
}

/* Watching */

const GAPS = {
  expired: "are no longer retained",
  epoch_changed: "belong to a log that was made anew",
  ahead_of_log: "were read before and are no longer in the log",
  rewritten: "may differ from what was read before: the log was restored and written on",
};

let stream;
let leftAt;
let cameAt;
let lastProblem;

const hear = {
  state(name, text) {
    $("state").dataset.state = name;
    $("state").textContent = text;
    const connected = name === "live" || name === "connecting" || name === "waiting";
    for (const field of $("watch").querySelectorAll("input, select, #connect")) field.disabled = connected;
    $("disconnect").disabled = !connected;
    $("resume").disabled = connected || !stream?.cursor;
    $("resume").classList.toggle("primary", !$("resume").disabled);
    $("connect").classList.toggle("primary", $("resume").disabled);
    if (name === "live") lastProblem = undefined;
    if (name === "waiting" || name === "idle") leftAt ??= Date.now();
  },
  subscribed({ recovered }) {
    cameAt = Date.now();
    if (leftAt && recovered) mark("mark-good", "Resumed: everything since then follows.");
    else if (!leftAt) mark("", "Connected.");
    paintFacts();
  },
  event(event) {
    ledger.take(event);
    const began = published.get(event.id);
    published.delete(event.id);
    const at = Date.parse(event.published_at);
    const away = leftAt !== undefined && at >= leftAt && at <= cameAt;
    if (at > cameAt) leftAt = undefined;
    const delay = began === undefined || away ? undefined : performance.now() - began;
    if (delay !== undefined) ledger.delay(delay);
    show(() => eventRow(event, { away, delay }));
    describeCommandsSoon();
  },
  gap(gap) {
    ledger.gap(gap);
    const what = GAPS[gap.reason] ?? `are missing (${gap.reason})`;
    mark("mark-warn", `Gap: the events with sequences ${gap.from} to ${gap.to} ${what}.`);
  },
  problem(error) {
    if (error.message === lastProblem) return; // Trying again and again is not news.
    lastProblem = error.message;
    mark(error.permanent ? "mark-bad" : "mark-warn", ...describe(error));
  },
};

function watch(cursor) {
  if (!needKey()) return mark("mark-bad", "Enter an API key first.");
  const topics = patterns();
  $("topics").setAttribute("aria-invalid", String(topics.length === 0));
  if (topics.length === 0) return $("topics").focus();
  lastProblem = undefined;
  published.clear(); // What was published before is not late, it is history.
  if (!cursor) {
    ledger.reset();
    leftAt = undefined;
  }
  const transport = document.querySelector("[name=transport]:checked").value;
  stream = new Stream({ key: key(), transport, topics, start: $("start").value, cursor, hear });
  stream.begin();
}

/* Commands */

const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

function commands() {
  const origin = location.origin;
  const bearer = '-H "Authorization: Bearer $WEIR_API_KEY"';
  const topics = patterns().map(encodeURIComponent).join(",");
  const after = stream?.cursor ? `&after=${stream.cursor}` : "";
  const body = JSON.stringify(newEvent(readPayload().value ?? null));
  const subscribe = JSON.stringify({ type: "subscribe", id: "1", topics: patterns() });
  return [
    ["The key", "export WEIR_API_KEY=…", `export WEIR_API_KEY=${quoted(key() || "…")}`],
    ["Publish", `curl ${bearer} -H "Content-Type: application/json" \\\n  -d ${quoted(body)} \\\n  ${origin}/v1/events`],
    ["Watch", `curl -N ${bearer} "${origin}/sse?topics=${topics}"`],
    [after ? "Resume after the last event above" : "Read what was published before",
      `curl ${bearer} "${origin}/v1/events?topics=${topics}${after || "&from_sequence=1"}"`],
    ["Watch over a WebSocket, then send the second line",
      `npx wscat -s weir.v1 ${bearer} -c ${origin.replace("http", "ws")}/ws\n${subscribe}`],
  ];
}

function describeCommands() {
  $("commands").replaceChildren(
    ...commands().map(([title, text, copied]) => {
      const button = make("button", { type: "button", className: "quiet small", textContent: "Copy" });
      button.setAttribute("aria-label", `Copy: ${title}`);
      button.onclick = () => copy(copied ?? text, button);
      return make("div", { className: "command" }, make("h3", { textContent: title }), button, make("pre", { textContent: text }));
    }),
  );
}

let describing;
function describeCommandsSoon() {
  describing ??= setTimeout(() => {
    describing = undefined;
    describeCommands();
  }, 300);
}

async function copy(text, button) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Without TLS, browsers other than on localhost have no clipboard interface.
    const area = make("textarea", { value: text });
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  button.textContent = "Copied";
  setTimeout(() => (button.textContent = "Copy"), 1_500);
}

$("publish").addEventListener("submit", publish);
$("publish").addEventListener("keydown", (pressed) => {
  if (pressed.key === "Enter" && (pressed.ctrlKey || pressed.metaKey)) $("publish").requestSubmit();
});
$("watch").addEventListener("submit", (submitted) => {
  submitted.preventDefault();
  watch();
});
$("disconnect").onclick = () => {
  stream.end();
  mark("", "Disconnected. Publish something, then resume.");
};
$("resume").onclick = () => watch(stream.cursor);
$("clear").onclick = () => {
  $("events").replaceChildren();
  $("empty").hidden = false;
};
$("copy-cursor").onclick = () => copy(stream.cursor, $("copy-cursor"));
$("key-show").onclick = () => {
  const shown = $("key").type === "password";
  $("key").type = shown ? "text" : "password";
  $("key-show").textContent = shown ? "Hide" : "Show";
  $("key-show").setAttribute("aria-pressed", String(shown));
};
document.addEventListener("input", describeCommandsSoon);

if (takeKeyFromAddress()) {
  $("key-hint").textContent = "Taken from the link that weir dev printed. It stays in this tab's memory.";
  watch();
}
describeCommands();
