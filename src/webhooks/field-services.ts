import type { GraphQLSchema } from 'graphql';
import type { EngineServices } from '../graphql/context.ts';
import { type Observe, observeNothing } from '../runtime/observe.ts';
import type { CallbackGuard } from './guard.ts';
import { DEFAULT_QUOTA, type WebhookQuota } from './quota.ts';
import type { Sealer } from './seal.ts';
import { createDocumentReader, type DocumentReader } from './selection.ts';

/** What the fields of webhooks need of their process. */
export interface FieldServices {
  readonly guard: CallbackGuard;
  readonly sealer: Sealer;
  readonly documents: DocumentReader;
  readonly observe: Observe;
  readonly quota: WebhookQuota;
}

interface GivenServices extends Pick<FieldServices, 'guard' | 'sealer'> {
  readonly schema: GraphQLSchema;
  /** @default nobody listens */
  readonly observe?: Observe;
  /** @default 1,000 an account, 20 of them at one origin */
  readonly quota?: WebhookQuota;
}

const ROOM = Symbol('webhooks');

/** Gives an engine what the fields need: the schema is a domain's, its services are a process's. Before the first request. */
export function provideFieldServices(
  engine: EngineServices,
  { schema, observe = observeNothing, quota = DEFAULT_QUOTA, ...given }: GivenServices,
): void {
  const documents = createDocumentReader({ engine, schema: () => schema });
  const services: FieldServices = { ...given, documents, observe, quota };
  engine.rooms.set(ROOM, services);
}

/** What `provideFieldServices` gave. */
export function fieldServices({ engine }: { readonly engine: EngineServices }): FieldServices {
  const services = engine.rooms.get(ROOM);
  if (services === undefined) throw new Error('provideFieldServices was not called for this engine');
  return services as FieldServices; // only provideFieldServices knows the symbol
}
