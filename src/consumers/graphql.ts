import type { EngineTables } from '../database/tables.ts';
import type { EngineBuilder } from '../graphql/builder.ts';
import { registryOf } from '../graphql/registry.ts';
import { addPoll } from './batch-fields.ts';
import { SCOPE } from './consumer.ts';
import { addConsumerChanges } from './consumer-changes.ts';
import { addConsumerQueries, declareConsumer } from './consumer-fields.ts';

/** A builder that knows the engine's tables. */
export type ConsumerBuilder = EngineBuilder<EngineTables>;

/** Adds consumers to the graph: `domain.extend(addConsumerFields)`, then `provideConsumerServices` per process. */
export function addConsumerFields(builder: EngineBuilder): void {
  const registry = registryOf(builder);
  // node() finds them by their prefix
  registry.prefixes.set('Consumer', 'cns');
  registry.entities.set('Consumer', { name: 'Consumer', table: 'fanfare.consumer_state', scope: SCOPE });
  registry.scopes.add(SCOPE);

  const typed = builder as unknown as ConsumerBuilder; // the same builder: the engine's tables are in every database
  const consumer = declareConsumer(typed);
  addConsumerQueries(typed, consumer);
  addPoll(typed);
  addConsumerChanges(typed, consumer);
}
