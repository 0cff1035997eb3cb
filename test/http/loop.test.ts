import { once } from 'node:events';
import { createServer, get, type IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';
import { text as readText } from 'node:stream/consumers';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startApp, type TestApp } from '../support/app.ts';
import { eventually } from '../support/eventually.ts';
import { openRawSocket } from '../support/live-client.ts';
import { createProbeDomain } from '../support/probe-domain.ts';
import { toyMigrations } from '../support/toy-domain.ts';

/** As a proxy would have it, on a port where none is. */
const PUBLIC_URL = 'http://127.0.0.1:9/shop';
const WRITE = 'mutation { notesWrite(count: 1) { __typename } }';
const CREATE = `mutation ($input: WebhookCreateInput!) {
  webhookCreate(input: $input) { ... on WebhookCreateSuccess { webhook { id } } ... on Refusal { message } } }`;
const SIGNATURE = { 'webhook-signature': 'v1,anything' };
const LOOPED = [{ message: expect.stringContaining('nothing was run'), extensions: { code: 'LOOP_DETECTED' } }];

let app: TestApp;
beforeAll(async () => {
  const { domain } = createProbeDomain();
  app = await startApp({ backend: 'postgres', domain, domainMigrations: toyMigrations, env: { PUBLIC_URL } });
});
afterAll(() => app.stop());

const authorized = () => ({ authorization: `Bearer ${app.key}` });
const countEvents = async (): Promise<number> => {
  const { data } = await app.post('{ events(first: 100, filter: { types: [NOTE_WRITTEN] }) { nodes { id } } }');
  return data.events.nodes.length;
};

async function createWebhook(url: string): Promise<string> {
  const headers = { ...authorized(), 'idempotency-key': 'mine' };
  const { data } = await app.post(CREATE, { input: { url, eventTypes: ['NOTE_WRITTEN'], headers } });
  return data.webhookCreate.webhook.id;
}

const removeWebhook = (id: string) => app.post('mutation ($id: ID!) { webhookDelete(id: $id) { __typename } }', { id });

describe('a request with the signature of a webhook', () => {
  const post = (query: string, accept = 'application/json') => ({
    method: 'POST',
    headers: { 'content-type': 'application/json', accept },
    body: JSON.stringify({ query }),
  });

  it('is answered by 508 on each entry of HTTP, and nothing is run', async () => {
    const asked = `?query=${encodeURIComponent('{ head }')}`;
    const entries: readonly (readonly [string, RequestInit])[] = [
      ['', post(WRITE)],
      [`?query=${encodeURIComponent(WRITE)}`, post(WRITE)],
      ['', post(WRITE, 'text/event-stream')],
      ['', post('subscription { events { id } }', 'text/event-stream')],
      [asked, { headers: { accept: 'application/json' } }],
      ['', { headers: { accept: 'text/html' } }],
    ];
    const before = await countEvents();
    for (const [path, { headers, ...init }] of entries) {
      const answer = await fetch(app.url + path, { ...init, headers: { ...headers, ...authorized(), ...SIGNATURE } });
      expect(answer.status).toBe(508);
      expect(await answer.json()).toEqual({ errors: LOOPED });
    }
    expect(await countEvents()).toBe(before);
    // the control: the same requests without it are served
    for (const [path, { headers, ...init }] of entries) {
      const hungUp = new AbortController();
      const answer = await fetch(app.url + path, {
        ...init,
        headers: { ...headers, ...authorized() },
        signal: hungUp.signal,
      });
      expect(answer.status).toBe(200);
      hungUp.abort();
    }
    await eventually(async () => (await countEvents()) === before + 3);
  });

  it('is refused before its key is looked at, whatever the signature', async () => {
    const { 'webhook-signature': _, ...none } = SIGNATURE;
    const send = (headers: Record<string, string>) => fetch(app.url, { ...post('{ head }'), headers });
    expect((await send({ 'webhook-signature': '' })).status).toBe(508);
    expect((await send(none)).status).toBe(401);
  });

  it('gets no WebSocket, but the same answer', async () => {
    const headers = { connection: 'upgrade', upgrade: 'websocket', ...SIGNATURE };
    const [answer] = (await once(get(app.url, { headers }), 'response')) as [IncomingMessage];
    expect(answer.statusCode).toBe(508);
    expect(JSON.parse(await readText(answer))).toEqual({ errors: LOOPED });
    const socket = await openRawSocket(app.wsUrl, { key: app.key });
    await socket.end();
  });
});

describe('a webhook whose URL is the API itself', () => {
  it('brings about nothing, and its attempt shows why', async () => {
    const before = await countEvents();
    const id = await createWebhook(`${app.url}?query=${encodeURIComponent(WRITE)}`);
    await app.post(WRITE);
    const attempts = async () => {
      const query =
        'query ($id: ID!) { webhook(id: $id) { attempts(first: 10) { nodes { statusCode responseBody } } } }';
      return (await app.post(query, { id })).data.webhook.attempts.nodes;
    };
    const [attempt] = await eventually(async () => {
      const made = await attempts();
      return made.length > 0 ? made : false;
    });
    expect(attempt.statusCode).toBe(508);
    expect(JSON.parse(attempt.responseBody).errors).toEqual(LOOPED);
    await removeWebhook(id);
    expect(await countEvents()).toBe(before + 1);
  });

  it('by its public address is refused, at creation and change, with the reason in the log alone', async () => {
    const id = await createWebhook('http://127.0.0.1:9/hook'); // the control
    const update = `mutation ($input: WebhookUpdateInput!) {
      webhookUpdate(input: $input) { __typename ... on Refusal { code message } } }`;
    const create =
      'mutation ($input: WebhookCreateInput!) { webhookCreate(input: $input) { ... on Refusal { code message } } }';
    const url = `${PUBLIC_URL}/graphql`;
    const made = await app.post(create, { input: { url, eventTypes: ['NOTE_WRITTEN'] } });
    const inward = await app.post(create, { input: { url: 'http://10.0.0.1/', eventTypes: ['NOTE_WRITTEN'] } });
    const changed = await app.post(update, {
      input: { id, url, headers: { authorization: null, 'idempotency-key': null } },
    });
    expect(made.data.webhookCreate).toEqual(inward.data.webhookCreate);
    expect(changed.data.webhookUpdate).toMatchObject({ __typename: 'CallbackRefused', ...made.data.webhookCreate });
    const refused = app.observations.filter(({ name }) => name === 'callback.refused');
    expect(refused).toMatchObject([
      { stage: 'create', reason: 'OWN_URL' },
      { stage: 'create', reason: 'SCHEME' },
      { stage: 'update', reason: 'OWN_URL' },
    ]);
    await removeWebhook(id);
  });

  /** Makes each callback a change of the API's, with these of its headers. */
  async function openRelay(passed: readonly string[]) {
    const statuses: number[] = [];
    const server = createServer((request, response) => {
      const headers = Object.fromEntries(passed.map((name) => [name, String(request.headers[name])]));
      const change = { method: 'POST', body: JSON.stringify({ query: WRITE }) };
      fetch(app.url, { ...change, headers: { 'content-type': 'application/json', ...headers } }).then(
        ({ status }) => {
          statuses.push(status);
          response.writeHead(status).end();
        },
        () => response.destroy(),
      );
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo; // an address, since it listens on TCP
    return { url: `http://127.0.0.1:${port}/`, statuses, close: () => server.close() };
  }

  it('by way of a proxy that passes its headers on, makes one event of one', async () => {
    const before = await countEvents();
    const relay = await openRelay(['authorization', 'webhook-signature']);
    const id = await createWebhook(relay.url);
    await app.post(WRITE);
    await eventually(() => relay.statuses.length > 0);
    await removeWebhook(id);
    relay.close();
    expect(relay.statuses).toEqual([508]);
    expect(await countEvents()).toBe(before + 1);
  });

  it('would go round without end if the signature were not looked for (control: a proxy that takes it off)', async () => {
    const before = await countEvents();
    const relay = await openRelay(['authorization']);
    const id = await createWebhook(relay.url);
    await app.post(WRITE);
    await eventually(async () => (await countEvents()) > before + 5);
    await removeWebhook(id);
    relay.close();
    expect(new Set(relay.statuses)).toEqual(new Set([200]));
  });
});
