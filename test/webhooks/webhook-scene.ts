import { sql } from 'kysely';
import { afterAll, afterEach, beforeAll, beforeEach } from 'vitest';
import type { WebhookWorker } from '../../src/webhooks/worker.ts';
import { openReceiver, type ReceivedRequest, type Receiver } from '../support/receiver.ts';
import { openWebhookEngine, type WebhookEngine } from './webhook-engine.ts';

const NOTES = 'subscription { noteWritten { note { text } } }';

/** What tests of webhooks stand on: an engine on Postgres and a receiver for all of a file, an account for each test. */
export interface WebhookScene {
  readonly engine: WebhookEngine;
  readonly receiver: Receiver;
  /** The test's own. */
  readonly accountId: string;
  /** Makes a webhook of the account, on a path of its own; for notes that are written, unless `input` says else. */
  hook(input?: Readonly<Record<string, unknown>>): Promise<Hooked>;
  /** Lets a worker run until the test ends, or what is returned is called. */
  start(worker: WebhookWorker): () => Promise<void>;
}

export interface Hooked {
  readonly id: string;
  readonly secret: string;
  readonly path: string;
  received(): ReceivedRequest[];
}

/** Opens and closes it by hooks of the file, or of the `describe` that it is called in. What a test leaves open is deleted. */
export function useWebhookScene(): WebhookScene {
  let engine: WebhookEngine;
  let receiver: Receiver;
  let accountId: string;
  const running = new Set<() => Promise<void>>();

  beforeAll(async () => {
    engine = await openWebhookEngine('postgres');
    receiver = await openReceiver();
  });
  afterAll(async () => {
    await receiver?.close();
    await engine?.close();
  });
  beforeEach(async () => {
    accountId = await engine.addAccount();
  });
  afterEach(async () => {
    for (const stop of running) await stop();
    await sql`delete from fanfare.delivery`.execute(engine.services.database.db);
  });

  return {
    get engine() {
      return engine;
    },
    get receiver() {
      return receiver;
    },
    get accountId() {
      return accountId;
    },
    async hook(input = {}) {
      const path = `/${accountId}/${Math.random()}`;
      const selection = 'eventTypes' in input ? {} : { query: NOTES };
      const made = await engine.createWebhook({ url: `${receiver.url}${path}`, ...selection, ...input }, { accountId });
      return { ...made, path, received: () => receiver.requests.filter((request) => request.path === path) };
    },
    start(worker) {
      const stopping = new AbortController();
      const done = worker.run(stopping.signal);
      const stop = async () => {
        running.delete(stop);
        stopping.abort();
        await done;
      };
      running.add(stop);
      return stop;
    },
  };
}
