import { openBlackHole } from '../support/black-hole.ts';
import { createCertificate } from '../support/certificate.ts';
import { openRawReceiver } from '../support/raw-receiver.ts';
import { ENDLESS, HOSTILE } from './hostile-answers.ts';
import type { Written } from './note-log.ts';

/** Receivers that do each their worst, and a webhook at each, all of one account. */
export interface HostileScene extends AsyncDisposable {
  /** What the receivers do, by webhook. */
  readonly webhooks: ReadonlyMap<string, string>;
  /** Lets each webhook have so many deliveries more, as if it had fared well. */
  provoke(events: number): Promise<void>;
  /** The attempts so far. */
  attempts(): Promise<readonly HostileAttempt[]>;
}

export interface HostileAttempt {
  readonly does: string;
  readonly errorClass: string | null;
  readonly durationMs: number;
}

interface Delivery {
  readonly webhookId: string;
  readonly attempts: readonly Omit<HostileAttempt, 'does'>[];
}

const RESUME = 'mutation ($id: ID!) { webhookResume(id: $id) { __typename } }';
const QUERY = 'subscription { noteWritten { id } }';
/** So that the outcome does not depend on how often each was tried. */
const ONE_ATTEMPT = { delays: [] };

export async function openHostileScene({ engine, log }: Written): Promise<HostileScene> {
  await using opening = new AsyncDisposableStack();
  const urls = await openReceivers(opening);
  const accountId = await engine.addAccount();
  const webhooks = new Map<string, string>();
  for (const [does, url] of urls) {
    const { id } = await engine.createWebhook({ url, query: QUERY, retry: ONE_ATTEMPT }, { accountId });
    webhooks.set(id, does);
  }
  const opened = opening.move();
  return {
    webhooks,
    async provoke(events) {
      for (const id of webhooks.keys()) await engine.run(RESUME, { accountId, variables: { id } });
      await log.write(
        accountId,
        Array.from({ length: events }, (_, n) => ({ subjectId: 'note_1', text: `${n}` })),
      );
    },
    async attempts() {
      const all = await Promise.all([...webhooks.keys()].map((webhookId) => attemptsOf(webhookId)));
      return all.flat();
    },
    [Symbol.asyncDispose]: () => opened.disposeAsync(),
  };

  async function attemptsOf(webhookId: string): Promise<readonly HostileAttempt[]> {
    const { deliveries } = await engine.run<{ deliveries: { nodes: Delivery[] } }>(
      `query ($filter: DeliveryFilter) { deliveries(filter: $filter, first: 100) { nodes { attempts { errorClass durationMs } } } }`,
      { accountId, variables: { filter: { webhookId } } },
    );
    const does = webhooks.get(webhookId) ?? '';
    return deliveries.nodes.flatMap(({ attempts }) => attempts.map((attempt) => ({ does, ...attempt })));
  }
}

/** By what they do. */
async function openReceivers(opening: AsyncDisposableStack): Promise<ReadonlyMap<string, string>> {
  const urls = new Map<string, string>();
  for (const [does, [answer]] of Object.entries({ ...ENDLESS, ...HOSTILE })) {
    const receiver = await openRawReceiver(answer);
    opening.defer(receiver.close);
    urls.set(does, `http://127.0.0.1:${receiver.port}/`);
  }
  const hole = await openBlackHole();
  opening.defer(hole.close);
  urls.set(ACCEPTS_NOTHING, `http://127.0.0.1:${hole.port}/`);
  const silent = await openRawReceiver(() => {});
  opening.defer(silent.close);
  urls.set(STALLS_TLS, `https://127.0.0.1:${silent.port}/`);
  const untrusted = await openRawReceiver(() => {}, { tls: createCertificate('hooks.example.com') });
  opening.defer(untrusted.close);
  urls.set('has a certificate that nobody trusts', `https://127.0.0.1:${untrusted.port}/`);
  return urls;
}

export const ACCEPTS_NOTHING = 'accepts no connection';
export const STALLS_TLS = 'never ends the handshake of TLS';
