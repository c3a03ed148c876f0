// Stock GraphQL clients: graphql-ws, graphql-sse, Apollo Client, urql, and the audits of graphql-http.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { ApolloClient, ApolloLink, gql, HttpLink, InMemoryCache } from "@apollo/client/core";
import { CombinedGraphQLErrors } from "@apollo/client/errors";
import { GraphQLWsLink } from "@apollo/client/link/subscriptions";
import { Client, fetchExchange } from "@urql/core";
import { OperationTypeNode } from "graphql";
import { auditServer, createClient as createHttpClient } from "graphql-http";
import { createClient as createSseClient } from "graphql-sse";
import { createClient as createWsClient } from "graphql-ws";
import WebSocket from "ws";
import { Server, until } from "./server.mjs";

const PUBLISH = "mutation ($input: EventInput!) { publishEvent(input: $input) { id topic payload cursor } }";
const STREAM = `subscription ($topics: [String!]!, $after: String) {
  eventStream(topics: $topics, after: $after) {
    __typename ... on EventMessage { topic payload cursor } ... on Gap { reason from to } } }`;

let server;
let url;
let socketUrl;
let headers;
before(async () => {
  server = await Server.start();
  url = `${server.http}/graphql`;
  socketUrl = url.replace("http", "ws");
  headers = { authorization: `Bearer ${server.tenant.api_key}` };
});
after(() => server?.end());

const wait = (retries) => new Promise((resolve) => setTimeout(resolve, Math.min(50 * 2 ** retries, 1_000)));
const ws = (options = {}) =>
  createWsClient({
    url: socketUrl,
    webSocketImpl: WebSocket,
    connectionParams: { token: server.tenant.api_key },
    retryAttempts: 20,
    retryWait: wait,
    ...options,
  });

/** Publishes and gives the cursor of the event. */
const publish = async (topic, payload) => (await server.publish(topic, payload)).cursor;

/**
 * Holds a client's `subscribe` against a server that is killed again and again: the client reconnects by itself and says
 * again what it was given, and all that this adds is the last cursor.
 */
async function survives(subscribe, topic) {
  const variables = { topics: [topic], after: await publish(topic, "before") };
  const received = [];
  const next = (result) => {
    assert.equal(result.errors, undefined, JSON.stringify(result));
    const item = result.data.eventStream;
    assert.equal(item.__typename, "EventMessage");
    received.push(item.payload);
    variables.after = item.cursor;
  };
  let failure;
  const stop = subscribe({ query: STREAM, variables }, next, (error) => {
    failure = error;
  });
  await publish(topic, 0);
  await until("the first event", () => received.length === 1 || failure);
  for (let n = 1; n < 10; n += 3) {
    await server.kill();
    await server.restart();
    for (let m = n; m < n + 3; m += 1) await publish(topic, m);
    await until(`event ${n + 2}`, () => received.length >= n + 3 || failure);
  }
  stop();
  assert.equal(failure, undefined);
  assert.deepEqual(received, [...Array(10).keys()]);
}

test("graphql-ws asks, changes and reads", async () => {
  const client = ws();
  const one = async (query, variables) => {
    for await (const result of client.iterate({ query, variables })) return result;
  };
  const published = await one(PUBLISH, { input: { topic: "ws.a", payload: { n: 1 } } });
  assert.deepEqual(published.data.publishEvent.payload, { n: 1 });
  const topics = await one("{ topics { edges { node { topic head_cursor } } } }");
  const heads = topics.data.topics.edges.map((edge) => edge.node);
  assert.ok(heads.some((head) => head.head_cursor === published.data.publishEvent.cursor));
  // An operation that is refused ends alone; the others and the connection go on.
  await assert.rejects(one("{ nothing }"), (errors) => errors[0].extensions.code === "INVALID_REQUEST");
  const again = await one("{ __typename }");
  assert.equal(again.data.__typename, "Query");
  await client.dispose();
});

test("graphql-ws resumes through the death of the server", async () => {
  const client = ws();
  await survives((payload, next, error) => client.subscribe(payload, { next, error, complete() {} }), "ws.resumed");
  await client.dispose();
});

test("graphql-ws is told why it may not come in", async () => {
  for (const connectionParams of [{ token: "nonsense" }, {}]) {
    // The package tries 4403 again by itself, as access may be granted later.
    const client = ws({ connectionParams, retryAttempts: 0 });
    const ended = new Promise((resolve) =>
      client.subscribe({ query: "{ __typename }" }, { next() {}, error: resolve, complete() {} }),
    );
    assert.equal((await ended).code, 4403);
    await client.dispose();
  }
});

test("graphql-sse resumes through the death of the server", async () => {
  const client = createSseClient({ url, headers, retryAttempts: 20, retry: wait });
  await survives((payload, next, error) => client.subscribe(payload, { next, error, complete() {} }), "sse.resumed");
  // Queries and mutations are streams of one result.
  const results = [];
  const published = { query: PUBLISH, variables: { input: { topic: "sse.a", payload: [1, null] } } };
  for await (const result of client.iterate(published)) results.push(result.data.publishEvent.payload);
  assert.deepEqual(results, [[1, null]]);
  client.dispose();
});

test("Apollo Client asks over HTTP and subscribes over a WebSocket", async () => {
  const sockets = ws();
  const client = new ApolloClient({
    cache: new InMemoryCache(),
    link: ApolloLink.split(
      ({ operationType }) => operationType === OperationTypeNode.SUBSCRIPTION,
      new GraphQLWsLink(sockets),
      new HttpLink({ uri: url, headers }),
    ),
  });
  const received = [];
  const after = await publish("apollo.a", "before");
  const subscription = client
    .subscribe({ query: gql(STREAM), variables: { topics: ["apollo.>"], after } })
    .subscribe((result) => received.push(result.data.eventStream.payload));
  for (const n of [1, 2, 3]) {
    const variables = { input: { topic: "apollo.a", payload: n } };
    const { data } = await client.mutate({ mutation: gql(PUBLISH), variables });
    assert.equal(data.publishEvent.topic, "apollo.a");
  }
  await until("three events", () => received.length === 3);
  assert.deepEqual(received, [1, 2, 3]);
  subscription.unsubscribe();

  // Pages of a connection, one after the other, as Apollo's users read them.
  const query = gql(`query ($after: String) { events(filter: { topics: ["apollo.>"] }, first: 2, after: $after) {
    edges { node { payload } } pageInfo { hasNextPage endCursor } } }`);
  const pages = [];
  let cursor;
  do {
    const { data } = await client.query({ query, variables: { after: cursor } });
    pages.push(data.events.edges.map((edge) => edge.node.payload));
    cursor = data.events.pageInfo.hasNextPage ? data.events.pageInfo.endCursor : undefined;
  } while (cursor);
  assert.deepEqual(pages.flat(), ["before", 1, 2, 3]);

  await assert.rejects(client.query({ query: gql`{ events(first: 0) { edges { cursor } } }` }), (error) => {
    assert.ok(CombinedGraphQLErrors.is(error), String(error));
    assert.equal(error.errors[0].extensions.code, "INVALID_REQUEST");
    assert.match(error.errors[0].extensions.request_id, /^req_/);
    return true;
  });
  client.stop();
  await sockets.dispose();
});

test("urql asks and subscribes over HTTP alone", async () => {
  const client = new Client({
    url,
    exchanges: [fetchExchange],
    fetchSubscriptions: true,
    preferGetMethod: "within-url-limit",
    fetchOptions: { headers },
  });
  const after = await publish("urql.a", "before");
  const received = [];
  const { unsubscribe } = client.subscription(STREAM, { topics: ["urql.>"], after }).subscribe((result) => {
    assert.equal(result.error, undefined, String(result.error));
    received.push(result.data.eventStream.payload);
  });
  const { data } = await client.mutation(PUBLISH, { input: { topic: "urql.b", payload: { deep: [1] } } });
  assert.equal(data.publishEvent.topic, "urql.b");
  await publish("urql.c", 2);
  await until("two events", () => received.length === 2);
  assert.deepEqual(received, [{ deep: [1] }, 2]);
  unsubscribe();
  const read = await client.query("{ tenants { edges { node { id } } } }", {});
  assert.equal(read.data.tenants.edges[0].node.id, server.tenant.tenant_id);
  const refused = await client.query("{ events(after: \"x\") { edges { cursor } } }", {});
  assert.equal(refused.error.graphQLErrors[0].extensions.code, "INVALID_CURSOR");
});

test("graphql-http's client is answered", async () => {
  const client = createHttpClient({ url, headers });
  const result = await new Promise((resolve, reject) => {
    let last;
    client.subscribe(
      { query: "{ __typename }" },
      { next: (data) => (last = data), error: reject, complete: () => resolve(last) },
    );
  });
  assert.deepEqual(result, { data: { __typename: "Query" } });
});

test("keeps to GraphQL over HTTP, in every audit of graphql-http", async () => {
  const fetchFn = (input, init) => fetch(input, { ...init, headers: { ...init?.headers, ...headers } });
  const results = await auditServer({ url, fetchFn });
  assert.ok(results.length > 50, `${results.length} audits`);
  // MUST, SHOULD and MAY alike.
  const failed = results.filter(({ status }) => status !== "ok");
  assert.deepEqual(failed.map(({ id, name, reason }) => `${id} ${name}: ${reason}`), []);
});
