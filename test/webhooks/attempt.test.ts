import { createHash } from 'node:crypto';
import type { Socket } from 'node:net';
import { describe, expect, it } from 'vitest';
import { eventually } from '../support/eventually.ts';
import { openRawReceiver } from '../support/raw-receiver.ts';
import { GENEROUS_MS, OK, openSender, sendTo, track } from '../support/sender.ts';

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
      timings: { dnsMs: null, connectMs: expect.any(Number), tlsMs: null },
      firstByteMs: expect.any(Number),
      sent: {
        headers: [
          'webhook-id: dlv_1',
          'fanfare-cursor: c1',
          'user-agent: Fanfare/1.2.3',
          'content-type: application/json',
          'accept-encoding: identity',
        ].join('\n'),
        bodyHash: createHash('sha256').update(body).digest('hex'),
        isReused: false,
      },
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

  it('masks signatures, and all values that the engine did not make', async () => {
    const receiver = track(await openRawReceiver((socket) => socket.write(OK)));
    const sender = await openSender();
    const headers = { 'webhook-signature': 'v1,c2VjcmV0 v1,b2xk', authorization: 'Basic c2VjcmV0', 'x-team': 'secret' };
    const { sent } = await sender.send({ url: `http://127.0.0.1:${receiver.port}/`, headers, body: '{}' });
    expect(sent?.headers.split('\n').slice(0, 3)).toEqual([
      'webhook-signature: v1,*** v1,***',
      'authorization: ***',
      'x-team: ***',
    ]);
    expect(receiver.received()).toContain('authorization: Basic c2VjcmV0'); // only the evidence is masked
  });

  it('times the steps to a connection for the first request on it alone', async () => {
    const receiver = track(await openRawReceiver((socket) => socket.write(OK)));
    const sender = await openSender({ answer: ['127.0.0.1'] });
    const request = { url: `http://hooks.example.com:${receiver.port}/`, headers: {}, body: '{}' };
    expect(await sender.send(request)).toMatchObject({
      timings: { dnsMs: expect.any(Number), connectMs: expect.any(Number), tlsMs: null },
      firstByteMs: expect.any(Number),
      sent: { isReused: false },
    });
    await eventually(async () => {
      const { timings, sent } = await sender.send(request);
      return sent?.isReused === true && Object.values(timings).every((each) => each === null);
    });
  });

  it('ends by its deadline where it still waits for a connection, and is not sent later', async () => {
    // takes the connection, and never answers its handshake
    const receiver = track(await openRawReceiver((socket) => socket.write(OK)));
    const sender = await openSender({ deadlineMs: 300 });
    const startedAt = performance.now();
    const outcome = await sender.send({ url: `https://127.0.0.1:${receiver.port}/`, headers: {}, body: '{}' });
    expect(outcome).toMatchObject({ kind: 'failed', errorClass: 'TIMEOUT', sent: undefined, remoteAddress: undefined });
    expect(performance.now() - startedAt).toBeLessThan(GENEROUS_MS);
    expect(receiver.received()).not.toContain('POST');
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

  it('is given up with all others of its signal, and with no other', async () => {
    const stop = new AbortController();
    const other = new AbortController();
    const waiting: Socket[] = [];
    const receiver = track(await openRawReceiver((socket) => waiting.push(socket)));
    const sender = await openSender();
    const send = ({ signal }: AbortController) =>
      sender.send({ url: `http://127.0.0.1:${receiver.port}/`, headers: {}, body: '{}', signal });
    const attempts = [stop, stop, other].map(send);
    await eventually(() => waiting.length === 3);
    stop.abort();
    const [first, second] = await Promise.all(attempts.slice(0, 2));
    expect([first, second]).toMatchObject([{ errorClass: 'ABORTED' }, { errorClass: 'ABORTED' }]);
    for (const socket of waiting) socket.write(OK);
    expect(await attempts[2]).toMatchObject({ kind: 'succeeded' });
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
