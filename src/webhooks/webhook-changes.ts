import type { EngineTables } from '../database/tables.ts';
import { EVENT_TYPE } from '../graphql/base-types.ts';
import type { EngineContext } from '../graphql/context.ts';
import { resolveCursor } from '../outbox/place.ts';
import type { Tx } from '../outbox/transact.ts';
import { VersionConflict } from '../outbox/version-conflict.ts';
import { fieldServices } from './field-services.ts';
import { type CheckedSelection, checkSelection, type GrantRequest } from './grants.ts';
import type { WebhookBuilder } from './graphql.ts';
import { checkLabels } from './labels.ts';
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
import { ROTATION_HOURS, rotateSecret } from './secrets.ts';
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
  scopes:
    "What the webhook may see, out of the key's own scopes. Left out: the fewest that serve. It keeps them whatever becomes of the key.",
};

function addCreate(builder: WebhookBuilder, webhook: WebhookRef): void {
  const input = builder.inputType('WebhookCreateInput', {
    fields: (t) => ({
      url: t.string({ required: true, description: 'https, with a public host.' }),
      eventTypes: t.field({ type: [EVENT_TYPE], description: SELECTION_HELP.eventTypes }),
      query: t.string({ description: SELECTION_HELP.query }),
      variables: t.field({ type: 'JSON', description: SELECTION_HELP.variables }),
      scopes: t.stringList({ description: SELECTION_HELP.scopes }),
      startAfter: t.string({
        description: 'A cursor: begins behind it, without gap or repeat. Left out: with the next event.',
      }),
      description: t.string({ description: 'At most 500 characters.' }),
      metadata: t.field({ type: 'JSON', description: 'An object of at most 4 KiB, kept for the caller.' }),
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
        await checkUrl(context, given.url);
        return { selection, startAfter: position, ...checkLabels(given) };
      },
      run: (tx, { input: { url } }, context, { description = '', metadata = {}, ...prepared }) => {
        const { sealer } = fieldServices(context);
        return createWebhook(tx, sealer, { ...prepared, url, description, metadata, creator: context.principal });
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
      scopes: t.stringList({ description: SELECTION_HELP.scopes }),
      description: t.string({ description: 'At most 500 characters.' }),
      metadata: t.field({ type: 'JSON', description: 'An object of at most 4 KiB, in place of the earlier.' }),
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
        if (url) await checkUrl(context, url);
        return { url: url ?? undefined, ...checkLabels(given) };
      },
      run: async (tx, { input: { id, expectedVersion, ...given } }, context, prepared) => {
        const decide = (before: Webhook): WebhookChanges => {
          requireGrantsOf(context.principal, before);
          return { ...prepared, selection: revise(context, { before, given }) };
        };
        return { webhook: await updateWebhook(tx, { id, expectedVersion }, decide) };
      },
    }),
  );
}

/** Parts of the selection that are left out stay as they are; without any the selection does. */
function revise(
  context: Context,
  { before, given }: { readonly before: Webhook; readonly given: GrantRequest },
): CheckedSelection | undefined {
  const { eventTypes, query, variables, scopes } = given;
  if ([eventTypes, query, variables, scopes].every((part) => part === null || part === undefined)) return undefined;
  if (eventTypes || query) return select(context, given);
  const kept =
    before.document === null
      ? { eventTypes: before.event_types }
      : { query: before.document, variables: before.variables };
  return select(context, { ...kept, ...(variables ? { variables } : {}), scopes });
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
      description: 'Sends again: what has waited first, in the order of the log. Also leads out of DISABLED.',
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
      description: `Makes a new secret, by a key that may see all that the webhook sees. The old one signs along for ${ROTATION_HOURS} hours.`,
      args: { id: t.arg.id({ required: true }) },
      success: {
        webhook,
        secret: { type: 'String', secret: true, nullable: true, description: 'Verifies signatures. Shown this once.' },
      },
      run: (tx, { id }, context) => rotate(tx, context, id),
    }),
  );
}

async function rotate(tx: Tx, context: Context, id: string): Promise<{ webhook: Webhook; secret: string }> {
  const webhook = await lockWebhook(tx, id);
  requireGrantsOf(context.principal, webhook);
  return { webhook, secret: await rotateSecret(tx, fieldServices(context).sealer, id) };
}

function select(context: Context, request: GrantRequest): CheckedSelection {
  const { documents } = fieldServices(context);
  return checkSelection({ engine: context.engine, documents }, context.principal, request);
}

async function checkUrl(context: Context, url: string): Promise<void> {
  const checked = await fieldServices(context).guard.check(url);
  if (!checked.ok) throw new CallbackRefused(checked.reason);
}
