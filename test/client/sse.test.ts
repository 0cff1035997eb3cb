import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { expect, onTestFinished, test } from 'vitest';
import { createFanfareSseClient, type FanfareClient, type SseClientOptions } from '#client';
import { eventually } from '../support/eventually.ts';
import { ALL_EVENTS, followAll } from './followed.ts';

type Answer = (response: ServerResponse, request: { readonly attempt: number; readonly body: Body }) => void;

interface Body {
  readonly extensions?: { readonly after?: string };
}

/** A server of any behaviour. */
async function serve(answer: Answer) {
  let attempts = 0;
  const open = new Set<ServerResponse>();
  const server = createServer(async (request: IncomingMessage, response) => {
    const chunks = await Array.fromAsync(request);
    open.add(response);
    response.on('close', () => open.delete(response));
    answer(response, { attempt: ++attempts, body: JSON.parse(Buffer.concat(chunks).toString()) });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  onTestFinished(async () => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  });
  const { port } = server.address() as AddressInfo; // it listens on TCP
  return { url: `http://127.0.0.1:${port}`, attempts: () => attempts, open };
}

function connect(url: string, options: Partial<SseClientOptions> = {}): FanfareClient {
  const client = createFanfareSseClient({ url, key: 'ff_x', random: () => 0.01, ...options });
  onTestFinished(() => client.dispose());
  return client;
}

function stream(response: ServerResponse, ...results: readonly object[]): void {
  if (!response.headersSent) response.writeHead(200, { 'content-type': 'text/event-stream; charset=utf-8' });
  response.flushHeaders();
  for (const result of results) response.write(`event: next\ndata: ${JSON.stringify(result)}\n\n`);
}

const event = (position: number) => ({
  data: { events: { position: String(position) } },
  extensions: { cursor: `c${position}` },
});
const checkpoint = (position: number) => ({ extensions: { cursor: `c${position}` } });

test('a stream that breaks off, fails or is refused for now goes on behind its last event', async () => {
  const afters: unknown[] = [];
  const server = await serve((response, { attempt, body }) => {
    afters.push(body.extensions?.after);
    if (attempt === 1) {
      stream(response, event(1), event(2));
      return void response.end(); // without "complete": the server stops
    }
    if (attempt === 2) return void response.writeHead(502, { 'content-type': 'text/html' }).end('<h1>Bad Gateway</h1>');
    if (attempt === 3) return void response.destroy();
    if (attempt === 4) {
      // an error in the middle
      stream(response, event(3), { errors: [{ message: 'gone', extensions: { code: 'UNAVAILABLE' } }] });
      return void response.end('event: complete\ndata:\n\n');
    }
    stream(response, event(4), checkpoint(4));
  });
  const client = connect(server.url);
  const followed = followAll(client);
  await eventually(() => client.state === 'live');
  expect(followed.positions()).toEqual([1, 2, 3, 4]);
  expect(afters).toEqual([undefined, 'c2', 'c2', 'c2', 'c3']);
});

test('a stream that falls silent is not live for longer than it may be', async () => {
  const server = await serve((response) => stream(response, checkpoint(0)));
  const client = connect(server.url, { silenceMs: 200 });
  const followed = followAll(client);
  await eventually(() => server.attempts() >= 2);
  expect(followed.log.slice(0, 4)).toEqual(['connecting', 'catching up', 'live', 'interrupted']);
});

test.each([
  ['a status that no retry will mend', 404, 'text/plain', 'nothing here', 'CONNECTION_REFUSED'],
  [
    'errors that it names',
    403,
    'application/json',
    '{"errors":[{"message":"no","extensions":{"code":"FORBIDDEN"}}]}',
    'FORBIDDEN',
  ],
])('%s ends it', async (_what, status, type, text, code) => {
  const server = await serve((response) => response.writeHead(status, { 'content-type': type }).end(text));
  const followed = followAll(connect(server.url));
  await eventually(() => followed.error !== undefined);
  expect(followed.error).toMatchObject([{ extensions: { code } }]);
  expect(server.attempts()).toBe(1);
});

test('an error in the middle that no retry will mend ends it with its details', async () => {
  const errors = [{ message: 'too old', extensions: { code: 'CURSOR_EXPIRED', earliestCursor: 'c7' } }];
  const server = await serve((response) => stream(response, event(1), { errors }));
  const followed = followAll(connect(server.url));
  await eventually(() => followed.error !== undefined);
  expect(followed.error).toEqual(errors);
});

test('a mutation is sent once, and its loss is told', async () => {
  const server = await serve((response) => response.destroy());
  const iterator = connect(server.url).iterate({ query: 'mutation { write }' });
  await expect(iterator.next()).rejects.toMatchObject({ code: 'CONNECTION_LOST' });
  expect(server.attempts()).toBe(1);
});

test('a stream that is left, and all when the client is disposed, leave nothing open', async () => {
  const server = await serve((response) => stream(response, checkpoint(0)));
  const client = connect(server.url);
  const [one] = [followAll(client), followAll(client), followAll(client)];
  await eventually(() => client.state === 'live');
  expect(server.open.size).toBe(3);
  one?.stop();
  await eventually(() => server.open.size === 2);
  await client.dispose();
  await eventually(() => server.open.size === 0);
});

test('terminating breaks the streams, and they come back', async () => {
  const server = await serve((response, { attempt }) =>
    stream(response, ...(attempt === 1 ? [event(1)] : []), checkpoint(1)),
  );
  const client = connect(server.url);
  const followed = followAll(client, undefined, ALL_EVENTS);
  await eventually(() => client.state === 'live');
  client.terminate();
  await eventually(() => server.attempts() === 2 && client.state === 'live');
  expect(followed.positions()).toEqual([1]);
});
