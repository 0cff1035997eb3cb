import { describe, expect, onTestFinished, test } from 'vitest';
import {
  createFanfareClient,
  type FanfareClient,
  type SocketClientOptions,
  type StreamState,
  WatchError,
} from '#client';
import { eventually } from '../support/eventually.ts';
import { ALL_EVENTS, followAll, upTo } from './followed.ts';
import { type Asked, openProtocolServer, sendPositions } from './protocol-server.ts';

const BY_ID = 'subscription { events { id } }';

function connect(url: string, options: Partial<SocketClientOptions> = {}): FanfareClient {
  const client = createFanfareClient({ url, key: 'ff_x', random: () => 0.01, lingerMs: 0, ...options });
  onTestFinished(() => client.dispose());
  return client;
}

/** Asks by a client; gives what its sink was told. */
function ask(client: FanfareClient, query: string, extensions: Record<string, unknown> = {}) {
  const told: unknown[] = [];
  client.subscribe(
    { query, extensions },
    {
      next: (result) => void told.push(result),
      error: (error) => void told.push({ error }),
      complete: () => void told.push('complete'),
    },
  );
  return told;
}

describe('a query or mutation', () => {
  const lost = (code: string) => [{ error: [{ message: expect.any(String), extensions: { code } }] }];

  test('goes over one socket with all others, which is closed behind the last', async () => {
    const server = await openProtocolServer({ answer: answerOk });
    const client = connect(server.url);
    const all = upTo(20).map(() => ask(client, '{ head }'));
    await eventually(() => all.every((told) => told.length === 2));
    expect(all[0]).toEqual([{ data: { ok: true } }, 'complete']);
    expect(server.connections.count).toBe(1);
    await eventually(() => server.connections.open === 0);
  });

  test.each([
    ['a query', '{ head }', {}],
    ['a mutation', 'mutation { write }', {}],
  ])('(%s) is sent once, and its loss is told', async (_name, query, extensions) => {
    const server = await openProtocolServer({ answer: (asked) => asked.terminate() });
    const told = ask(connect(server.url), query, extensions);
    await eventually(() => told.length > 0);
    expect(told).toEqual(lost('CONNECTION_LOST'));
    expect(server.asked).toHaveLength(1);
  });

  test('a mutation with an idempotency key is sent until it is answered', async () => {
    const server = await openProtocolServer({
      answer: (asked) => (asked.attempt < 3 ? asked.terminate() : answerOk(asked)),
    });
    const told = ask(connect(server.url), 'mutation { write }', { idempotencyKey: 'k1' });
    await eventually(() => told.length === 2);
    expect(told).toEqual([{ data: { ok: true } }, 'complete']);
    expect(server.asked.map(({ extensions }) => extensions.idempotencyKey)).toEqual(['k1', 'k1', 'k1']);
  });

  test('what was not sent yet waits for a connection', async () => {
    const server = await openProtocolServer({ answer: answerOk });
    let tries = 0;
    const key = () => (tries++ < 3 ? Promise.reject(new Error('no token yet')) : 'ff_x');
    const told = ask(connect(server.url, { key }), 'mutation { write }');
    await eventually(() => told.length === 2);
    expect(tries).toBe(4);
  });

  test('without an answer in time it fails', async () => {
    const server = await openProtocolServer({ answer: () => {} });
    const told = ask(connect(server.url, { answerWithinMs: 100 }), 'mutation { write }');
    await eventually(() => told.length > 0);
    expect(told).toEqual(lost('TIMEOUT'));
  });

  test('errors of the server keep their codes', async () => {
    const server = await openProtocolServer({ answer: ({ error }) => error({ code: 'UNAVAILABLE' }) });
    const told = ask(connect(server.url), '{ head }');
    await eventually(() => told.length > 0);
    expect(told).toEqual(lost('UNAVAILABLE'));
  });
});

describe('a subscription', () => {
  test.each([
    ['by position', ALL_EVENTS, true],
    ['by cursor', BY_ID, false],
  ])('drops what comes twice (%s)', async (_how, query, isSelected) => {
    const server = await openProtocolServer({
      answer(asked) {
        // from too early, though the client has said where it stands
        sendPositions(asked, asked.attempt === 1 ? [1, 2, 3] : [2, 3, 4], isSelected);
        if (asked.attempt === 1) asked.close(1012);
      },
    });
    const told = ask(connect(server.url), query);
    await eventually(() => told.length === 4);
    expect(told.map((result) => (result as { extensions: { cursor: string } }).extensions.cursor)).toEqual(
      upTo(4).map(String),
    );
    expect(server.asked.map(({ extensions }) => extensions)).toEqual([
      { checkpoints: true },
      { checkpoints: true, after: '3' },
    ]);
  });

  test('goes on behind a checkpoint', async () => {
    const server = await openProtocolServer({
      answer(asked) {
        asked.next({ extensions: { cursor: `c${asked.attempt}` } });
        if (asked.attempt < 3) asked.terminate();
      },
    });
    const told = ask(connect(server.url), BY_ID);
    await eventually(() => server.asked.length === 3);
    expect(server.asked.map(({ extensions }) => extensions.after)).toEqual([undefined, 'c1', 'c2']);
    expect(told).toEqual([]);
  });

  describe('with positions that jump', () => {
    const serve = (seesAllEvents: boolean, positions: (attempt: number) => readonly number[]) =>
      openProtocolServer({
        answer(asked) {
          if (!asked.query.includes('viewer')) return sendPositions(asked, positions(asked.attempt));
          asked.next({ data: { viewer: { seesAllEvents } } });
          asked.complete();
        },
      });

    test('reads again, and misses nothing that is there then', async () => {
      const server = await serve(true, (attempt) => (attempt === 1 ? [1, 3, 4] : [2, 3, 4]));
      const followed = followAll(connect(server.url));
      await eventually(() => followed.state() === 'live' && followed.positions().length === 4);
      expect(followed.positions()).toEqual([1, 2, 3, 4]);
    });

    test('ends with POSITION_GAP if it is still there', async () => {
      const server = await serve(true, (attempt) => (attempt === 1 ? [1, 3, 4] : [3, 4]));
      const followed = followAll(connect(server.url));
      await eventually(() => followed.error !== undefined);
      expect(followed.error).toMatchObject([{ extensions: { code: 'POSITION_GAP', from: 1, to: 3 } }]);
      expect(followed.positions()).toEqual([1]);
    });

    test.each([
      ['the key may not see all events', false, ALL_EVENTS],
      ['it is filtered', true, 'subscription { events(filter: { types: [X] }) { position } }'],
      ['it is of one type', true, 'subscription { events: orderPlaced { position } }'],
    ])('goes on where %s', async (_why, seesAllEvents, query) => {
      const server = await serve(seesAllEvents, (attempt) => (attempt === 1 ? [1, 3, 7] : [3, 7]));
      const followed = followAll(connect(server.url), undefined, query);
      await eventually(() => followed.state() === 'live');
      expect(followed.positions()).toEqual([1, 3, 7]);
    });
  });

  test('that throws ends alone, with what it threw', async () => {
    const server = await openProtocolServer({ answer: (asked) => sendPositions(asked, [1, 2]) });
    const client = connect(server.url);
    const broken = new Error('disk full');
    const errors: unknown[] = [];
    const sink = {
      next: () => {
        throw broken;
      },
      error: (error: unknown) => void errors.push(error),
      complete: () => {},
    };
    const other = followAll(client);
    client.subscribe({ query: ALL_EVENTS }, sink);
    await eventually(() => errors.length > 0);
    expect(errors).toEqual([broken]);
    await eventually(() => other.state() === 'live');
    expect(server.connections.count).toBe(1);
  });

  test('that a server without cursors gives is refused', async () => {
    const server = await openProtocolServer({ answer: ({ next }) => next({ data: { events: {} } }) });
    const told = ask(connect(server.url), ALL_EVENTS);
    await eventually(() => told.length > 0);
    expect(told).toMatchObject([{ error: [{ extensions: { code: 'BAD_INPUT' } }] }]);
  });
});

describe('an iterator', () => {
  test('gives each result, however slowly it is asked', async () => {
    const server = await openProtocolServer({
      answer: (asked) => {
        const after = Number(asked.extensions.after ?? 0);
        sendPositions(
          asked,
          upTo(3_000 - after).map((each) => after + each),
        );
      },
    });
    const seen: number[] = [];
    const iterator = connect(server.url).iterate<{ events: { position: string } }>({ query: ALL_EVENTS });
    for await (const { data } of iterator) {
      seen.push(Number(data?.events.position));
      if (seen.length % 100 === 0) await new Promise((resolve) => setImmediate(resolve));
      if (seen.length === 3_000) break;
    }
    expect(seen).toEqual(upTo(3_000));
    expect(server.asked.length).toBeGreaterThan(1); // it let go and came back
  });

  test('settles what waits when it is returned', async () => {
    const server = await openProtocolServer({ answer: (asked) => sendPositions(asked, []) });
    const client = connect(server.url);
    const iterator = client.iterate({ query: ALL_EVENTS });
    const waiting = [iterator.next(), iterator.next()];
    await eventually(() => client.state === 'live');
    const end = { done: true, value: undefined };
    expect(await iterator.return?.()).toEqual(end);
    expect(await Promise.all(waiting)).toEqual([end, end]);
    expect(await iterator.next()).toEqual(end);
    await eventually(() => server.connections.open === 0);
  });
});

describe('a client', () => {
  test('completes all and closes when it is disposed, and takes nothing more', async () => {
    const server = await openProtocolServer({ answer: (asked) => sendPositions(asked, [1]) });
    const client = connect(server.url);
    const told = ask(client, ALL_EVENTS);
    await eventually(() => client.state === 'live');
    await client.dispose();
    await eventually(() => server.connections.open === 0);
    expect(told).toEqual([expect.anything(), 'complete']);
    expect(() => ask(client, ALL_EVENTS)).toThrow(WatchError);
  });

  test('comes back when it is terminated, and tells its listeners what graphql-ws tells', async () => {
    const server = await openProtocolServer({ answer: (asked) => sendPositions(asked, [1]) });
    const client = connect(server.url);
    const events: unknown[] = [];
    for (const name of ['connecting', 'connected', 'closed'] as const) {
      client.on(
        name,
        (...args: unknown[]) => void events.push([name, ...args.filter((each) => typeof each === 'boolean')]),
      );
    }
    followAll(client);
    await eventually(() => client.state === 'live');
    client.terminate();
    await eventually(() => client.state === 'live' && server.connections.count === 2);
    expect(events).toEqual([
      ['connecting', false],
      ['connected', false],
      ['closed'],
      ['connecting', true],
      ['connected', true],
    ]);
  });

  test('makes one connection, after one wait, for all that it has broken', async () => {
    const server = await openProtocolServer({
      answer: (asked) => (asked.attempt % 50 === 0 && asked.attempt < 200 ? asked.terminate() : undefined),
    });
    const client = connect(server.url);
    const waits = upTo(50).map(() => [] as number[]);
    for (const mine of waits) {
      const onState = (state: StreamState) => void (state.state === 'interrupted' && mine.push(state.retryMs));
      client.subscribe({ query: ALL_EVENTS }, { next: () => {}, error: () => {}, complete: () => {} }, { onState });
    }
    await eventually(() => server.asked.length === 200);
    expect(server.connections.count).toBe(4);
    expect(waits.every((mine) => mine.length === 3 && mine.join() === waits[0]?.join())).toBe(true);
  });

  test('refreshes a key that is a function in place, before it expires, and again if it is refused', async () => {
    const in4s = () => new Date(Date.now() + 4_000).toISOString();
    const keys = ['ff_1', 'ff_2', 'ff_3'];
    const server = await openProtocolServer({
      answer: (asked) => sendPositions(asked, [1]),
      acknowledgement: () => ({ expiresAt: in4s() }),
      pong: (payload) =>
        'authorization' in payload && payload.authorization === 'Bearer ff_2'
          ? { authorization: { error: { code: 'UNAUTHENTICATED', message: 'not known yet' } } }
          : { authorization: { expiresAt: null } },
    });
    const client = connect(server.url, { key: async () => keys.shift() ?? 'ff_none' });
    followAll(client);
    await eventually(() => server.pings.length === 2);
    expect(server.pings).toEqual([{ authorization: 'Bearer ff_2' }, { authorization: 'Bearer ff_3' }]);
    expect(server.connections.count).toBe(1);
    expect(client.state).toBe('live');
  });

  test.each(['not a url', 'ftp://api.example'])('refuses the address %s at once', (url) => {
    expect(() => createFanfareClient({ url, key: 'ff_x' })).toThrow(/expected a URL like/);
  });

  test('refuses to begin where it has no WebSocket class', () => {
    const url = 'https://api.example';
    expect(() => createFanfareClient({ url, key: 'ff_x', webSocketImpl: {} })).toThrow(/webSocketImpl/);
  });
});

function answerOk({ next, complete }: Asked): void {
  next({ data: { ok: true } });
  complete();
}
