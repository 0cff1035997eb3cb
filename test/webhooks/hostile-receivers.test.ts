import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import type { Socket } from 'node:net';
import { setTimeout as wait } from 'node:timers/promises';
import { Agent, request as naiveRequest } from 'undici';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { eventually } from '../support/eventually.ts';
import { openRawReceiver } from '../support/raw-receiver.ts';
import { GENEROUS_MS, sendTo, track } from '../support/sender.ts';
import { ENDLESS, HOSTILE, type Receivers, repeat } from './hostile-answers.ts';

/** As undici tells of a connection that came about. */
const CONNECTED = 'undici:client:connected';
/** Two of the pieces in which Node reads from a socket. */
const MOST_BYTES_READ = 131_072;

describe('a receiver that', () => {
  /** On the sender's side. */
  let sockets: Socket[] = [];
  const keep = (message: unknown) => void sockets.push((message as { readonly socket: Socket }).socket); // as undici documents it
  beforeAll(() => subscribe(CONNECTED, keep));
  afterAll(() => void unsubscribe(CONNECTED, keep));
  beforeEach(() => {
    sockets = [];
  });

  /** Gives how long it took. */
  async function expectBounded([answer, expected]: Receivers[string], deadlineMs: number): Promise<number> {
    const startedAt = performance.now();
    const { outcome, receiver, sender } = await sendTo(answer, { deadlineMs });
    const tookMs = performance.now() - startedAt;
    expect(outcome).toMatchObject(expected);
    expect(outcome.durationMs).toBeLessThanOrEqual(Math.ceil(tookMs));
    expect(Buffer.byteLength(outcome.responseBody)).toBeLessThanOrEqual(4_096);
    expect(receiver.received().match(/^POST /gm)).toHaveLength(1);
    // what has answered in full may be used again, others are hung up on
    const isWhole = outcome.kind === 'failed' && ['REDIRECT', 'HTTP_STATUS'].includes(outcome.errorClass);
    if (!isWhole) await eventually(() => receiver.connections.every(({ destroyed }) => destroyed));
    expect(Math.max(...sockets.map(({ bytesRead }) => bytesRead))).toBeLessThanOrEqual(MOST_BYTES_READ);
    await sender.close();
    // Beyond what was read, only the kernel's buffers of the connection were filled: a flood that is read on never stops.
    expect(receiver.sentByteCount()).toBeLessThan(16_000_000);
    return tookMs;
  }

  it.each(Object.entries(ENDLESS))('%s is cut by the deadline, with bounded bytes', async (_, receiver) => {
    // long enough for a first byte of the body on a busy machine; the end may come late there, without a deadline it never does
    expect(await expectBounded(receiver, 1_000)).toBeLessThan(11_000);
  });

  it.each(Object.entries(HOSTILE))('%s is cut long before the deadline, with bounded bytes', async (_, receiver) => {
    expect(await expectBounded(receiver, GENEROUS_MS)).toBeLessThan(GENEROUS_MS);
  });

  it('has as many headers as an honest one may have is heard', async () => {
    const { outcome } = await sendTo((socket) => socket.write(answerOf(256)));
    expect(outcome).toMatchObject({ kind: 'succeeded', responseBody: 'ok' });
    const { outcome: more } = await sendTo((socket) => socket.write(answerOf(257)));
    expect(more).toMatchObject({ kind: 'failed', errorClass: 'HEADERS_OVERFLOW', statusCode: undefined });
  });

  function answerOf(headers: number): string {
    return `HTTP/1.1 200 OK\r\n${'x: y\r\n'.repeat(headers - 1)}content-length: 2\r\n\r\nok`;
  }

  it('drips outlives undici’s own time-outs (negative control)', async () => {
    const receiver = track(await openRawReceiver((socket) => repeat(socket, 'HTTP/1.1 103 Early Hints\r\n\r\n', 20)));
    const dispatcher = track(new Agent({ headersTimeout: 1_000, bodyTimeout: 1_000 }));
    const giveUp = new AbortController();
    const naive = naiveRequest(`http://127.0.0.1:${receiver.port}/`, {
      dispatcher,
      method: 'POST',
      body: '{}',
      signal: giveUp.signal,
    });
    const ended = naive.then(
      () => 'answered',
      (error: Error) => error.name,
    );
    expect(await Promise.race([ended, wait(2_000, 'still waiting')])).toBe('still waiting');
    giveUp.abort();
    expect(await ended).toBe('AbortError');
  });
});
