import type { Selectable } from 'kysely';
import type { EngineTables } from '../database/tables.ts';
import { EngineError } from '../errors.ts';
import type { Principal } from '../identity/principal.ts';
import { isWithin } from '../outbox/filter.ts';

/**
 * A webhook's row. *ACTIVE*: its deliveries are sent. *PAUSED*: they wait. *DISABLED*, after its receiver
 * answered 410: they are parked. They are born in each state, and `webhookResume` leads out of both. Beside the status, an active
 * webhook with a `parked_reason` can't be sent to until it is repaired: its open deliveries are parked, new ones are born.
 */
export type Webhook = Selectable<EngineTables['fanfare.webhook']>;

/** `WebhookStatus` in the graph. */
export const WEBHOOK_STATUSES = ['ACTIVE', 'PAUSED', 'DISABLED'] as const;

/**
 * `DeliveryStatus` in the graph. Open: PENDING waits for its time, SENDING is under way, WAITING for an earlier one of its subject, PARKED waits for its webhook
 * to be repaired or resumed. Finished: SUCCEEDED by a 2xx, EXHAUSTED after the last attempt, CANCELLED because it may
 * or need no longer be sent, RENDER_FAILED because the document gave errors. `deliveryRetry` opens a finished one again.
 */
export const DELIVERY_STATUSES = [
  'PENDING',
  'SENDING',
  'WAITING',
  'SUCCEEDED',
  'EXHAUSTED',
  'CANCELLED',
  'PARKED',
  'RENDER_FAILED',
] as const;

/** The webhook as who asks: it reads with the grants that it was given, whatever became of its creator. */
export function principalOf(webhook: Pick<Webhook, 'id' | 'account_id' | 'scopes' | 'narrowing'>): Principal {
  return {
    id: webhook.id,
    accountId: webhook.account_id,
    scopes: new Set(webhook.scopes),
    narrowing: webhook.narrowing,
    expiresAt: undefined,
  };
}

/**
 * Whoever may point a webhook elsewhere, or learns its secret, can get what it gets: so only a principal that may see
 * all of that may change it.
 * @throws EngineError FORBIDDEN
 */
export function requireGrantsOf(principal: Principal, webhook: Webhook): void {
  const missing = webhook.scopes.find((scope) => !principal.scopes.has(scope));
  if (missing !== undefined) {
    throw new EngineError('FORBIDDEN', `this webhook has the scope "${missing}", which the key does not have`);
  }
  if (!isWithin(webhook.narrowing, principal.narrowing)) {
    throw new EngineError('FORBIDDEN', 'this webhook may see events that the key may not');
  }
}
