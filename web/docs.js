// A readable page of /openapi.json: endpoints by tag, then the schemas they name. Plain DOM, no markup is ever
// taken from the document.

const METHODS = ["get", "post", "put", "patch", "delete"];

function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children.filter((child) => child !== undefined));
  return element;
}

const slug = (...parts) => parts.join("-").replace(/[^A-Za-z0-9]+/g, "-");
const nameOf = (ref) => ref.split("/").pop();

/** Paragraphs, dashed lists, `code` and **bold**: what descriptions are written in. */
function prose(text) {
  if (!text) return undefined;
  const blocks = text.trim().split(/\n\s*\n/).map((block) => {
    const items = block.split(/^\s*[-*] /m).slice(1);
    if (/^\s*[-*] /.test(block)) return make("ul", {}, ...items.map((item) => make("li", {}, ...inline(item))));
    return make("p", {}, ...inline(block));
  });
  return make("div", { className: "prose" }, ...blocks);
}

function inline(text) {
  return text.split(/(`[^`]+`|\*\*[^*]+\*\*)/).map((part) => {
    if (part.startsWith("`")) return make("code", { textContent: part.slice(1, -1) });
    if (part.startsWith("**")) return make("strong", { textContent: part.slice(2, -2) });
    return part;
  });
}

/** A schema in a few words, with links to the named ones. */
function typeOf(schema) {
  if (schema === undefined || schema === true) return ["any JSON"];
  if (schema.$ref) return [make("a", { href: `#${slug("schema", nameOf(schema.$ref))}`, textContent: nameOf(schema.$ref) })];
  const choices = schema.oneOf ?? schema.anyOf;
  if (choices) return joined(choices.map(typeOf), " or ");
  if (schema.allOf) return joined(schema.allOf.map(typeOf), " and ");
  if (schema.const !== undefined) return [make("code", { textContent: JSON.stringify(schema.const) })];
  if (schema.enum) return joined(schema.enum.map((value) => [make("code", { textContent: JSON.stringify(value) })]), " · ");
  const types = [schema.type ?? (schema.properties ? "object" : "any JSON")].flat();
  return joined(types.map((type) => typeNamed(type, schema)), " or ");
}

function typeNamed(type, schema) {
  if (type === "array") return ["list of ", ...typeOf(schema.items)];
  if (type === "object" && schema.additionalProperties && schema.additionalProperties !== true) {
    return ["map of ", ...typeOf(schema.additionalProperties)];
  }
  return [schema.format && type !== "null" ? `${type} (${schema.format})` : type];
}

const joined = (lists, separator) => lists.flatMap((list, i) => (i ? [separator, ...list] : list));

function bounds(schema = {}) {
  const texts = [];
  const say = (name, text) => schema[name] !== undefined && texts.push(`${text} ${JSON.stringify(schema[name])}`);
  say("minimum", "at least");
  say("maximum", "at most");
  say("minLength", "characters at least");
  say("maxLength", "characters at most");
  say("minItems", "items at least");
  say("maxItems", "items at most");
  say("default", "default");
  return texts.length ? make("p", { className: "hint", textContent: texts.join(", ") }) : undefined;
}

function table(heads, rows) {
  const head = make("tr", {}, ...heads.map((text) => make("th", { scope: "col", textContent: text })));
  return make("div", { className: "scroll" }, make("table", {}, make("thead", {}, head), make("tbody", {}, ...rows)));
}

function row(name, required, type, ...about) {
  const first = make("td", {}, make("code", { textContent: name }));
  if (required) first.append(make("span", { className: "required", textContent: "required" }));
  return make("tr", {}, first, make("td", { className: "type" }, ...type), make("td", {}, ...about.filter(Boolean)));
}

function properties(schema) {
  const required = new Set(schema.required);
  const rows = Object.entries(schema.properties).map(([name, of]) =>
    row(name, required.has(name), typeOf(of), prose(of.description), bounds(of)),
  );
  return table(["Field", "Type", "Meaning"], rows);
}

function described(schema) {
  if (schema.properties) return properties(schema);
  if (schema.allOf) return make("div", {}, ...schema.allOf.map((part) => (part.properties ? properties(part) : make("p", {}, ...typeOf(part)))));
  return make("p", { className: "type" }, ...typeOf(schema));
}

function content(body) {
  return Object.entries(body?.content ?? {}).map(([mime, { schema }]) => {
    const line = make("p", {}, make("code", { textContent: mime }), " ", make("span", { className: "type" }, ...typeOf(schema)));
    return schema?.properties ? make("div", {}, line, properties(schema)) : line;
  });
}

function parameters(list) {
  const rows = list.map((one) =>
    row(one.name, one.required, [`${one.in}, `, ...typeOf(one.schema)], prose(one.description), bounds(one.schema)),
  );
  return table(["Parameter", "Where, type", "Meaning"], rows);
}

/** Statuses with the same answer share a row: most are errors of one shape. */
function responses(list) {
  const same = new Map();
  for (const [status, answer] of Object.entries(list)) {
    const key = JSON.stringify(answer);
    same.set(key, [...(same.get(key) ?? []), status]);
  }
  const rows = [...same].map(([key, statuses]) => {
    const answer = JSON.parse(key);
    const codes = make("td", {}, make("code", { textContent: statuses.join(" ") }));
    return make("tr", {}, codes, make("td", {}, prose(answer.description) ?? "", ...content(answer)));
  });
  return table(["Status", "Answer"], rows);
}

function operation({ method, path, id, shared, of }) {
  const all = [...shared, ...(of.parameters ?? [])];
  const title = make("h3", {}, make("span", { className: "method", textContent: method.toUpperCase() }), make("code", { textContent: path }));
  title.firstChild.dataset.method = method;
  const card = make("section", { className: "card", id }, title);
  if (of.summary) card.append(make("p", {}, make("strong", {}, ...inline(of.summary))));
  card.append(...[prose(of.description)].filter(Boolean));
  if (all.length) card.append(make("h4", { textContent: "Parameters" }), parameters(all));
  if (of.requestBody) card.append(make("h4", { textContent: "Body" }), ...content(of.requestBody));
  if (of.responses) card.append(make("h4", { textContent: "Answers" }), responses(of.responses));
  return card;
}

function operations(spec) {
  const groups = new Map((spec.tags ?? []).map(({ name, description }) => [name, { description, list: [] }]));
  for (const [path, item] of Object.entries(spec.paths ?? {})) {
    for (const method of METHODS.filter((method) => item[method])) {
      const of = item[method];
      const tag = of.tags?.[0] ?? "Other";
      if (!groups.has(tag)) groups.set(tag, { list: [] });
      groups.get(tag).list.push({ method, path, id: slug(method, path), shared: item.parameters ?? [], of });
    }
  }
  return [...groups].filter(([, { list }]) => list.length);
}

/** The closed list of error codes, an extension of the document. */
function errors(codes) {
  const rows = codes.map((one) => {
    const cell = (...content) => make("td", {}, ...content);
    const again = one.retryable ? "yes" : "no";
    return make("tr", {}, cell(make("code", { textContent: one.code })), cell(String(one.http_status)), cell(String(one.close_code)), cell(again), cell(one.meaning));
  });
  const heads = ["Code", "HTTP", "WebSocket close", "Try again", "Meaning"];
  return make("section", { className: "card", id: "errors" }, table(heads, rows));
}

function render(spec) {
  const parts = [make("h1", { textContent: spec.info.title }), prose(spec.info.description)];
  const links = [];
  for (const [tag, { description, list }] of operations(spec)) {
    links.push(make("h2", { textContent: tag }));
    parts.push(make("h2", { id: slug("tag", tag), textContent: tag }), prose(description));
    for (const one of list) {
      const method = make("span", { className: "method", textContent: one.method });
      method.dataset.method = one.method;
      links.push(make("a", { href: `#${one.id}` }, method, one.path));
      parts.push(operation(one));
    }
  }
  const codes = spec["x-error-codes"] ?? [];
  if (codes.length) {
    links.push(make("h2", { textContent: "Errors" }), make("a", { href: "#errors", textContent: "Error codes" }));
    parts.push(make("h2", { textContent: "Errors" }), errors(codes));
  }
  const schemas = Object.entries(spec.components?.schemas ?? {});
  if (schemas.length) {
    links.push(make("h2", { textContent: "Schemas" }));
    parts.push(make("h2", { textContent: "Schemas" }));
  }
  for (const [name, schema] of schemas) {
    const id = slug("schema", name);
    links.push(make("a", { href: `#${id}`, textContent: name }));
    const card = make("section", { className: "card", id }, make("h3", { textContent: name }));
    card.append(...[prose(schema.description), described(schema)].filter(Boolean));
    parts.push(card);
  }
  document.getElementById("contents").replaceChildren(...links);
  document.getElementById("described").replaceChildren(...parts.filter(Boolean));
  // The target was not there when the browser looked for it.
  if (location.hash) document.getElementById(location.hash.slice(1))?.scrollIntoView();
}

try {
  const response = await fetch("/openapi.json");
  if (!response.ok) throw new Error(`the server answered ${response.status}`);
  render(await response.json());
} catch (error) {
  const text = `openapi.json cannot be shown: ${error.message}`;
  document.getElementById("described").replaceChildren(make("p", { className: "note note-error", textContent: text }));
}
