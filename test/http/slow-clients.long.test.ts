import { connect, type Socket } from 'node:net';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { readMetric } from '../support/api-user.ts';
import { startApp, type TestApp } from '../support/app.ts';
import { eventually } from '../support/eventually.ts';
import { collect, openSse, stockClient } from '../support/live-client.ts';
import { createProbeDomain, notesWrite } from '../support/probe-domain.ts';
import { toyMigrations } from '../support/toy-domain.ts';

let app: TestApp;
beforeAll(async () => {
  app = await startApp({ backend: 'postgres', domain: createProbeDomain().domain, domainMigrations: toyMigrations });
});
afterAll(() => app.stop());

/** Sends a byte now and then; resolves when the server has closed, with how long that took. */
async function drip(first: string, byte: string, everyMs: number): Promise<number> {
  const socket: Socket = connect(Number(new URL(app.url).port), '127.0.0.1');
  const before = performance.now();
  socket.on('error', () => {});
  socket.resume().write(first);
  const timer = setInterval(() => socket.write(byte), everyMs);
  await new Promise<void>((resolve) => socket.once('close', () => resolve()));
  clearInterval(timer);
  return performance.now() - before;
}

it('a client that drips its headers or its body is cut off within 15 s, many at once', async () => {
  const head = `POST /graphql HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer ${app.key}\r\n`;
  const dripping = Promise.all(
    Array.from({ length: 100 }, (_, at) =>
      at % 2 === 0
        ? drip(`${head}X-A: b`, 'b', 500)
        : drip(`${head}Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{"query":"`, ' ', 500),
    ),
  );
  const before = performance.now();
  expect((await app.post('{ __typename }')).data).toEqual({ __typename: 'Query' });
  expect(performance.now() - before).toBeLessThan(500);
  expect(Math.max(...(await dripping))).toBeLessThan(15_000);
});

it('an answer that is not read is dropped within two minutes, a quiet stream is kept by its pings', async () => {
  await notesWrite(app, { count: 100, size: 200_000 });
  const quiet = await openSse(app.url, { key: app.key, query: 'subscription { events { position } }' });
  const body = JSON.stringify({ query: '{ events(first: 100) { nodes { ... on NoteWritten { note { text } } } } }' });
  const socket = connect(Number(new URL(app.url).port), '127.0.0.1');
  socket.on('error', () => {});
  socket.pause();
  socket.write(
    `POST /graphql HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer ${app.key}\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
  );
  await eventually(() => quiet.events.filter(({ comment }) => comment === '').length >= 11, {
    deadlineMs: 160_000,
    everyMs: 500,
  });
  const closed = new Promise<void>((resolve) => socket.once('close', () => resolve()));
  let bytes = 0;
  socket.on('data', (chunk: Buffer) => {
    bytes += chunk.length;
  });
  socket.resume();
  await closed;
  expect(bytes).toBeLessThan(19_000_000);
  const before = quiet.results().length;
  await notesWrite(app, { count: 1 });
  await eventually(() => quiet.results().length === before + 1);
  quiet.end();
});

it('a socket whose client has vanished is ended within two pings', async () => {
  const client = stockClient(app.wsUrl, app.key, { keepAlive: 0 });
  const watch = collect(client, 'subscription { events { position } }');
  await eventually(async () => (await readMetric(app, 'fanfare_streams')) === 1);
  watch.unsubscribe();
  await client.dispose();
  const socket = connect(Number(new URL(app.url).port), '127.0.0.1');
  socket.on('error', () => {});
  socket.write(
    'GET /graphql HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: graphql-transport-ws\r\n\r\n',
  );
  socket.write(
    maskedText(JSON.stringify({ type: 'connection_init', payload: { Authorization: `Bearer ${app.key}` } })),
  );
  await new Promise<void>((resolve) =>
    socket.on('data', (chunk: Buffer) => chunk.includes('connection_ack') && resolve()),
  );
  socket.write(
    maskedText(
      JSON.stringify({ id: '1', type: 'subscribe', payload: { query: 'subscription { events { position } }' } }),
    ),
  );
  // it reads, but nobody answers the pings
  await eventually(async () => (await readMetric(app, 'fanfare_streams')) === 1);
  await eventually(async () => (await readMetric(app, 'fanfare_streams')) === 0, { deadlineMs: 30_000, everyMs: 200 });
  await new Promise<void>((resolve) => (socket.closed ? resolve() : socket.once('close', () => resolve())));
});

/** A text frame under the mask of zeros. */
function maskedText(text: string): Buffer {
  const body = Buffer.from(text);
  const head =
    body.length < 126
      ? Buffer.from([0x81, 0x80 | body.length])
      : Buffer.from([0x81, 0xfe, body.length >> 8, body.length & 255]);
  return Buffer.concat([head, Buffer.alloc(4), body]);
}
