// Stock Python libraries, in a process of their own that prints what it receives.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { after, before, test } from "node:test";
import { Server, until } from "./server.mjs";

let server;
before(async () => {
  server = await Server.start();
});
after(() => server?.end());

for (const transport of ["ws", "sse"]) {
  test(`a Python client of /${transport} survives the death of the server`, async () => {
    const url = transport === "ws" ? server.ws : `${server.http}/sse`;
    const token = server.token([`${transport}.>`]);
    const client = spawn("python3", ["subscriber.py", url, `${transport}.>`], {
      cwd: import.meta.dirname,
      env: { ...process.env, TOKEN: token },
      stdio: ["ignore", "pipe", "inherit"],
    });
    const frames = [];
    createInterface({ input: client.stdout }).on("line", (line) => frames.push(JSON.parse(line)));
    const payloads = () => frames.filter((frame) => frame.type === "event").map((frame) => frame.payload);
    try {
      await until("the subscription", () => frames.some((frame) => frame.type === "subscribed"));
      await server.publish(`${transport}.a`, 0);
      await until("the first event", () => payloads().length === 1);
      await server.kill();
      await server.restart();
      for (const n of [1, 2, 3]) await server.publish(`${transport}.b`, n);
      await until("the events after the restart", () => payloads().length >= 4);
      await server.publish(`${transport}.c.d`, 4);
      await until("a live event", () => payloads().length >= 5);
      assert.deepEqual(payloads(), [0, 1, 2, 3, 4]);
    } finally {
      client.kill("SIGKILL");
    }
  });
}
