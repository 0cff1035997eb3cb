import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { SendQueue, Turn } from '../../src/http/send-queue.ts';
import { SocketStream } from '../../src/http/socket-stream.ts';
import { readMetric } from '../support/api-user.ts';
import { type GraphqlAnswer, startApp, type TestApp } from '../support/app.ts';
import { eventually } from '../support/eventually.ts';
import { liveQuietly, takeStock } from '../support/lifecycle-runs.ts';
import { openRawSocket, openSse, type RawSocket, subscribeMessage } from '../support/live-client.ts';
import { settledHead } from '../support/live-handover.ts';
import { createProbeDomain, notesWrite } from '../support/probe-domain.ts';
import { toyMigrations } from '../support/toy-domain.ts';

const { domain } = createProbeDomain();
let app: TestApp;
beforeAll(async () => {
  app = await startApp({ backend: 'postgres and redis', domain, domainMigrations: toyMigrations });
});
afterAll(() => app.stop());

describe('subscribing and leaving without an event', () => {
  it('leaves nothing behind, 5,000 times, in each way that there is', async () => {
    await liveQuietly(app, 800);
    const before = await takeStock(app);
    await liveQuietly(app, 5_000);
    const after = await takeStock(app);
    // far less than a stream holds; half of what grows is the process's own
    expect(after.heapBytes - before.heapBytes).toBeLessThan(5_000 * 400);
    // each idle connection of a pool has a timer
    for (const [kind, count] of Object.entries(after.resources))
      expect(count, kind).toBeLessThanOrEqual((before.resources[kind] ?? 0) + 20);
  }, 120_000);

  it('tells whoever attached, at once, which a quiet async generator never does (negative control)', async () => {
    const left: string[] = [];
    const home = { queue: new SendQueue(SILENT_OUTLET, new Turn()), endStream: () => {} };
    const [opening, open] = [new SocketStream('opening', home), new SocketStream('open', home)];
    open.attach(() => void left.push('open'));
    opening.leave();
    open.leave();
    expect(left).toEqual(['open']);
    opening.attach(() => void left.push('opening'));
    open.leave();
    expect(left).toEqual(['open', 'opening']);
    async function* naive(): AsyncGenerator<never> {
      try {
        await new Promise(() => {});
      } finally {
        left.push('naive');
      }
    }
    const generator = naive();
    void generator.next();
    void generator.return(undefined);
    await new Promise((resolve) => setImmediate(resolve));
    expect(left).toEqual(['open', 'opening']);
  });
});

const SILENT_OUTLET = { write: () => {}, pendingBytes: () => 0, whenDrained: () => {}, onOverflow: () => {} };

describe('subscribing again while the one before is leaving', () => {
  it('leaves no silent survivor, whatever comes first', async () => {
    for (let round = 0; round < 6; round++) {
      const sockets = await Promise.all(Array.from({ length: 4 }, () => openRawSocket(app.wsUrl, { key: app.key })));
      const alive = sockets.map((socket) => shuffle(socket));
      const coming = Array.from({ length: 8 }, (_, at) => openSse(app.url, { key: app.key, query: queryOf(at) }));
      const streams = await Promise.all(coming);
      for (const stream of streams.slice(4)) stream.end();
      const staying = streams.slice(0, 4);
      const survivors = alive.reduce((sum, ids) => sum + ids.size, 0) + staying.length;
      // each that stays is live when it has got something
      const isServed = () =>
        sockets.every((socket, at) => [...(alive[at] ?? [])].every((id) => framesOf(socket, id).length > 0)) &&
        staying.every((each) => each.results().length > 0);
      await eventually(async () => (await notesWrite(app, { count: 1 })) && isServed(), { everyMs: 50 });
      await eventually(async () => (await readMetric(app, 'fanfare_streams')) === survivors);
      const last = await settledHead(app, (await notesWrite(app, { count: 3 })).cursor);
      for (const [at, socket] of sockets.entries()) {
        for (const id of ['0', '1', '2', '3', '4']) {
          const isAlive = alive[at]?.has(id) ?? false;
          const end = () => framesOf(socket, id).filter((position) => position > last - 3);
          if (isAlive) await eventually(() => end().length >= 3);
          expect(end()).toEqual(isAlive ? [last - 2, last - 1, last] : []);
        }
      }
      for (const each of staying) await eventually(() => placesOf(each.results()).includes(last));
      for (const stream of streams) stream.end();
      await Promise.all(sockets.map((socket) => socket.end()));
      await eventually(async () => (await readMetric(app, 'fanfare_streams')) === 0);
    }
  }, 120_000);

  const placesOf = (results: readonly GraphqlAnswer[]) => results.map(({ data }) => Number(data.events.position));
  const framesOf = ({ received }: RawSocket, id: string) =>
    placesOf(received.flatMap((each) => (each.type === 'next' && each.id === id ? [each.payload] : [])));
  const queryOf = (at: number) => `subscription { events { position ${at % 2 === 0 ? 'name' : 'id'} } }`;

  /** Sends subscriptions and completions of five ids in random order, many in one turn; gives the ids that end subscribed. */
  function shuffle(socket: RawSocket): ReadonlySet<string> {
    const alive = new Set<string>();
    for (let step = 0; step < 60; step++) {
      const at = Math.floor(Math.random() * 5);
      const id = String(at);
      if (alive.delete(id)) socket.send({ id, type: 'complete' });
      else {
        alive.add(id);
        socket.send(subscribeMessage(id, queryOf(at + step)));
      }
    }
    return alive;
  }
});
