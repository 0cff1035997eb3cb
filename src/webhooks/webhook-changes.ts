import type { EngineTables } from '../database/tables.ts';
import { EVENT_TYPE } from '../graphql/base-types.ts';
import type { EngineContext } from '../graphql/context.ts';
import { EVENT_FILTER } from '../graphql/event-filter.ts';
import { filterOf } from '../outbox/filter.ts';
import { resolveCursor } from '../outbox/place.ts';
import type { Tx } from '../outbox/transact.ts';
import { VersionConflict } from '../outbox/version-conflict.ts';
import { checkHeaders } from './custom-headers.ts';
import { fieldServices } from './field-services.ts';
import { type CheckedSelection, checkSelection, type GrantRequest } from './grants.ts';
import type { WebhookBuilder } from './graphql.ts';
import { BASIC_AUTH_INPUT, HEADERS_HELP } from './header-fields.ts';
import { checkLabels } from './labels.ts';
import { orderColumns } from './order.ts';
import { ORDER_HELP, ORDERING, WHEN_EXHAUSTED } from './order-fields.ts';
import { checkPace, MAX_IN_FLIGHT, RATES } from './pace.ts';
import { RETRY_INPUT } from './pace-fields.ts';
import { declareRefusals } from './refusal-fields.ts';
import { CallbackRefused, DocumentInvalid } from './refusals.ts';
import {
  createWebhook,
  deleteWebhook,
  lockWebhook,
  pauseWebhook,
  resumeWebhook,
  updateWebhook,
  type WebhookChanges,
} from './registration.ts';
import { DEFAULT_GRACE_S, MAX_GRACE_S, type Rotation, rotateSecret } from './secrets.ts';
import { requireGrantsOf, type Webhook } from './webhook.ts';
import type { declareWebhook } from './webhook-fields.ts';

type WebhookRef = ReturnType<typeof declareWebhook>;
type Context = EngineContext<EngineTables>;

/** Adds the changes of webhooks themselves. */
export function addWebhookChanges(builder: WebhookBuilder, webhook: WebhookRef): void {
  declareRefusals(builder);
  addCreate(builder, webhook);
  addUpdate(builder, webhook);
  addStatusChanges(builder, webhook);
  addDelete(builder);
  addRotation(builder, webhook);
}

const SELECTION_HELP = {
  eventTypes: 'Either these, each by its default document …',
  query: '… or a subscription document with one root field, whose value becomes `data`.',
  variables: 'Of the document.',
  filter:
    'With `eventTypes`: which of their events; `triggers` in it sends an update only if one of these fields changed. A document has its own, as an argument of its root field.',
  scopes:
    "What the webhook may see, out of the key's own scopes. Left out: the fewest that serve. It keeps them whatever becomes of the key.",
};

const PACE_HELP = {
  maxInFlight: `Requests under way at once, in all processes: 1 to ${MAX_IN_FLIGHT}; 0: the server's own number, 8. Fewer while they fail.`,
  ratePerSecond: `Requests a second at most, in all processes, retries included: ${RATES.least} to ${RATES.most}; 0: no limit. What it holds back waits, and is no attempt.`,
};

function addCreate(builder: WebhookBuilder, webhook: WebhookRef): void {
  const input = builder.inputType('WebhookCreateInput', {
    fields: (t) => ({
      url: t.string({ required: true, description: 'https, with a public host.' }),
      eventTypes: t.field({ type: [EVENT_TYPE], description: SELECTION_HELP.eventTypes }),
      query: t.string({ description: SELECTION_HELP.query }),
      variables: t.field({ type: 'JSON', description: SELECTION_HELP.variables }),
      filter: t.field({ type: EVENT_FILTER, description: SELECTION_HELP.filter }),
      scopes: t.stringList({ description: SELECTION_HELP.scopes }),
      startAfter: t.string({
        description: 'A cursor: begins behind it, without gap or repeat. Left out: with the next event.',
      }),
      description: t.string({ description: 'At most 500 characters.' }),
      retry: t.field({ type: RETRY_INPUT, description: 'When to try again; left out: ten attempts over three days.' }),
      maxInFlight: t.int({ description: PACE_HELP.maxInFlight }),
      ratePerSecond: t.float({ description: PACE_HELP.ratePerSecond }),
      ordering: t.field({ type: ORDERING, description: ORDER_HELP.ordering }),
      onExhausted: t.field({ type: WHEN_EXHAUSTED, description: ORDER_HELP.onExhausted }),
      metadata: t.field({ type: 'JSON', description: 'An object of at most 4 KiB, kept for the caller.' }),
      headers: t.field({ type: 'JSON', description: HEADERS_HELP.create }),
      basicAuth: t.field({ type: BASIC_AUTH_INPUT, description: HEADERS_HELP.basicAuth }),
    }),
  });
  builder.mutationField('webhookCreate', (t) =>
    t.change({
      scope: 'webhooks:write',
      description: 'Makes a webhook.',
      args: { input: t.arg({ type: input, required: true }) },
      success: {
        webhook,
        secret: { type: 'String', secret: true, nullable: true, description: 'Verifies signatures. Shown this once.' },
      },
      refusals: [CallbackRefused, DocumentInvalid],
      prepare: async ({ input: given }, context) => {
        const selection = select(context, given);
        const { startAfter } = given;
        const position = startAfter ? await resolveCursor(context.engine, context.accountId, startAfter) : undefined;
        const headers = checkHeaders(given);
        await checkUrl(context, 'create', given.url);
        return {
          selection,
          startAfter: position,
          pace: { ...checkPace(given), ...orderColumns(given) },
          headers,
          ...checkLabels(given),
        };
      },
      run: (tx, { input: { url } }, context, { description = '', metadata = {}, ...prepared }) => {
        const { sealer, quota } = fieldServices(context);
        return createWebhook(tx, sealer, {
          ...prepared,
          url,
          description,
          metadata,
          creator: context.principal,
          quota,
        });
      },
    }),
  );
}

function addUpdate(builder: WebhookBuilder, webhook: WebhookRef): void {
  const input = builder.inputType('WebhookUpdateInput', {
    description: 'What is left out stays.',
    fields: (t) => ({
      id: t.id({ required: true }),
      expectedVersion: t.int({ description: 'Refuses the change if the webhook has moved on.' }),
      url: t.string({ description: 'https, with a public host.' }),
      eventTypes: t.field({ type: [EVENT_TYPE], description: SELECTION_HELP.eventTypes }),
      query: t.string({ description: SELECTION_HELP.query }),
      variables: t.field({ type: 'JSON', description: SELECTION_HELP.variables }),
      filter: t.field({ type: EVENT_FILTER, description: SELECTION_HELP.filter }),
      scopes: t.stringList({ description: SELECTION_HELP.scopes }),
      retry: t.field({
        type: RETRY_INPUT,
        description: 'In place of the earlier, from the next attempt that fails on; `{}`: the default.',
      }),
      maxInFlight: t.int({ description: PACE_HELP.maxInFlight }),
      ratePerSecond: t.float({ description: PACE_HELP.ratePerSecond }),
      ordering: t.field({ type: ORDERING, description: ORDER_HELP.ordering }),
      onExhausted: t.field({ type: WHEN_EXHAUSTED, description: ORDER_HELP.onExhausted }),
      description: t.string({ description: 'At most 500 characters.' }),
      metadata: t.field({ type: 'JSON', description: 'An object of at most 4 KiB, in place of the earlier.' }),
      headers: t.field({ type: 'JSON', description: HEADERS_HELP.update }),
      basicAuth: t.field({ type: BASIC_AUTH_INPUT, description: HEADERS_HELP.basicAuth }),
    }),
  });
  builder.mutationField('webhookUpdate', (t) =>
    t.change({
      scope: 'webhooks:write',
      description:
        'Changes a webhook, by a key that may see all that it sees. Open deliveries of events that it no longer asks for are cancelled.',
      args: { input: t.arg({ type: input, required: true }) },
      success: { webhook },
      refusals: [CallbackRefused, DocumentInvalid, VersionConflict],
      prepare: async ({ input: { url, ...given } }, context) => {
        const headers = checkHeaders(given);
        if (url) await checkUrl(context, 'update', url);
        return {
          url: url ?? undefined,
          pace: { ...checkPace(given), ...orderColumns(given) },
          headers,
          ...checkLabels(given),
        };
      },
      run: async (tx, { input: { id, expectedVersion, ...given } }, context, prepared) => {
        const decide = (before: Webhook): WebhookChanges => {
          requireGrantsOf(context.principal, before);
          return { ...prepared, selection: revise(context, { before, given }) };
        };
        const { sealer, quota } = fieldServices(context);
        return { webhook: await updateWebhook(tx, sealer, { target: { id, expectedVersion }, decide, quota }) };
      },
    }),
  );
}

/** Parts of the selection that are left out stay as they are; without any the selection does. Other types or another document need other scopes. */
function revise(
  context: Context,
  { before, given }: { readonly before: Webhook; readonly given: GrantRequest },
): CheckedSelection | undefined {
  const { eventTypes, query, variables, filter, scopes } = given;
  const parts = [eventTypes, query, variables, filter, scopes];
  if (parts.every((part) => part === null || part === undefined)) return undefined;
  if (query) return select(context, given);
  const kept = keptSelection(before);
  if (eventTypes) return select(context, { ...given, filter: filter ?? kept.filter });
  return select(context, {
    ...kept,
    ...(variables ? { variables } : {}),
    ...(filter ? { filter } : {}),
    scopes: scopes ?? before.scopes,
  });
}

function keptSelection(before: Webhook): GrantRequest {
  if (before.document !== null) return { query: before.document, variables: before.variables };
  const { types: _, ...filter } = filterOf(before);
  return { eventTypes: before.event_types, filter };
}

function addStatusChanges(builder: WebhookBuilder, webhook: WebhookRef): void {
  builder.mutationField('webhookPause', (t) =>
    t.change({
      scope: 'webhooks:write',
      description: 'Stops sending. Deliveries are born on and wait, as long as retention lasts.',
      args: { id: t.arg.id({ required: true }) },
      success: { webhook },
      run: async (tx, { id }) => ({ webhook: await pauseWebhook(tx, id) }),
    }),
  );
  builder.mutationField('webhookResume', (t) =>
    t.change({
      scope: 'webhooks:write',
      description:
        'Sends again: what has waited first, in the order of the log. Also leads out of DISABLED, and out of a pause that the receiver asked for.',
      args: { id: t.arg.id({ required: true }) },
      success: { webhook },
      run: async (tx, { id }) => ({ webhook: await resumeWebhook(tx, id) }),
    }),
  );
}

function addDelete(builder: WebhookBuilder): void {
  builder.mutationField('webhookDelete', (t) =>
    t.change({
      scope: 'webhooks:write',
      description: 'Ends a webhook: its open deliveries are cancelled. The record of its deliveries stays.',
      args: { id: t.arg.id({ required: true }), expectedVersion: t.arg.int() },
      success: { id: 'ID' },
      refusals: [VersionConflict],
      run: async (tx, { id, expectedVersion }) => {
        await deleteWebhook(tx, { id, expectedVersion });
        return { id };
      },
    }),
  );
}

function addRotation(builder: WebhookBuilder, webhook: WebhookRef): void {
  builder.mutationField('webhookSecretRotate', (t) =>
    t.change({
      scope: 'webhooks:write',
      description:
        'Makes a new secret, by a key that may see all that the webhook sees. The earlier ones sign along for a while.',
      args: {
        id: t.arg.id({ required: true }),
        graceSeconds: t.arg.int({
          defaultValue: DEFAULT_GRACE_S,
          description: `How long they sign along: 0 to ${MAX_GRACE_S}. 0 ends them at once.`,
        }),
      },
      success: {
        webhook,
        secret: { type: 'String', secret: true, nullable: true, description: 'Verifies signatures. Shown this once.' },
      },
      run: (tx, { id, graceSeconds }, context) =>
        rotate(tx, context, { webhookId: id, graceSeconds: graceSeconds ?? DEFAULT_GRACE_S }),
    }),
  );
}

async function rotate(tx: Tx, context: Context, rotation: Rotation): Promise<{ webhook: Webhook; secret: string }> {
  const webhook = await lockWebhook(tx, rotation.webhookId);
  requireGrantsOf(context.principal, webhook);
  return { webhook, secret: await rotateSecret(tx, fieldServices(context).sealer, rotation) };
}

function select(context: Context, request: GrantRequest): CheckedSelection {
  const { documents } = fieldServices(context);
  return checkSelection({ engine: context.engine, documents }, context.principal, request);
}

async function checkUrl(context: Context, stage: 'create' | 'update', url: string): Promise<void> {
  const { guard, observe } = fieldServices(context);
  const checked = await guard.checkNew(url);
  if (checked.ok) return;
  const { accountId, requestId, principal } = context;
  const facts = { account_id: accountId, principal_id: principal.id, request_id: requestId };
  // of the URL the host only: the rest may be a secret
  observe({ name: 'callback.refused', stage, reason: checked.reason, host: URL.parse(url)?.host ?? null, ...facts });
  throw new CallbackRefused();
}
