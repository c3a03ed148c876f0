// The npm package `eventsource`: it reconnects by itself and sends Last-Event-ID.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { EventSource } from "eventsource";
import { Server, until } from "./server.mjs";

let server;
before(async () => {
  server = await Server.start();
});
after(() => server?.end());

test("receives, is cut off, and resumes with nothing lost or repeated", async () => {
  const url = `${server.http}/sse?topics=news.*&token=${server.token(["news.*"])}`;
  const source = new EventSource(url);
  const received = [];
  const ids = new Set();
  source.onmessage = (message) => {
    const event = JSON.parse(message.data);
    assert.equal(message.lastEventId, event.cursor);
    ids.add(event.id);
    received.push(event.payload);
  };
  await new Promise((resolve, reject) => {
    source.onopen = resolve;
    source.onerror = reject;
  });
  source.onerror = () => {};

  await server.publish("news.a", 0);
  await until("the first event", () => received.length === 1);
  for (let n = 1; n < 10; n += 3) {
    await server.kill();
    await server.restart();
    // Published while the client waits to reconnect, or just after: it makes no difference.
    for (let m = n; m < n + 3; m += 1) await server.publish(`news.${m}`, m);
    await until(`event ${n + 2}`, () => received.length >= n + 3);
  }
  source.close();
  assert.deepEqual(received, [...Array(10).keys()]);
  assert.equal(ids.size, 10);
});

test("sends credentials in a header where the client can", async () => {
  const source = new EventSource(`${server.http}/sse?topics=secure`, {
    fetch: (input, init) =>
      fetch(input, { ...init, headers: { ...init.headers, authorization: `Bearer ${server.tenant.api_key}` } }),
  });
  const first = new Promise((resolve) => {
    source.onmessage = resolve;
  });
  await new Promise((resolve) => {
    source.onopen = resolve;
  });
  await server.publish("secure", { text: "line one\nline two \u2028 é" });
  const event = JSON.parse((await first).data);
  assert.equal(event.payload.text, "line one\nline two \u2028 é");
  source.close();
});

test("is told why it was refused", async () => {
  const source = new EventSource(`${server.http}/sse?topics=news&token=nonsense`);
  const error = await new Promise((resolve) => {
    source.onerror = resolve;
  });
  assert.equal(error.code, 401);
  assert.equal(source.readyState, EventSource.CLOSED);
});
