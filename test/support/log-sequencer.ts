import type { Database } from '../../src/database/connect.ts';
import { createSequencer, type Sequencer, type SequencerDeps } from '../../src/outbox/sequencer.ts';
import { newId } from '../../src/runtime/id.ts';
import { observeNothing } from '../../src/runtime/observe.ts';
import { logCatalog } from './log-domain.ts';

export type LeaderOptions = Partial<Omit<SequencerDeps, 'database'>>;

export function createLeader(database: Database, options: LeaderOptions = {}): Sequencer {
  return createSequencer({
    database,
    catalog: logCatalog,
    publish: async () => {},
    observe: observeNothing,
    owner: newId('proc'),
    ...options,
  });
}

/** For a leader in a process of its own, `log-leader.ts`. */
export interface LeaderPlan {
  /** Postgres; without it, `dataDir` is a folder with a PGlite. */
  readonly url?: string;
  readonly dataDir?: string;
  readonly owner: string;
  readonly leaseMs?: number;
  /** @default 5 */
  readonly batchSize?: number;
  readonly steal?: boolean;
  /** Sends itself the signal, inside `observe`, at the nth observation of this name. */
  readonly signalAt?: { readonly name: string; readonly signal: 'SIGKILL' | 'SIGSTOP'; readonly nth?: number };
}

/** Takes all shards and stamps what is committed. */
export async function stampAll(database: Database, options: LeaderOptions = {}): Promise<void> {
  const leader = createLeader(database, options);
  await leader.keepLeases();
  await drain(leader);
  await leader.release();
}

/** Stamps until there is no more. */
export async function drain(leader: Sequencer): Promise<void> {
  while ((await leader.stampBatch()) === 'more');
}
