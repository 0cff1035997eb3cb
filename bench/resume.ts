import { eventually } from '../test/support/eventually.ts';
import { withClient } from '../test/support/postgres-client.ts';
import type { LogPages } from './baselines/log-pages.ts';
import type { Bed } from './support/bed.ts';
import { type Client, createClient } from './support/client.ts';
import type { Row } from './support/report.ts';
import type { Reading, ResumingClient } from './support/resume-program.ts';
import { interleave } from './support/rounds.ts';
import { startCluster } from './support/server.ts';
import { emitStockChanges } from './support/store.ts';
import { describeCost, startUsageMeter, type Used } from './support/usage.ts';

const EVENTS = 10_000;
/** Emitted by one transaction each. */
const BATCH = 500;

interface Round {
  readonly reading: Reading;
  /** Of the side that is measured. */
  readonly used: Used | undefined;
}

/**
 * One client resumes 10,000 events over WebSocket, from its subscription to the last frame, against reading the same rows
 * on bare `pg` in pages and making the same JSON of them.
 */
export async function benchResume(bed: Bed, { rounds }: { readonly rounds: number }): Promise<Row[]> {
  const { api, databaseUrl } = await startCluster(bed);
  const resuming = bed.startWorker<ResumingClient>(new URL('support/resume-program.ts', import.meta.url));
  const pages = bed.startWorker<LogPages>(new URL('baselines/log-pages.ts', import.meta.url));
  await resuming.call('open', { url: api.wsUrl, key: api.key });
  await pages.call('open', databaseUrl);
  const { cursor: after, position } = await writeLog(createClient(api, 1), databaseUrl);
  const measured = await interleave<Round>({
    name: 'resume',
    rounds,
    subject: async () => {
      const meter = startUsageMeter({ api: () => [api.pid], client: () => [resuming.pid], ...bed.parts });
      const reading = await resuming.call('resume', { after, count: EVENTS });
      return { reading, used: { usage: meter.stop(), count: EVENTS } };
    },
    baseline: async () => ({ reading: await pages.call('read', position), used: undefined }),
  });
  requireEqual([...measured.subject, ...measured.baseline]);
  const perSecond = ({ reading }: Round) => EVENTS / reading.seconds;
  return [
    {
      name: 'resume: 10,000 events',
      unit: 'events/s',
      subject: measured.subject.map(perSecond),
      baseline: measured.baseline.map(perSecond),
      limitedBy: describeCost(measured.subject.flatMap(({ used }) => used ?? [])),
    },
  ];
}

/** Fills the log. @returns the place before the events, which is that of an event more */
async function writeLog(client: Client, databaseUrl: string) {
  await emitStockChanges(databaseUrl, 1);
  for (let count = 0; count < EVENTS; count += BATCH) await emitStockChanges(databaseUrl, BATCH);
  const last = String(EVENTS + 1);
  await eventually(async () => (await readEvent(client, 'last: 1')).position === last, {
    deadlineMs: 60_000,
    everyMs: 100,
    describe: 'all events to have their position',
  });
  // as the database does by itself within a minute: without statistics each page sorts all that is behind it
  await withClient(databaseUrl, (connection) => connection.query('analyze'));
  const { cursor, position } = await readEvent(client, 'first: 1');
  await client.close();
  return { cursor, position: Number(position) };
}

/** @returns the event; position 0 where there is none yet */
async function readEvent(client: Client, which: 'first: 1' | 'last: 1') {
  const { events } = await client.ask<{ events: { nodes: { cursor: string; position: string }[] } }>(
    `{ events(${which}) { nodes { cursor position } } }`,
  );
  return events.nodes[0] ?? { cursor: '', position: '0' };
}

/** @throws Error if a reader has seen other events than the first one, or in another order */
function requireEqual(rounds: readonly Round[]): void {
  const digests = new Set(rounds.map(({ reading }) => reading.digest));
  if (digests.size !== 1) throw new Error('expected the same events from both sides, found different ones');
}
