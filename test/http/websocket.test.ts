import { once } from 'node:events';
import { connect } from 'node:net';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createUser, readMetric, writeNote } from '../support/api-user.ts';
import { startApp, type TestApp } from '../support/app.ts';
import { eventually } from '../support/eventually.ts';
import { collect, exchange, openRawSocket, stockClient, subscribeMessage } from '../support/live-client.ts';
import { domain, toyMigrations } from '../support/toy-domain.ts';

let app: TestApp;
beforeAll(async () => {
  app = await startApp({ backend: 'postgres', domain, domainMigrations: toyMigrations });
});
afterAll(() => app.stop());

const open = (options = {}) => openRawSocket(app.wsUrl, { key: app.key, ...options });
const EVENTS = 'subscription ($after: String) { events(after: $after) { id position } }';
const streams = () => readMetric(app, 'fanfare_streams');
const untilStreams = (count: number) =>
  eventually(async () => (await streams()) === count, { describe: `${count} streams` });

describe('a socket is closed with', () => {
  it('4403 for a missing or bad key', async () => {
    const payloads = [
      undefined,
      {},
      { Authorization: 'Bearer x' },
      { Authorization: [app.key] },
      { Authorization: app.key },
    ];
    for (const payload of payloads) {
      const socket = await openRawSocket(app.wsUrl);
      socket.send({ type: 'connection_init', ...(payload === undefined ? {} : { payload }) });
      expect(await socket.closed).toEqual({ code: 4403, reason: 'Forbidden' });
      expect(socket.received).toEqual([]);
    }
    for (const name of ['authorization', 'AUTHORIZATION']) {
      const socket = await openRawSocket(app.wsUrl);
      socket.send({ type: 'connection_init', payload: { [name]: `bearer ${app.key}` } });
      await socket.find(({ type }) => type === 'connection_ack');
      await socket.end();
    }
  });

  it('4400 for what is no message, or nested too deep', async () => {
    const messages = ['text', '{}', '{"type":"nothing"}', '[]', 'null', `{"type":"subscribe","id":"1","payload":5}`];
    const deep = `{"type":"ping","payload":{"a":${'['.repeat(1_000)}${']'.repeat(1_000)}}}`;
    for (const message of [...messages, deep]) {
      const socket = await open();
      socket.socket.send(message);
      expect(await socket.closed, message.slice(0, 50)).toEqual({ code: 4400, reason: 'Invalid message received' });
    }
  });

  it('4401 for an operation before the acknowledgement', async () => {
    const socket = await openRawSocket(app.wsUrl);
    socket.send(subscribeMessage('1', '{ head }'));
    expect((await socket.closed).code).toBe(4401);
  });

  it('4406 for another subprotocol, or none', async () => {
    const none = await openRawSocket(app.wsUrl, { protocol: '' });
    expect((await none.closed).code).toBe(4406);
    // clients hang up on an answer without their subprotocol: only the bytes show the close frame
    const answer = await exchange(
      Number(new URL(app.url).port),
      `${[
        'GET /graphql HTTP/1.1',
        'Host: a',
        'Connection: Upgrade',
        'Upgrade: websocket',
        'Sec-WebSocket-Version: 13',
        'Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==',
        'Sec-WebSocket-Protocol: graphql-ws',
      ].join('\r\n')}\r\n\r\n`,
      { closeAfter: 'Subprotocol' },
    );
    const frame = Buffer.from(answer.split('\r\n\r\n')[1] ?? '', 'latin1');
    expect([frame[0], frame.readUInt16BE(2)]).toEqual([0x88, 4406]);
  });

  it('4408 without connection_init', async () => {
    const socket = await openRawSocket(app.wsUrl);
    expect((await socket.closed).code).toBe(4408);
  });

  it('4409 for an id that is in use', async () => {
    const socket = await open();
    socket.send(subscribeMessage('1', EVENTS));
    await untilStreams(1);
    socket.send(subscribeMessage('1', EVENTS));
    expect((await socket.closed).code).toBe(4409);
    await untilStreams(0);
  });

  it('4429 for a second connection_init', async () => {
    const socket = await open();
    socket.send({ type: 'connection_init', payload: { Authorization: `Bearer ${app.key}` } });
    expect((await socket.closed).code).toBe(4429);
  });

  it('1009 for more than 100 KiB, 1003 for binary, 1008 for endless fragments', async () => {
    const large = await open();
    large.socket.send(JSON.stringify({ type: 'ping', payload: { x: 'x'.repeat(101 * 1024) } }));
    expect((await large.closed).code).toBe(1009);
    const fits = await open();
    fits.send({ type: 'ping', payload: { x: 'x'.repeat(99 * 1024) } });
    await fits.find(({ type }) => type === 'pong');
    fits.socket.send(Buffer.from('{"type":"ping"}'));
    expect((await fits.closed).code).toBe(1003);
    const fragments = await open();
    for (let n = 0; n < 20_000; n++) fragments.socket.send('', { fin: false });
    expect((await fragments.closed).code).toBe(1008);
  });

  it('4508 for a flood of messages, pings or pongs', async () => {
    const floods = {
      messages: (socket: Awaited<ReturnType<typeof open>>) => socket.send({ type: 'ping' }),
      pings: (socket: Awaited<ReturnType<typeof open>>) => socket.socket.ping(),
      pongs: (socket: Awaited<ReturnType<typeof open>>) => socket.socket.pong(),
    };
    for (const [name, flood] of Object.entries(floods)) {
      const socket = await open();
      for (let n = 0; n < 1_000; n++) flood(socket);
      expect(await socket.closed, name).toEqual({ code: 4508, reason: 'Too many messages' });
    }
  });
});

describe('over a socket', () => {
  it('queries and mutations are answered as over HTTP', async () => {
    const client = stockClient(app.wsUrl, app.key);
    const query = '{ viewer { id scopes } head }';
    const answer = await client.iterate({ query }).next();
    expect(answer.value).toEqual(await app.post(query));
    const mutation = 'mutation { noteWrite(text: "by socket") { ... on NoteWriteSuccess { note { text version } } } }';
    expect((await client.iterate({ query: mutation }).next()).value.data).toEqual({
      noteWrite: { note: { text: 'by socket', version: 1 } },
    });
    await client.dispose();
  });

  it('an operation that can not begin gets its error, and the socket stays', async () => {
    const socket = await open();
    const limited = await createUser(app, { scopes: ['events:read'] });
    const other = await open({ key: limited.key });
    const cases: [string, object, string][] = [
      ['{ nothing }', {}, 'GRAPHQL_VALIDATION_FAILED'],
      ['{', {}, 'GRAPHQL_PARSE_FAILED'],
      ['subscription { noteWritten { id } events { id } }', {}, 'GRAPHQL_VALIDATION_FAILED'],
      ['query a { head } query b { head }', {}, 'BAD_INPUT'],
      [EVENTS, { variables: { after: 5 } }, 'BAD_INPUT'],
      [EVENTS, { variables: { after: 'garbage' } }, 'INVALID_CURSOR'],
      ['{ head }', { extensions: { idempotencyKey: '' } }, 'BAD_INPUT'],
    ];
    for (const [at, [query, more, code]] of cases.entries()) {
      const payload = { query, ...more };
      socket.send({ id: String(at), type: 'subscribe', payload });
      const message = await socket.find(({ id }) => id === String(at));
      expect(message, query).toMatchObject({ type: 'error', payload: [{ extensions: { code } }] });
    }
    for (const query of ['subscription { noteWritten { id } }', '{ __schema { types { name } } }']) {
      other.send(subscribeMessage(query, query));
      expect((await other.find(({ id }) => id === query)).payload[0].extensions.code).toBe('FORBIDDEN');
    }
    socket.send(subscribeMessage('ok', '{ head }'));
    await socket.find(({ id, type }) => id === 'ok' && type === 'complete');
    await Promise.all([socket.end(), other.end()]);
  });

  it('an id may be used again in the same chunk that completes it', async () => {
    const socket = await open();
    socket.send(subscribeMessage('1', EVENTS));
    await untilStreams(1);
    const raw = (socket.socket as unknown as { _socket: { cork(): void; uncork(): void } })._socket;
    raw.cork();
    socket.send({ id: '1', type: 'complete' }, subscribeMessage('1', EVENTS));
    raw.uncork();
    const { id } = await socketAnswersPing(socket).then(() => writeNote(app, 'again'));
    await socket.find(({ type }) => type === 'next');
    expect(socket.received.filter(({ type }) => type !== 'connection_ack' && type !== 'pong')).toMatchObject([
      { type: 'next', id: '1' },
    ]);
    expect(id).toMatch(/^note_/);
    await socket.end();
    await untilStreams(0);
  });

  it('100 operations may be open; the next is refused until one ends', async () => {
    const socket = await open();
    for (let n = 0; n <= 100; n++) socket.send(subscribeMessage(String(n), EVENTS));
    const refused = await socket.find(({ type }) => type === 'error');
    expect(refused).toMatchObject({ id: '100', payload: [{ extensions: { code: 'RATE_LIMITED' } }] });
    await untilStreams(100);
    expect(await readMetric(app, 'fanfare_stream_groups')).toBe(1);
    socket.send({ id: '0', type: 'complete' }, subscribeMessage('101', EVENTS));
    await untilStreams(100);
    await writeNote(app, 'to a hundred');
    await eventually(
      () => new Set(socket.received.flatMap(({ id, type }) => (type === 'next' ? [id] : []))).size === 100,
    );
    await socket.end();
    await untilStreams(0);
  });

  it('an answer of more than 1 MiB reaches a client that reads', async () => {
    const client = stockClient(app.wsUrl, app.key);
    const user = await createUser(app);
    for (let n = 0; n < 20; n++) await writeNote(user, 'x'.repeat(1_000));
    const fields = Array.from({ length: 30 }, (_, at) => `a${at}: text`).join(' ');
    const query = `{ events(last: 100) { nodes { ... on NoteWritten { note { ${fields} } } } } notes(first: 100) { nodes { text } } }`;
    const [answer] = await Promise.all([client.iterate({ query }).next(), client.iterate({ query }).next()]);
    expect(JSON.stringify(answer.value).length).toBeGreaterThan(600_000);
    await client.dispose();
  });
});

describe('quiet streams', () => {
  it('end when their client goes, however it goes', async () => {
    for (let round = 0; round < 4; round++) {
      const sockets = await Promise.all(Array.from({ length: 25 }, () => open()));
      for (const [at, socket] of sockets.entries()) {
        socket.send(subscribeMessage('1', EVENTS), subscribeMessage('2', 'subscription { noteEdited { id } }'));
        if (at % 4 === 0) socket.socket.terminate();
        if (at % 4 === 1) socket.socket.close();
        if (at % 4 === 2) socket.send({ id: '1', type: 'complete' }, { id: '2', type: 'complete' });
      }
      await Promise.all(sockets.filter((_, at) => at % 4 === 3).map(socketAnswersPing));
      await Promise.all(sockets.map((socket) => socket.end()));
    }
    await untilStreams(0);
    expect(await readMetric(app, 'fanfare_stream_groups')).toBe(0);
  });

  it('of one socket leave nothing behind over many subscribe and complete', async () => {
    const client = stockClient(app.wsUrl, app.key);
    const hold = collect(client, EVENTS);
    await untilStreams(1);
    for (let n = 0; n < 150; n++) {
      collect(client, EVENTS).unsubscribe();
      if (n % 20 === 0) await client.iterate({ query: '{ head }' }).next(); // below the rate
    }
    await untilStreams(1);
    const { id } = await writeNote(app, 'still');
    await eventually(() => hold.results.length === 1);
    expect(id).toMatch(/^note_/);
    await client.dispose();
    await untilStreams(0);
  });
});

/** The server has dealt with all that was sent before. */
async function socketAnswersPing(socket: Awaited<ReturnType<typeof open>>): Promise<void> {
  const before = socket.received.filter(({ type }) => type === 'pong').length;
  socket.send({ type: 'ping' });
  await eventually(() => socket.received.filter(({ type }) => type === 'pong').length > before);
}

it('an upgrade that breaks off leaves no socket behind', async () => {
  const { port } = new URL(app.url);
  const socket = connect(Number(port), '127.0.0.1');
  await once(socket, 'connect');
  socket.write('GET /graphql HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n');
  socket.resetAndDestroy();
  await once(socket, 'close');
  expect(await streams()).toBe(0);
});
