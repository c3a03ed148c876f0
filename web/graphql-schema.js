// The schema as the explorer knows it: asked for once, read by the editor's suggestions and by the list beside it.

/** The words of GraphQL, and of JSON. */
export const TOKEN = /#[^\n]*|"""[\s\S]*?(?:"""|$)|"(?:\\.|[^"\\\n])*"?|\.\.\.|[$@]\w*|[_A-Za-z]\w*|-?\d[\w.+-]*|\s+|[^]/g;

const WRAP = "kind name ofType { kind name ofType { kind name ofType { kind name ofType { kind name } } } }";
const VALUE = `name description defaultValue type { ${WRAP} }`;

export const INTROSPECTION = `{ __schema { queryType { name } mutationType { name } subscriptionType { name }
  types { kind name description enumValues { name description } possibleTypes { name } inputFields { ${VALUE} }
    fields { name description type { ${WRAP} } args { ${VALUE} } } } } }`;

/** A type as it is written: `[Event!]!`. */
export const written = (type) =>
  type.kind === "NON_NULL" ? `${written(type.ofType)}!` : type.kind === "LIST" ? `[${written(type.ofType)}]` : type.name;

/** The name inside of lists and exclamation marks. */
export const named = (type) => (type.ofType ? named(type.ofType) : type.name);

/** From the answer to `INTROSPECTION`. */
export function model({ __schema: schema }) {
  const types = new Map(schema.types.map((type) => [type.name, type]));
  const roots = { query: schema.queryType, mutation: schema.mutationType, subscription: schema.subscriptionType };
  const rootNames = Object.fromEntries(Object.entries(roots).map(([kind, type]) => [kind, type?.name]));
  return { types, roots: rootNames };
}

const isLeaf = (type) => type?.kind === "SCALAR" || type?.kind === "ENUM";

/** A selection that shows something of a type: its plain fields, and a page of a list with them. */
function selection(schema, name, depth) {
  const type = schema.types.get(name);
  if (!type || isLeaf(type)) return "";
  if (type.possibleTypes) {
    const each = type.possibleTypes.map((one) => `... on ${one.name} ${selection(schema, one.name, 0)}`);
    return `{ __typename ${each.join(" ")} }`;
  }
  const shown = type.fields.map((field) => {
    if (field.args.some((argument) => argument.type.kind === "NON_NULL")) return "";
    if (isLeaf(schema.types.get(named(field.type)))) return field.name;
    const inner = depth > 0 ? selection(schema, named(field.type), depth - 1) : "";
    return inner && `${field.name} ${inner}`;
  });
  return `{ ${shown.filter(Boolean).join(" ") || "__typename"} }`;
}

/** A first guess at a value of an input type, by the name of what it is for. */
function guess(schema, type, name) {
  if (type.kind === "NON_NULL") return guess(schema, type.ofType, name);
  if (type.kind === "LIST") return [guess(schema, type.ofType, name)];
  const known = schema.types.get(type.name);
  if (known?.kind === "ENUM") return known.enumValues[0].name;
  if (known?.kind === "INPUT_OBJECT") {
    const needed = known.inputFields.filter((field) => field.type.kind === "NON_NULL" || field.name === "payload");
    return Object.fromEntries(needed.map((field) => [field.name, guess(schema, field.type, field.name)]));
  }
  const byName = { topic: "hello.world", topics: ">", scopes: "events:subscribe" }[name];
  return byName ?? { Int: 0, Long: 0, Boolean: false, JSON: {} }[type.name] ?? "";
}

/** An operation of one field, with all that it needs as variables: `[text, variables]`. */
export function operation(schema, kind, field) {
  const used = field.args.filter((argument) => argument.type.kind === "NON_NULL" || argument.name === "after");
  const declared = used.map((argument) => `$${argument.name}: ${written(argument.type)}`).join(", ");
  const given = used.map((argument) => `${argument.name}: $${argument.name}`).join(", ");
  const text = `${kind} ${field.name[0].toUpperCase()}${field.name.slice(1)}${declared && `(${declared})`} {
  ${field.name}${given && `(${given})`} ${selection(schema, named(field.type), 2)}
}`;
  const required = used.filter((argument) => argument.type.kind === "NON_NULL");
  const variables = Object.fromEntries(required.map((argument) => [argument.name, guess(schema, argument.type, argument.name)]));
  return [laidOut(text), variables];
}

/** The text with a line for each selection that holds selections itself; values stay as they are. */
export function laidOut(text) {
  const tokens = (text.match(TOKEN) ?? []).filter((token) => /\S/.test(token));
  let [out, indent, within, line] = ["", 0, 0, ""];
  const flush = () => {
    if (line) out += `${"  ".repeat(indent)}${line}\n`;
    line = "";
  };
  for (const token of tokens) {
    if (token[0] === "#") {
      flush();
      line = token;
      flush();
    } else if (token === "{" && !within) {
      line += line ? " {" : "{";
      flush();
      indent += 1;
    } else if (token === "}" && !within) {
      flush();
      indent = Math.max(0, indent - 1);
      line = "}";
      flush();
      if (indent === 0) out += "\n";
    } else {
      const tight = !line || /^[)\]:,!(]/.test(token) || /[(\[]$/.test(line);
      line += tight ? token : ` ${token}`;
      within = Math.max(0, within + (token === "(" ? 1 : token === ")" ? -1 : 0));
    }
  }
  flush();
  return out.trim();
}
