import { withClient } from '../test/support/postgres-client.ts';
import type { LogPages } from './baselines/log-pages.ts';
import type { Bed } from './support/bed.ts';
import { type Client, createClient } from './support/client.ts';
import type { Row } from './support/report.ts';
import type { Reading, ResumingClient } from './support/resume-program.ts';
import { interleave } from './support/rounds.ts';
import { startCluster } from './support/server.ts';
import { emitStockChanges, settleLog } from './support/store.ts';
import { describeCost, type Parts, startUsageMeter, type Used } from './support/usage.ts';

const EVENTS = 10_000;
/** Emitted by one transaction each. */
const BATCH = 500;

interface Round extends Used {
  readonly reading: Reading;
}

/**
 * One client resumes 10,000 events over WebSocket, from its subscription to the last frame, against reading the same rows
 * on bare `pg` in pages and making the same JSON of them. The CPU time is that of the process that reads and of Postgres.
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
    subject: () =>
      measure({ api: () => [api.pid], client: () => [resuming.pid], ...bed.parts }, () =>
        resuming.call('resume', { after, count: EVENTS }),
      ),
    baseline: () => measure({ reader: () => [pages.pid], ...bed.parts }, () => pages.call('read', position)),
  });
  requireEqual([...measured.subject, ...measured.baseline]);
  const row = (suffix: string, unit: string, of: (round: Round) => number): Row => ({
    name: `resume: 10,000 events${suffix}`,
    unit,
    subject: measured.subject.map(of),
    baseline: measured.baseline.map(of),
    limitedBy: describeCost(measured.subject),
  });
  return [row('', 'events/s', ({ reading }) => EVENTS / reading.seconds), row(', CPU', 'µs/event', cpuOf)];
}

async function measure(parts: Parts, read: () => Promise<Reading>): Promise<Round> {
  const meter = startUsageMeter(parts);
  const reading = await read();
  return { reading, usage: meter.stop(), count: EVENTS };
}

function cpuOf({ usage: { seconds } }: Round): number {
  const { api = 0, reader = 0, Postgres = 0 } = seconds;
  return ((api + reader + Postgres) * 1e6) / EVENTS;
}

/** Fills the log. @returns the place before the events, which is that of an event more */
async function writeLog(client: Client, databaseUrl: string) {
  await emitStockChanges(databaseUrl, 1);
  for (let count = 0; count < EVENTS; count += BATCH) await emitStockChanges(databaseUrl, BATCH);
  await settleLog(databaseUrl, EVENTS + 1);
  // for the baseline: without statistics its plain join reads all events for each page
  await withClient(databaseUrl, (client) => client.query('analyze'));
  const { events } = await client.ask<{ events: { nodes: { cursor: string; position: string }[] } }>(
    '{ events(first: 1) { nodes { cursor position } } }',
  );
  await client.close();
  return { cursor: events.nodes[0]?.cursor ?? '', position: Number(events.nodes[0]?.position) };
}

/** @throws Error if a reader has seen other events than the first one, or in another order */
function requireEqual(rounds: readonly Round[]): void {
  const digests = new Set(rounds.map(({ reading }) => reading.digest));
  if (digests.size !== 1) throw new Error('expected the same events from both sides, found different ones');
}
