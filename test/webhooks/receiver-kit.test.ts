import { createHmac } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { buffer } from 'node:stream/consumers';
import fc from 'fast-check';
import { describe, expect, it, onTestFinished } from 'vitest';
import {
  createReceiver,
  type Handlers,
  memoryReplays,
  type Receiver,
  type ReceiverOptions,
  type SignatureScheme,
  verifyCallback,
  WebhookVerificationError,
} from '#receiver';
import { signPayload } from '../../src/webhooks/sign.ts';
import { codeOf } from '../support/code-of.ts';

const NOW_S = 1_800_000_000;
const STANDARD = 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw';
const SECRETS: Readonly<Record<SignatureScheme, string>> = {
  standard: STANDARD,
  stripe: 'whsec_stripe',
  github: "It's a Secret to Everybody",
  shopify: 'shpss_shopify',
};
const SCHEMES = Object.keys(SECRETS) as SignatureScheme[];
const BODIES: Readonly<Record<SignatureScheme, string>> = {
  standard: '{"type":"order.placed","timestamp":"2026-01-01T00:00:00.000Z","data":{"total":"12.50","note":"grüße 🎉"}}',
  stripe: '{"id":"evt_1","type":"invoice.paid","data":{"object":{"amount":1250}}}',
  github: '{"zen":"Keep it logically awesome."}',
  shopify: '{"id":820982911946154508,"email":"jon@example.com"}',
};

const hmac = (key: string, text: string) => createHmac('sha256', key).update(text);

/** What the sender of each scheme puts on a request, as its documentation has it. */
function sign(
  scheme: SignatureScheme,
  { body = BODIES[scheme], secret = SECRETS[scheme], atS = NOW_S, id = 'dlv_1' } = {},
) {
  const headers: Readonly<Record<SignatureScheme, () => Record<string, string>>> = {
    standard: () => ({
      'webhook-id': id,
      'webhook-timestamp': String(atS),
      'webhook-signature': signPayload({ secrets: [secret], id, timestampSeconds: atS, body }),
    }),
    stripe: () => ({ 'stripe-signature': `t=${atS},v1=${hmac(secret, `${atS}.${body}`).digest('hex')},v0=6ffbb59b` }),
    github: () => ({ 'x-hub-signature-256': `sha256=${hmac(secret, body).digest('hex')}`, 'x-github-event': 'ping' }),
    shopify: () => ({
      'x-shopify-hmac-sha256': hmac(secret, body).digest('base64'),
      'x-shopify-topic': 'orders/create',
    }),
  };
  return { headers: headers[scheme](), body };
}

const options = (scheme: SignatureScheme) => ({ secret: SECRETS[scheme], now: () => NOW_S * 1_000 });

describe('a signature', () => {
  it('of GitHub is the one that its documentation shows', () => {
    const body = 'Hello, World!';
    const signature = 'sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17';
    expect(sign('github', { body }).headers['x-hub-signature-256']).toBe(signature);
    const headers = { 'X-Hub-Signature-256': signature };
    // genuine, and no JSON
    expect(codeOf(() => verifyCallback('github', { ...options('github'), headers, body }))).toBe('BODY_INVALID');
    expect(codeOf(() => verifyCallback('github', { ...options('github'), headers, body: `${body}!` }))).toBe(
      'SIGNATURE_MISMATCH',
    );
  });

  it.each(SCHEMES)('of the scheme %s is taken from its sender, as text and as bytes, and read', (scheme) => {
    const { headers, body } = sign(scheme);
    const read = verifyCallback(scheme, { ...options(scheme), headers, body });
    expect(
      verifyCallback(scheme, { ...options(scheme), headers: new Headers(headers), body: Buffer.from(body) }),
    ).toEqual(read);
    const types = { standard: 'order.placed', stripe: 'invoice.paid', github: 'ping', shopify: 'orders/create' };
    expect(read).toMatchObject({ type: types[scheme], id: expect.stringMatching(/./) });
    const whole = JSON.parse(body);
    expect(read.data).toEqual(scheme === 'standard' ? whole.data : whole);
  });

  it.each(SCHEMES)(
    'of the scheme %s is refused once a byte of the body, the signature or the secret differs',
    (scheme) => {
      const { headers, body } = sign(scheme);
      const [name = ''] = Object.keys(headers).filter((key) => /signature|hmac/.test(key));
      const refused = (changed: object) =>
        codeOf(() => verifyCallback(scheme, { ...options(scheme), headers, body, ...changed }));
      fc.assert(
        fc.property(fc.nat(body.length - 1), (at) => {
          const other = body.slice(0, at) + String.fromCharCode(body.charCodeAt(at) ^ 1) + body.slice(at + 1);
          expect(refused({ body: other })).toBe('SIGNATURE_MISMATCH');
        }),
      );
      expect(refused({ secret: `${SECRETS[scheme].slice(0, -1)}x` })).toBe('SIGNATURE_MISMATCH');
      expect(refused({ secret: [] })).toBe('SECRET_INVALID');
      expect(refused({ headers: {} })).toBe('HEADERS_MISSING');
      const signature = headers[name] ?? '';
      for (const wrong of [
        signature.replace(/[0-9a-zA-Z+/]{8}(=*)(,v0.*)?$/, 'AAAAAAAA$1'),
        'v1,',
        'sha256=',
        `t=${NOW_S},v1=`,
        'x',
      ])
        expect(['SIGNATURE_MISMATCH', 'TIMESTAMP_INVALID']).toContain(
          refused({ headers: { ...headers, [name]: wrong } }),
        );
      // an earlier secret, while the sender has not changed over
      expect(refused({ secret: [scheme === 'standard' ? `whsec_${'A'.repeat(32)}` : 'new', SECRETS[scheme]] })).toBe(
        'none',
      );
    },
  );

  it.each(['standard', 'stripe'] as const)('of the scheme %s grows old', (scheme) => {
    const { headers, body } = sign(scheme, { atS: NOW_S - 301 });
    expect(codeOf(() => verifyCallback(scheme, { ...options(scheme), headers, body }))).toBe('TIMESTAMP_TOO_OLD');
    expect(codeOf(() => verifyCallback(scheme, { ...options(scheme), headers, body, toleranceSeconds: 302 }))).toBe(
      'none',
    );
    const ahead = sign(scheme, { atS: NOW_S + 301 });
    expect(codeOf(() => verifyCallback(scheme, { ...options(scheme), ...ahead }))).toBe('TIMESTAMP_TOO_NEW');
  });

  it.each(['github', 'shopify'] as const)('of the scheme %s has an id that no other header can change', (scheme) => {
    const { headers, body } = sign(scheme);
    const idOf = (more: object) =>
      verifyCallback(scheme, { ...options(scheme), headers: { ...headers, ...more }, body }).id;
    expect(idOf({ 'x-github-delivery': 'a', 'x-shopify-webhook-id': 'a' })).toBe(idOf({ 'x-github-delivery': 'b' }));
  });
});

/** A receiver behind a web `Request`, and the same behind a server of Node's. */
const FRONTS = {
  web: async (receiver: Receiver<Events>, handlers: Handlers<Events>) => (sent: Sent) =>
    receiver.respond(new Request('http://localhost/', { method: 'POST', ...sent }), handlers),
  node: async (receiver: Receiver<Events>, handlers: Handlers<Events>) => {
    const server = createServer(receiver.listener(handlers));
    onTestFinished(() => void server.close());
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
    return (sent: Sent) => fetch(url, { method: 'POST', ...sent });
  },
};

interface Events {
  'order.placed': { total: string };
}
interface Sent {
  readonly headers: Record<string, string>;
  readonly body: string;
}

describe.each(['web', 'node'] as const)('a receiver of %s', (front) => {
  async function open(handle: NonNullable<Handlers<Events>['order.placed']>, more: Partial<ReceiverOptions> = {}) {
    const errors: unknown[] = [];
    const receiver = createReceiver<Events>({
      ...options('standard'),
      onError: (error) => void errors.push(error),
      ...more,
    });
    return { send: await FRONTS[front](receiver, { 'order.placed': handle }), errors };
  }

  it('hands on what is genuine, typed, and answers 204', async () => {
    const totals: string[] = [];
    const { send } = await open(({ type, data }) => void totals.push(`${type} ${data.total}`));
    expect((await send(sign('standard'))).status).toBe(204);
    expect(totals).toEqual(['order.placed 12.50']);
  });

  it('handles each callback once, and again if it failed', async () => {
    let [calls, fails] = [0, true];
    const { send, errors } = await open(() => {
      calls++;
      if (fails) throw new Error('not today');
    });
    expect((await send(sign('standard'))).status).toBe(500);
    fails = false;
    for (const atS of [NOW_S, NOW_S + 5]) expect((await send(sign('standard', { atS }))).status).toBe(204);
    expect(calls).toBe(2);
    expect((await send(sign('standard', { id: 'dlv_2' }))).status).toBe(204);
    expect(calls).toBe(3);
    expect(errors).toEqual([new Error('not today')]);
  });

  it('answers 409 while another handles it, in whichever process', async () => {
    const held = Promise.withResolvers<void>();
    const begun = Promise.withResolvers<void>();
    const replays = { name: 'orders', store: memoryReplays() };
    const handle = () => {
      begun.resolve();
      return held.promise;
    };
    const one = await open(handle, { replays });
    const other = await open(() => expect.fail('handled twice'), { replays });
    const first = one.send(sign('standard'));
    await begun.promise;
    expect((await other.send(sign('standard'))).status).toBe(409);
    held.resolve();
    expect((await first).status).toBe(204);
    expect((await other.send(sign('standard'))).status).toBe(204);
  });

  it('refuses what is not genuine, and what is too large', async () => {
    const { send, errors } = await open(() => expect.fail('handled'), { maxBytes: 200 });
    const forged = await send({ ...sign('standard'), body: BODIES.stripe });
    expect(forged.status).toBe(400);
    expect(await forged.text()).toContain('SIGNATURE_MISMATCH');
    const large = BODIES.standard.replace('grüße', 'g'.repeat(300));
    expect((await send(sign('standard', { body: large }))).status).toBe(413);
    expect(errors).toEqual([]);
  });

  it('hands nothing on that has no handler, such as a ping', async () => {
    const { send } = await open(() => expect.fail('handled'));
    const ping = '{"type":"fanfare.ping","timestamp":"2026-01-01T00:00:00.000Z","data":{"webhookId":"wh_1"}}';
    expect((await send(sign('standard', { body: ping }))).status).toBe(204);
    expect((await send(sign('standard', { body: ping.replace('fanfare.ping', 'toString'), id: 'dlv_3' }))).status).toBe(
      204,
    );
  });

  it('keeps apart what other receivers on its store have handled', async () => {
    const store = memoryReplays();
    const handled: string[] = [];
    for (const name of ['orders', 'mail']) {
      const { send } = await open(() => void handled.push(name), { replays: { name, store } });
      for (let times = 0; times < 2; times++) expect((await send(sign('standard'))).status).toBe(204);
    }
    expect(handled).toEqual(['orders', 'mail']);
  });

  it('answers 500 for what its handler rejects with, whatever that is', async () => {
    const wrongs = [
      Object.create(null),
      new WebhookVerificationError('SIGNATURE_MISMATCH', 'of something inside'),
      undefined,
    ];
    for (const [at, wrong] of wrongs.entries()) {
      const { send, errors } = await open(() => Promise.reject(wrong));
      expect((await send(sign('standard', { id: `dlv_${at}` }))).status).toBe(500);
      expect(errors).toEqual([wrong]);
    }
    const onError = () => {
      throw new Error('it must not');
    };
    const { send } = await open(() => Promise.reject(new Error('no')), { onError });
    expect((await send(sign('standard'))).status).toBe(500);
  });
});

describe('a body that was read before', () => {
  it('is told to who wrote the receiver, of a web request', async () => {
    const errors: unknown[] = [];
    const receiver = createReceiver({ ...options('standard'), onError: (error) => void errors.push(error) });
    const request = new Request('http://localhost/', { method: 'POST', ...sign('standard') });
    await request.text();
    expect((await receiver.respond(request, {})).status).toBe(500);
    expect(errors).toMatchObject([{ code: 'BODY_MISSING' }]);
  });

  it.each(['parsed', 'answered'])(
    'is told to who wrote the receiver, of a request of Node, %s by another',
    async (by) => {
      const errors: unknown[] = [];
      const receiver = createReceiver({ ...options('standard'), onError: (error) => void errors.push(error) });
      const listener = receiver.listener({});
      const server = createServer(async (request, response) => {
        await buffer(request);
        if (by === 'answered') response.writeHead(503).end();
        listener(request, response);
      });
      onTestFinished(() => void server.close());
      server.listen(0, '127.0.0.1');
      await once(server, 'listening');
      const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
      expect((await fetch(url, { method: 'POST', ...sign('standard') })).status).toBe(by === 'answered' ? 503 : 500);
      expect(errors).toMatchObject([{ code: 'BODY_MISSING' }]);
    },
  );
});

describe('a store of replays in memory', () => {
  const NEW = { state: 'new', token: expect.any(String) };

  it('lets another begin when the first has not ended in time, and forgets what was handled long ago', () => {
    let now = 0;
    const replays = memoryReplays({ now: () => now });
    expect(replays.begin('a', 100)).toEqual(NEW);
    expect(replays.begin('a', 100)).toEqual({ state: 'begun' });
    now = 100;
    expect(replays.begin('a', 100)).toEqual(NEW);
    replays.finish('a', '', 1_000);
    now = 1_099;
    expect(replays.begin('a', 100)).toEqual({ state: 'done' });
    now = 1_100;
    expect(replays.begin('a', 100)).toEqual(NEW);
  });

  it('does not let one that was slow undo what another has done', () => {
    let now = 0;
    const replays = memoryReplays({ now: () => now });
    const begin = () => replays.begin('a', 100) as { readonly token: string };
    const slow = begin();
    now = 100;
    const next = begin();
    replays.abandon('a', slow.token);
    expect(replays.begin('a', 100)).toEqual({ state: 'begun' });
    replays.finish('a', next.token, 1_000);
    replays.abandon('a', slow.token);
    expect(replays.begin('a', 100)).toEqual({ state: 'done' });
  });

  it('keeps to its size, but for what is being handled', () => {
    const replays = memoryReplays({ maxKeys: 2 });
    const stateOf = (key: string) => (replays.begin(key, 1_000) as { readonly state: string }).state;
    expect(stateOf('held')).toBe('new');
    for (const key of ['a', 'b', 'c']) replays.finish(key, '', 1_000);
    expect(['held', 'c', 'a'].map(stateOf)).toEqual(['begun', 'done', 'new']);
  });
});
