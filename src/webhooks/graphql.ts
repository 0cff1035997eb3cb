import type { EngineTables } from '../database/tables.ts';
import type { EngineBuilder } from '../graphql/builder.ts';
import { registryOf } from '../graphql/registry.ts';
import { declareAttempt } from './attempt-fields.ts';
import { addDeliveryChanges } from './delivery-changes.ts';
import { addDeliveryQueries, declareDelivery } from './delivery-fields.ts';
import { declareRetries } from './pace-fields.ts';
import { addWebhookChanges } from './webhook-changes.ts';
import { declareWebhook } from './webhook-fields.ts';

/** A builder that knows the engine's tables. */
export type WebhookBuilder = EngineBuilder<EngineTables>;

/** Adds webhooks and deliveries to the graph: `domain.extend(addWebhookFields)`, then `provideFieldServices` per process. */
export function addWebhookFields(builder: EngineBuilder): void {
  const registry = registryOf(builder);
  // node() finds both by their prefixes
  registry.prefixes.set('Webhook', 'wh').set('Delivery', 'dlv');
  registry.entities.set('Webhook', { name: 'Webhook', table: 'fanfare.webhook', scope: READ });
  registry.entities.set('Delivery', { name: 'Delivery', table: 'fanfare.delivery_record', scope: READ });
  registry.entities.set('Attempt', { name: 'Attempt', table: 'fanfare.attempt', scope: READ });
  for (const scope of [READ, WRITE]) registry.scopes.add(scope);

  const typed = builder as unknown as WebhookBuilder; // the same builder: the engine's tables are in every database
  const attempt = declareAttempt(typed);
  const delivery = declareDelivery(typed, attempt);
  addDeliveryQueries(typed, delivery);
  declareRetries(typed);
  const webhook = declareWebhook(typed, { delivery, attempt });
  addWebhookChanges(typed, webhook);
  addDeliveryChanges(typed, delivery);
}

const READ = 'webhooks:read';
const WRITE = 'webhooks:write';
