import type { Selectable } from 'kysely';
import type { EngineTables } from '../database/tables.ts';
import { EngineError } from '../errors.ts';
import type { Registry } from '../graphql/registry.ts';
import { requireEventTypes } from '../graphql/visible.ts';
import { type Principal, requireScope } from '../identity/principal.ts';
import { type EventFilter, filterOf, isWithin } from '../outbox/filter.ts';

/** Needed for whatever is done with consumers. */
export const SCOPE = 'consumers:write';

/** A consumer's row, with its position and the account's head as they were when it was read. */
export type Consumer = Selectable<EngineTables['fanfare.consumer_state']>;

/** Filters, all of which must hold, of the events that the consumer gives to whoever polls. */
export function filtersOf(consumer: Consumer): readonly EventFilter[] {
  return [filterOf(consumer), ...consumer.narrowing];
}

/** What somebody must be allowed to see. */
export interface Wanted {
  readonly filter: EventFilter;
  readonly narrowing: readonly EventFilter[];
}

/**
 * Refuses a principal that may not see all that a consumer gives. One that got a part of it would take the rest away
 * from the others without a word: what it acks, nobody gets again.
 * @throws EngineError FORBIDDEN, naming the scope
 */
export function requireSight(registry: Registry, principal: Principal, { filter, narrowing }: Wanted): void {
  requireScope(principal, 'events:read');
  if (filter.types === undefined)
    requireEventTypes(registry, principal, { types: [...registry.events.keys()] }, ALL_TYPES);
  else requireEventTypes(registry, principal, filter);
  if (!isWithin(narrowing, principal.narrowing)) {
    throw new EngineError('FORBIDDEN', 'this consumer gives events that the key may not see');
  }
}

const ALL_TYPES = ', and without "filter.types" a consumer gives them too; name other types, or use a key that has it';

/** What is said of a consumer that the account does not have. */
export function noSuchConsumer(name: string): EngineError {
  return new EngineError('NOT_FOUND', `there is no consumer "${name.slice(0, 100)}"; make it by "consumerCreate"`);
}
