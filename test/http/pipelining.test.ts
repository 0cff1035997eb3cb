import { once } from 'node:events';
import { createServer, type Server, type ServerResponse } from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { whenGone } from '../../src/http/hang-up.ts';
import { readMetric } from '../support/api-user.ts';
import { startApp, type TestApp } from '../support/app.ts';
import { eventually } from '../support/eventually.ts';
import { domain, toyMigrations } from '../support/toy-domain.ts';

let app: TestApp;
beforeAll(async () => {
  app = await startApp({ backend: 'postgres', domain, domainMigrations: toyMigrations });
  const create = 'mutation { consumerCreate(name: "pipe") { ... on ConsumerCreateSuccess { consumer { name } } } }';
  expect((await app.post(create)).data.consumerCreate.consumer).toEqual({ name: 'pipe' });
});
afterAll(() => app.stop());

const STREAM = { query: 'subscription { events { id } }', accept: 'text/event-stream' };
const POLL = '{ consumerPoll(name: "pipe", waitMs: 30000) { cursor } }';

/** Takes the connection from Node's HTTP server, which then tells those answers that wait nothing of its end. */
const UPGRADE = `GET /elsewhere HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n`;

function requestOf({ query, accept }: { readonly query: string; readonly accept: string }): string {
  const body = JSON.stringify({ query });
  const head = [
    'POST /graphql HTTP/1.1',
    'host: a',
    `authorization: Bearer ${app.key}`,
    'content-type: application/json',
    `accept: ${accept}`,
    `content-length: ${body.length}`,
  ];
  return `${head.join('\r\n')}\r\n\r\n${body}`;
}

const until = (metric: string, count: number) =>
  // far less than the poll would wait
  eventually(async () => (await readMetric(app, metric)) === count, {
    deadlineMs: 15_000,
    describe: `${count} of ${metric}`,
  });

describe.each([
  ['hangs up', ''],
  ['hangs up by a refused upgrade', UPGRADE],
])('a client that asks twice on one connection and %s', (_how, last) => {
  it.each([
    ['a stream', STREAM, 'fanfare_streams', 2],
    ['a poll', { query: POLL, accept: 'application/json' }, 'fanfare_waiting_polls', 1],
    ['a poll answered as a stream', { query: POLL, accept: 'text/event-stream' }, 'fanfare_waiting_polls', 1],
  ])('leaves nothing of what waits behind a stream: %s', async (_what, second, metric, count) => {
    const socket = connect(Number(new URL(app.url).port), '127.0.0.1');
    socket.on('error', () => {});
    socket.resume();
    socket.write(requestOf(STREAM) + requestOf(second));
    await until('fanfare_streams', metric === 'fanfare_streams' ? 2 : 1);
    await until(metric, count);
    const closed = once(socket, 'close');
    if (last === '') socket.destroy();
    else socket.write(last);
    await closed;
    await until(metric, 0);
    for (const each of ['fanfare_streams', 'fanfare_connections', 'fanfare_waiting_polls']) await until(each, 0);
  });
});

describe('answers that wait on one connection', () => {
  const COUNT = 20;

  /** Asks `COUNT` times without an answer, then for an upgrade, which is cut off; gives how many were told of the end. */
  async function countTold(watch: (response: ServerResponse, tell: () => void) => void): Promise<number> {
    let [asked, told] = [0, 0];
    const server: Server = createServer((_request, response) => {
      asked++;
      watch(response, () => told++);
    });
    server.on('upgrade', (_request, socket) => void socket.destroy());
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const socket = connect((server.address() as AddressInfo).port, '127.0.0.1');
    socket.on('error', () => {});
    socket.write('GET / HTTP/1.1\r\nhost: a\r\n\r\n'.repeat(COUNT));
    await eventually(() => asked === COUNT);
    socket.write(UPGRADE);
    await once(socket, 'close');
    server.close();
    await once(server, 'close');
    return told;
  }

  it('are each told of its end, once, and no leak is suspected', async () => {
    const warnings: Error[] = [];
    const warn = (warning: Error) => void warnings.push(warning);
    process.on('warning', warn);
    expect(await countTold(whenGone)).toBe(COUNT);
    process.off('warning', warn);
    expect(warnings).toEqual([]);
  });

  it('would not be told by themselves, but for the first', async () => {
    expect(await countTold((response, tell) => void response.once('close', tell))).toBe(1);
  });
});
