import { connect, type Socket } from 'node:net';
import { describe, expect, it } from 'vitest';
import type { SenderOptions } from '../../src/webhooks/attempt.ts';
import { createCertificate } from '../support/certificate.ts';
import { openConnectProxy } from '../support/connect-proxy.ts';
import { eventually } from '../support/eventually.ts';
import { openRawReceiver } from '../support/raw-receiver.ts';
import { GENEROUS_MS, OK, openSender, track } from '../support/sender.ts';

describe('over TLS', () => {
  const day = 86_400_000;
  const good = createCertificate('hooks.example.com');

  async function sendOverTls(certificate: { cert: string; key: string }, options: Partial<SenderOptions> = {}) {
    const receiver = track(await openRawReceiver((socket) => socket.write(OK), { tls: certificate }));
    const sender = await openSender({ answer: ['127.0.0.1'], ca: certificate.cert, ...options });
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
    const sender = await openSender();
    const outcome = await sender.send({ url: `https://127.0.0.1:${receiver.port}/`, headers: {}, body: '{}' });
    expect(outcome).toMatchObject({ kind: 'failed', errorClass: 'TLS' });
    expect(receiver.received()).not.toContain('POST');
  });

  it('a handshake that never ends is cut by the time-out for connecting', async () => {
    const receiver = track(await openRawReceiver(() => {}));
    const sender = await openSender({ deadlineMs: 60_000, connectTimeoutMs: 200 });
    const outcome = await sender.send({ url: `https://127.0.0.1:${receiver.port}/`, headers: {}, body: '{}' });
    expect(outcome).toMatchObject({ kind: 'failed', errorClass: 'TLS' });
    expect(outcome.durationMs).toBeLessThan(30_000); // not by the deadline
    await eventually(() => receiver.connections[0]?.destroyed === true);
  });

  it.each([
    ['that wants a certificate of ours', { tls: { ...good, requestCert: true } }, 'TLS'],
    ['that speaks no TLS behind it', { onSecure: (raw: Socket) => void raw.write(OK) }, 'TLS'],
    ['that hangs up behind it', { onSecure: (raw: Socket) => void raw.end() }, 'RESET'], // the control
  ])('a handshake with a receiver %s ends the attempt at once', async (_, options, errorClass) => {
    const receiver = track(await openRawReceiver(() => {}, { tls: good, ...options }));
    const sender = await openSender({ answer: ['127.0.0.1'], ca: good.cert });
    // more than one at a time, as none may be left behind
    const send = () => sender.send({ url: `https://hooks.example.com:${receiver.port}/`, headers: {}, body: '{}' });
    const outcomes = await Promise.all([send(), send(), send()]);
    expect(outcomes).toMatchObject(outcomes.map(() => ({ kind: 'failed', errorClass, remoteAddress: '127.0.0.1' })));
    expect(Math.max(...outcomes.map(({ durationMs }) => durationMs))).toBeLessThan(GENEROUS_MS / 2);
  });

  it('a protocol older than TLS 1.2 is not spoken', async () => {
    const tls = { ...good, maxVersion: 'TLSv1.1' as const, minVersion: 'TLSv1' as const, ciphers: 'ALL@SECLEVEL=0' };
    expect((await sendOverTls(tls)).outcome).toMatchObject({ kind: 'failed', errorClass: 'TLS' });
  });
});

describe('through a proxy', () => {
  function tunnelTo(port: number): (socket: Socket) => void {
    return (socket) => {
      const onward = connect(port, '127.0.0.1', () => {
        socket.write('HTTP/1.1 200 Connected\r\n\r\n');
        onward.pipe(socket).pipe(onward);
      });
      onward.on('error', () => socket.destroy());
      socket.on('close', () => onward.destroy());
    };
  }

  it('a request travels in a tunnel by name, after the name was checked', async () => {
    const tls = createCertificate('hooks.example.com');
    const receiver = track(await openRawReceiver((socket) => socket.write(OK), { tls }));
    const proxy = track(await openConnectProxy(tunnelTo(receiver.port)));
    const sender = await openSender({ proxy: proxy.url, ca: tls.cert, answer: ['127.0.0.1'] });
    const outcome = await sender.send({ url: 'https://hooks.example.com/hook', headers: {}, body: '{}' });
    expect(outcome).toMatchObject({ kind: 'succeeded', responseBody: 'ok', remoteAddress: undefined });
    expect(proxy.targets).toEqual(['hooks.example.com:443']);
    const inward = await openSender({ proxy: proxy.url, answer: ['10.0.0.1'] });
    const refused = await inward.send({ url: 'https://hooks.example.com/hook', headers: {}, body: '{}' });
    expect(refused).toMatchObject({ kind: 'refused', reason: 'DNS_NOT_GLOBAL' });
    expect(proxy.targets).toHaveLength(1);
  });

  it('a receiver behind it that wants a certificate of ours ends the attempt at once', async () => {
    const tls = { ...createCertificate('hooks.example.com'), requestCert: true };
    const receiver = track(await openRawReceiver(() => {}, { tls }));
    const proxy = track(await openConnectProxy(tunnelTo(receiver.port)));
    const sender = await openSender({ proxy: proxy.url, ca: tls.cert, answer: ['127.0.0.1'] });
    const outcome = await sender.send({ url: 'https://hooks.example.com/hook', headers: {}, body: '{}' });
    expect(outcome).toMatchObject({ kind: 'failed', errorClass: 'TLS' });
  });

  it('the proxy’s own fault is not the receiver’s', async () => {
    const refusing = track(await openConnectProxy((socket) => socket.end('HTTP/1.1 502 Bad Gateway\r\n\r\n')));
    const hangingUp = track(await openConnectProxy((socket) => socket.destroy()));
    const silent = track(await openConnectProxy(() => {}));
    const classes = await Promise.all(
      [refusing.url, hangingUp.url, 'http://127.0.0.1:1', silent.url].map(async (proxy) => {
        const sender = await openSender({ proxy, answer: ['127.0.0.1'], connectTimeoutMs: 1_000 });
        const outcome = await sender.send({ url: 'https://hooks.example.com/hook', headers: {}, body: '{}' });
        return outcome.kind === 'failed' ? outcome.errorClass : outcome.kind;
      }),
    );
    expect(classes).toEqual(['PROXY', 'PROXY', 'PROXY', 'PROXY']);
  });
});
