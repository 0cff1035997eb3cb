import type { EngineTables } from '../database/tables.ts';
import type { EngineContext } from '../graphql/context.ts';
import { firstIdAt } from '../runtime/id.ts';
import type { WebhookBuilder } from './graphql.ts';

/** As GraphQL has coerced it. */
export interface AttemptFilter {
  readonly failed?: boolean | null | undefined;
  readonly statusCode?: number | null | undefined;
  readonly since?: Date | null | undefined;
  readonly until?: Date | null | undefined;
}

/** Declares `AttemptFilter`. */
export function declareAttemptFilter(builder: WebhookBuilder) {
  return builder.inputRef<AttemptFilter>('AttemptFilter').implement({
    description: 'Which attempts: each part that is given must hold.',
    fields: (t) => ({
      failed: t.boolean({ description: 'True: all but those that were answered 2xx. False: only these.' }),
      statusCode: t.int({ description: 'What was answered.' }),
      since: t.field({ type: 'DateTime', description: 'Started then or later.' }),
      until: t.field({ type: 'DateTime', description: 'Started before.' }),
    }),
  });
}

/**
 * Attempts of a webhook, each page from an index, whichever parts are given: failures, and the statuses of failures, have indexes of
 * their own. A status of 2xx is looked for among all attempts.
 */
export function selectAttempts(
  read: EngineContext<EngineTables>['read'],
  { accountId, webhookId }: { readonly accountId: string; readonly webhookId: string },
  { failed, statusCode, since, until }: AttemptFilter,
) {
  let query = read
    .selectFrom('fanfare.attempt')
    .selectAll()
    .where('account_id', '=', accountId)
    .where('webhook_id', '=', webhookId);
  if (since) query = query.where('id', '>=', firstIdAt('att', since));
  // nothing is tried before it is born: later partitions are left out
  if (until) query = query.where('id', '<', firstIdAt('att', until)).where('born_at', '<', until);
  if (typeof statusCode === 'number') query = query.where('status_code', '=', statusCode);
  const isFailure = typeof statusCode === 'number' && (statusCode < 200 || statusCode > 299);
  if (failed === true || isFailure) query = query.where('error_class', 'is not', null);
  return failed === false ? query.where('error_class', 'is', null) : query;
}
