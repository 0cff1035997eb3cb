import type { GraphQLSchema } from 'graphql';
import type { EngineTables } from '../database/tables.ts';
import type { EngineBuilder } from '../graphql/builder.ts';
import type { EngineContext } from '../graphql/context.ts';
import { registryOf } from '../graphql/registry.ts';
import { addDeliveryChanges } from './delivery-changes.ts';
import { addDeliveryQueries, declareDelivery } from './delivery-fields.ts';
import type { CallbackGuard } from './guard.ts';
import type { Sealer } from './seal.ts';
import { createDocumentReader, type DocumentReader } from './selection.ts';
import { addWebhookChanges } from './webhook-changes.ts';
import { declareWebhook } from './webhook-fields.ts';

export interface WebhookFieldsDeps {
  readonly guard: CallbackGuard;
  readonly sealer: Sealer;
  /** The finished schema: documents are checked against it. Called when a document first is. */
  readonly schema: () => GraphQLSchema;
}

/** A builder that knows the engine's tables. */
export type WebhookBuilder = EngineBuilder<EngineTables>;

/** What the fields share. */
export interface FieldServices {
  readonly guard: CallbackGuard;
  readonly sealer: Sealer;
  readonly documents: (context: EngineContext<EngineTables>) => DocumentReader;
}

/** Adds webhooks and deliveries to the graph: `domain.extend((builder) => addWebhookFields(builder, deps))`. */
export function addWebhookFields(builder: EngineBuilder, { guard, sealer, schema }: WebhookFieldsDeps): void {
  const registry = registryOf(builder);
  // node() finds both by their prefixes
  registry.prefixes.set('Webhook', 'wh').set('Delivery', 'dlv');
  registry.entities.set('Webhook', { name: 'Webhook', table: 'fanfare.webhook', scope: READ });
  registry.entities.set('Delivery', { name: 'Delivery', table: 'fanfare.delivery_record', scope: READ });
  for (const scope of [READ, WRITE]) registry.scopes.add(scope);

  const typed = builder as unknown as WebhookBuilder; // the same builder: the engine's tables are in every database
  const services: FieldServices = { guard, sealer, documents: readerPerEngine(schema) };
  const delivery = declareDelivery(typed);
  addDeliveryQueries(typed, delivery);
  const webhook = declareWebhook(typed, delivery);
  addWebhookChanges(typed, { webhook, services });
  addDeliveryChanges(typed, { delivery, services });
}

const READ = 'webhooks:read';
const WRITE = 'webhooks:write';

/** A process has one engine; tests may have several on one domain. */
function readerPerEngine(schema: () => GraphQLSchema): FieldServices['documents'] {
  const readers = new WeakMap<object, DocumentReader>();
  return ({ engine }) => {
    const known = readers.get(engine);
    if (known !== undefined) return known;
    const reader = createDocumentReader({ engine, schema });
    readers.set(engine, reader);
    return reader;
  };
}
