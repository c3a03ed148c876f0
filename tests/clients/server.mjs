// A Weir server for one test file: started on free ports, killed and started again at the same address.

import { execFileSync, spawn } from "node:child_process";
import { createHmac } from "node:crypto";
import { existsSync, mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

const PATIENCE_MS = 30_000;

/** Polls until `ask` answers something, and fails with `what` when it does not in time. */
export async function until(what, ask) {
  const deadline = Date.now() + PATIENCE_MS;
  for (;;) {
    const answer = await ask();
    if (answer) return answer;
    if (Date.now() > deadline) throw new Error(`waited ${PATIENCE_MS} ms in vain for ${what}`);
    await sleep(10);
  }
}

export class Server {
  #binary = process.env.WEIR_TEST_BINARY ?? "weir";
  #folder = mkdtempSync(join(tmpdir(), "weir-clients-"));
  #listen = "127.0.0.1:0";
  #process;
  #settings;

  /** Starts a server, with further `WEIR_…` settings, and makes a tenant. */
  static async start(settings = {}) {
    const server = new Server();
    server.#settings = settings;
    await server.restart();
    const made = execFileSync(
      server.#binary,
      ["bootstrap", "--tenant", "clients", "--project", "main", "--json"],
      { env: server.#environment(), encoding: "utf8" },
    );
    server.tenant = JSON.parse(made);
    return server;
  }

  #environment() {
    const outside = Object.entries(process.env).filter(([name]) => !name.startsWith("WEIR_"));
    return {
      ...Object.fromEntries(outside),
      WEIR_DATA_DIR: join(this.#folder, "data"),
      WEIR_LISTEN: this.#listen,
      WEIR_OPS_LISTEN: "127.0.0.1:0",
      WEIR_READY_FILE: join(this.#folder, "ready.json"),
      ...this.#settings,
    };
  }

  /** Starts it (again, at the same address) and waits until it accepts. */
  async restart() {
    const ready = join(this.#folder, "ready.json");
    rmSync(ready, { force: true });
    const log = openSync(join(this.#folder, "server.log"), "a");
    this.#process = spawn(this.#binary, ["serve"], { env: this.#environment(), stdio: ["ignore", log, log] });
    const addresses = await until("the server to be ready", () => {
      if (this.#process.exitCode !== null) throw new Error(`the server ended:\n${this.log()}`);
      return existsSync(ready) && JSON.parse(readFileSync(ready, "utf8"));
    });
    this.#listen = addresses.listen;
    this.http = `http://${addresses.listen}`;
    this.ws = `ws://${addresses.listen}/ws`;
  }

  log() {
    return readFileSync(join(this.#folder, "server.log"), "utf8");
  }

  /** SIGKILL: every connection breaks at once. */
  async kill() {
    const gone = new Promise((resolve) => this.#process.once("exit", resolve));
    this.#process.kill("SIGKILL");
    await gone;
  }

  async end() {
    await this.kill();
    rmSync(this.#folder, { recursive: true, force: true });
  }

  /** Publishes one event and gives the answer. */
  async publish(topic, payload) {
    const response = await fetch(`${this.http}/v1/events`, {
      method: "POST",
      headers: { authorization: `Bearer ${this.tenant.api_key}`, "content-type": "application/json" },
      body: JSON.stringify({ topic, payload }),
    });
    if (response.status !== 201) throw new Error(`${response.status}: ${await response.text()}`);
    return response.json();
  }

  /** A client token, signed as a tenant's own server would: plain HS256, no library. */
  token(subscribe, publish = []) {
    const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
    const exp = Math.floor(Date.now() / 1000) + 3600;
    const head = part({ alg: "HS256", typ: "JWT", kid: this.tenant.signing_key_id });
    const signed = `${head}.${part({ sub: "user-1", exp, subscribe, publish })}`;
    const signature = createHmac("sha256", this.tenant.signing_secret).update(signed).digest("base64url");
    return `${signed}.${signature}`;
  }
}
