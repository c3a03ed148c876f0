// The reference library of Standard Webhooks verifies what is sent.

import assert from "node:assert/strict";
import { createServer } from "node:http";
import { after, before, test } from "node:test";
import { Webhook } from "standardwebhooks";
import { Server, until } from "./server.mjs";

let server;
let receiver;
const came = [];

before(async () => {
  server = await Server.start({ WEIR_OUTBOUND_ALLOW_NETWORKS: "127.0.0.0/8" });
  receiver = createServer(async (request, response) => {
    const parts = [];
    for await (const part of request) parts.push(part);
    came.push({ headers: request.headers, body: Buffer.concat(parts).toString("utf8") });
    response.writeHead(204).end();
  });
  await new Promise((resolve) => receiver.listen(0, "127.0.0.1", resolve));
});
after(async () => {
  receiver?.close();
  await server?.end();
});

const ask = async (method, path, body) => {
  const response = await fetch(`${server.http}${path}`, {
    method,
    headers: { authorization: `Bearer ${server.tenant.api_key}`, "content-type": "application/json" },
    body: JSON.stringify(body),
  });
  assert.ok(response.ok, `${method} ${path}: ${response.status}`);
  return response.json();
};

test("the reference library verifies what an endpoint is sent", async () => {
  const url = `http://127.0.0.1:${receiver.address().port}/`;
  const hook = await ask("POST", "/v1/admin/webhooks", { url, topics: ["orders.>"], ordered: true });
  const payload = { text: "é\u2028 🌊", n: 1.5e300, list: [] };
  await server.publish("orders.eu", payload);
  await until("the event", () => came.length === 1);
  const library = new Webhook(hook.secret);
  const event = library.verify(came[0].body, came[0].headers);
  assert.deepEqual(event.payload, payload);
  assert.equal(event.topic, "orders.eu");

  // A changed body, another secret, another id: refused.
  assert.throws(() => library.verify(`${came[0].body} `, came[0].headers));
  const other = new Webhook(`whsec_${Buffer.alloc(24, 7).toString("base64")}`);
  assert.throws(() => other.verify(came[0].body, came[0].headers));
  assert.throws(() => library.verify(came[0].body, { ...came[0].headers, "webhook-id": "msg_other" }));

  // While the secret is replaced, either verifies.
  const rotated = await ask("POST", `/v1/admin/webhooks/${hook.id}/rotate`, { grace_seconds: 3600 });
  const isRotated = async () => {
    const count = came.length;
    await server.publish("orders.eu", { rotated: true });
    await until("one more", () => came.length > count);
    return came.at(-1).headers["webhook-signature"].includes(" ");
  };
  await until("both secrets to sign", isRotated);
  for (const secret of [hook.secret, rotated.secret]) {
    assert.ok(new Webhook(secret).verify(came.at(-1).body, came.at(-1).headers));
  }

  const tried = await ask("POST", `/v1/admin/webhooks/${hook.id}/test`, {});
  assert.equal(tried.delivered, true);
  const ping = new Webhook(rotated.secret).verify(came.at(-1).body, came.at(-1).headers);
  assert.equal(ping.topic, "@weir.webhook.ping");
});
