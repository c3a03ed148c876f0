// A page to try GraphQL operations: queries and mutations by fetch, subscriptions over graphql-transport-ws, which
// resume with the last cursor when the connection breaks. Plain DOM, no markup is ever taken from an answer.

import { editor, paint } from "./graphql-editor.js";
import { INTROSPECTION, laidOut, model, named, operation, written } from "./graphql-schema.js";

const element = (id) => document.getElementById(id);
const make = (tag, properties = {}, ...children) => {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
};

/** A description, its `code` as code. */
const described = (text) =>
  (text ?? "").split(/`([^`]+)`/).map((part, at) => (at % 2 ? make("code", { textContent: part }) : part));

const EXAMPLES = {
  "Watch events": [
    `subscription Watch($topics: [String!]!, $after: String) {
  eventStream(topics: $topics, after: $after) {
    __typename
    ... on EventMessage { topic payload sequence cursor published_at }
    ... on Gap { reason from to }
  }
}`,
    { topics: [">"] },
  ],
  "Publish an event": [
    `mutation Publish($input: EventInput!) {
  publishEvent(input: $input) { id sequence cursor published_at }
}`,
    { input: { topic: "hello.world", payload: { message: "Hello" } } },
  ],
  "Read history": [
    `query History($filter: EventFilter, $after: String) {
  events(filter: $filter, first: 10, after: $after) {
    edges { node { sequence topic payload } }
    pageInfo { hasNextPage endCursor }
    gap { reason from to }
  }
}`,
    { filter: { topics: [">"] } },
  ],
  "Keys and projects": [
    `query Keys {
  tenants { edges { node { name plan status projects { edges { node { id name } } } } } }
  apiKeys(first: 10) { edges { node { id name scopes is_active project { name } } } }
}`,
    {},
  ],
  "Usage as it grows": [
    `subscription Usage {
  usageUpdates { metric quantity window_start }
}`,
    {},
  ],
};

const SHOWN = 100;
let running;
let schema;

const query = editor(element("query"), () => schema);
const variables = editor(element("variables"), () => undefined);

function state(name, text = name) {
  element("state").dataset.state = name;
  element("state").textContent = text;
  element("stop").disabled = !running;
  element("run").disabled = Boolean(running);
}

function show(result) {
  const shown = make("pre");
  paint(shown, JSON.stringify(result, null, 2));
  if (result.errors ?? result.failed ?? result.closed) shown.dataset.errors = "";
  const results = element("result");
  results.querySelector(".empty")?.remove();
  results.prepend(shown);
  while (results.children.length > SHOWN) results.lastChild.remove();
}

async function ask(query, variables) {
  const response = await fetch(location.pathname, {
    method: "POST",
    headers: {
      authorization: `Bearer ${element("key").value.trim()}`,
      "content-type": "application/json",
      accept: "application/graphql-response+json, application/json;q=0.9",
    },
    body: JSON.stringify({ query, variables }),
  });
  return response.json();
}

/** The last cursor anywhere in a result: where to come back to. */
function cursorIn(value) {
  if (value === null || typeof value !== "object") return undefined;
  if (typeof value.cursor === "string") return value.cursor;
  return Object.values(value).map(cursorIn).find((found) => found);
}

function subscribe(query, variables, attempt = 0) {
  const url = new URL(location.pathname, location.href);
  url.protocol = url.protocol.replace("http", "ws");
  const socket = new WebSocket(url, "graphql-transport-ws");
  const send = (message) => socket.send(JSON.stringify(message));
  let over = false;
  running = () => {
    over = true;
    socket.close(1000);
  };
  state("waiting", attempt ? "reconnecting" : "connecting");
  socket.onopen = () => send({ type: "connection_init", payload: { token: element("key").value.trim() } });
  socket.onmessage = ({ data }) => {
    const message = JSON.parse(data);
    if (message.type === "ping") send({ type: "pong" });
    if (message.type === "connection_ack") {
      send({ id: "1", type: "subscribe", payload: { query, variables } });
      state("live");
    }
    if (message.type === "next") {
      attempt = 0;
      variables = { ...variables, after: cursorIn(message.payload.data) ?? variables.after };
      show(message.payload);
    }
    if (message.type === "error") show({ errors: message.payload });
    if (message.type === "error" || message.type === "complete") running();
  };
  socket.onclose = ({ code, reason }) => {
    running = undefined;
    if (over || (code >= 4400 && code < 4500)) {
      if (!over) show({ closed: { code, reason } });
      return state(over ? "idle" : "refused", over ? "idle" : `closed ${code}`);
    }
    const wait = Math.random() * Math.min(30_000, 500 * 2 ** attempt);
    const timer = setTimeout(() => subscribe(query, variables, attempt + 1), wait);
    running = () => {
      clearTimeout(timer);
      running = undefined;
      state("idle");
    };
    state("waiting", "reconnecting");
  };
}

async function run() {
  const text = element("query").value;
  element("result").replaceChildren();
  element("took").textContent = "";
  let values;
  try {
    values = JSON.parse(element("variables").value || "{}");
  } catch (error) {
    show({ failed: `Variables: ${error.message}` });
    return state("refused", "not sent");
  }
  if (/^\s*subscription\b/m.test(text)) return subscribe(text, values);
  state("waiting", "asking");
  const begun = performance.now();
  try {
    const answer = await ask(text, values);
    element("took").textContent = `${Math.round(performance.now() - begun)} ms`;
    show(answer);
    state(answer.errors ? "refused" : "idle", answer.errors ? "errors" : "done");
  } catch (error) {
    show({ failed: String(error) });
    state("refused", "failed");
  }
}

// --- the schema beside it

const visited = [];
const link = (text, onclick, className = "") => make("button", { type: "button", textContent: text, onclick, className });

/** A type's name that leads to the type; scalars of the language lead nowhere. */
const typeLink = (type) => link(written(type), () => visit(named(type)));

function fieldEntry(field, kind) {
  const head = make("dt");
  const begin = () => {
    const [text, values] = operation(schema, kind, field);
    query.set(text);
    variables.set(JSON.stringify(values, null, 2));
    element("query").focus();
  };
  head.append(kind ? link(field.name, begin) : make("span", { className: "field", textContent: field.name }));
  if (field.args?.length) {
    head.append("(");
    field.args.forEach((one, at) => {
      const name = make("span", { textContent: `${at ? ", " : ""}${one.name}: `, title: one.description ?? "" });
      head.append(name, typeLink(one.type));
    });
    head.append(")");
  }
  if (field.type) head.append(": ", typeLink(field.type));
  return [head, make("dd", {}, ...described(field.description))];
}

function listed(title, note, fields, kind) {
  const list = make("dl", {}, ...fields.flatMap((field) => fieldEntry(field, kind)));
  return make("section", {}, make("h3", {}, title, make("small", { textContent: note })), list);
}

function overview() {
  const kinds = Object.entries(schema.roots).filter(([, name]) => name);
  return kinds.map(([kind, name]) => listed(name, `click a field to begin a ${kind}`, schema.types.get(name).fields, kind));
}

function page(name) {
  const type = schema.types.get(name);
  const members = type.fields ?? type.inputFields ?? type.enumValues ?? [];
  const shown = listed(type.name, type.kind.toLowerCase().replace("_", " "), members);
  shown.querySelector("h3").after(make("p", {}, ...described(type.description)));
  const variants = (type.possibleTypes ?? []).map((one) => make("p", {}, link(one.name, () => visit(one.name), "quiet small")));
  shown.append(...variants);
  return [shown];
}

function found(text) {
  const wanted = text.toLowerCase();
  const hit = (one) => one.name.toLowerCase().includes(wanted);
  const types = [...schema.types.values()].filter((type) => !type.name.startsWith("__"));
  const roots = Object.entries(schema.roots).filter(([, name]) => name);
  const sections = roots.map(([kind, name]) => listed(name, kind, schema.types.get(name).fields.filter(hit), kind));
  const others = types.filter((type) => !Object.values(schema.roots).includes(type.name));
  for (const type of others) {
    const members = (type.fields ?? type.inputFields ?? type.enumValues ?? []).filter(hit);
    if (members.length || hit(type)) sections.push(listed(type.name, type.kind.toLowerCase().replace("_", " "), members));
  }
  return sections.filter((section) => section.querySelector("dt") || hit({ name: section.querySelector("h3").firstChild.data }));
}

function render() {
  if (!schema) return;
  const text = element("find").value.trim();
  const here = visited.at(-1);
  element("back").hidden = !here;
  element("schema").replaceChildren(...(text ? found(text) : here ? page(here) : overview()));
  element("schema").scrollTop = 0;
}

function visit(name) {
  element("find").value = "";
  visited.push(name);
  render();
}

async function learn() {
  if (!element("key").value.trim()) return;
  try {
    const answer = await ask(INTROSPECTION);
    if (!answer.data?.__schema) throw new Error(answer.errors?.[0]?.message ?? "introspection is switched off here");
    schema = model(answer.data);
    render();
  } catch (error) {
    schema = undefined;
    element("schema").replaceChildren(make("p", { className: "note note-error", textContent: `No schema: ${error.message}` }));
  }
}

function choose(name) {
  const [text, values] = EXAMPLES[name];
  query.set(text);
  variables.set(JSON.stringify(values, null, 2));
}

element("example").append(...Object.keys(EXAMPLES).map((name) => make("option", { textContent: name })));
element("example").onchange = ({ target }) => choose(target.value);
element("operation").onsubmit = (event) => {
  event.preventDefault();
  if (!running) run();
};
element("operation").onkeydown = (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) element("operation").requestSubmit();
};
element("stop").onclick = () => running?.();
element("tidy").onclick = () => query.set(laidOut(element("query").value));
element("key").onchange = learn;
element("find").oninput = render;
element("back").onclick = () => {
  visited.pop();
  render();
};
choose("Watch events");
// A link from this server's own pages hands a key over in the fragment, which is sent nowhere.
const handed = new URLSearchParams(location.hash.slice(1)).get("key");
if (handed) {
  element("key").value = handed;
  history.replaceState(null, "", location.pathname);
  learn();
}
