import { once } from 'node:events';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { MAX_QUEUED, type Outlet, SendQueue, Turn } from '../../src/http/send-queue.ts';
import { toByteString } from '../../src/runtime/byte-string.ts';
import { eventually } from '../support/eventually.ts';

let server: Server;
beforeAll(async () => {
  server = createServer();
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
});
afterAll(async () => {
  server.close();
  await once(server, 'close');
});

/** Both ends of a connection, the far one not reading yet. */
async function openPair() {
  const { port } = server.address() as { port: number };
  const accepted = once(server, 'connection') as Promise<[Socket]>;
  const far = connect(port, '127.0.0.1').pause();
  const [near] = await accepted;
  far.on('error', () => {});
  near.on('error', () => {});
  return { near, far };
}

/** A queue on a real socket, and what it did. */
async function openQueue() {
  const { near, far } = await openPair();
  const seen = { writes: 0, overflows: 0, mostPending: 0 };
  const outlet: Outlet = {
    write(bytes) {
      seen.writes++;
      near.write(bytes, 'latin1');
      seen.mostPending = Math.max(seen.mostPending, near.writableLength);
    },
    pendingBytes: () => near.writableLength,
    whenDrained: (resume) => void near.once('drain', resume),
    onOverflow: () => {
      seen.overflows++;
    },
  };
  const end = async () => {
    near.destroy();
    far.destroy();
    if (!near.closed) await once(near, 'close');
  };
  return { queue: new SendQueue(outlet, new Turn()), near, far, seen, end };
}

async function readAll(far: Socket): Promise<string> {
  const chunks: Buffer[] = [];
  far.on('data', (chunk: Buffer) => void chunks.push(chunk));
  far.resume();
  await once(far, 'end');
  return Buffer.concat(chunks).toString();
}

/** Frames of some 1 KB that can be told apart, with characters of four bytes in UTF-8 and two units in UTF-16. */
const frame = (n: number) => `<${n} ${'🎺'.repeat(250)}>\n`;
/** More than the kernel takes for a socket that nobody reads, and the queue behind it. */
const TOO_MANY = 20_000;

describe('a send queue', () => {
  it('brings what one turn has pushed in one write, in its order', async () => {
    const { queue, near, far, seen, end } = await openQueue();
    for (let n = 0; n < 20; n++) queue.push(toByteString(frame(n)));
    await Promise.resolve();
    expect(seen.writes).toBe(0);
    await eventually(() => seen.writes > 0);
    expect(seen.writes).toBe(1);
    near.end();
    expect(await readAll(far)).toBe(Array.from({ length: 20 }, (_, n) => frame(n)).join(''));
    await end();
  });

  it('gives up a client that does not read at 1 MiB of bytes, drops whole frames, and lets what follows through', async () => {
    const { queue, near, far, seen, end } = await openQueue();
    let pushed = 0;
    for (; seen.overflows === 0 && pushed < TOO_MANY; pushed++) {
      queue.push(toByteString(frame(pushed)));
      if (pushed % 50 === 0) await nextTurn();
    }
    expect(seen.overflows).toBe(1);
    expect(seen.mostPending).toBeLessThan(200 * 1024);
    queue.push('behind the end');
    queue.flush();
    expect(seen.overflows).toBe(1);
    near.end('close');
    const text = await readAll(far);
    const frames = text.split('\n');
    expect(frames.pop()).toBe('close');
    expect(frames.map((each) => `${each}\n`)).toEqual(frames.map((_, n) => frame(n)));
    // what is missing is what the queue held: its budget, in bytes
    const dropped = (pushed - frames.length) * Buffer.byteLength(frame(pushed));
    expect(dropped).toBeGreaterThan(MAX_QUEUED - 100_000);
    expect(dropped).toBeLessThan(MAX_QUEUED + 100_000);
    await end();
  });

  it('that is not there, a stalled client costs whatever is sent', async () => {
    const { near, end } = await openQueue();
    for (let n = 0; n < TOO_MANY; n++) near.write(frame(n));
    expect(near.writableLength).toBeGreaterThan(4 * MAX_QUEUED);
    await end();
  });

  it('waits for a client that stops for a while, and loses nothing', async () => {
    const { queue, near, far, seen, end } = await openQueue();
    let pushed = 0;
    // until the kernel takes no more
    for (; near.writableLength === 0; pushed++) {
      queue.push(toByteString(frame(pushed)));
      await nextTurn();
    }
    const until = pushed + 600;
    for (; pushed < until; pushed++) queue.push(toByteString(frame(pushed)));
    await nextTurn();
    const text = readAll(far);
    await eventually(() => near.writableLength === 0);
    queue.finish();
    near.end();
    expect(seen.overflows).toBe(0);
    expect(await text).toBe(Array.from({ length: until }, (_, n) => frame(n)).join(''));
    await end();
  });

  it('lets replays push while there is room, one at a time, and lets them go when it closes', async () => {
    const { queue, near, end } = await openQueue();
    let granted = 0;
    const replays = Array.from({ length: 2_000 }, async (_, n) => {
      await queue.ready();
      granted++;
      queue.push(toByteString(frame(n).repeat(10)));
    });
    // nobody reads: what the kernel takes, and no more than a little behind it
    await eventually(() => granted > 0 && near.writableLength > 64 * 1024);
    for (let turn = 0; turn < 200; turn++) await nextTurn();
    expect(near.writableLength).toBeLessThan(MAX_QUEUED / 4);
    expect(granted).toBeLessThan(2_000);
    queue.close();
    await Promise.all(replays);
    expect(granted).toBe(2_000);
    await end();
  });
});
