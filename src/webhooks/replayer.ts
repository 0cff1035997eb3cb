import { type Kysely, sql } from 'kysely';
import type { EngineTables } from '../database/tables.ts';
import type { EngineServices } from '../graphql/context.ts';
import { runLoop } from '../runtime/loop.ts';
import type { Observe } from '../runtime/observe.ts';
import type { Replay } from './replay.ts';

/** What one step has done. */
export interface ReplayStep {
  readonly id: string;
  readonly account_id: string;
  readonly webhook_id: string;
  readonly status: Replay['status'];
  /** Positions. */
  readonly looked: number;
  /** Deliveries. */
  readonly born: number;
  /** Whether nothing is left to see to. */
  readonly has_finished: boolean;
}

/**
 * Positions that a step looks over at most. Over 2,000 of which none was missing it took 38 ms, with 1,000 births 74 to 85 ms: so long it
 * holds the replay's and its webhook's locks (2 cores under a load of 12, 2026-11-22).
 */
const POSITIONS = 2_000;

/**
 * Makes one step of one replay, the one that has waited longest: one transaction, whose shape and reasons are in
 * `fanfare.step_replay`. Any number of processes may do so at once.
 * @param options.replayId this one, whether it is its time or not
 * @returns undefined if none has to be stepped now
 */
export async function stepReplay(
  db: Kysely<EngineTables>,
  { replayId, positions = POSITIONS }: { readonly replayId?: string; readonly positions?: number } = {},
): Promise<ReplayStep | undefined> {
  const { rows } = await sql<ReplayStep>`
    select * from fanfare.step_replay(${replayId ?? null}::text, ${positions}::int)
  `.execute(db);
  return rows[0];
}

export interface ReplayerDeps {
  readonly engine: Pick<EngineServices, 'database' | 'clock'>;
  readonly observe: Observe;
  /** Called when deliveries were born: a hint for a worker. Must not throw. */
  readonly onBorn: () => void;
  /** The longest rest. Replays that are running are stepped up to so often. @default 200 (ms) */
  readonly pollMs?: number;
}

/** Steps replays until the signal aborts; then resolves, after the step in hand. Never rejects. */
export async function runReplays(
  { engine: { database, clock }, observe, onBorn, pollMs = 200 }: ReplayerDeps,
  signal: AbortSignal,
): Promise<void> {
  await runLoop({ name: 'webhooks.replays', everyMs: pollMs, work, observe, signal, clock });

  /** Each that is due once, then on at once with those that have room. */
  async function work(): Promise<'more' | 'idle'> {
    const step = await stepReplay(database.db);
    if (step === undefined) return 'idle';
    if (step.born > 0) onBorn();
    if (step.has_finished) report(step);
    return 'more';
  }

  function report({ id, account_id, webhook_id, status }: ReplayStep): void {
    observe({ name: 'replay.finished', replay_id: id, account_id, webhook_id, status });
  }
}
