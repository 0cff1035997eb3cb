import type { GraphQLSchema } from 'graphql';
import { addConsumerFields } from '../consumers/graphql.ts';
import type { Domain } from '../domain.ts';
import { addWebhookFields } from '../webhooks/graphql.ts';

/** A domain's schema with the fields of all rooms of the engine. It is one for a domain, however often this is called. */
export function completeSchema(domain: Domain): GraphQLSchema {
  domain.extend(addWebhookFields);
  domain.extend(addConsumerFields);
  return domain.toSchema();
}
