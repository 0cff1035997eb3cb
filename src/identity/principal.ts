import { EngineError } from '../errors.ts';
import { type EventFilter, filterKey } from '../outbox/filter.ts';

/** The engine's own scopes; a domain declares its own beside them. */
export const ENGINE_SCOPES = [
  'events:read',
  'webhooks:read',
  'webhooks:write',
  'consumers:write',
  'keys:write',
  'tokens:create',
  'audit:read',
  'introspect',
  'operator',
] as const;

/** Who asks: one account, what it may do, and which events it may see. */
export interface Principal {
  /** The key's or webhook's id; recorded as the actor of its changes. */
  readonly id: string;
  readonly accountId: string;
  readonly scopes: ReadonlySet<string>;
  /** Events outside of these do not exist for it; all must hold. Empty: everything that its scopes allow. */
  readonly narrowing: readonly EventFilter[];
  /** When it ends by itself. */
  readonly expiresAt: Date | undefined;
}

/** @throws EngineError FORBIDDEN, naming the scope */
export function requireScope(principal: Principal, scope: string): void {
  if (!principal.scopes.has(scope)) throw new EngineError('FORBIDDEN', `this needs the scope "${scope}"`);
}

/** The error that ends a stream whose results depend on these scopes; undefined if the principal has them all. */
export function lossOf(principal: Principal, scopes: readonly string[]): EngineError | undefined {
  const lost = scopes.find((scope) => !principal.scopes.has(scope));
  if (lost === undefined) return undefined;
  return new EngineError('FORBIDDEN', `the API key has not the scope "${lost}" any more, which this operation needs`);
}

/** Whether two principals see the events of one account within the same narrowing; their scopes may differ. */
export function isSameAudience(one: Principal, other: Principal): boolean {
  return one.accountId === other.accountId && filterKey(one.narrowing) === filterKey(other.narrowing);
}

/** What a principal may see, as one text: equal for principals that see the same. Never a key's or token's id. */
export function fingerprint({ accountId, scopes, narrowing }: Principal): string {
  return JSON.stringify([accountId, [...scopes].sort(), filterKey(narrowing)]);
}
