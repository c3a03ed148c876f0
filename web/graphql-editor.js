// A text area for GraphQL: colours, and suggestions from the schema. The colours are a copy of the text behind a
// transparent area, so the area stays an ordinary one for keyboards, screen readers and undo.

import { named, TOKEN, written } from "./graphql-schema.js";

const KEYWORDS = new Set(["query", "mutation", "subscription", "fragment", "on"]);

function colour(token, next) {
  if (token[0] === "#") return "comment";
  if (token[0] === '"') return next === ":" ? "name" : "string";
  if (token[0] === "$" || token[0] === "@") return "variable";
  if (/^-?\d/.test(token) || ["true", "false", "null"].includes(token)) return "value";
  if (KEYWORDS.has(token)) return "keyword";
  return "";
}

/** Writes a text into an element, in colours. JSON is near enough to GraphQL's own values. */
export function paint(into, text) {
  const tokens = text.match(TOKEN) ?? [];
  const nodes = tokens.map((token, at) => {
    const kind = colour(token, tokens[at + 1]);
    if (!kind) return document.createTextNode(token);
    return Object.assign(document.createElement("span"), { className: `token-${kind}`, textContent: token });
  });
  into.replaceChildren(...nodes);
}

const entry = (one, insert = one.name) => ({
  insert,
  type: one.type ? written(one.type) : "",
  description: one.description ?? "",
});

/** What may stand at the end of a text: `{prefix, found}`. */
export function suggest(schema, text) {
  const tokens = (text.match(TOKEN) ?? []).filter((token) => !/^\s/.test(token));
  const partial = /[$\w]$/.test(text) ? (tokens.pop() ?? "") : "";
  const stack = [];
  let next = schema.roots.query;
  let args = [];
  let before = "";
  for (const [at, token] of tokens.entries()) {
    const frame = stack.at(-1);
    const word = /^[_A-Za-z]/.test(token);
    if (token === "{" && frame?.kind === "values") {
      stack.push({ kind: "values", all: schema.types.get(frame.last && named(frame.last.type))?.inputFields ?? [] });
    } else if (token === "{") stack.push({ kind: "set", type: next });
    else if (token === "(") stack.push(frame ? { kind: "values", all: args } : { kind: "variables" });
    else if (token === "}" || token === ")") stack.pop();
    else if (word && before === "on") next = token;
    else if (word && !frame) next = schema.roots[token] ?? next;
    else if (word && frame.kind === "set" && before !== "...") {
      const field = schema.types.get(frame.type)?.fields?.find((one) => one.name === token);
      [next, args] = [field && named(field.type), field?.args ?? []];
    } else if (word && frame.kind === "values" && tokens[at + 1] === ":") {
      frame.last = frame.all.find((one) => one.name === token);
    }
    if (token === "}" && stack.length === 0) next = schema.roots.query;
    before = token;
  }
  const found = possible(schema, stack.at(-1), before, text).filter((one) => one.insert.startsWith(partial));
  return { prefix: partial, found: found.filter((one) => one.insert !== partial) };
}

function possible(schema, frame, before, text) {
  const types = (kinds) => [...schema.types.values()].filter((type) => kinds.includes(type.kind) && !type.name.startsWith("__"));
  if (!frame && before !== "on") return ["query", "mutation", "subscription", "fragment"].map((name) => entry({ name }));
  if (before === "on") {
    const within = schema.types.get(frame?.type)?.possibleTypes?.map(({ name }) => schema.types.get(name));
    return (within ?? types(["OBJECT", "UNION"])).map((type) => entry({ name: type.name, description: type.description }));
  }
  if (frame.kind === "variables") {
    return before === ":" ? types(["SCALAR", "ENUM", "INPUT_OBJECT"]).map(({ name, description }) => entry({ name, description })) : [];
  }
  if (frame.kind === "values") {
    if (before !== ":") return frame.all.map((one) => entry(one, `${one.name}: `));
    const type = frame.last && schema.types.get(named(frame.last.type));
    const variables = [...new Set(text.match(/\$\w+/g))].map((name) => entry({ name }));
    const fixed = type?.enumValues ?? (type?.name === "Boolean" ? [{ name: "true" }, { name: "false" }] : []);
    return [...fixed.map((one) => entry(one)), ...variables];
  }
  if (before === "...") return [entry({ name: "on" }, "on "), ...[...text.matchAll(/fragment\s+(\w+)/g)].map(([, name]) => entry({ name }))];
  const type = schema.types.get(frame.type);
  const fields = type?.fields?.map((field) => entry(field)) ?? [];
  const own = { name: "__typename", description: "The name of the type." };
  return type?.possibleTypes ? [entry(own), entry({ name: "... on " })] : [...fields, ...(type ? [entry(own)] : [])];
}

/** Makes an editor of a text area that stands in a `.editor` with a `pre` before it and a list after it. */
export function editor(area, schemaNow) {
  const [behind, list] = [area.parentElement.querySelector("pre"), area.parentElement.querySelector("ul")];
  let offered = { prefix: "", found: [] };
  let chosen = 0;

  const repaint = () => {
    paint(behind, `${area.value}\n`);
    behind.scrollTop = area.scrollTop;
  };
  const close = () => {
    list.hidden = true;
    area.setAttribute("aria-expanded", "false");
  };

  /** Where the caret is: the same place in the copy behind. */
  function caret() {
    let left = area.selectionStart;
    const walk = document.createTreeWalker(behind, NodeFilter.SHOW_TEXT);
    for (let node = walk.nextNode(); node; node = walk.nextNode()) {
      if (left <= node.length) {
        const range = document.createRange();
        range.setStart(node, left);
        return range.getBoundingClientRect();
      }
      left -= node.length;
    }
    return behind.getBoundingClientRect();
  }

  function show() {
    const items = offered.found.slice(0, 50).map((one, at) => {
      const item = document.createElement("li");
      const name = Object.assign(document.createElement("code"), { textContent: one.insert });
      const type = Object.assign(document.createElement("span"), { className: "type", textContent: one.type });
      item.append(name, " ", type);
      item.title = one.description;
      item.id = `suggestion-${at}`;
      item.setAttribute("role", "option");
      item.setAttribute("aria-selected", String(at === chosen));
      // Before the area loses the focus.
      item.onmousedown = (event) => {
        event.preventDefault();
        take(at);
      };
      return item;
    });
    list.replaceChildren(...items);
    list.hidden = items.length === 0;
    area.setAttribute("aria-expanded", String(!list.hidden));
    area.setAttribute("aria-activedescendant", `suggestion-${chosen}`);
    const [at, frame] = [caret(), area.parentElement.getBoundingClientRect()];
    list.style.left = `${Math.max(0, Math.min(at.left - frame.left, frame.width - 320))}px`;
    list.style.top = `${at.bottom - frame.top + 4}px`;
    items[chosen]?.scrollIntoView({ block: "nearest" });
  }

  function look(always) {
    const schema = schemaNow();
    const text = area.value.slice(0, area.selectionStart);
    if (!schema || (!always && !/[$\w]$/.test(text))) return close();
    offered = suggest(schema, text);
    chosen = 0;
    if (offered.found.length) show();
    else close();
  }

  function take(at) {
    const [end, one] = [area.selectionStart, offered.found[at]];
    area.setRangeText(one.insert, end - offered.prefix.length, end, "end");
    area.focus();
    close();
    repaint();
  }

  area.addEventListener("input", () => {
    repaint();
    look(false);
  });
  area.addEventListener("scroll", repaint);
  area.addEventListener("blur", close);
  area.addEventListener("keydown", (event) => {
    if (event.ctrlKey && event.key === " ") {
      event.preventDefault();
      return look(true);
    }
    if (list.hidden) return;
    if (event.key === "Escape") close();
    else if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      const many = Math.min(50, offered.found.length);
      chosen = (chosen + (event.key === "ArrowDown" ? 1 : many - 1)) % many;
      show();
    } else if ((event.key === "Enter" && !event.ctrlKey && !event.metaKey) || event.key === "Tab") take(chosen);
    else return;
    event.preventDefault();
  });
  repaint();
  return {
    set(text) {
      area.value = text;
      close();
      repaint();
    },
  };
}
