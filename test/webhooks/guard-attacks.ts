import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { DnsAnswer, DnsQuestion } from '../support/dns-server.ts';
import { type ForbiddenUrl, GOOD_HOST } from './guard-matrix.ts';

interface Records {
  readonly A?: readonly string[];
  readonly AAAA?: readonly string[];
  readonly error?: string;
}

/** What the name server says of a name. */
interface Named extends Records {
  /** The last is the answer to all further questions. */
  readonly sequence?: readonly Records[];
  readonly cycle?: readonly Records[];
  readonly respond?: { readonly status: number; readonly location: string };
}

/** Attacks on the guard of callback URLs. */
export interface Attacks {
  readonly entries: readonly (Omit<ForbiddenUrl, 'reason'> & { readonly reason: string })[];
  readonly names: Readonly<Record<string, Named>>;
  readonly permitted: readonly string[];
}

/** Of a folder given by `--attacks`. */
export async function readAttacks(from: string): Promise<Attacks> {
  const read = (file: string) => readFile(join(from, file), 'utf8');
  return {
    ...JSON.parse(await read('callback-urls-refuse.json')),
    names: JSON.parse(await read('callback-dns.json')),
    permitted: (await read('callback-urls-accept.txt')).split('\n').filter((line) => line !== ''),
  };
}

/** How the name server answers as `names` says. */
export function answerBy(names: Attacks['names']): (question: DnsQuestion) => DnsAnswer {
  return ({ name, type, earlier }) => {
    const { sequence, cycle, ...own } = names[name] ?? { error: 'ENOTFOUND' };
    const records = sequence?.[Math.min(earlier, sequence.length - 1)] ?? cycle?.[earlier % cycle.length] ?? own;
    return records.error === undefined ? (records[type] ?? []) : 'notFound';
  };
}

const PUBLIC: Records = { A: ['93.184.215.14'] };

/** Other spellings than the short matrix has: of hosts, by names of others that point inward, by redirects. */
const URLS = {
  IP_NOT_GLOBAL: [
    ...['127.0.1', '0x7f000001', '017700000001', '127.255.255.254', '10.255.255.255', '172.16.0.1', '172.31.255.255'],
    ...['192.168.255.255', '169.254.170.2', '100.127.255.255', '192.0.2.1', '203.0.113.1', '239.1.2.3', '240.0.0.1'],
    ...['[0:0:0:0:0:0:0:1]', '[::ffff:7f00:1]', '[::ffff:a9fe:a9fe]', '[64:ff9b::a9fe:a9fe]', '[fc00::1]', '[ff02::1]'],
    ...['[2001:db8::1]', '[2002:a9fe:a9fe::1]', '[fec0::1]', '168.63.129.16', '①②⑦.⓪.⓪.①'],
  ].map((host) => `https://${host}/hook`),
  SYNTAX: [
    'https://127.0.0.1%00.example.com/hook',
    `https://127.0.0.1\\@${GOOD_HOST}/hook`,
    'https:/127.0.0.1/hook',
    'https:///127.0.0.1/hook',
    `https://${GOOD_HOST}/hook#part`,
    ` https://${GOOD_HOST}/hook`,
    `https://${GOOD_HOST}/${'a'.repeat(2_048)}`,
  ],
  HOST_NOT_PUBLIC_NAME: [
    ...['LOCALHOST', 'localhost.', 'foo.localhost', 'ⓛⓞⓒⓐⓛⓗⓞⓢⓣ', 'printer.local', 'router.lan', 'redis', 'a.invalid'],
  ].map((host) => `https://${host}/hook`),
  USERINFO: [`https://@${GOOD_HOST}/hook`, `https://${GOOD_HOST}:443@127.0.0.1/hook`],
  SCHEME: ['data:text/plain,hi', `ftp://${GOOD_HOST}/hook`, `gopher://${GOOD_HOST}:6379/_x`, `wss://${GOOD_HOST}/hook`],
  PORT: [25, 5432, 11211, 1].map((port) => `https://${GOOD_HOST}:${port}/hook`),
  DNS_NOT_GLOBAL: ['points-inward', 'one-inward', 'one-inward-v6', 'only-v6', 'metadata-v6', 'group'].map(
    (name) => `https://${name}.attack.example.com/hook`,
  ),
  DNS_EMPTY: ['no-records', 'nobody'].map((name) => `https://${name}.attack.example.com/hook`),
} as const;

/** What is tested without a folder. */
export const OWN_ATTACKS: Attacks = {
  entries: [
    ...Object.entries(URLS).flatMap(([reason, urls]) =>
      urls.map((url) => ({ url, reason, stage: 'register' as const })),
    ),
    ...['turns-inward', 'turns-to-metadata'].map((name) => ({
      url: `https://${name}.attack.example.com/hook`,
      reason: 'DNS_NOT_GLOBAL',
      stage: 'delivery' as const,
    })),
  ],
  names: {
    [GOOD_HOST]: { ...PUBLIC, AAAA: ['2606:4700:4700::1111'] },
    'xn--mnchen-3ya.example.com': PUBLIC,
    'localhost.example.com': PUBLIC,
    'points-inward.attack.example.com': { A: ['127.0.0.1'], AAAA: ['::1'] },
    'one-inward.attack.example.com': { A: ['93.184.215.14', '10.1.2.3'] },
    'one-inward-v6.attack.example.com': { ...PUBLIC, AAAA: ['::1'] },
    'only-v6.attack.example.com': { AAAA: ['::ffff:127.0.0.1'] },
    'metadata-v6.attack.example.com': { AAAA: ['fd00:ec2::254'] },
    'group.attack.example.com': { A: ['224.0.0.251'] },
    'no-records.attack.example.com': {},
    'turns-inward.attack.example.com': { sequence: [PUBLIC, { A: ['127.0.0.1'] }] },
    'turns-to-metadata.attack.example.com': { sequence: [PUBLIC, { ...PUBLIC, AAAA: ['64:ff9b::a9fe:a9fe'] }] },
    'moved.attack.example.com': { ...PUBLIC, respond: { status: 301, location: 'http://127.0.0.1:6379/' } },
    'found.attack.example.com': { ...PUBLIC, respond: { status: 302, location: 'http://169.254.169.254/latest/' } },
    'here.attack.example.com': { ...PUBLIC, respond: { status: 308, location: 'https://here.attack.example.com/' } },
  },
  permitted: [
    `https://${GOOD_HOST}:8443/in/a%20b`,
    'https://münchen.example.com/hook',
    'https://localhost.example.com/hook',
    'https://172.32.0.1/hook',
    'https://[2606:4700:4700::1111]/hook',
  ],
};
