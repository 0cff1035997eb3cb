import { randomUUID } from 'node:crypto';
import { setTimeout as wait } from 'node:timers/promises';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { startApp, type TestApp } from '../support/app.ts';
import { eventually } from '../support/eventually.ts';
import { openRawSocket, openSse, type RawSocket } from '../support/live-client.ts';
import { settledHead } from '../support/live-handover.ts';
import { createProbeDomain, notesWrite } from '../support/probe-domain.ts';
import { type RollingNodes, startRollingNodes } from '../support/rolling-nodes.ts';
import { toyMigrations } from '../support/toy-domain.ts';

const RESTARTS = 4;
const WATCHERS = 6;
const QUERY = 'subscription ($after: String) { events(after: $after) { position } }';

/** What a resuming client has got, in the order in which it came. */
interface Watch {
  readonly positions: number[];
  connects: number;
  stop(): Promise<void>;
}

type Session = (
  state: { cursor: string; readonly positions: number[] },
  node: TestApp,
  over: AbortSignal,
) => Promise<void>;

/** Goes on behind its last cursor at the other node, whenever a session ends. */
function watch(
  nodes: RollingNodes,
  cursor: string,
  { session, first }: { readonly session: Session; readonly first: number },
): Watch {
  const over = new AbortController();
  const state = { cursor, positions: [] as number[] };
  const run = async () => {
    for (let attempt = first; !over.signal.aborted; attempt++) {
      result.connects++;
      await session(state, nodes.node(attempt), over.signal).catch(() => wait(20)); // refused: the other one has it
    }
  };
  const result: Watch = {
    positions: state.positions,
    connects: 0,
    stop: async () => {
      over.abort();
      await running;
    },
  };
  const running = run();
  return result;
}

const bySocket: Session = async (state, node, over) => {
  const socket = await openRawSocket(node.wsUrl);
  const end = () => socket.socket.terminate();
  over.addEventListener('abort', end);
  socket.socket.on('message', (data) => {
    const { type, payload } = JSON.parse(String(data));
    if (type !== 'next') return;
    state.positions.push(Number(payload.data.events.position));
    state.cursor = payload.extensions.cursor;
  });
  socket.send({ type: 'connection_init', payload: { Authorization: `Bearer ${node.key}` } });
  await Promise.race([socket.find(({ type }) => type === 'connection_ack'), socket.closed]);
  if (socket.socket.readyState === socket.socket.OPEN)
    socket.send({ id: '1', type: 'subscribe', payload: { query: QUERY, variables: { after: state.cursor } } });
  await socket.closed;
  over.removeEventListener('abort', end);
};

const bySse: Session = async (state, node, over) => {
  const stream = await openSse(node.url, {
    key: node.key,
    query: QUERY,
    variables: { after: state.cursor },
    headers: { 'last-event-id': state.cursor },
  });
  over.addEventListener('abort', stream.end);
  let taken = 0;
  const take = () => {
    for (const { event, id, data } of stream.events.slice(taken)) {
      if (event !== 'next') continue;
      state.positions.push(Number(JSON.parse(data ?? '').data.events.position));
      state.cursor = id ?? state.cursor;
    }
    taken = stream.events.length;
  };
  const polling = setInterval(take, 20);
  await stream.ended;
  clearInterval(polling);
  over.removeEventListener('abort', stream.end);
  take();
  if (stream.status !== 200) throw new Error(stream.text());
};

interface Writers {
  /** Texts of changes that were acknowledged. */
  readonly acknowledged: string[];
  /** What else than a refused connection went wrong. */
  readonly faults: unknown[];
  stop(): Promise<void>;
}

const SAVE = 'mutation ($text: String!) { noteSave(text: $text) { ... on NoteSaveSuccess { note { id } } } }';

/** Each writes one change after the other by HTTP on connections that are kept alive; a refused connection is tried at the other node. */
function writeByHttp(nodes: RollingNodes, count: number): Writers {
  const [acknowledged, faults]: [string[], unknown[]] = [[], []];
  let isOver = false;
  const save = async (text: string, first: number) => {
    for (let attempt = first; ; attempt++) {
      const { url, key } = nodes.node(attempt);
      try {
        const headers = { 'content-type': 'application/json', authorization: `Bearer ${key}` };
        const body = JSON.stringify({ query: SAVE, variables: { text } });
        const answer = await (await fetch(url, { method: 'POST', headers, body })).json();
        if (answer.errors !== undefined) throw new Error(JSON.stringify(answer.errors));
        return;
      } catch (error) {
        if (!isRefused(error)) throw error;
      }
    }
  };
  const write = async (first: number) => {
    while (!isOver) {
      const text = randomUUID();
      await save(text, first).then(
        () => acknowledged.push(text),
        (error: unknown) => faults.push(error),
      );
    }
  };
  const running = Promise.all(Array.from({ length: count }, (_, at) => write(at)));
  const stop = async () => {
    isOver = true;
    await running;
  };
  return { acknowledged, faults, stop };
}

/** Nothing was sent yet: the port is closed, or was while the connection waited to be taken. */
function isRefused(error: unknown): boolean {
  // what fetch rejects with hides the socket's error
  const cause = error instanceof Error ? (error.cause as NodeJS.ErrnoException | undefined) : undefined;
  return cause?.syscall === 'connect';
}

/** Each writes by a socket. One that is closed before the answer is asked again elsewhere under the same idempotency key. */
function writeBySocket(nodes: RollingNodes, count: number): Writers {
  const [acknowledged, faults]: [string[], unknown[]] = [[], []];
  let isOver = false;
  const save = async (socket: RawSocket, text: string) => {
    const payload = { query: SAVE, variables: { text }, extensions: { idempotencyKey: text } };
    socket.send({ id: text, type: 'subscribe', payload });
    const answer = await Promise.race([
      eventually(() => socket.received.find(({ id, type }) => id === text && type !== 'complete') ?? false),
      socket.closed.then(() => undefined),
    ]);
    if (answer === undefined) return false;
    if (answer.type === 'next' && answer.payload.errors === undefined) acknowledged.push(text);
    else faults.push(answer);
    return true;
  };
  const write = async (first: number) => {
    let text = randomUUID();
    for (let attempt = first; !isOver; attempt++) {
      const { wsUrl, key } = nodes.node(attempt);
      const socket = await openRawSocket(wsUrl, { key }).catch(() => undefined);
      while (socket !== undefined && !isOver && (await save(socket, text))) {
        text = randomUUID();
        await wait(25); // below the rate of messages
      }
      await socket?.end();
    }
  };
  const running = Promise.all(Array.from({ length: count }, (_, at) => write(at)));
  const stop = async () => {
    isOver = true;
    await running;
  };
  return { acknowledged, faults, stop };
}

async function storedTexts(app: TestApp): Promise<string[]> {
  const texts: string[] = [];
  for (let after: string | null = null; ; ) {
    const query =
      'query ($after: String) { notes(first: 100, after: $after) { nodes { text } pageInfo { endCursor hasNextPage } } }';
    const { notes }: { notes: { nodes: { text: string }[]; pageInfo: { endCursor: string; hasNextPage: boolean } } } = (
      await app.post(query, { after })
    ).data;
    texts.push(...notes.nodes.map(({ text }) => text));
    if (!notes.pageInfo.hasNextPage) return texts;
    after = notes.pageInfo.endCursor;
  }
}

const { domain } = createProbeDomain();
let base: TestApp;
let nodes: RollingNodes;
const running: { stop(): Promise<void> }[] = [];
beforeAll(async () => {
  base = await startApp({ backend: 'postgres and redis', domain, domainMigrations: toyMigrations });
  nodes = await startRollingNodes(base, { domain, drainSeconds: 1 });
});
afterAll(async () => {
  for (const each of running) await each.stop();
  await nodes.stop();
  await base.stop();
});

it('a rolling restart of two nodes under load loses and repeats nothing, and fails no change', async () => {
  const { cursor } = await notesWrite(base, { count: 1 });
  const start = await settledHead(base, cursor);
  const watches = Array.from({ length: WATCHERS }, (_, at) =>
    watch(nodes, cursor, { session: at % 2 === 0 ? bySocket : bySse, first: at >> 1 }),
  );
  const writers = [writeByHttp(nodes, 3), writeBySocket(nodes, 2)];
  running.push(...writers, ...watches);
  for (let place = 0; place < RESTARTS; place++) {
    const before = writers.map(({ acknowledged }) => acknowledged.length);
    await eventually(() => writers.every(({ acknowledged }, at) => acknowledged.length > (before[at] ?? 0) + 10));
    await nodes.restart(place);
  }
  for (const writer of writers) await writer.stop();
  expect(writers.flatMap(({ faults }) => faults)).toEqual([]);

  const { cursor: last } = await notesWrite(base, { count: 1 });
  const head = await settledHead(base, last);
  const stored = await storedTexts(base);
  // each once, though some were asked for again
  expect(new Set(stored).size).toBe(stored.length);
  const acknowledged = writers.flatMap((writer) => writer.acknowledged);
  expect(acknowledged.filter((text) => !stored.includes(text))).toEqual([]);
  expect(acknowledged.length).toBeGreaterThan(2 * 10 * RESTARTS);

  const all = Array.from({ length: head - start }, (_, at) => start + 1 + at);
  for (const { positions, connects } of watches) {
    await eventually(() => positions.length >= all.length, { describe: 'all events' });
    expect(positions).toEqual(all);
    expect(connects).toBeGreaterThan(1);
  }
});

it('a client that begins anew at each connection misses what was written in between', async () => {
  const { cursor } = await notesWrite(base, { count: 1 });
  const start = await settledHead(base, cursor);
  const forgetful: Session = async (state, node, over) => {
    const before = state.positions.length;
    await bySocket({ cursor: await headOf(node), positions: state.positions }, node, over);
    if (state.positions.length > before) await notesWrite(base, { count: 1 });
  };
  const watching = watch(nodes, cursor, { session: forgetful, first: 0 });
  running.push(watching);
  for (let place = 0; place < 2; place++) {
    await eventually(async () => {
      const before = watching.positions.length;
      await notesWrite(base, { count: 1 });
      return watching.positions.length > before;
    });
    await nodes.restart(place);
  }
  let head = 0;
  await eventually(async () => {
    head = await settledHead(base, (await notesWrite(base, { count: 1 })).cursor);
    return watching.positions.at(-1) === head;
  });
  expect(watching.positions.length).toBeLessThan(head - start);
});

async function headOf(node: TestApp): Promise<string> {
  return (await node.post('{ head }')).data.head;
}
