// A page to try GraphQL operations: queries and mutations by fetch, subscriptions over graphql-transport-ws, which
// resume with the last cursor when the connection breaks. Plain DOM, no markup is ever taken from an answer.

const element = (id) => document.getElementById(id);
const make = (tag, properties = {}, ...children) => {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
};

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
};

const SHOWN = 100;
const results = [];
let running;

function state(name, text = name) {
  element("state").dataset.state = name;
  element("state").textContent = text;
  element("stop").disabled = !running;
  element("run").disabled = Boolean(running);
}

function show(result) {
  results.unshift(JSON.stringify(result, null, 2));
  results.length = Math.min(results.length, SHOWN);
  element("result").textContent = results.join("\n\n");
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
  const query = element("query").value;
  let variables;
  try {
    variables = JSON.parse(element("variables").value || "{}");
  } catch (error) {
    show({ variables: String(error) });
    return;
  }
  results.length = 0;
  if (/^\s*subscription\b/m.test(query)) return subscribe(query, variables);
  state("waiting", "asking");
  try {
    show(await ask(query, variables));
    state("idle");
  } catch (error) {
    show({ failed: String(error) });
    state("refused", "failed");
  }
}

const typeOf = (type) => type.kind === "NON_NULL" ? `${typeOf(type.ofType)}!` : type.kind === "LIST" ? `[${typeOf(type.ofType)}]` : type.name;

async function schema() {
  const wrap = "kind name ofType { kind name ofType { kind name ofType { kind name } } }";
  const value = `name description type { ${wrap} }`;
  const answer = await ask(`{ __schema { types { kind name description enumValues { name description }
    inputFields { ${value} } fields { name description type { ${wrap} } args { ${value} } } } } }`);
  if (!answer.data) return show(answer);
  const entry = (one, kind) => {
    const args = (one.args ?? []).map((arg) => `${arg.name}: ${typeOf(arg.type)}`).join(", ");
    const code = `${one.name}${args && `(${args})`}${kind ? `: ${typeOf(kind)}` : ""}`;
    return make("li", {}, make("code", { textContent: code }), ` ${one.description ?? ""}`);
  };
  const types = answer.data.__schema.types.filter((type) => !type.name.startsWith("__"));
  element("schema").replaceChildren(...types.map((type) => {
    const members = type.fields ?? type.inputFields ?? type.enumValues ?? [];
    const list = make("ul", {}, ...members.map((one) => entry(one, one.type)));
    return make("section", {}, make("h3", { textContent: type.name }), make("p", { textContent: type.description ?? "" }), list);
  }));
}

function choose(name) {
  const [query, variables] = EXAMPLES[name];
  element("query").value = query;
  element("variables").value = JSON.stringify(variables, null, 2);
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
element("ask").onclick = schema;
choose("Watch events");
