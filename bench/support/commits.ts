import { withClient } from '../../test/support/postgres-client.ts';
import { median } from './statistics.ts';
import type { Arrival } from './watch-program.ts';

/** When an event's change was committed and when it was stamped: times in ms of the day's clock, of the commit records. */
export interface Commit {
  readonly id: string;
  readonly committed: number;
  readonly stamping: number;
  readonly stamped: number;
}

/** The times of the last events of the log, by id. Needs `track_commit_timestamp`. */
export async function readCommits(databaseUrl: string, count: number): Promise<ReadonlyMap<string, Commit>> {
  const { rows } = await withClient(databaseUrl, (client) =>
    client.query<Commit>(
      `select e.id, extract(epoch from pg_xact_commit_timestamp(e.xmin))::float8 * 1000 as committed,
              extract(epoch from l.stamped_at)::float8 * 1000 as stamping,
              extract(epoch from pg_xact_commit_timestamp(l.xmin))::float8 * 1000 as stamped
       from fanfare.log l join fanfare.event e on e.seq = l.seq order by l.seq desc limit $1`,
      [count],
    ),
  );
  return new Map(rows.map((row) => [row.id, row]));
}

/** When the changes of the events from this position on were committed: times of the commit records, in ms of the day's clock. */
export async function readCommitTimes(databaseUrl: string, position: number): Promise<readonly number[]> {
  const { rows } = await withClient(databaseUrl, (client) =>
    client.query<{ at: number }>(
      `select extract(epoch from pg_xact_commit_timestamp(e.xmin))::float8 * 1000 as at
       from fanfare.log l join fanfare.event e on e.seq = l.seq where l.position >= $1 order by l.position`,
      [position],
    ),
  );
  return rows.map(({ at }) => at);
}

/** When the log's last event was stamped: the time of the commit record, in ms of the day's clock. */
export async function readLastStamp(databaseUrl: string): Promise<number> {
  const { rows } = await withClient(databaseUrl, (client) =>
    client.query<{ at: number }>(
      `select extract(epoch from pg_xact_commit_timestamp(xmin))::float8 * 1000 as at
       from fanfare.log order by seq desc limit 1`,
    ),
  );
  return rows[0]?.at ?? Number.NaN;
}

/** From commits to arrivals. @throws Error if an arrival is of no event of the round, or an event did not arrive */
export function latenciesOf(arrivals: readonly Arrival[], commits: ReadonlyMap<string, Commit>): number[] {
  if (new Set(arrivals.map(({ id }) => id)).size !== commits.size)
    throw new Error(`expected each of ${commits.size} events once, found ${arrivals.length} arrivals`);
  return arrivals.map(({ id, at }) => at - commitOf(commits, id).committed);
}

/** Where the time to the frame goes: medians in ms. */
export interface Stages {
  /** From the commit of the change to the begin of its stamp: the flush, the hint, the leader's turn. */
  readonly untilStamp: number;
  /** The stamp up to its commit record. */
  readonly stamp: number;
  /** From there to the frame: the flush, the bus, execution, the socket. */
  readonly out: number;
}

/** The medians of what passed between commit and arrival. */
export function stagesOf(arrivals: readonly Arrival[], commits: ReadonlyMap<string, Commit>): Stages {
  const all = arrivals.map(({ id, at }) => ({ at, ...commitOf(commits, id) }));
  return {
    untilStamp: median(all.map(({ committed, stamping }) => stamping - committed)),
    stamp: median(all.map(({ stamping, stamped }) => stamped - stamping)),
    out: median(all.map(({ stamped, at }) => at - stamped)),
  };
}

/** The medians of the rounds' stages as one short phrase. */
export function describeStages(rounds: readonly Stages[]): string {
  const of = (read: (stages: Stages) => number) => median(rounds.map(read)).toFixed(1);
  return `two commits in a row: ${of((s) => s.untilStamp)} ms until the stamp, ${of((s) => s.stamp)} stamping, ${of((s) => s.out)} its flush and the way out`;
}

function commitOf(commits: ReadonlyMap<string, Commit>, id: string): Commit {
  const commit = commits.get(id);
  if (commit === undefined) throw new Error(`${id} arrived and is no event of this round`);
  return commit;
}
