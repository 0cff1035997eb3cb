import type { EngineServices } from '../graphql/context.ts';
import type { Principal } from '../identity/principal.ts';
import { createWaiting, type Waiting, type WatchAccount } from './waiting.ts';

/** What the fields of consumers need of their process. */
export interface FieldServices {
  readonly waiting: Waiting;
  /** Aborts when the process is told to stop. */
  readonly draining: AbortSignal;
  /**
   * The principal as it is now.
   * @throws EngineError UNAUTHENTICATED if it has ended
   */
  readonly refresh: (principal: Principal) => Promise<Principal>;
}

export interface FieldDeps extends Omit<FieldServices, 'waiting'> {
  readonly watch: WatchAccount;
}

const ROOM = Symbol('consumers');

/** Gives an engine what the fields need, before the first request. @returns those who wait, for the metrics */
export function provideConsumerServices(engine: EngineServices, { watch, draining, refresh }: FieldDeps): Waiting {
  const waiting = createWaiting({ watch, clock: engine.clock, draining });
  const services: FieldServices = { waiting, draining, refresh };
  engine.rooms.set(ROOM, services);
  return waiting;
}

/** What `provideConsumerServices` gave. */
export function fieldServices({ engine }: { readonly engine: EngineServices }): FieldServices {
  const services = engine.rooms.get(ROOM);
  if (services === undefined) throw new Error('provideConsumerServices was not called for this engine');
  return services as FieldServices; // only provideConsumerServices knows the symbol
}
