import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { DnsAnswer, DnsQuestion } from '../support/dns-server.ts';
import { sendTo } from '../support/sender.ts';
import { describeGuardMatrix, type ForbiddenUrl } from './guard-matrix.ts';

/** By `npm run test:long -- --attacks FOLDER`. */
const folder = process.env.FANFARE_ATTACKS;

interface Records {
  readonly A?: readonly string[];
  readonly AAAA?: readonly string[];
  readonly error?: string;
}

/** What callback-dns.json says of a name. */
interface Named extends Records {
  /** The last is the answer to all further questions. */
  readonly sequence?: readonly Records[];
  readonly cycle?: readonly Records[];
  readonly respond?: { readonly status: number; readonly location: string };
}

interface Attacks {
  readonly entries: readonly (Omit<ForbiddenUrl, 'reason'> & { readonly reason: string })[];
  readonly names: Readonly<Record<string, Named>>;
  readonly permitted: readonly string[];
}

async function readAttacks(from: string): Promise<Attacks> {
  const read = (file: string) => readFile(join(from, file), 'utf8');
  return {
    ...JSON.parse(await read('callback-urls-refuse.json')),
    names: JSON.parse(await read('callback-dns.json')),
    permitted: (await read('callback-urls-accept.txt')).split('\n').filter((line) => line !== ''),
  };
}

function answerOf({ sequence, cycle, ...own }: Named, { type, earlier }: DnsQuestion): DnsAnswer {
  const records = sequence?.[Math.min(earlier, sequence.length - 1)] ?? cycle?.[earlier % cycle.length] ?? own;
  return records.error === undefined ? (records[type] ?? []) : 'notFound';
}

if (folder === undefined) {
  it.skip('a URL that may not be called: needs --attacks FOLDER', () => {});
} else {
  const { entries, names, permitted } = await readAttacks(folder);

  describeGuardMatrix('by the lists given', {
    // all other reasons are the guard's own, or the comparison fails
    forbidden: entries.filter(({ reason }) => reason !== 'REDIRECT') as readonly ForbiddenUrl[],
    permitted,
    answer: (question) => answerOf(names[question.name] ?? { error: 'ENOTFOUND' }, question),
  });

  describe('by the lists given: a redirect', () => {
    const redirects = Object.entries(names).flatMap(([name, { respond }]) =>
      respond ? [[name, respond] as const] : [],
    );

    it.each(redirects)('of %s is a failed delivery and is not followed', async (_, { status, location }) => {
      const { outcome, receiver } = await sendTo((socket) => {
        socket.write(`HTTP/1.1 ${status} Moved\r\nlocation: ${location}\r\ncontent-length: 0\r\n\r\n`);
      });
      expect(outcome).toMatchObject({ kind: 'failed', errorClass: 'REDIRECT', statusCode: status });
      expect(receiver.received().match(/^POST /gm)).toHaveLength(1);
    });
  });
}
