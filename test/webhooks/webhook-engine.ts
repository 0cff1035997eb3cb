import { sql } from 'kysely';
import { expect } from 'vitest';
import { migrate } from '../../src/database/migrate.ts';
import type { EventRecord } from '../../src/outbox/read.ts';
import type { Observe } from '../../src/runtime/observe.ts';
import { createAddressPolicy } from '../../src/webhooks/addresses.ts';
import { createSender, type Sender, type SenderOptions } from '../../src/webhooks/attempt.ts';
import { provideFieldServices } from '../../src/webhooks/field-services.ts';
import { createCallbackGuard } from '../../src/webhooks/guard.ts';
import type { WebhookQuota } from '../../src/webhooks/quota.ts';
import { createResolver } from '../../src/webhooks/resolver.ts';
import { createSealer } from '../../src/webhooks/seal.ts';
import { createWebhookWorker, type WebhookWorker, type WebhookWorkerDeps } from '../../src/webhooks/worker.ts';
import { type DnsAnswer, type DnsQuestion, type DnsServer, openDnsServer } from '../support/dns-server.ts';
import { openTestEngine, type RunOptions, type TestEngine } from '../support/engine.ts';
import { domain, toyMigrations } from '../support/toy-domain.ts';

/** What seals secrets in these tests. */
export const sealer = createSealer({ key: new Uint8Array(32).fill(7) });

const AMPLE: WebhookQuota = { perAccount: 100_000, perOrigin: 100_000 };

/** Two names of one server: one that leads out, one that leads in. */
const ADDRESSES: Readonly<Record<string, readonly string[]>> = {
  'hooks.fanfare-test.com': ['93.184.216.34'],
  'inward.fanfare-test.com': ['10.0.0.1'],
};

export interface WebhookEngine extends TestEngine {
  /** Questions asked of the name server. */
  readonly dns: DnsServer;
  readonly sender: Sender;
  /** Another sender under the same guard; close it. */
  createSender(options: Pick<SenderOptions, 'deadlineMs'>): Sender;
  /** A worker that a test steps by hand; observes into `seen`, as the fields do. */
  createWorker(options?: Partial<WebhookWorkerDeps>): WebhookWorker;
  readonly seen: Record<string, unknown>[];
  /** Makes a webhook, which must succeed. */
  createWebhook(
    input: Readonly<Record<string, unknown>>,
    options?: RunOptions,
  ): Promise<{ id: string; secret: string }>;
  /** Emits `note.written` in a change of its own. */
  writeNote(text: string, accountId?: string): Promise<{ id: string; cursor: string }>;
  advanceClock(ms: number): Promise<void>;
  deliveries(filter?: Readonly<Record<string, unknown>>, options?: RunOptions): Promise<Delivery[]>;
}

export interface Delivery {
  readonly id: string;
  readonly status: string;
  readonly error: string | null;
  readonly webhookId: string;
  readonly eventId: string | null;
  readonly body: string | null;
  readonly attemptCount: number;
  readonly nextAttemptAt: string | null;
  readonly event: { readonly position: string } | null;
  readonly attempts: readonly Attempt[];
}

export interface Attempt {
  readonly number: number;
  readonly startedAt: string;
  readonly statusCode: number | null;
  readonly errorClass: string | null;
  readonly responseBody: string;
  readonly isTruncated: boolean;
  readonly nextAttemptAt: string | null;
}

const CREATE = `mutation ($input: WebhookCreateInput!) {
  webhookCreate(input: $input) { __typename ... on WebhookCreateSuccess { webhook { id } secret } ... on Refusal { message } }
}`;

const DELIVERIES = `query ($filter: DeliveryFilter) { deliveries(filter: $filter, first: 100) { nodes {
  id status error webhookId eventId body attemptCount nextAttemptAt event { position }
  attempts { number startedAt statusCode errorClass responseBody isTruncated nextAttemptAt } } } }`;

export interface WebhookEngineOptions {
  /** @default loopback */
  readonly allowCidrs?: readonly string[];
  /** What the name server answers. @default two names, see above */
  readonly answer?: (question: DnsQuestion) => DnsAnswer;
  /** @default enough for many webhooks on the one receiver of a test */
  readonly quota?: WebhookQuota;
}

export async function openWebhookEngine(
  kind: 'postgres' | 'pglite',
  { allowCidrs = ['127.0.0.0/8'], answer = answerKnown, quota = AMPLE }: WebhookEngineOptions = {},
): Promise<WebhookEngine> {
  const dns = await openDnsServer(answer);
  const guard = createCallbackGuard({
    policy: createAddressPolicy({ allowCidrs }),
    resolver: createResolver({ servers: [dns.address] }),
    now: Date.now,
  });
  const engine = await openTestEngine({ kind, domain, prepare: (database) => migrate(database, toyMigrations) });
  const seen: Record<string, unknown>[] = [];
  const observe: Observe = (observation) => void seen.push(observation);
  provideFieldServices(engine.services, { guard, sealer, schema: engine.schema, observe, quota });
  const openSender: WebhookEngine['createSender'] = (options) => createSender({ guard, version: '0.0.0', ...options });
  const sender = openSender({ deadlineMs: 15_000 });
  return {
    ...engine,
    dns,
    sender,
    createSender: openSender,
    seen,
    createWorker: (options = {}) =>
      createWebhookWorker({
        engine: engine.services,
        schema: engine.schema,
        sender,
        sealer,
        observe,
        random: () => 0.5,
        originRate: 1_000_000, // one receiver stands for all
        ...options,
      }),
    createWebhook: async (input, options = {}) => {
      const { webhookCreate } = await engine.run<{
        webhookCreate: { __typename: string; webhook: { id: string }; secret: string };
      }>(CREATE, { ...options, variables: { input } });
      expect(webhookCreate).toMatchObject({ __typename: 'WebhookCreateSuccess' });
      return { id: webhookCreate.webhook.id, secret: webhookCreate.secret };
    },
    writeNote: async (text, accountId = 'acc_default') => {
      const { noteWrite } = await engine.run<{ noteWrite: { note: { id: string }; cursor: string } }>(
        'mutation ($text: String!) { noteWrite(text: $text) { ... on NoteWriteSuccess { note { id } cursor } } }',
        { variables: { text }, accountId },
      );
      return { id: noteWrite.note.id, cursor: noteWrite.cursor };
    },
    advanceClock: async (ms) => {
      await sql`update fanfare.test_clock set ahead_by = ahead_by + ${ms} * interval '1 ms'`.execute(
        engine.services.database.db,
      );
    },
    deliveries: async (filter = {}, options = {}) => {
      const { deliveries } = await engine.run<{ deliveries: { nodes: Delivery[] } }>(DELIVERIES, {
        ...options,
        variables: { filter },
      });
      return deliveries.nodes;
    },
    close: async () => {
      await sender.close();
      await engine.close();
      await dns.close();
    },
  };
}

function answerKnown({ name, type }: DnsQuestion): DnsAnswer {
  return type === 'A' ? (ADDRESSES[name] ?? 'notFound') : [];
}

/** Lets a worker do everything that is due, and waits until it has ended. */
export async function workOff(worker: WebhookWorker): Promise<void> {
  for (let isIdle = false; !isIdle; ) {
    isIdle = true;
    while ((await worker.runOnce()) === 'more') isIdle = false;
    await worker.settled();
  }
}

/** The texts of the notes that requests were about, in order of arrival. */
export function textsOf(requests: readonly { readonly body: Buffer }[]): string[] {
  return requests.map(({ body }) => JSON.parse(body.toString()).data.note.text);
}

export function positionsOf(events: readonly EventRecord[]): number[] {
  return events.map(({ position }) => position);
}
