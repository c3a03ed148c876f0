// A page in a real browser: its own EventSource and WebSocket, no library.

import assert from "node:assert/strict";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { chromium } from "playwright-core";
import { Server, until } from "./server.mjs";

const PLACES = [
  "/usr/bin/chromium",
  "/usr/bin/chromium-browser",
  "/usr/bin/google-chrome",
  "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
];
// A browser that is not watched by its maker: nothing leaves this machine.
const QUIET = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

let server;
let context;
let page;
const complaints = [];
const profile = mkdtempSync(join(tmpdir(), "weir-browser-"));

before(async () => {
  server = await Server.start();
  const executablePath = process.env.WEIR_TEST_BROWSER ?? PLACES.find((path) => existsSync(path));
  context = await chromium.launchPersistentContext(profile, { executablePath, args: QUIET, headless: true });
  page = await context.newPage();
  page.on("pageerror", (error) => complaints.push(String(error)));
  page.on("console", (message) => message.type() === "error" && complaints.push(message.text()));
});
after(async () => {
  await context?.close();
  await server?.end();
  rmSync(profile, { recursive: true, force: true });
});

test("the built-in pages load without a complaint", async () => {
  for (const path of ["/docs", "/", "/graphql"]) {
    await page.goto(server.http + path, { waitUntil: "load" });
    assert.match(await page.title(), /Weir/);
  }
  assert.deepEqual(complaints, []);
});

test("no page is wider than a phone", async () => {
  const before = page.viewportSize();
  await page.setViewportSize({ width: 360, height: 740 });
  for (const path of ["/docs", "/", "/graphql"]) {
    await page.goto(server.http + path, { waitUntil: "load" });
    if (path === "/docs") await page.waitForSelector("#errors");
    assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), 360, path);
  }
  await page.setViewportSize(before);
});

test("a page's EventSource survives the death of the server", async () => {
  await page.goto(server.http);
  const token = server.token(["news.*"]);
  await page.evaluate((url) => {
    window.received = [];
    window.source = new EventSource(url);
    window.source.onmessage = (message) => window.received.push(JSON.parse(message.data).payload);
    return new Promise((resolve) => {
      window.source.onopen = resolve;
    });
  }, `${server.http}/sse?topics=news.*&token=${token}`);
  const received = () => page.evaluate(() => window.received);

  await server.publish("news.a", 0);
  await until("the first event", async () => (await received()).length === 1);
  await server.kill();
  await server.restart();
  for (const n of [1, 2, 3]) await server.publish("news.b", n);
  await until("the events after the restart", async () => (await received()).length >= 4);
  await server.publish("news.c", 4);
  await until("a live event", async () => (await received()).length >= 5);
  assert.deepEqual(await received(), [0, 1, 2, 3, 4]);
  await page.evaluate(() => window.source.close());
});

test("a page's WebSocket enters with a ticket and resumes with its cursor", async () => {
  await page.goto(server.http);
  const all = await page.evaluate(
    async ({ http, ws, key }) => {
      const call = (path, body) =>
        fetch(http + path, {
          method: "POST",
          headers: { authorization: `Bearer ${key}`, "content-type": "application/json" },
          body: JSON.stringify(body),
        }).then((response) => response.json());
      const received = [];
      let cursor;
      for (let n = 0; n < 6; n += 2) {
        const { ticket } = await call("/v1/tickets", {});
        const socket = new WebSocket(`${ws}?ticket=${ticket}`, "weir.v1");
        await new Promise((resolve, reject) => {
          socket.onclose = reject;
          socket.onmessage = async ({ data }) => {
            const frame = JSON.parse(data);
            if (frame.type === "connected") {
              socket.send(JSON.stringify({ type: "subscribe", id: "1", topics: ["page"], after: cursor }));
            } else if (frame.type === "subscribed") {
              cursor = frame.cursor;
              await call("/v1/events", { topic: "page", payload: n });
            } else if (frame.type === "event") {
              cursor = frame.cursor;
              received.push(frame.payload);
              if (frame.payload === n) resolve();
            }
          };
        });
        socket.onclose = null;
        socket.close();
        await call("/v1/events", { topic: "page", payload: n + 1 });
      }
      return received;
    },
    { http: server.http, ws: server.ws, key: server.tenant.api_key },
  );
  assert.deepEqual(all, [0, 1, 2, 3, 4]);
});

test("the GraphQL explorer suggests, runs, and resumes a subscription", async () => {
  complaints.length = 0;
  await page.goto(`${server.http}/graphql#key=${server.tenant.api_key}`, { waitUntil: "load" });
  assert.equal(new URL(page.url()).hash, "", "the key does not stay in the address");
  await page.waitForSelector("#schema dt");
  assert.doesNotMatch(await page.textContent("#schema"), /`/, "descriptions show code as code");
  // What the schema offers where the caret is.
  await page.fill("#query", "");
  await page.click("#query");
  await page.keyboard.type("query { apiKeys(fi");
  await page.keyboard.press("Tab");
  await page.keyboard.type("1) { edges { node { na");
  await page.keyboard.press("Enter");
  await page.keyboard.type(" } } } }");
  assert.equal(await page.inputValue("#query"), "query { apiKeys(first: 1) { edges { node { name } } } }");
  await page.keyboard.press("Control+Enter");
  const result = () => page.textContent("#result");
  await until("the answer", async () => (await result()).includes('"apiKeys"'));
  // A field of the list begins an operation that is valid as it stands.
  await page.click('#schema dt button:text-is("eventStream")');
  assert.deepEqual(JSON.parse(await page.inputValue("#variables")), { topics: [">"] });
  await page.click("#run");
  await until("the subscription to stand", async () => (await page.textContent("#state")) === "live");
  await until("an event", async () => {
    await server.publish("explored", { n: "first" });
    return (await result()).includes('"first"');
  });
  // The server's death makes a complaint of the browser's own.
  assert.deepEqual(complaints, []);
  await server.kill();
  await server.restart();
  await server.publish("explored", { n: "while away" });
  await until("the missed event", async () => (await result()).includes('"while away"'));
  await page.click("#stop");
  complaints.length = 0;
});
