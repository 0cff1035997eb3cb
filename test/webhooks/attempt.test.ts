import type { Socket } from 'node:net';
import { describe, expect, it } from 'vitest';
import { openRawReceiver } from '../support/raw-receiver.ts';
import { OK, openSender, sendTo, track } from '../support/sender.ts';

describe('an attempt', () => {
  it('sends the caller’s headers and exact bytes in one POST, and keeps the answer as evidence', async () => {
    const receiver = track(
      await openRawReceiver((socket) => {
        socket.write(
          'HTTP/1.1 201 Created\r\nServer: test\r\nset-cookie: a=b\r\nx-secret: 1\r\ncontent-length: 6\r\n\r\ngrüß',
        );
      }),
    );
    const sender = await openSender();
    const body = JSON.stringify({ data: 'grüße' });
    const headers = { 'webhook-id': 'dlv_1', 'fanfare-cursor': 'c1', 'user-agent': 'mine' };
    const outcome = await sender.send({ url: `http://127.0.0.1:${receiver.port}/in/a%20b?c=d`, headers, body });
    expect(outcome).toEqual({
      kind: 'succeeded',
      statusCode: 201,
      responseHeaders: { 'content-length': '6', server: 'test' },
      responseBody: 'grüß',
      isTruncated: false,
      durationMs: expect.any(Number),
      remoteAddress: '127.0.0.1',
      retryAfterMs: undefined,
    });
    const [head = '', sent] = receiver.received().split('\r\n\r\n');
    expect(head.split('\r\n')[0]).toBe('POST /in/a%20b?c=d HTTP/1.1');
    expect(head.toLowerCase().split('\r\n').slice(1).toSorted()).toEqual([
      'accept-encoding: identity',
      'connection: keep-alive',
      `content-length: ${Buffer.byteLength(body)}`,
      'content-type: application/json',
      'fanfare-cursor: c1',
      `host: 127.0.0.1:${receiver.port}`,
      'user-agent: fanfare/1.2.3',
      'webhook-id: dlv_1',
    ]);
    expect(Buffer.from(sent ?? '', 'latin1').toString()).toBe(body);
  });

  it('reuses a connection of a well-behaved receiver, and sends no cookie back', async () => {
    const receiver = track(
      await openRawReceiver((socket) =>
        socket.write(`HTTP/1.1 200 OK\r\nset-cookie: a=b\r\ncontent-length: 2\r\n\r\nok`),
      ),
    );
    const sender = await openSender();
    const request = { url: `http://127.0.0.1:${receiver.port}/`, headers: {}, body: '{}' };
    for (let turn = 0; turn < 20; turn++) expect(await sender.send(request)).toMatchObject({ kind: 'succeeded' });
    // Two, where the next request comes before the last byte of the answer is accounted for.
    expect(receiver.connections.length).toBeLessThanOrEqual(2);
    expect(receiver.received()).not.toMatch(/^cookie:/im);
  });

  it('runs beside others to one receiver, each on its own connection', async () => {
    const waiting: Socket[] = [];
    const receiver = track(
      await openRawReceiver((socket) => {
        waiting.push(socket);
        if (waiting.length === 10) for (const each of waiting) each.write(OK);
      }),
    );
    const sender = await openSender();
    const request = { url: `http://127.0.0.1:${receiver.port}/`, headers: {}, body: '{}' };
    const outcomes = await Promise.all(Array.from({ length: 10 }, () => sender.send(request)));
    expect(outcomes.every((outcome) => outcome.kind === 'succeeded')).toBe(true);
  });

  it.each([
    ['200 OK', { kind: 'succeeded' }],
    ['204 No Content', { kind: 'succeeded' }],
    ['301 Moved', { kind: 'failed', errorClass: 'REDIRECT', retryAfterMs: 7_000 }],
    ['302 Found', { kind: 'failed', errorClass: 'REDIRECT' }],
    ['304 Not Modified', { kind: 'failed', errorClass: 'REDIRECT' }],
    ['307 Temporary Redirect', { kind: 'failed', errorClass: 'REDIRECT' }],
    ['308 Permanent Redirect', { kind: 'failed', errorClass: 'REDIRECT' }],
    ['404 Not Found', { kind: 'failed', errorClass: 'HTTP_STATUS' }],
    ['410 Gone', { kind: 'failed', errorClass: 'HTTP_STATUS' }],
    ['429 Too Many Requests', { kind: 'failed', errorClass: 'HTTP_STATUS', retryAfterMs: 7_000 }],
    ['500 Oops', { kind: 'failed', errorClass: 'HTTP_STATUS' }],
    ['999 Odd', { kind: 'failed', errorClass: 'HTTP_STATUS' }],
  ])('is judged by its status: %s', async (status, expected) => {
    const location = 'http://127.0.0.1:1/';
    const { outcome, receiver } = await sendTo((socket) => {
      socket.write(`HTTP/1.1 ${status}\r\nlocation: ${location}\r\nretry-after: 7\r\ncontent-length: 0\r\n\r\n`);
    });
    expect(outcome).toMatchObject({
      ...expected,
      statusCode: Number.parseInt(status, 10),
      responseHeaders: { location },
    });
    expect(receiver.received().match(/^POST /gm)).toHaveLength(1);
  });

  it('reads Retry-After as a date by its own clock', async () => {
    const nowMs = Date.UTC(2026, 0, 1);
    const answer = `HTTP/1.1 503 Busy\r\nretry-after: ${new Date(nowMs + 90_000).toUTCString()}\r\ncontent-length: 0\r\n\r\n`;
    const { outcome } = await sendTo((socket) => socket.write(answer), { clock: { now: () => nowMs } });
    expect(outcome.retryAfterMs).toBe(90_000);
  });

  it('is given up when the caller says so', async () => {
    const stop = new AbortController();
    const receiver = track(await openRawReceiver(() => stop.abort()));
    const sender = await openSender({ deadlineMs: 60_000 });
    const request = { url: `http://127.0.0.1:${receiver.port}/`, headers: {}, body: '{}', signal: stop.signal };
    expect(await sender.send(request)).toMatchObject({
      kind: 'failed',
      errorClass: 'ABORTED',
      remoteAddress: '127.0.0.1',
    });
    expect(await sender.send(request)).toMatchObject({
      kind: 'failed',
      errorClass: 'ABORTED',
      remoteAddress: undefined,
    });
    expect(receiver.connections).toHaveLength(1);
  });

  it('throws for a header that can’t be sent, since that is a bug of the caller', async () => {
    const sender = await openSender();
    const request = { url: 'http://127.0.0.1:1/', headers: { 'webhook-id': 'a\r\nb: c' }, body: '{}' };
    await expect(sender.send(request)).rejects.toThrow();
  });
});

describe('a connection that', () => {
  const request = (url: string) => ({ url, headers: {}, body: '{}' });

  it('is refused is CONNECT', async () => {
    const receiver = await openRawReceiver(() => {});
    await receiver.close();
    const sender = await openSender();
    expect(await sender.send(request(`http://127.0.0.1:${receiver.port}/`))).toMatchObject({
      kind: 'failed',
      errorClass: 'CONNECT',
      remoteAddress: undefined,
    });
    expect(await sender.send(request(`http://localhost:${receiver.port}/`))).toMatchObject({ errorClass: 'CONNECT' });
  });

  it('has no name is DNS', async () => {
    const gone = await openSender({ answer: 'notFound' });
    expect(await gone.send(request('https://a.example.com/'))).toMatchObject({ kind: 'failed', errorClass: 'DNS' });
    const broken = await openSender({ answer: 'serverFailure' });
    expect(await broken.send(request('https://a.example.com/'))).toMatchObject({ kind: 'failed', errorClass: 'DNS' });
    const silent = await openSender({ answer: 'nothing', deadlineMs: 300 });
    expect(await silent.send(request('https://a.example.com/'))).toMatchObject({
      kind: 'failed',
      errorClass: 'TIMEOUT',
    });
  });

  it('would go inward is refused before a byte is sent', async () => {
    const receiver = track(await openRawReceiver((socket) => socket.write(OK)));
    const sender = await openSender({ allowCidrs: [], answer: ['127.0.0.1'] });
    const refusals = await Promise.all(
      [
        'https://a.example.com',
        'https://127.0.0.1',
        'https://2130706433',
        'https://[::1]',
        'https://[::ffff:127.0.0.1]',
        'https://localhost',
        'http://127.0.0.1',
      ].map((origin) => sender.send(request(`${origin}:${receiver.port}/`))),
    );
    expect(refusals.map((outcome) => (outcome.kind === 'refused' ? outcome.reason : outcome))).toEqual([
      ...[
        'DNS_NOT_GLOBAL',
        'IP_NOT_GLOBAL',
        'IP_NOT_GLOBAL',
        'IP_NOT_GLOBAL',
        'IP_NOT_GLOBAL',
        'HOST_NOT_PUBLIC_NAME',
        'SCHEME',
      ],
    ]);
    expect(receiver.connections).toHaveLength(0);
  });

  it('means localhost reaches whichever loopback listens', async () => {
    const receiver = track(await openRawReceiver((socket) => socket.write(OK), { host: '::1' }));
    const sender = await openSender({ allowCidrs: ['127.0.0.0/8', '::1/128'] });
    expect(await sender.send(request(`http://localhost:${receiver.port}/`))).toMatchObject({
      kind: 'succeeded',
      remoteAddress: '::1',
    });
  });
});
