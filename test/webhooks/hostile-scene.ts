import type { Socket } from 'node:net';
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

/** Receivers by what they do. */
export type HostileWays = Readonly<Record<string, HostileWay>>;

interface HostileWay {
  readonly scheme: 'http' | 'https';
  open(): Promise<{ readonly port: number; close(): Promise<void> }>;
}

export const ACCEPTS_NOTHING = 'accepts no connection';
export const STALLS_TLS = 'never ends the handshake of TLS';
const untrusted = createCertificate('hooks.example.com');

export const HOSTILE_WAYS: HostileWays = {
  ...Object.fromEntries(
    Object.entries({ ...ENDLESS, ...HOSTILE }).map(([does, [answer]]) => [does, answering(answer)]),
  ),
  [ACCEPTS_NOTHING]: { scheme: 'http', open: openBlackHole },
  [STALLS_TLS]: { scheme: 'https', open: () => openRawReceiver(() => {}) },
  'has a certificate that nobody trusts': {
    scheme: 'https',
    open: () => openRawReceiver(() => {}, { tls: untrusted }),
  },
};

/** One that lets itself be asked, and answers so. */
export function answering(answer: (socket: Socket) => void): HostileWay {
  return { scheme: 'http', open: () => openRawReceiver(answer) };
}

interface Delivery {
  readonly webhookId: string;
  readonly attempts: readonly Omit<HostileAttempt, 'does'>[];
}

const RESUME = 'mutation ($id: ID!) { webhookResume(id: $id) { __typename } }';
const QUERY = 'subscription { noteWritten { id } }';
/** So that the outcome does not depend on how often each was tried. */
const ONE_ATTEMPT = { delays: [] };

/** @param ways of its receivers. @default all */
export async function openHostileScene({ engine, log }: Written, ways = HOSTILE_WAYS): Promise<HostileScene> {
  await using opening = new AsyncDisposableStack();
  const urls = await openReceivers(ways, opening);
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
async function openReceivers(ways: HostileWays, opening: AsyncDisposableStack): Promise<ReadonlyMap<string, string>> {
  const urls = new Map<string, string>();
  for (const [does, { scheme, open }] of Object.entries(ways)) {
    const receiver = await open();
    opening.defer(receiver.close);
    urls.set(does, `${scheme}://127.0.0.1:${receiver.port}/`);
  }
  return urls;
}
