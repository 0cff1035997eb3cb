import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { createAddressPolicy, isGlobal } from '../../src/webhooks/addresses.ts';
import { checkCallbackUrl } from '../../src/webhooks/callback-url.ts';

const closed = createAddressPolicy({ allowCidrs: [] });
const reasonOf = (url: string, policy = closed) => {
  const checked = checkCallbackUrl(url, policy);
  return checked.ok ? checked.unlessAllowed : checked.reason;
};

const REFUSED: Readonly<Record<string, readonly (readonly [reason: string, urls: readonly string[]])[]>> = {
  'loopback in every spelling': [
    [
      'IP_NOT_GLOBAL',
      [
        ...[
          '127.0.0.1',
          '127.1',
          '127.0.1',
          '127.255.255.254',
          '127.0.0.1.',
          '2130706433',
          '017700000001',
          '0x7f000001',
        ],
        ...['0x7F.0.0.1', '0177.0.0.01', '127.0x1', '127.0.0.0x1', '0000000177.1'],
        ...['１２７.0.0.1', '①②⑦。⓪｡⓪．①', '127.0.0.1:8443', '0.0.0.0', '0', '0x0', '0.0.0.1'],
      ].map((host) => `https://${host}/`),
    ],
  ],
  'private, shared, reserved and metadata IPv4': [
    [
      'IP_NOT_GLOBAL',
      [
        ...['10.0.0.0', '172.16.0.0', '172.31.255.255', '192.168.255.255', '100.64.0.0', '100.127.255.255'],
        ...['169.254.169.254', '0xa9.0xfe.0xa9.0xfe', '0251.254.169.254', '168.63.129.16', '192.0.0.192', '192.0.0.8'],
        ...[
          '192.0.2.255',
          '192.31.196.1',
          '192.52.193.1',
          '192.88.99.1',
          '192.175.48.1',
          '198.18.0.0',
          '198.19.255.255',
        ],
        ...['198.51.100.7', '203.0.113.255', '224.0.0.1', '239.255.255.255', '240.0.0.1', '255.255.255.255'],
      ].map((host) => `https://${host}/hook`),
    ],
  ],
  'IPv6 that is not global unicast': [
    [
      'IP_NOT_GLOBAL',
      [
        ...[
          '::',
          '::1',
          '0000:0000:0000:0000:0000:0000:0000:0001',
          '::ffff:10.0.0.1',
          '::ffff:7f00:1',
          '::ffff:93.184.215.14',
        ],
        ...[
          '::127.0.0.1',
          '::ffff:0:127.0.0.1',
          '64:ff9b::7f00:1',
          '64:ff9b:1::a00:1',
          '100::1',
          '100:0:0:1::1',
          '1fff::1',
        ],
        ...[
          '2001::1',
          '2001:1ff:ffff::1',
          '2001:2::1',
          '2001:20::1',
          '2001:30::1',
          '2001:db8::1',
          '2002:a00:1::',
          '2620:4f:8000::1',
        ],
        ...[
          '2606:4700::5efe:a00:1',
          '2606:4700::200:5efe:7f00:1',
          '3fff::1',
          '3fff:fff:ffff::1',
          '4000::1',
          '5f00::1',
          '8000::1',
        ],
        ...['fc00::1', 'fd00:ec2::254', 'fe80::1', 'fe80::a9fe:a9fe', 'febf::1', 'fec0::1', 'ff02::1'],
      ].map((host) => `https://[${host}]/hook`),
    ],
  ],
  'names that are not public': [
    [
      'HOST_NOT_PUBLIC_NAME',
      [
        ...[
          'localhost',
          'LOCALHOST',
          'localhost.',
          'a.localhost',
          'ⓛocalhost',
          'lo\u00adcal\u200bhost',
          'localhost.localdomain',
        ],
        ...[
          'metadata',
          'metadata.google.internal',
          'db',
          'redis.default.svc',
          'web.svc.cluster.local',
          'printer.local',
          'com',
        ],
        ...[
          'x.corp',
          'x.lan',
          'x.home',
          'router.home.arpa',
          '1.0.0.127.in-addr.arpa',
          'x.onion',
          'x.test',
          'x.example',
          'x.invalid',
        ],
        ...[
          'x.alt',
          'x.intranet',
          'x.private',
          'x.docker',
          'x.mail',
          'a..example.com',
          '.example.com',
          'example.com..',
        ],
        ...[
          '-a.example.com',
          'a-.example.com',
          '*.example.com',
          `${'a'.repeat(64)}.example.com`,
          `${'a.'.repeat(130)}com`,
        ],
      ].map((host) => `https://${host}/hook`),
    ],
  ],
  'other schemes': [
    [
      'SCHEME',
      [
        ...[
          'http://hooks.example.com/',
          'http://127.0.0.1/',
          'ftp://hooks.example.com/',
          'file:///etc/passwd',
          'gopher://a.example.com/',
        ],
        ...[
          'wss://a.example.com/',
          'javascript:alert(1)',
          'data:,x',
          'blob:https://a.example.com/1',
          'http+unix://%2Fsock/',
          'jar:https://x!/',
        ],
      ],
    ],
  ],
  'text that parsers read differently': [
    [
      'SYNTAX',
      [
        ...[
          '',
          ' ',
          'https:',
          'https://',
          'https:///a.example.com/',
          'https:/a.example.com/',
          'https:a.example.com',
          'https:\\\\a.example.com',
        ],
        ...[
          '//a.example.com/',
          'a.example.com/x',
          '/hook',
          ' https://a.example.com/',
          'https://a.example.com/ ',
          'ht\ttps://a.example.com/',
        ],
        ...[
          'https://a.example.com\n/',
          'https://a.exam\tple.com/',
          'https://a.example.com/a b',
          'https://a.example.com/\u0000',
          'https://a.example.com\\@b',
        ],
        ...[
          'https://a.example.com/#x',
          'https://a.example.com#',
          'https://%6c%6fcalhost/',
          'https://a%00.example.com/',
          'https://a.example.com%2f/',
        ],
        ...[
          'https://[::1/',
          'https://[::1%25lo]/',
          'https://[fe80::1%eth0]/',
          'https://[v1.a]/',
          'https://1.2.3.256/',
          'https://0x100000000/',
          'https://08.1.1.1/',
        ],
        ...[
          'https://a.example.com:-1/',
          'https://a.example.com:65536/',
          'https://a.example.com:8o80/',
          'https://xn--a.example.com/',
          'https://xn--/',
        ],
        ...[
          'https://?a',
          'https://a＠b.example.com/',
          'https://a／b.example.com/',
          'https://a℀b.example.com/',
          'https://\ud800.example.com/',
          'HTTPS://a.example.com/',
        ],
        `https://a.example.com/${'a'.repeat(2_048)}`,
      ],
    ],
  ],
  credentials: [
    [
      'USERINFO',
      [
        'https://u@a.example.com/',
        'https://u:p@a.example.com/',
        'https://@a.example.com/',
        'https://a.example.com:443@127.0.0.1/',
        'https://a%40b@c.example.com/',
      ],
    ],
  ],
  'service ports': [
    [
      'PORT',
      [0, 1, 22, 25, 80, 444, 1023, 1433, 2375, 3306, 5432, 6379, 6443, 9200, 10250, 11211, 27017].map(
        (port) => `https://a.example.com:${port}/`,
      ),
    ],
  ],
};

const ACCEPTED = [
  ...[
    'https://hooks.example.com',
    'https://hooks.example.com/',
    'https://hooks.example.com?x=1',
    'https://hooks.example.com:443/in/a%20b?c=%00',
  ],
  ...[
    'https://hooks.example.com:1024/',
    'https://hooks.example.com:8443/x',
    'https://hooks.example.com:65535/',
    'https://HOOKS.Example.COM/',
  ],
  ...[
    'https://hooks.example.com./',
    'https://münchen.example.com/',
    'https://xn--mnchen-3ya.example.com/',
    'https://a-b-c.0.example.com/',
  ],
  ...[
    'https://localhost.example.com/',
    'https://127.0.0.1.example.com/',
    'https://a_b.example.com/',
    'https://hooks.example.com/@user',
    'https://例え.jp/',
  ],
  ...[
    '1.0.0.0',
    '9.255.255.255',
    '11.0.0.0',
    '100.63.255.255',
    '100.128.0.0',
    '126.255.255.255',
    '128.0.0.0',
    '169.253.255.255',
    '169.255.0.0',
  ].map((ip) => `https://${ip}/`),
  ...[
    '172.15.255.255',
    '172.32.0.0',
    '192.0.1.0',
    '192.0.3.0',
    '192.167.255.255',
    '192.169.0.0',
    '198.17.255.255',
    '198.20.0.0',
  ].map((ip) => `https://${ip}/`),
  ...['203.0.112.255', '203.0.114.0', '223.255.255.255', '168.63.129.15', '168.63.129.17', '93.184.215.14'].map(
    (ip) => `https://${ip}/`,
  ),
  ...[
    '2000::1',
    '2001:200::1',
    '2001:db7:ffff::1',
    '2001:db9::1',
    '2003::1',
    '2606:4700:4700::1111',
    '2620:4f:7fff::1',
    '3ffe:ffff::1',
  ].map((ip) => `https://[${ip}]/`),
];

describe('a callback URL', () => {
  for (const [kind, rows] of Object.entries(REFUSED)) {
    for (const [reason, urls] of rows) {
      it.each(urls)(`is refused for ${kind}: %j`, (url) => {
        expect(checkCallbackUrl(url, closed)).toEqual({ ok: false, reason });
      });
    }
  }

  it.each(ACCEPTED)('is accepted: %s', (url) => {
    expect(checkCallbackUrl(url, closed)).toMatchObject({ ok: true, unlessAllowed: undefined });
  });

  it('never passes with a literal host that is not global, however the text looks', () => {
    const octet = fc.integer({ min: 0, max: 255 });
    const spell = fc.constantFrom(
      (n: number) => `${n}`,
      (n: number) => `0x${n.toString(16)}`,
      (n: number) => `0${n.toString(8)}`,
    );
    const spelled = fc.tuple(octet, spell).map(([n, write]) => write(n));
    const ipv4 = fc.array(spelled, { minLength: 1, maxLength: 4 }).map((parts) => parts.join('.'));
    const host = fc.oneof(
      ipv4,
      fc.ipV4(),
      fc.ipV6().map((ip) => `[${ip}]`),
      fc.string({ unit: 'grapheme' }),
    );
    fc.assert(
      fc.property(host, fc.webPath(), (text, path) => {
        const checked = checkCallbackUrl(`https://${text}${path}`, closed);
        if (!checked.ok) return;
        const { hostname } = checked.url;
        expect(/^[\d.]+$|^\[/.test(hostname) ? isGlobal(hostname.replace(/[[\]]/g, '')) : hostname.includes('.')).toBe(
          true,
        );
      }),
      { numRuns: 2_000 },
    );
  });
});

describe('the operator may allow addresses', () => {
  const policy = createAddressPolicy({ allowCidrs: ['127.0.0.0/8', '::1/128', '10.1.0.0/16', '192.168.7.7'] });

  it.each([
    'http://127.0.0.1:4001/a',
    'http://127.0.0.1/',
    'https://127.0.0.1:6379/',
    'http://[::1]:80/',
    'http://10.1.255.255:22/',
    'http://192.168.7.7/',
  ])('where plain http and any port are fine: %s', (url) => {
    expect(checkCallbackUrl(url, policy)).toMatchObject({ ok: true, unlessAllowed: undefined });
  });

  it.each([
    ['http://10.2.0.0/', 'SCHEME'],
    ['https://10.2.0.0/', 'IP_NOT_GLOBAL'],
    ['https://192.168.7.8/', 'IP_NOT_GLOBAL'],
    ['http://93.184.215.14/', 'SCHEME'],
    ['https://93.184.215.14:6379/', 'PORT'],
    ['https://[::ffff:127.0.0.1]/', 'IP_NOT_GLOBAL'],
    ['http://u@127.0.0.1/', 'USERINFO'],
    ['http://127.0.0.1\\x', 'SYNTAX'],
  ])('and nothing else is opened: %s', (url, reason) => {
    expect(checkCallbackUrl(url, policy)).toEqual({ ok: false, reason });
  });

  it.each([
    ['http://localhost:4001/hook', 'SCHEME'],
    ['https://hooks.example.com:6379/', 'PORT'],
    ['https://receiver:8443/', 'HOST_NOT_PUBLIC_NAME'],
    ['http://a.internal/', 'SCHEME'],
  ])('so a name decides by its addresses: %s', (url, reason) => {
    expect(checkCallbackUrl(url, policy)).toMatchObject({ ok: true, unlessAllowed: reason });
    expect(reasonOf(url)).toBe(reason);
    expect(checkCallbackUrl(url, closed).ok).toBe(false);
  });

  it.each([
    '10.0.0.0/33',
    '10.0.0/8',
    '::1/129',
    'localhost',
    '10.0.0.0/',
    '10.0.0.0/8/8',
    '',
    '0x0a.0.0.0/8',
    'fe80::1%lo',
  ])('but only in a form that can be read: %j', (cidr) => {
    expect(() => createAddressPolicy({ allowCidrs: [cidr] })).toThrow(/WEBHOOK_ALLOW_CIDRS: expected/);
  });
});
