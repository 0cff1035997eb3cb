import { describe, expect, it } from 'vitest';
import { sendTo } from '../support/sender.ts';
import { answerBy, OWN_ATTACKS, readAttacks } from './guard-attacks.ts';
import { describeGuardMatrix, type ForbiddenUrl } from './guard-matrix.ts';

/** By `npm run test:long -- --attacks FOLDER`. */
const folder = process.env.FANFARE_ATTACKS;
const source = folder === undefined ? 'by a table of its own' : 'by the lists given';
const { entries, names, permitted } = folder === undefined ? OWN_ATTACKS : await readAttacks(folder);

describeGuardMatrix(source, {
  // all other reasons are the guard's own, or the comparison fails
  forbidden: entries.filter(({ reason }) => reason !== 'REDIRECT') as readonly ForbiddenUrl[],
  permitted,
  answer: answerBy(names),
});

describe(`${source}: a redirect`, () => {
  const redirects = Object.entries(names).flatMap(([name, { respond }]) => (respond ? [[name, respond] as const] : []));

  it.each(redirects)('of %s is a failed delivery and is not followed', async (_, { status, location }) => {
    const { outcome, receiver } = await sendTo((socket) => {
      socket.write(`HTTP/1.1 ${status} Moved\r\nlocation: ${location}\r\ncontent-length: 0\r\n\r\n`);
    });
    expect(outcome).toMatchObject({ kind: 'failed', errorClass: 'REDIRECT', statusCode: status });
    expect(receiver.received().match(/^POST /gm)).toHaveLength(1);
  });
});
