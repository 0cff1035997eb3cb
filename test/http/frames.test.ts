import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { textFrameHeader } from '../../src/http/frame.ts';
import { toByteString } from '../../src/runtime/byte-string.ts';
import { readMetric } from '../support/api-user.ts';
import { startApp, type TestApp } from '../support/app.ts';
import { eventually } from '../support/eventually.ts';
import { createFrameReader, type WireFrame } from '../support/frame-reader.ts';
import { openSse } from '../support/live-client.ts';
import { createProbeDomain, notesWrite } from '../support/probe-domain.ts';
import { toyMigrations } from '../support/toy-domain.ts';
import { clientFrame, openWireClient, type WireClient } from '../support/wire-client.ts';

const EVENTS = 'subscription { events { position ... on NoteWritten { note { text } } } }';
/** Two, three and four bytes for a character, and an escape. */
const WORLDLY = 'Zoë, 你好, 🎺🎉 "…"\n';
/** Where the form of the length changes. */
const SIZES = [125, 126, 65_535, 65_536];

let app: TestApp;
beforeAll(async () => {
  app = await startApp({ backend: 'postgres', domain: createProbeDomain().domain, domainMigrations: toyMigrations });
});
afterAll(() => app.stop());

const open = () => openWireClient(app.wsUrl, app.key);
const untilStreams = (count: number) => eventually(async () => (await readMetric(app, 'fanfare_streams')) === count);

async function subscribe(client: WireClient, ...ids: string[]): Promise<void> {
  client.send(...ids.map((id) => clientFrame('text', { id, type: 'subscribe', payload: { query: EVENTS } })));
  await untilStreams(ids.length);
}

async function end(client: WireClient): Promise<void> {
  client.socket.destroy();
  await client.ended;
  await untilStreams(0);
}

function textsOf(client: WireClient, id: string): string[] {
  return client.messages.flatMap((each) => (each.id === id && each.type === 'next' ? [textOf(each)] : []));
}

function textOf({ payload }: { readonly payload?: { data: { events: { note: { text: string } } } } }): string {
  return payload?.data.events.note.text ?? '';
}

const saveNote = (text: string) =>
  app.post('mutation ($text: String!) { noteSave(text: $text) { ... on NoteSaveSuccess { cursor } } }', { text });

describe('a frame', () => {
  it('of every size is read by a strict client', async () => {
    const client = await open();
    expect(client.head).toMatch(/^HTTP\/1.1 101/);
    expect(client.head).not.toMatch(/sec-websocket-extensions/i);
    const frame = (x: string) => JSON.stringify({ type: 'pong', payload: { x } });
    for (const size of SIZES) {
      const x = 'x'.repeat(size - frame('').length);
      client.send(clientFrame('text', { type: 'ping', payload: { x } }));
      await client.find(({ type, payload }) => type === 'pong' && payload.x === x);
      expect(client.frames.at(-1)?.payload.length).toBe(size);
    }
    await end(client);
  });

  it('with an event has the size that its bytes have, whatever the alphabet of text and operation', async () => {
    const client = await open();
    const ids = SIZES.slice(2).map((size) => `${WORLDLY}${size}`);
    const first = '🎺';
    await subscribe(client, first, ...ids);
    await saveNote(WORLDLY);
    await client.find(({ id, type }) => id === ids.at(-1) && type === 'next');
    for (const id of [first, ...ids]) expect(textsOf(client, id)).toEqual([WORLDLY]);
    // of the same number of digits, so that only the text makes the difference
    for (const [at, size] of SIZES.slice(2).entries()) {
      const id = ids[at] ?? '';
      const known = client.frames.findLast(({ payload }) => payload.includes(JSON.stringify(id)))?.payload.length ?? 0;
      const text = WORLDLY + 'x'.repeat(size - known);
      await saveNote(text);
      await eventually(() => textsOf(client, id).at(-1) === text);
      const sizes = client.frames.map(({ payload }) => payload.length);
      expect(sizes, 'of the last wave').toContain(size);
      await saveNote(WORLDLY);
      await eventually(() => textsOf(client, ids.at(-1) ?? '').at(-1) === WORLDLY);
    }
    await end(client);
  });

  it('of an event over server-sent events is UTF-8 too, and resumes behind its cursor', async () => {
    const query = EVENTS;
    const stream = await openSse(app.url, { key: app.key, query });
    await untilStreams(1);
    await saveNote(WORLDLY);
    await eventually(() => stream.results().length === 1);
    expect(textOf({ payload: stream.results()[0] as never })).toBe(WORLDLY);
    const lastId = stream.events.findLast(({ id }) => id !== undefined)?.id ?? '';
    await notesWrite(app, { count: 30, size: 20_000 });
    const again = await openSse(app.url, { key: app.key, query, headers: { 'last-event-id': lastId } });
    await eventually(() => stream.results().length === 31 && again.results().length === 30);
    expect(again.results()).toEqual(stream.results().slice(1));
    stream.end();
    again.end();
    await untilStreams(0);
  });
});

describe('frames of events', () => {
  it('keep their order among pings, answers and completes, and none gets into another', async () => {
    const client = await open();
    const ids = Array.from({ length: 10 }, (_, n) => `watch ${n}`);
    await subscribe(client, ...ids);
    const writing = Array.from({ length: 10 }, (_, n) =>
      notesWrite(app, { count: 20, size: n % 2 === 0 ? 10 : 5_000 }),
    );
    const large = 'query { events(first: 50) { nodes { ... on NoteWritten { note { text } } } } }';
    for (let n = 0; n < 20; n++) {
      const query = clientFrame('text', { id: `ask ${n}`, type: 'subscribe', payload: { query: large } });
      client.send(clientFrame('ping', Buffer.from(`${n}`)), query, clientFrame('text', { type: 'ping' }));
      await client.find(({ id, type }) => id === `ask ${n}` && type === 'complete');
    }
    const stopped = ids.slice(0, 3);
    client.send(...stopped.map((id) => clientFrame('text', { id, type: 'complete' })));
    await untilStreams(7);
    await Promise.all(writing);
    await notesWrite(app, { count: 1, size: 42 });
    const going = ids.slice(3);
    const last = 'x'.repeat(42);
    await eventually(() => going.every((id) => textsOf(client, id).at(-1) === last));
    for (const id of ids) {
      const all = client.messages.filter((each) => each.id === id && each.type === 'next');
      const positions = all.map(({ payload }) => Number(payload.data.events.position));
      expect(positions, id).toEqual(positions.map((_, at) => (positions[0] ?? 0) + at));
      expect(positions.length, id).toBeLessThanOrEqual(201);
      if (going.includes(id)) expect(positions).toHaveLength(201);
    }
    const pongs = client.frames.flatMap(({ kind, payload }) => (kind === 'pong' ? [Number(String(payload))] : []));
    expect(pongs).toEqual(Array.from({ length: 20 }, (_, n) => n));
    client.send(clientFrame('close', Buffer.from([0x03, 0xe8])));
    await client.ended;
    expect(client.frames.at(-1)).toEqual({ kind: 'close', payload: Buffer.from([0x03, 0xe8]) });
    await untilStreams(0);
  });

  it('stop at a close, which comes behind what was sent before', async () => {
    const client = await open();
    await subscribe(client, 'a');
    await notesWrite(app, { count: 50, size: 3_000 });
    await eventually(() => textsOf(client, 'a').length > 0);
    client.send(clientFrame('text', { type: 'connection_init' }));
    const close = await eventually(() => client.frames.find(({ kind }) => kind === 'close') ?? false);
    expect(close ? close.payload.readUInt16BE() : undefined).toBe(4429);
    await untilStreams(0);
    await notesWrite(app, { count: 1 });
    client.send(clientFrame('close', Buffer.from([0x03, 0xe8])));
    await client.ended; // nothing came behind the close: that would be a fault
  });
});

describe('the strict client', () => {
  const read = (...bytes: Buffer[]) => {
    const frames: WireFrame[] = [];
    createFrameReader((frame) => void frames.push(frame))(Buffer.concat(bytes));
    return frames;
  };
  const bytesOf = (byteString: string) => Buffer.from(byteString, 'latin1');

  it('reads what is right', () => {
    for (const text of ['', 'a', WORLDLY, 'x'.repeat(65_536), '🎉'.repeat(40_000)]) {
      const bytes = toByteString(text);
      expect(String(read(bytesOf(textFrameHeader(bytes.length) + bytes))[0]?.payload)).toBe(text);
    }
  });

  it('refuses a length in characters, text in latin1, and a frame inside another', () => {
    const utf8 = Buffer.from(WORLDLY.repeat(20));
    const whole = Buffer.concat([bytesOf(textFrameHeader(utf8.length)), utf8]);
    expect(() => read(bytesOf(textFrameHeader(WORLDLY.length * 20)), utf8, whole)).toThrow();
    expect(() => read(bytesOf(`${textFrameHeader(3)}Zo\u00eb`))).toThrow();
    expect(() => read(whole.subarray(0, 50), Buffer.from([0x89, 0]), whole.subarray(50))).toThrow();
    expect(() => read(Buffer.from([0x88, 0]), whole)).toThrow('behind a close');
  });
});
