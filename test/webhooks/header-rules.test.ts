import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { EngineError } from '../../src/errors.ts';
import { checkHeaders, type HeaderInput } from '../../src/webhooks/custom-headers.ts';

function refusalOf(input: HeaderInput): string {
  try {
    checkHeaders(input);
  } catch (error) {
    if (error instanceof EngineError && error.code === 'BAD_INPUT') return error.message;
    throw error;
  }
  return '';
}

/** What is wrong with each name, in a few words of the message. */
const REFUSED: Readonly<Record<string, readonly string[]>> = {
  'part of the signed request': [
    'webhook-id',
    'Webhook-Signature',
    'webhook_id',
    'svix-id',
    'fanfare-event-id',
    'Fanfare-X',
  ],
  "the URL's": ['Host', 'HOST', 'alt-used'],
  'belongs to the connection': [
    ...[
      'Connection',
      'Keep-Alive',
      'TE',
      'Trailer',
      'Transfer-Encoding',
      'transfer_encoding',
      'Upgrade',
      'HTTP2-Settings',
    ],
    ...['Proxy-Authorization', 'Proxy-Connection', 'proxy-anything'],
  ],
  'set by the sender': [
    ...[
      'Content-Length',
      'content_length',
      'Content-Type',
      'Content-Encoding',
      'Accept-Encoding',
      'User-Agent',
      'Expect',
    ],
    ...['Range', 'Date'],
  ],
  'carries a session': ['Cookie', 'Cookie2', 'Set-Cookie'],
  "opens a cloud's metadata": [
    ...['Metadata', 'Metadata-Flavor', 'metadata_flavor', 'X-Google-Metadata-Request', 'X-aws-ec2-metadata-token'],
    ...['X-aws-ec2-metadata-token-ttl-seconds', 'X-aliyun-ecs-metadata-token', 'X-Metadata-Token', 'X-Vault-Request'],
  ],
  'for proxies to set': [
    ...[
      'Forwarded',
      'Via',
      'X-Forwarded-For',
      'X-Forwarded-Host',
      'X_Forwarded_For',
      'x.forwarded.proto',
      'X-Forwarded',
    ],
    ...[
      'X-Real-IP',
      'X-Client-IP',
      'True-Client-IP',
      'CF-Connecting-IP',
      'X-Original-URL',
      'X-Rewrite-URL',
      'Remote-User',
    ],
    ...['X-Remote-Group', 'X-Envoy-Original-Path', 'X-Cluster-Client-IP'],
  ],
  'changes the method': ['X-HTTP-Method-Override', 'X-Method-Override', 'X-HTTP-Method'],
  "a browser's": ['Sec-WebSocket-Key', 'Access-Control-Allow-Origin'],
  'expected a name': [
    ...[
      '',
      ' ',
      'a b',
      ' a',
      'a:',
      ':authority',
      'a\r\nhost',
      'a\n',
      'a\0',
      'ä',
      'ｈost',
      '__proto__',
      '-a',
      'a(',
      'a,b',
    ],
    'a'.repeat(65),
  ],
};

describe('a custom header', () => {
  it.each(Object.entries(REFUSED))('is refused by its name, which the message tells: %s', (why, names) => {
    for (const name of names) {
      const message = refusalOf({ headers: Object.fromEntries([[name, 's3cret']]) });
      expect(message).toContain(`the header ${JSON.stringify(name)} is refused: `);
      expect(message).toContain(why);
      expect(message).not.toContain('s3cret');
      // nor can it be taken away, since it can't be there
      expect(refusalOf({ headers: Object.fromEntries([[name, null]]) })).toContain(why);
    }
  });

  it.each([
    ['nothing', ''],
    ['a space at the end', 'a '],
    ['a space in front', ' a'],
    ['a line break', 'a\r\nhost: b'],
    ['a line feed', 'a\n'],
    ['a tab', 'a\tb'],
    ['U+0000', 'a\0'],
    ['DEL', 'a\u007f'],
    ['more than ASCII', 'grüß'],
    ['too much', 'a'.repeat(1_001)],
    ['a number', 1],
    ['a list', ['a']],
    ['an object', { a: 'b' }],
  ])('is refused with a value of %s, which the message does not tell', (_, value) => {
    const message = refusalOf({ headers: { 'X-Key': value } });
    expect(message).toMatch(/^the header "X-Key" is refused: expected .* as its value/);
    if (typeof value === 'string' && value.length > 2) expect(message).not.toContain(value);
  });

  it('is refused if it opens the metadata of Oracle’s cloud', () => {
    for (const authorization of ['Bearer Oracle', 'bearer  ORACLE'])
      expect(refusalOf({ headers: { authorization } })).toContain("opens a cloud's metadata");
    expect(refusalOf({ headers: { authorization: 'Bearer Oracle2' } })).toBe('');
  });

  it('is refused if it is given twice, in whatever case', () => {
    expect(refusalOf({ headers: { 'X-Key': 'a', 'x-key': 'b' } })).toBe(
      'the header "x-key" is refused: it is given twice',
    );
  });

  it.each([
    ['x-api-key', 'abc'],
    ['Authorization', 'Bearer abc'],
    ['CF-Access-Client-Secret', 'abc'],
    ['X-GitHub-Event', 'a b c'],
    ['ocp-apim-subscription-key', 'a'.repeat(1_000)],
    ['x-hosted', '!"#~'],
    ['telemetry', '0'],
    ['upgrade-insecure-requests', '1'],
    ["a!#$%&'*+-.^_`|~9", 'a'],
    ['a'.repeat(64), 'a'],
  ])('is taken, its name in lower case: %s', (name, value) => {
    expect([...checkHeaders({ headers: { [name]: value } }).custom]).toEqual([[name.toLowerCase(), value]]);
  });

  it('that is taken is one line of printable ASCII, and never one that is ours, whatever is tried', () => {
    const text = fc.oneof(
      fc.string(),
      fc.string({ unit: 'binary' }),
      fc.constantFrom('Host', 'tE', 'WEBHOOK-ID', 'a-b'),
    );
    fc.assert(
      fc.property(text, text, (name, value) => {
        const headers = Object.fromEntries([[name, value]]);
        if (refusalOf({ headers }) !== '') return;
        for (const [taken, kept] of checkHeaders({ headers }).custom) {
          expect(`${taken}: ${kept}`).toMatch(/^[!-9;-~]+: [!-~]([ -~]*[!-~])?$/);
          expect(taken).not.toMatch(/^(host|te|webhook-.*)$/);
        }
      }),
      { numRuns: 500 },
    );
  });

  it.each([[['a']], ['text'], [1], [true]])('comes in an object, not as %j', (headers) => {
    expect(refusalOf({ headers })).toContain('"headers" must be an object');
  });
});

describe('basic auth', () => {
  const authorizationOf = (username?: string | null, password?: string | null) =>
    checkHeaders({ basicAuth: { username, password } }).basicAuth;

  it('becomes the value of authorization, as RFC 7617 has it', () => {
    expect(authorizationOf('Aladdin', 'open sesame')).toBe('Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==');
    expect(authorizationOf('test', '123£')).toBe('Basic dGVzdDoxMjPCow==');
    expect(authorizationOf('token')).toBe(`Basic ${btoa('token:')}`);
    expect(authorizationOf(null, 'a:b')).toBe(`Basic ${btoa(':a:b')}`);
  });

  it('stays if it is left out, and goes with {}', () => {
    expect(checkHeaders({}).basicAuth).toBeUndefined();
    expect(checkHeaders({ basicAuth: null }).basicAuth).toBeUndefined();
    expect(authorizationOf()).toBeNull();
    expect(authorizationOf('', '')).toBeNull();
  });

  it.each([
    ['a:b', 'c'],
    ['a\n', 'b'],
    ['a', 'b\0'],
    ['a', '\u0085'],
    ['\ud800', 'b'],
    ['a'.repeat(256), ''],
    ['a', 'b'.repeat(256)],
  ])('is refused as %j and %j', (username, password) => {
    const message = refusalOf({ basicAuth: { username, password } });
    expect(message).toMatch(/^basicAuth\.(username|password): expected/);
    if (password.length > 1) expect(message).not.toContain(password);
  });
});
