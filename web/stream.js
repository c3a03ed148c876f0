// One live subscription, over WebSocket or EventSource, that resumes by itself with the last cursor.
// A browser can set no headers on either, so every connection begins with a ticket: one use, short-lived.

const FIRST_WAIT = 500;
const LONGEST_WAIT = 30_000;

/** The codes after which trying again can help; docs/errors.md has the whole list. */
const RETRYABLE = new Set([
  "RATE_LIMIT_EXCEEDED", "PROJECT_LIMIT_EXCEEDED", "REQUEST_TIMEOUT", "SLOW_CONSUMER", "DRAINING", "OVERLOADED",
  "DATABASE_UNAVAILABLE", "EVENT_LOG_UNAVAILABLE", "INTERNAL",
]);

/** An answer of the API that is not a success, with its public code. */
export class Refusal extends Error {
  constructor(error, status, retryAfter) {
    super(error.message || `The server answered ${status}.`);
    this.code = error.code || `HTTP ${status}`;
    this.requestId = error.request_id;
    this.retryAfter = retryAfter;
    this.permanent = error.code ? !RETRYABLE.has(error.code) : status < 500;
  }
}

/** Calls the API and returns the JSON of a success; anything else is thrown, readable. */
export async function call(key, method, path, body) {
  const headers = { authorization: `Bearer ${key}` };
  if (body !== undefined) headers["content-type"] = "application/json";
  let response;
  try {
    response = await fetch(path, { method, headers, body: body && JSON.stringify(body), cache: "no-store" });
  } catch {
    throw new Error("The server cannot be reached.");
  }
  if (!response.ok) throw await refusal(response);
  return response.json();
}

async function refusal(response) {
  const body = await response.json().catch(() => ({}));
  const wait = Number(response.headers.get("retry-after"));
  return new Refusal(body.error || {}, response.status, wait > 0 ? wait * 1000 : undefined);
}

/**
 * `hear` has state(name, text), subscribed({recovered}), event(event), gap(gap) and problem(error).
 * States: connecting, live, waiting (will try again), refused (will not), idle.
 */
export class Stream {
  constructor({ key, transport, topics, start, cursor, hear }) {
    Object.assign(this, { key, transport, topics, start, cursor, hear });
    this.open = false;
    this.failures = 0;
  }

  begin() {
    this.open = true;
    this.connect();
  }

  end() {
    this.open = false;
    this.drop();
    this.hear.state("idle", "Disconnected");
  }

  drop() {
    clearTimeout(this.timer);
    const link = this.link;
    this.link = undefined;
    link?.close();
  }

  async connect() {
    this.hear.state("connecting", this.failures ? "Reconnecting…" : "Connecting…");
    try {
      const { ticket } = await call(this.key, "POST", "/v1/tickets", {});
      if (this.transport === "sse" && !this.cursor && this.start === "now") await this.findEnd();
      if (!this.open) return;
      if (this.transport === "sse") this.connectSse(ticket);
      else this.connectWebSocket(ticket);
    } catch (error) {
      this.failed(error);
    }
  }

  /** Where to start: after the last event that arrived, else as asked. */
  position() {
    if (this.cursor) return { after: this.cursor };
    return this.start === "first" ? { from_sequence: 1 } : {};
  }

  /**
   * A script does not see the cursor with which an event stream begins, and without one it could not resume
   * before the first event. A replay from beyond the end tells it, with what came in at that moment.
   */
  async findEnd() {
    const query = new URLSearchParams({ topics: this.topics.join(","), from_sequence: Number.MAX_SAFE_INTEGER });
    const { data, next_cursor } = await call(this.key, "GET", `/v1/events?${query}`);
    data.forEach((event) => this.deliver(event));
    this.cursor = next_cursor;
  }

  live({ cursor, recovered = true } = {}) {
    this.failures = 0;
    if (cursor) this.cursor = cursor;
    this.hear.state("live", "Live");
    this.hear.subscribed({ recovered });
  }

  deliver(event) {
    this.cursor = event.cursor;
    this.hear.event(event);
  }

  connectWebSocket(ticket) {
    const url = new URL(`/ws?ticket=${encodeURIComponent(ticket)}`, location.href);
    url.protocol = url.protocol.replace("http", "ws");
    const socket = new WebSocket(url, "weir.v1");
    this.link = socket;
    let problem;
    let pause;
    const on = {
      connected: () =>
        socket.send(JSON.stringify({ type: "subscribe", id: "watch", topics: this.topics, ...this.position() })),
      subscribed: (frame) => this.live(frame),
      // On a WebSocket `type` is the frame's own; the event's type travels as `event_type`.
      event: ({ event_type: type, ...frame }) => this.deliver({ ...frame, type }),
      gap: (frame) => this.hear.gap(frame),
      error: ({ id, error, retry_after_ms }) => {
        problem = new Refusal(error, undefined, retry_after_ms);
        // Without an id the server closes next, and its code decides. A refused subscription leaves the
        // connection open, but there is nothing to keep it for.
        if (id) socket.close();
      },
      reconnect: (frame) => (pause = frame.after_ms),
    };
    socket.onmessage = ({ data }) => {
      if (this.link !== socket) return;
      const frame = JSON.parse(data);
      on[frame.type]?.(frame);
    };
    socket.onclose = ({ code, reason }) => {
      if (this.link !== socket) return;
      problem ??= new Error(reason ? `Closed: ${reason} (${code})` : `The connection was lost (${code}).`);
      if (pause !== undefined) problem.retryAfter = pause;
      // The range of the code says whether coming back makes sense.
      if (code >= 4400 && code < 4600) problem.permanent = code < 4500;
      this.failed(problem);
    };
  }

  connectSse(ticket) {
    const { after, ...start } = this.position();
    const query = new URLSearchParams({ topics: this.topics.join(","), ...start, ticket });
    if (after) query.set("last_event_id", after);
    const source = new EventSource(`/sse?${query}`);
    this.link = source;
    let opened = false;
    source.onopen = () => {
      opened = true;
      this.live();
    };
    source.onmessage = ({ data }) => this.link === source && this.deliver(JSON.parse(data));
    source.addEventListener("gap", ({ data }) => this.link === source && this.hear.gap(JSON.parse(data)));
    // Both the server's `event: error` and a lost connection arrive here; only the first has data. EventSource
    // would come back with the used-up ticket, so it is closed and made anew.
    source.addEventListener("error", async ({ data }) => {
      if (this.link !== source) return;
      this.drop();
      if (data) {
        const { error } = JSON.parse(data);
        return this.failed(new Refusal(error));
      }
      this.failed(opened ? new Error("The connection was lost.") : await this.whyNot(query));
    });
  }

  /** EventSource does not tell why it was refused; asking again with fetch does. */
  async whyNot(query) {
    query.delete("ticket");
    const abort = new AbortController();
    try {
      const headers = { authorization: `Bearer ${this.key}`, accept: "text/event-stream" };
      const response = await fetch(`/sse?${query}`, { headers, signal: abort.signal });
      return response.ok ? new Error("The connection was lost.") : await refusal(response);
    } catch {
      return new Error("The server cannot be reached.");
    } finally {
      abort.abort();
    }
  }

  failed(error) {
    this.drop();
    if (!this.open) return;
    if (error.permanent) {
      this.open = false;
      this.hear.problem(error);
      return this.hear.state("refused", "Refused");
    }
    // Full jitter: those who were cut off together do not come back together.
    const most = Math.min(LONGEST_WAIT, FIRST_WAIT * 2 ** this.failures++);
    const wait = error.retryAfter ?? Math.random() * most;
    this.hear.problem(error);
    this.hear.state("waiting", `Again in ${Math.max(1, Math.round(wait / 1000))} s`);
    this.timer = setTimeout(() => this.connect(), wait);
  }
}
