import { createServer } from 'node:http';
import { connect, type Socket } from 'node:net';
import { setTimeout as wait } from 'node:timers/promises';
import { gzipSync } from 'node:zlib';
import { Agent, request as naiveRequest } from 'undici';
import { afterEach, describe, expect, it } from 'vitest';
import { createAddressPolicy } from '../../src/webhooks/addresses.ts';
import { createSender, type SenderOptions } from '../../src/webhooks/attempt.ts';
import { createCallbackGuard } from '../../src/webhooks/guard.ts';
import { createResolver } from '../../src/webhooks/resolver.ts';
import { createCertificate } from '../support/certificate.ts';
import { type DnsAnswer, openDnsServer } from '../support/dns-server.ts';
import { eventually } from '../support/eventually.ts';
import { openRawReceiver } from '../support/raw-receiver.ts';

const opened: { close(): unknown }[] = [];
afterEach(async () => {
  await Promise.all(opened.splice(0).map((each) => each.close()));
});

function track<T extends { close(): unknown }>(each: T): T {
  opened.push(each);
  return each;
}

const DEADLINE_MS = 300;
const OK = 'HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok';

async function openSender(options: Partial<SenderOptions> & { answer?: DnsAnswer; allowCidrs?: string[] } = {}) {
  const { answer = 'notFound', allowCidrs = ['127.0.0.0/8'], ...rest } = options;
  const dns = track(await openDnsServer(({ type }) => (type === 'A' || typeof answer === 'string' ? answer : [])));
  const guard = createCallbackGuard({
    policy: createAddressPolicy({ allowCidrs }),
    resolver: createResolver({ servers: [dns.address] }),
    now: Date.now,
  });
  return track(createSender({ guard, version: '1.2.3', deadlineMs: DEADLINE_MS, ...rest }));
}

/** Sends one request to a receiver that answers each request by `answer`. */
async function sendTo(answer: (socket: Socket) => void, options: Partial<SenderOptions> = {}) {
  const receiver = track(await openRawReceiver(answer));
  const sender = await openSender(options);
  const outcome = await sender.send({ url: `http://127.0.0.1:${receiver.port}/hook?a=1`, headers: {}, body: '{}' });
  return { outcome, receiver, sender };
}

/** Writes again and again until the other side goes away. */
function repeat(socket: Socket, text: string, everyMs: number): void {
  const timer = setInterval(() => socket.write(text), everyMs);
  socket.on('close', () => clearInterval(timer));
}

/** Writes as fast as the other side reads. */
function flood(socket: Socket, text: string): void {
  const fill = () => {
    while (!socket.destroyed && socket.write(text));
  };
  socket.on('drain', fill);
  fill();
}

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
      gone: false,
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
    const sender = await openSender({ deadlineMs: 5_000 });
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
    ['404 Not Found', { kind: 'failed', errorClass: 'HTTP_STATUS', gone: false }],
    ['410 Gone', { kind: 'failed', errorClass: 'HTTP_STATUS', gone: true }],
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

const LONG_LINE = 'x'.repeat(60_000);

/** What a hostile receiver does with a request, and how the attempt must end. All must end by the deadline. */
const HOSTILE: Readonly<Record<string, readonly [answer: (socket: Socket) => void, expected: object]>> = {
  'never answers': [() => {}, { kind: 'failed', errorClass: 'TIMEOUT' }],
  'drips its header': [(socket) => repeat(socket, 'H', 20), { kind: 'failed' }],
  'drips a legal header': [
    (socket) => {
      socket.write('HTTP/1.1 200 OK\r\nx: ');
      repeat(socket, 'a', 20);
    },
    { kind: 'failed', errorClass: 'TIMEOUT', statusCode: undefined },
  ],
  'drips its body': [
    (socket) => {
      socket.write('HTTP/1.1 200 OK\r\ncontent-length: 4000\r\n\r\n');
      repeat(socket, 'b', 20);
    },
    { kind: 'failed', errorClass: 'TIMEOUT', statusCode: 200, responseBody: expect.stringMatching(/^b+$/) },
  ],
  'drips 103 without end': [
    (socket) => repeat(socket, 'HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n', 20),
    { kind: 'failed', errorClass: 'TIMEOUT', statusCode: undefined },
  ],
  'floods 103': [
    (socket) => flood(socket, 'HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n'.repeat(100)),
    { kind: 'failed', errorClass: 'HEADERS_OVERFLOW', statusCode: undefined },
  ],
  'sends a body without end': [
    (socket) => {
      socket.write('HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n');
      flood(socket, `10000\r\n${'c'.repeat(65_536)}\r\n`);
    },
    { kind: 'succeeded', statusCode: 200, responseBody: 'c'.repeat(4_096), isTruncated: true },
  ],
  'sends a chunk extension without end': [
    (socket) => {
      socket.write('HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1;');
      flood(socket, LONG_LINE);
    },
    { kind: 'failed' },
  ],
  'sends trailers without end': [
    (socket) => {
      socket.write('HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n');
      flood(socket, `t: ${'x'.repeat(1_000)}\r\n`);
    },
    { kind: 'failed', errorClass: 'HEADERS_OVERFLOW' },
  ],
  'sends a gzip bomb': [
    (socket) => {
      const bomb = gzipSync(Buffer.alloc(50_000_000));
      socket.write(`HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: ${bomb.length}\r\n\r\n`);
      socket.write(bomb);
    },
    { kind: 'succeeded', isTruncated: true },
  ],
  'sends a header of 1 MB': [
    (socket) => {
      socket.write(`HTTP/1.1 200 OK\r\nx: ${'x'.repeat(1_000_000)}\r\n\r\n`);
    },
    { kind: 'failed', errorClass: 'HEADERS_OVERFLOW' },
  ],
  'sends 100,000 headers': [
    (socket) => {
      socket.write(`HTTP/1.1 200 OK\r\n${'x: y\r\n'.repeat(100_000)}\r\n`);
    },
    { kind: 'failed', errorClass: 'HEADERS_OVERFLOW' },
  ],
  'redirects to itself': [
    (socket) => {
      socket.write('HTTP/1.1 308 Again\r\nlocation: /hook\r\ncontent-length: 0\r\n\r\n');
    },
    { kind: 'failed', errorClass: 'REDIRECT' },
  ],
  'speaks SSH': [
    (socket) => {
      socket.write('SSH-2.0-OpenSSH_9.2\r\n');
    },
    { kind: 'failed', errorClass: 'PROTOCOL' },
  ],
  'resets at once': [(socket) => socket.resetAndDestroy(), { kind: 'failed', errorClass: 'RESET' }],
  'hangs up at once': [(socket) => socket.destroy(), { kind: 'failed', errorClass: 'RESET' }],
  'hangs up in the middle of its body': [
    (socket) => socket.end('HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf'),
    { kind: 'failed', statusCode: 200, responseBody: 'half' },
  ],
  'gives two lengths': [
    (socket) => {
      socket.write('HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n');
    },
    { kind: 'failed', errorClass: 'PROTOCOL' },
  ],
  'switches protocols unasked': [
    (socket) => {
      socket.write('HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n');
    },
    { kind: 'failed' },
  ],
  'answers in what is no text': [
    (socket) => {
      socket.write(
        Buffer.concat([Buffer.from('HTTP/1.1 500 No\r\ncontent-length: 4\r\n\r\n'), Buffer.from([0, 0xff, 65, 0xc3])]),
      );
    },
    { kind: 'failed', errorClass: 'HTTP_STATUS', responseBody: '\ufffd\ufffdA' },
  ],
};

describe('a receiver that', () => {
  it.each(Object.entries(HOSTILE))('%s is cut by the deadline, with bounded bytes', async (_, [answer, expected]) => {
    const startedAt = performance.now();
    const { outcome, receiver, sender } = await sendTo(answer);
    expect(outcome).toMatchObject(expected);
    expect(performance.now() - startedAt).toBeLessThan(DEADLINE_MS + 1_000);
    expect(outcome.durationMs).toBeLessThan(DEADLINE_MS + 200);
    expect(Buffer.byteLength(outcome.responseBody)).toBeLessThanOrEqual(4_096);
    expect(receiver.received().match(/^POST /gm)).toHaveLength(1);
    await sender.close();
    // Beyond what was read, only the kernel's buffers of the connection were filled: a flood that is read on never stops.
    expect(receiver.sentByteCount()).toBeLessThan(8_000_000);
  });

  it('drips outlives undici’s own time-outs (negative control)', async () => {
    const receiver = track(await openRawReceiver((socket) => repeat(socket, 'HTTP/1.1 103 Early Hints\r\n\r\n', 20)));
    const dispatcher = track(new Agent({ headersTimeout: 100, bodyTimeout: 100 }));
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
    expect(await Promise.race([ended, wait(3 * DEADLINE_MS, 'still waiting')])).toBe('still waiting');
    giveUp.abort();
    expect(await ended).toBe('AbortError');
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
    const silent = await openSender({ answer: 'nothing' });
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
    const sender = await openSender({ allowCidrs: ['127.0.0.0/8', '::1/128'], deadlineMs: 5_000 });
    expect(await sender.send(request(`http://localhost:${receiver.port}/`))).toMatchObject({
      kind: 'succeeded',
      remoteAddress: '::1',
    });
  });
});

describe('over TLS', () => {
  const day = 86_400_000;
  const good = createCertificate('hooks.example.com');

  async function sendOverTls(certificate: { cert: string; key: string }, options: Partial<SenderOptions> = {}) {
    const receiver = track(await openRawReceiver((socket) => socket.write(OK), { tls: certificate }));
    const sender = await openSender({ answer: ['127.0.0.1'], deadlineMs: 5_000, ca: certificate.cert, ...options });
    const outcome = await sender.send({ url: `https://hooks.example.com:${receiver.port}/`, headers: {}, body: '{}' });
    return { outcome, received: receiver.received() };
  }

  it('a certificate of the URL’s name is accepted, though the address is pinned', async () => {
    const { outcome, received } = await sendOverTls(good);
    expect(outcome).toMatchObject({ kind: 'succeeded', remoteAddress: '127.0.0.1' });
    expect(received).toMatch(/^host: hooks\.example\.com:/im);
  });

  it.each([
    [
      'expired',
      createCertificate('hooks.example.com', {
        notBefore: new Date(Date.now() - 9 * day),
        notAfter: new Date(Date.now() - day),
      }),
      {},
    ],
    [
      'not yet valid',
      createCertificate('hooks.example.com', {
        notBefore: new Date(Date.now() + day),
        notAfter: new Date(Date.now() + 9 * day),
      }),
      {},
    ],
    ['of another host', createCertificate('other.example.com'), {}],
    ['self-signed', good, { ca: undefined }],
  ])('a certificate that is %s is refused, and nothing is sent', async (_, certificate, options) => {
    const { outcome, received } = await sendOverTls(certificate, options);
    expect(outcome).toMatchObject({ kind: 'failed', errorClass: 'TLS', remoteAddress: undefined });
    expect(received).toBe('');
  });

  it('a receiver that speaks plain HTTP gets nothing', async () => {
    const receiver = track(
      await openRawReceiver((socket) => socket.write(OK), { onConnect: (socket) => socket.write(OK) }),
    );
    const sender = await openSender({ deadlineMs: 5_000 });
    const outcome = await sender.send({ url: `https://127.0.0.1:${receiver.port}/`, headers: {}, body: '{}' });
    expect(outcome).toMatchObject({ kind: 'failed', errorClass: 'TLS' });
    expect(receiver.received()).not.toContain('POST');
  });

  it('a handshake that never ends is cut by the time-out for connecting', async () => {
    const receiver = track(await openRawReceiver(() => {}));
    const sender = await openSender({ deadlineMs: 60_000, connectTimeoutMs: 200 });
    const outcome = await sender.send({ url: `https://127.0.0.1:${receiver.port}/`, headers: {}, body: '{}' });
    expect(outcome).toMatchObject({ kind: 'failed', errorClass: 'TLS' });
    expect(outcome.durationMs).toBeLessThan(1_200);
    await eventually(() => receiver.connections[0]?.destroyed === true);
  });

  it('a protocol older than TLS 1.2 is not spoken', async () => {
    const tls = { ...good, maxVersion: 'TLSv1.1' as const, minVersion: 'TLSv1' as const, ciphers: 'ALL@SECLEVEL=0' };
    expect((await sendOverTls(tls)).outcome).toMatchObject({ kind: 'failed', errorClass: 'TLS' });
  });
});

describe('through a proxy', () => {
  /** A forward proxy that knows where each name really is. */
  async function openProxy(answer: (socket: Socket, target: string) => void) {
    const targets: string[] = [];
    const server = createServer().on('connect', (incoming, socket: Socket) => {
      socket.on('error', () => {});
      targets.push(incoming.url ?? '');
      answer(socket, incoming.url ?? '');
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const address = server.address();
    if (address === null || typeof address === 'string') throw new Error('expected a TCP address');
    const sockets: Socket[] = [];
    server.on('connection', (socket) => sockets.push(socket));
    track({
      close: () => {
        for (const socket of sockets) socket.destroy();
        return new Promise((resolve) => server.close(resolve));
      },
    });
    return { url: `http://127.0.0.1:${address.port}`, targets };
  }

  it('a request travels in a tunnel by name, after the name was checked', async () => {
    const tls = createCertificate('hooks.example.com');
    const receiver = track(await openRawReceiver((socket) => socket.write(OK), { tls }));
    const proxy = await openProxy((socket) => {
      const onward = connect(receiver.port, '127.0.0.1', () => {
        socket.write('HTTP/1.1 200 Connected\r\n\r\n');
        onward.pipe(socket).pipe(onward);
      });
      onward.on('error', () => socket.destroy());
      socket.on('close', () => onward.destroy());
    });
    const sender = await openSender({ proxy: proxy.url, ca: tls.cert, answer: ['127.0.0.1'], deadlineMs: 5_000 });
    const outcome = await sender.send({ url: 'https://hooks.example.com/hook', headers: {}, body: '{}' });
    expect(outcome).toMatchObject({ kind: 'succeeded', responseBody: 'ok', remoteAddress: undefined });
    expect(proxy.targets).toEqual(['hooks.example.com:443']);
    const inward = await openSender({ proxy: proxy.url, answer: ['10.0.0.1'] });
    const refused = await inward.send({ url: 'https://hooks.example.com/hook', headers: {}, body: '{}' });
    expect(refused).toMatchObject({ kind: 'refused', reason: 'DNS_NOT_GLOBAL' });
    expect(proxy.targets).toHaveLength(1);
  });

  it('the proxy’s own fault is not the receiver’s', async () => {
    const refusing = await openProxy((socket) => socket.end('HTTP/1.1 502 Bad Gateway\r\n\r\n'));
    const hangingUp = await openProxy((socket) => socket.destroy());
    const silent = await openProxy(() => {});
    const classes = await Promise.all(
      [refusing.url, hangingUp.url, 'http://127.0.0.1:1', silent.url].map(async (proxy) => {
        const sender = await openSender({ proxy, answer: ['127.0.0.1'], connectTimeoutMs: 1_000, deadlineMs: 3_000 });
        const outcome = await sender.send({ url: 'https://hooks.example.com/hook', headers: {}, body: '{}' });
        return outcome.kind === 'failed' ? outcome.errorClass : outcome.kind;
      }),
    );
    expect(classes).toEqual(['PROXY', 'PROXY', 'PROXY', 'PROXY']);
  });
});
