import { EngineError } from '../errors.ts';
import type { Principal } from '../identity/principal.ts';
import type { EventFilter } from '../outbox/filter.ts';
import type { Registry } from './registry.ts';

/**
 * Refuses a filter that names a type of events which the principal may not see: silence would look like "none happened".
 * @param remedy what to do then, the end of the message
 * @throws EngineError FORBIDDEN, naming the scope
 */
export function requireEventTypes(
  registry: Registry,
  principal: Principal,
  { types = [] }: EventFilter,
  remedy = '',
): void {
  for (const name of types) {
    const scope = registry.events.get(name)?.scope;
    if (scope === undefined || principal.scopes.has(scope)) continue;
    throw new EngineError('FORBIDDEN', `events of type "${name}" need the scope "${scope}"${remedy}`);
  }
}

/** Whether messages must not say which name of the schema may have been meant: to guess by them is to read the schema. */
export function hidesNames(principal: Principal): boolean {
  return !principal.scopes.has('introspect');
}
