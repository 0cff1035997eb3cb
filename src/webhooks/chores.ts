import type { Database } from '../database/connect.ts';
import { wakeWaiting } from './order.ts';
import { backfillWebhooks } from './registration.ts';
import { reviewParked } from './review.ts';
import { resealSecrets } from './secrets.ts';
import type { PrepareDeps } from './wanted.ts';

/** What a worker does beside deliveries, each thing at its own pace, the first time at once. */
export interface Chores {
  /**
   * Does what is due of them, one after another.
   * @returns positions looked at for webhooks that begin in the past; while it is above 0 there may be more
   */
  run(pace: ChorePace): Promise<number>;
}

export interface ChorePace {
  /** The rest of the backfill once it has found nothing; 0: none. */
  readonly backfillEveryMs: number;
}

const REVIEW_EVERY_MS = 60_000;
const SWEEP_EVERY_MS = 2_000;
const BACKFILL_POSITIONS = 1_000;

/** Does nothing until it is run. */
export function createChores(deps: PrepareDeps): Chores {
  const review = createReview(deps);
  const sweep = createSweep(deps);
  const backfill = createBackfill(deps.engine.database);
  return {
    async run({ backfillEveryMs }) {
      await review();
      await sweep();
      return backfill(backfillEveryMs);
    },
  };
}

/** What an older program or another key could not read, this one may; and what was mended elsewhere is found. */
function createReview(deps: PrepareDeps): () => Promise<void> {
  const { database, clock } = deps.engine;
  let reviewedAtMs = Number.NEGATIVE_INFINITY;
  let hasResealed = false;
  return async () => {
    if (clock.now() - reviewedAtMs < REVIEW_EVERY_MS) return;
    reviewedAtMs = clock.now();
    const resealed = hasResealed ? 0 : await resealSecrets(database, deps.sealer);
    hasResealed = true;
    const repaired = await reviewParked(deps);
    if (resealed + repaired > 0) deps.observe({ name: 'webhook.reviewed', resealed, repaired });
  };
}

/** Lets go deliveries that wait behind nothing. Not often: it looks at each subject that has something open. */
function createSweep({ engine, observe }: Pick<PrepareDeps, 'engine' | 'observe'>): () => Promise<void> {
  let dueAtMs = 0;
  return async () => {
    const startedAtMs = performance.now();
    if (startedAtMs < dueAtMs) return;
    const woken = await wakeWaiting(engine.database);
    const endedAtMs = performance.now();
    dueAtMs = endedAtMs + Math.max(SWEEP_EVERY_MS, 20 * (endedAtMs - startedAtMs));
    if (woken > 0) observe({ name: 'delivery.woken', deliveries: woken });
  };
}

/** Looks for webhooks that begin in the past now and then, and on while there is something. */
function createBackfill({ db }: Database): (everyMs: number) => Promise<number> {
  let dueAtMs = 0;
  return async (everyMs) => {
    if (performance.now() < dueAtMs) return 0;
    const looked = await backfillWebhooks(db, { limit: BACKFILL_POSITIONS });
    dueAtMs = looked > 0 ? 0 : performance.now() + everyMs;
    return looked;
  };
}
