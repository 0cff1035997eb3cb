import type { Claim } from './claim.ts';
import { type DeliverDeps, type Delivered, deliver } from './deliver.ts';
import type { ClaimResult } from './finish.ts';
import type { Fared } from './lanes.ts';
import type { Leases } from './leases.ts';
import type { ReadyDelivery } from './prepare.ts';

export interface AttemptingDeps {
  readonly deliver: DeliverDeps;
  readonly leases: Pick<Leases, 'mayBegin'>;
  /** Aborts when no attempt may begin any more; those under way are given up. */
  readonly giveUp: AbortSignal;
  /** Given each attempt as it begins. Must not throw. */
  readonly onBegun: (claim: Claim, attempted: Promise<Delivered>) => void;
  /** Called with each webhook whose window the attempt makes larger, or may. Must not throw. */
  readonly onGrowth: (webhookId: string) => void;
}

/**
 * Makes what a worker's lanes begin attempts with. It resolves when the answer is there, before that is recorded: the place
 * of the attempt is free then. Never rejects.
 */
export function createAttempting(deps: AttemptingDeps): (ready: ReadyDelivery) => Promise<Fared> {
  const { leases, giveUp, onBegun, onGrowth } = deps;

  async function attempt(ready: ReadyDelivery): Promise<Fared> {
    const startedAtMs = performance.now();
    const attempted = attemptOnce(ready);
    onBegun(ready.claim, attempted);
    const outcome = await attempted.then(outcomeOf, () => 'failed' as const);
    const { id, failures, holds } = ready.webhook;
    if (failures > 0 || holds > 0) onGrowth(id);
    return { durationMs: performance.now() - startedAtMs, outcome };
  }

  async function attemptOnce(ready: ReadyDelivery): Promise<Delivered> {
    // a process that was frozen since its claim must not send beside the next owner
    const mayBegin = !giveUp.aborted && (await leases.mayBegin(ready.claim));
    if (!mayBegin) return withoutAttempt({ claim: ready.claim, status: 'released' });
    return deliver(deps.deliver, ready, giveUp);
  }

  return attempt;
}

/** What ends without an attempt says nothing of the receiver. */
export function withoutAttempt(result: ClaimResult): Delivered {
  return { result, webhook: undefined, receiver: { kind: 'fair' } };
}

function outcomeOf({ result: { status }, receiver }: Delivered): Fared['outcome'] {
  if (receiver.kind !== 'fair') return 'busy';
  return status === 'succeeded' ? 'succeeded' : 'failed';
}
