import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { CallbackRefusalReason } from '../../src/webhooks/callback-url.ts';
import type { DnsAnswer, DnsQuestion } from '../support/dns-server.ts';
import { openRawReceiver, type RawReceiver } from '../support/raw-receiver.ts';
import { openSender } from '../support/sender.ts';
import { describeGuardMatrix, type ForbiddenUrl, GOOD_HOST } from './guard-matrix.ts';

const PUBLIC = '93.184.215.14';
/** Of the traps: free on both loopbacks, as a rule. */
const PORT = 20_000 + (process.pid % 10_000);

/** By name: the answers to the first question, the second, and from then on the last ones. */
const RECORDS: Readonly<Record<string, readonly DnsAnswer[]>> = {
  [GOOD_HOST]: [[PUBLIC, '2606:4700:4700::1111']],
  'loopback.example.com': [['127.0.0.1']],
  'private.example.com': [['10.1.2.3']],
  'metadata.example.com': [['169.254.169.254']],
  'mixed.example.com': [[PUBLIC, '127.0.0.1']],
  'mixed-families.example.com': [[PUBLIC, '::1']],
  'mapped.example.com': [['::ffff:127.0.0.1']],
  'translated.example.com': [['64:ff9b::7f00:1']],
  'unspecified.example.com': [['0.0.0.0']],
  'empty.example.com': [[]],
  'broken.example.com': ['serverFailure'],
  'rebound.example.com': [[PUBLIC], ['127.0.0.1']],
  'rebound-mixed.example.com': [[PUBLIC], [PUBLIC, '169.254.169.254']],
};

function answer({ name, type, earlier }: DnsQuestion): DnsAnswer {
  const answers = RECORDS[name] ?? ['notFound'];
  const found = answers[Math.min(earlier, answers.length - 1)] ?? [];
  return typeof found === 'string' ? found : found.filter((ip) => ip.includes(':') === (type === 'AAAA'));
}

/** But for a URL of the installation's own, which here has none: guard.test.ts and http/loop.test.ts look at it. */
type Reason = Exclude<CallbackRefusalReason, 'OWN_URL'>;

const REGISTER: Readonly<Record<Reason, readonly string[]>> = {
  SYNTAX: [
    'nonsense',
    `https:/127.0.0.1:${PORT}/`,
    'https://%31%32%37.0.0.1/',
    `https://${GOOD_HOST}/#a`,
    `https://${GOOD_HOST}\\@a/`,
  ],
  SCHEME: [
    `http://127.0.0.1:${PORT}/`,
    `http://${GOOD_HOST}/`,
    'file:///etc/passwd',
    'javascript:alert(1)',
    `ws://${GOOD_HOST}/`,
  ],
  USERINFO: [`https://user:password@${GOOD_HOST}/`, `https://${GOOD_HOST}@127.0.0.1:${PORT}/`],
  PORT: [`https://${GOOD_HOST}:22/`, `https://${GOOD_HOST}:6379/`],
  HOST_NOT_PUBLIC_NAME: [
    ...[`https://localhost:${PORT}/`, `https://a.localhost:${PORT}/`, 'https://db.internal/', 'https://metadata/'],
    'https://metadata.google.internal/computeMetadata/v1/',
  ],
  IP_NOT_GLOBAL: [
    ...['127.0.0.1', '127.1', '2130706433', '0x7f.1', '0177.0.0.1', '１２７.0.0.1', '0.0.0.0', '[::1]', '[::]'],
    ...[
      '[::ffff:127.0.0.1]',
      '[64:ff9b::7f00:1]',
      '[::127.0.0.1]',
      '10.0.0.1',
      '192.168.0.1',
      '100.64.0.1',
      '169.254.169.254',
    ],
    ...['[fe80::1]', '[fd00:ec2::254]', '[2002:7f00:1::]', '198.18.0.1', '224.0.0.1', '255.255.255.255'],
  ].map((host) => `https://${host}:${PORT}/hook`),
  DNS_NOT_GLOBAL: [
    'loopback',
    'private',
    'metadata',
    'mixed',
    'mixed-families',
    'mapped',
    'translated',
    'unspecified',
  ].map((name) => `https://${name}.example.com:${PORT}/hook`),
  DNS_EMPTY: ['https://gone.example.com/', 'https://empty.example.com/'],
  DNS_FAILED: ['https://broken.example.com/'],
};

const forbidden: readonly ForbiddenUrl[] = [
  // what has the reason as its key
  ...(Object.entries(REGISTER) as [Reason, readonly string[]][]).flatMap(([reason, urls]) =>
    urls.map((url) => ({ url, reason, stage: 'register' as const })),
  ),
  ...['rebound', 'rebound-mixed'].map((name) => ({
    url: `https://${name}.example.com:${PORT}/hook`,
    reason: 'DNS_NOT_GLOBAL' as const,
    stage: 'delivery' as const,
  })),
];
const permitted = [
  `https://${GOOD_HOST}:8443/in/a%20b`,
  `https://${PUBLIC}/`,
  'https://11.0.0.1/',
  'https://[2606:4700:4700::1111]/',
];

describe('with traps on both loopbacks', () => {
  let traps: readonly RawReceiver[];

  beforeAll(async () => {
    const open = (host: string) => openRawReceiver(() => {}, { host, port: PORT, onConnect: (socket) => socket.end() });
    traps = [await open('127.0.0.1'), await open('::1')];
  });
  afterAll(async () => {
    for (const trap of traps) await trap.close();
  });

  describeGuardMatrix('by representatives of each class', { forbidden, permitted, answer });

  it('nobody has connected to the traps', async () => {
    const counts = () => traps.map(({ rawConnectionCount }) => rawConnectionCount);
    expect(counts()).toEqual([0, 0]);
    // the control: who is allowed to does
    const sender = await openSender({ allowCidrs: ['127.0.0.0/8', '::1/128'] });
    for (const host of ['127.0.0.1', '[::1]'])
      await sender.send({ url: `https://${host}:${PORT}/`, headers: {}, body: '{}' });
    expect(counts()).toEqual([1, 1]);
  });
});
