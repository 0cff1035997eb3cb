import fc from 'fast-check';
import { Webhook } from 'standardwebhooks';
import { describe, expect, it } from 'vitest';
import { verifyWebhook } from '#receiver';
import { createSigner, newSecret, parseSecret, SecretFormatError, signPayload } from '../../src/webhooks/sign.ts';
import { codeOf } from '../support/code-of.ts';

const SECRET = 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw';
const BODY = JSON.stringify({
  type: 'order.placed',
  timestamp: '2026-01-01T00:00:00.000Z',
  data: { total: '12.50', note: 'grüße 🎉' },
});
const NOW_S = 1_800_000_000;

function signedHeaders(options: { secrets?: string[]; timestampSeconds?: number; body?: string | Uint8Array } = {}) {
  const { secrets = [SECRET], timestampSeconds = NOW_S, body = BODY } = options;
  return {
    'webhook-id': 'dlv_1',
    'webhook-timestamp': String(timestampSeconds),
    'webhook-signature': signPayload({ secrets, id: 'dlv_1', timestampSeconds, body }),
    'fanfare-event-id': 'evt_1',
    'fanfare-cursor': 'c1',
  };
}

function verify(options: Partial<Parameters<typeof verifyWebhook>[0]> = {}) {
  return verifyWebhook({ secret: SECRET, headers: signedHeaders(), body: BODY, now: () => NOW_S * 1_000, ...options });
}

describe('a signature', () => {
  it('equals the published known answer', () => {
    const signed = signPayload({
      secrets: [SECRET],
      id: 'msg_p5jXN8AQM9LWM0D4loKWxJek',
      timestampSeconds: 1_614_265_330,
      body: '{"test": 2432232314}',
    });
    expect(signed).toBe('v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=');
  });

  it('is the same from a signer that remembers keys, however many there were', () => {
    const sign = createSigner();
    for (const secret of [SECRET, ...Array.from({ length: 1_500 }, () => newSecret()), SECRET]) {
      const request = { secrets: [secret, SECRET], id: 'dlv_1', timestampSeconds: NOW_S, body: BODY };
      expect(sign(request)).toBe(signPayload(request));
    }
    expect(() => sign({ secrets: ['whsec_x'], id: 'a', timestampSeconds: 1, body: '' })).toThrow(SecretFormatError);
  });

  it('is accepted by the standardwebhooks library, for any body, as text and as bytes', () => {
    fc.assert(
      fc.property(fc.json(), fc.uint8Array({ minLength: 24, maxLength: 64 }), (body, key) => {
        const secret = `whsec_${Buffer.from(key).toString('base64')}`;
        const timestampSeconds = Math.floor(Date.now() / 1_000);
        const headers = signedHeaders({ secrets: [secret], timestampSeconds, body });
        expect(new Webhook(secret).verify(body, headers)).toEqual(JSON.parse(body));
        expect(signedHeaders({ secrets: [secret], timestampSeconds, body: Buffer.from(body) })).toEqual(headers);
      }),
      { numRuns: 200 },
    );
  });

  it('comes once per live secret, and each is enough', () => {
    const other = newSecret();
    const timestampSeconds = Math.floor(Date.now() / 1_000);
    const headers = signedHeaders({ secrets: [other, SECRET], timestampSeconds });
    expect(headers['webhook-signature'].split(' ')).toHaveLength(2);
    for (const secret of [other, SECRET]) {
      expect(() => new Webhook(secret).verify(BODY, headers)).not.toThrow();
      expect(verifyWebhook({ secret, headers, body: BODY }).id).toBe('dlv_1');
    }
    expect(() => new Webhook(newSecret()).verify(BODY, headers)).toThrow();
  });

  it.each(['', 'a.b', 'a b'])('is not made over an ambiguous id: %j', (id) => {
    expect(() => signPayload({ secrets: [SECRET], id, timestampSeconds: 1, body: '' })).toThrow(RangeError);
  });

  it('is not made without a secret or with a broken timestamp', () => {
    expect(() => signPayload({ secrets: [], id: 'a', timestampSeconds: 1, body: '' })).toThrow(RangeError);
    expect(() => signPayload({ secrets: [SECRET], id: 'a', timestampSeconds: 1.5, body: '' })).toThrow(RangeError);
  });
});

describe('a secret', () => {
  it('is new each time and holds 32 bytes', () => {
    expect(newSecret()).toMatch(/^whsec_[A-Za-z0-9+/]{43}=$/);
    expect(newSecret()).not.toBe(newSecret());
    expect(parseSecret(newSecret())).toHaveLength(32);
  });

  it.each([
    '',
    'whsec_',
    'MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw',
    'whsec_c2hvcnQ=',
    'whsec_!!!!',
    `whsec_${'A'.repeat(30)}*`,
    `whsec_${'AAAA'.repeat(22)}`,
  ])('of another form is refused and not quoted: %j', (secret) => {
    expect(() => parseSecret(secret)).toThrow(SecretFormatError);
    if (secret.length > 6) expect(() => parseSecret(secret)).not.toThrow(secret.slice(6));
  });
});

describe('the receiver', () => {
  it('reads the event out of a genuine request', () => {
    const expected = {
      id: 'dlv_1',
      type: 'order.placed',
      timestamp: '2026-01-01T00:00:00.000Z',
      data: { total: '12.50', note: 'grüße 🎉' },
      eventId: 'evt_1',
      cursor: 'c1',
    };
    expect(verify()).toEqual(expected);
    expect(verify({ headers: new Headers(signedHeaders()), body: Buffer.from(BODY) })).toEqual(expected);
    const shouting = Object.fromEntries(
      Object.entries(signedHeaders()).map(([name, value]) => [name.toUpperCase(), [value]]),
    );
    expect(verify({ headers: shouting })).toEqual(expected);
  });

  it.each([-300, 300])('accepts a clock that is %i s off', (offset) => {
    expect(verify({ headers: signedHeaders({ timestampSeconds: NOW_S + offset }) }).id).toBe('dlv_1');
  });

  it('passes over other signature schemes', () => {
    const headers = signedHeaders();
    expect(
      verify({ headers: { ...headers, 'webhook-signature': `v1a,AAAA v1,AAAA ${headers['webhook-signature']}` } }).id,
    ).toBe('dlv_1');
    const relabelled = headers['webhook-signature'].replace('v1,', 'v2,');
    expect(codeOf(() => verify({ headers: { ...headers, 'webhook-signature': relabelled } }))).toBe(
      'SIGNATURE_MISMATCH',
    );
  });

  it.each<[string, Partial<Parameters<typeof verifyWebhook>[0]>]>([
    ['SIGNATURE_MISMATCH', { body: BODY.replace('12.50', '12.51') }],
    ['SIGNATURE_MISMATCH', { headers: { ...signedHeaders(), 'webhook-id': 'dlv_2' } }],
    ['SIGNATURE_MISMATCH', { headers: { ...signedHeaders(), 'webhook-timestamp': String(NOW_S + 1) } }],
    ['SIGNATURE_MISMATCH', { secret: newSecret() }],
    ['SIGNATURE_MISMATCH', { headers: { ...signedHeaders(), 'webhook-signature': 'v1, v1 ,' } }],
    ['TIMESTAMP_TOO_OLD', { headers: signedHeaders({ timestampSeconds: NOW_S - 301 }) }],
    ['TIMESTAMP_TOO_NEW', { headers: signedHeaders({ timestampSeconds: NOW_S + 301 }) }],
    ['TIMESTAMP_INVALID', { headers: { ...signedHeaders(), 'webhook-timestamp': '1e9' } }],
    ['TIMESTAMP_INVALID', { headers: { ...signedHeaders(), 'webhook-timestamp': '2026-01-01' } }],
    ['HEADERS_MISSING', { headers: {} }],
    ['HEADERS_MISSING', { headers: { ...signedHeaders(), 'webhook-signature': '' } }],
    ['SECRET_INVALID', { secret: 'whsec_' }],
    ['SECRET_INVALID', { secret: [] }],
    ['BODY_INVALID', { body: '[]', headers: signedHeaders({ body: '[]' }) }],
    ['BODY_INVALID', { body: 'null', headers: signedHeaders({ body: 'null' }) }],
    ['BODY_INVALID', { body: '{', headers: signedHeaders({ body: '{' }) }],
  ])('refuses with %s', (code, options) => {
    expect(codeOf(() => verify(options))).toBe(code);
  });
});
