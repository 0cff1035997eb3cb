import type { Claim } from './claim.ts';
import type { ClaimResult } from './finish.ts';
import { parkWebhooks } from './health.ts';
import type { Lanes } from './lanes.ts';
import type { Leases } from './leases.ts';
import { type Prepared, prepareDeliveries } from './prepare.ts';
import type { PrepareDeps } from './wanted.ts';

export interface PreparingDeps {
  readonly prepare: PrepareDeps;
  readonly leases: Pick<Leases, 'isLate' | 'drop'>;
  readonly lanes: Pick<Lanes, 'put'>;
  /** Aborts when no attempt may begin any more. */
  readonly giveUp: AbortSignal;
  /** Writes what became of claims without an attempt, and drops them. */
  readonly end: (results: readonly ClaimResult[]) => Promise<void>;
}

/** Leads claims of a worker to their lanes, or to their ends. */
export interface Preparing {
  /**
   * Resolves when all of them are in their lanes or have ended; those that it could not prepare are handed back.
   * @returns how many are in no lane: they have made room
   */
  prepare(claims: readonly Claim[]): Promise<number>;
  /** @throws what kept claims from being prepared since it was asked last */
  throwFailure(): void;
}

/** Does nothing until it is asked to. */
export function createPreparing({ prepare: deps, leases, lanes, giveUp, end }: PreparingDeps): Preparing {
  let failure: { readonly error: unknown } | undefined;

  async function prepare(claims: readonly Claim[]): Promise<number> {
    let ready = 0;
    const left = new Set(claims);
    const isLate = () => giveUp.aborted || left.values().every(leases.isLate);
    try {
      await prepareDeliveries(deps, claims, { isLate, take });
    } catch (error) {
      failure = { error };
      await end([...left].map((claim) => ({ claim, status: 'released' })));
    } finally {
      for (const claim of left) leases.drop(claim);
    }
    return claims.length - ready;

    async function take({ ready: prepared, ended, parked }: Prepared): Promise<void> {
      for (const each of prepared) left.delete(each.claim);
      ready += prepared.length;
      lanes.put(prepared);
      // before its claims are handed back, so that they are not claimed again
      await park(deps, parked);
      await end(ended);
      for (const { claim } of ended) left.delete(claim);
    }
  }

  function throwFailure(): void {
    if (failure === undefined) return;
    const { error } = failure;
    failure = undefined;
    throw error;
  }

  return { prepare, throwFailure };
}

async function park({ engine, observe }: PrepareDeps, reasons: ReadonlyMap<string, string>): Promise<void> {
  if (reasons.size === 0) return;
  await parkWebhooks(engine.database, reasons);
  for (const [id, reason] of reasons) observe({ name: 'webhook.parked', level: 'warn', webhook_id: id, reason });
}
