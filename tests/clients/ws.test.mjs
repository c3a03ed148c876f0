// The npm package `ws`: frames by hand, resumed by cursor.

import assert from "node:assert/strict";
import { once } from "node:events";
import { after, before, test } from "node:test";
import WebSocket from "ws";
import { Server } from "./server.mjs";

let server;
before(async () => {
  server = await Server.start();
});
after(() => server?.end());

/** A connection whose frames can be awaited one by one. */
async function connect(options = {}) {
  const headers = { authorization: `Bearer ${server.tenant.api_key}` };
  const socket = new WebSocket(server.ws, "weir.v1", { headers, ...options });
  const frames = [];
  let wake = () => {};
  socket.on("message", (data, binary) => {
    assert.equal(binary, false);
    frames.push(JSON.parse(data));
    wake();
  });
  socket.on("error", () => {});
  await once(socket, "open");
  const next = async (type) => {
    while (frames.length === 0) {
      assert.ok(socket.readyState <= WebSocket.OPEN, `closed while waiting for ${type}`);
      await new Promise((resolve) => {
        wake = resolve;
        socket.once("close", resolve);
      });
    }
    const frame = frames.shift();
    assert.equal(frame.type, type, JSON.stringify(frame));
    return frame;
  };
  const send = (frame) => socket.send(JSON.stringify(frame));
  return { socket, next, send };
}

test("receives, is cut off, and resumes with nothing lost or repeated", async () => {
  const received = [];
  let cursor;
  for (let cycle = 0; cycle < 20; cycle += 1) {
    const { socket, next, send } = await connect();
    await next("connected");
    send({ type: "subscribe", id: "1", topics: ["news.>"], after: cursor });
    const subscribed = await next("subscribed");
    assert.equal(subscribed.recovered, true);
    cursor = subscribed.cursor;
    // One event is read live, one is published while nobody listens.
    await server.publish("news.a", cycle * 2);
    while (received.length < cycle * 2 + 1) {
      const event = await next("event");
      received.push(event.payload);
      cursor = event.cursor;
    }
    if (cycle % 5 === 4) {
      await server.kill();
      await server.restart();
    } else if (cycle % 2) {
      socket.terminate();
    } else {
      socket.close();
      await once(socket, "close");
    }
    await server.publish("news.b.c", cycle * 2 + 1);
  }
  assert.deepEqual(received, [...Array(39).keys()]);
});

test("works with compression offered, which the server declines", async () => {
  const { socket, next, send } = await connect({ perMessageDeflate: true });
  assert.equal(socket.extensions, "");
  await next("connected");
  send({ type: "publish", id: "p", topic: "news.a", payload: "x".repeat(10_000) });
  assert.equal((await next("published")).id, "p");
  socket.close();
});

test("closes with a code that tells whether to come back", async () => {
  const { socket, send } = await connect({ headers: {} });
  send({ type: "connect", token: "nonsense" });
  const [code] = await once(socket, "close");
  assert.equal(code, 4401);
});
