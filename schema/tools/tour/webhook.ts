import { isIP } from 'node:net';
import { ToolError } from '../command-line.ts';
import { type Call, type GraphqlClient, ServerLost } from '../graphql-client.ts';

export interface TourWebhook {
  readonly id: string;
  readonly secret: string;
}

export interface WebhookDraft {
  readonly url: string;
  readonly query: string;
  readonly variables: Readonly<Record<string, unknown>>;
  /** A cursor. */
  readonly startAfter: string;
  readonly idempotencyKey: string;
}

const CREATE = `mutation ($input: WebhookCreateInput!) {
  webhookCreate(input: $input) { ... on WebhookCreateSuccess { webhook { id } secret } ... on Refusal { code message } }
}`;
const DELETE = `mutation ($id: ID!) {
  webhookDelete(id: $id) { ... on WebhookDeleteSuccess { id } ... on Refusal { code message } }
}`;
const ATTEMPTS = `query ($id: ID!) {
  deliveries(filter: { webhookId: $id }, last: 1) { nodes { status error attempts { errorClass statusCode } } }
}`;

/** @throws ToolError if the server refuses it, for the callback's address as a rule */
export async function createWebhook(client: GraphqlClient, draft: WebhookDraft): Promise<TourWebhook> {
  const { idempotencyKey, ...input } = draft;
  const value = await ask<{ webhook?: { id: string }; secret?: string | null; code?: string; message?: string }>(
    client,
    {
      field: 'webhookCreate',
      document: CREATE,
      variables: { input: { ...input, description: 'npm run tour' } },
      idempotencyKey,
    },
  );
  if (value.webhook !== undefined && value.secret) return { id: value.webhook.id, secret: value.secret };
  if (value.code === 'CALLBACK_REFUSED') throw new ToolError(explainRefusedCallback(input.url));
  throw new ToolError(`the webhook was not made: ${value.code ?? 'its secret is lost'} ${value.message ?? ''}`.trim());
}

/** Deletes it. @returns why not, if it could not be */
export async function deleteWebhook(client: GraphqlClient, id: string): Promise<string | undefined> {
  try {
    const call = { field: 'webhookDelete', document: DELETE, variables: { id }, idempotencyKey: `tour:delete:${id}` };
    const { message } = await ask<{ message?: string }>(client, call);
    return message;
  } catch (error) {
    if (error instanceof ToolError || error instanceof ServerLost) return error.message;
    throw error;
  }
}

/** What the server says of the newest delivery to a webhook, in some words; empty if there is none. */
export async function describeDelivery(client: GraphqlClient, id: string): Promise<string> {
  const { nodes } = await ask<{ nodes: readonly Delivery[] }>(client, {
    field: 'deliveries',
    document: ATTEMPTS,
    variables: { id },
  });
  const [delivery] = nodes;
  const attempt = delivery?.attempts.at(-1);
  if (delivery === undefined) return '';
  const details = [attempt?.errorClass, attempt?.statusCode, delivery.error].filter(Boolean);
  return `; the server says of it: ${[delivery.status, ...details].join(' ')}`;
}

interface Delivery {
  readonly status: string;
  readonly error: string | null;
  readonly attempts: readonly {
    readonly errorClass: string | null;
    readonly statusCode: number | null;
  }[];
}

/** @throws ToolError if the server refuses the call */
async function ask<Value>(client: GraphqlClient, call: Call): Promise<Value> {
  const answer = await client.ask(call);
  if (answer.status === 'failed') throw new ToolError(`${call.field} answered ${answer.code}: ${answer.message}`);
  return answer.value as Value; // typed by the call's document
}

function explainRefusedCallback(url: string): string {
  const host = new URL(url).hostname.replace(/^\[|\]$/g, '');
  return `the server does not call back to ${url}: start it with WEBHOOK_ALLOW_CIDRS=${rangeOf(host)}`;
}

function rangeOf(host: string): string {
  if (host.startsWith('127.')) return '127.0.0.0/8';
  const version = isIP(host);
  return version === 0 ? `and a range that holds the address of ${host}` : `${host}/${version === 4 ? 32 : 128}`;
}
