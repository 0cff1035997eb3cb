import type { GraphQLSchema } from 'graphql';
import type { EngineServices } from '../graphql/context.ts';
import type { CallbackGuard } from './guard.ts';
import type { Sealer } from './seal.ts';
import { createDocumentReader, type DocumentReader } from './selection.ts';

/** What the fields of webhooks need of their process. */
export interface FieldServices {
  readonly guard: CallbackGuard;
  readonly sealer: Sealer;
  readonly documents: DocumentReader;
}

const ROOM = Symbol('webhooks');

/** Gives an engine what the fields need: the schema is a domain's, its services are a process's. Before the first request. */
export function provideFieldServices(
  engine: EngineServices,
  { guard, sealer, schema }: { readonly guard: CallbackGuard; readonly sealer: Sealer; readonly schema: GraphQLSchema },
): void {
  const services: FieldServices = { guard, sealer, documents: createDocumentReader({ engine, schema: () => schema }) };
  engine.rooms.set(ROOM, services);
}

/** What `provideFieldServices` gave. */
export function fieldServices({ engine }: { readonly engine: EngineServices }): FieldServices {
  const services = engine.rooms.get(ROOM);
  if (services === undefined) throw new Error('provideFieldServices was not called for this engine');
  return services as FieldServices; // only provideFieldServices knows the symbol
}
