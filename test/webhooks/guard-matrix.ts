import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createAddressPolicy } from '../../src/webhooks/addresses.ts';
import { createSender } from '../../src/webhooks/attempt.ts';
import { CALLBACK_REFUSED_MESSAGE, type CallbackRefusalReason } from '../../src/webhooks/callback-url.ts';
import { createCallbackGuard } from '../../src/webhooks/guard.ts';
import { createResolver } from '../../src/webhooks/resolver.ts';
import { isStorable } from '../../src/webhooks/storable.ts';
import { openConnectProxy } from '../support/connect-proxy.ts';
import { type DnsAnswer, type DnsQuestion, openDnsServer } from '../support/dns-server.ts';
import { track } from '../support/sender.ts';
import { openWebhookEngine, type WebhookEngine, workOff } from './webhook-engine.ts';

/** A URL that may not be called. */
export interface ForbiddenUrl {
  readonly url: string;
  readonly reason: CallbackRefusalReason;
  /** `delivery`: it may when it is registered, and no longer at the next look. */
  readonly stage: 'register' | 'delivery';
}

export interface GuardMatrix {
  readonly forbidden: readonly ForbiddenUrl[];
  /** May be registered; not called, since some are somebody's. */
  readonly permitted: readonly string[];
  /** Also of `GOOD_HOST`. */
  readonly answer: (question: DnsQuestion) => DnsAnswer;
}

/** A public name that every matrix knows. */
export const GOOD_HOST = 'hooks.example.com';

const CREATE = `mutation ($input: WebhookCreateInput!) { answer: webhookCreate(input: $input) {
  __typename ... on WebhookCreateSuccess { webhook { id } } ... on Refusal { code message } } }`;
const UPDATE = `mutation ($input: WebhookUpdateInput!) { answer: webhookUpdate(input: $input) {
  __typename ... on WebhookUpdateSuccess { webhook { id } } ... on Refusal { code message } } }`;
const PING = 'mutation ($id: ID!) { webhookPing(id: $id) { __typename } }';
const ATTEMPTS = `query ($id: ID!) { deliveries(filter: { webhookId: $id }, first: 10) { nodes {
  eventId attempts { statusCode errorClass responseHeaders responseBody isTruncated remoteAddress } } } }`;

/** What a client is told, each time. */
const REFUSED = { __typename: 'CallbackRefused', code: 'CALLBACK_REFUSED', message: CALLBACK_REFUSED_MESSAGE };
const NOTHING_CAME = {
  statusCode: null,
  responseHeaders: {},
  responseBody: '',
  isTruncated: false,
  remoteAddress: null,
};

/** An attempt in the eyes of a client: a name that is gone is the receiver's outage, all else is one refusal. */
function attemptOf(reason: CallbackRefusalReason) {
  return { ...NOTHING_CAME, errorClass: ['DNS_EMPTY', 'DNS_FAILED'].includes(reason) ? 'DNS' : 'ADDRESS_REFUSED' };
}

/** A webhook that was registered before its URL became forbidden. */
interface Hook extends ForbiddenUrl {
  readonly id: string;
}

/** Looks at each URL at each place where one is looked at, in a server that allows no address of its own. */
export function describeGuardMatrix(name: string, { forbidden, permitted, answer }: GuardMatrix): void {
  describe(`${name}: a URL that may not be called`, () => {
    let engine: WebhookEngine;
    let accountId: string;
    let hooks: readonly Hook[];

    beforeAll(async () => {
      engine = await openWebhookEngine('postgres', { allowCidrs: [], answer });
      accountId = await engine.addAccount();
      const made: Hook[] = [];
      for (const each of forbidden) made.push({ ...each, id: await register(each) });
      hooks = made;
    });
    afterAll(() => engine?.close());

    const change = async (source: string, input: Readonly<Record<string, unknown>>, owner = accountId) => {
      const variables = { input };
      const { answer: answered } = await engine.run<{ answer: unknown }>(source, { accountId: owner, variables });
      return answered;
    };
    const create = (url: string, owner = accountId) => change(CREATE, { url, eventTypes: ['NOTE_WRITTEN'] }, owner);

    async function register({ url, stage }: ForbiddenUrl): Promise<string> {
      const registered = stage === 'delivery' ? url : `https://${GOOD_HOST}/hook`;
      const { id } = await engine.createWebhook({ url: registered, eventTypes: ['NOTE_WRITTEN'] }, { accountId });
      return id;
    }

    /** What the log says of it, less what is the same each time. */
    async function logged(run: () => Promise<unknown>) {
      engine.seen.length = 0;
      expect(await run()).toEqual(REFUSED);
      return engine.seen.map(({ request_id, principal_id, host, ...facts }) => facts);
    }

    it('is refused when a webhook is made, by one answer, its reason in the log', async () => {
      for (const { url, reason, stage } of forbidden) {
        if (stage === 'delivery') continue; // it was made
        const line = { name: 'callback.refused', stage: 'create', reason, account_id: accountId };
        expect([url, await logged(() => create(url))]).toEqual([url, [line]]);
      }
    });

    it('is refused when a webhook is changed, by one answer, its reason in the log', async () => {
      for (const { id, url, reason } of hooks) {
        const line = { name: 'callback.refused', stage: 'update', reason, account_id: accountId };
        expect([url, await logged(() => change(UPDATE, { id, url }))]).toEqual([url, [line]]);
      }
    });

    it('is refused to pings and deliveries, by one answer, its reason in the log', async () => {
      const storable = hooks.filter(({ url }) => isStorable(url));
      const { db } = engine.services.database;
      for (const { id, url } of storable) {
        await db.updateTable('fanfare.webhook').set({ url }).where('id', '=', id).execute();
        await engine.run(PING, { accountId, variables: { id } });
      }
      await engine.writeNote('forbidden', accountId);
      await engine.stampedEvents(accountId);
      engine.seen.length = 0;
      await workOff(engine.createWorker());
      for (const { id, url, reason } of storable) {
        const { deliveries } = await engine.run<{
          deliveries: { nodes: { eventId: string | null; attempts: unknown }[] };
        }>(ATTEMPTS, { accountId, variables: { id } });
        const attempts = [attemptOf(reason)];
        const expected = [
          { eventId: null, attempts },
          { eventId: expect.any(String), attempts },
        ];
        expect([url, deliveries.nodes]).toEqual([url, expected]);
        const lines = engine.seen.filter((line) => line.name === 'delivery.attempted' && line.webhook_id === id);
        expect([url, lines.map((line) => line.reason)]).toEqual([url, [reason, reason]]);
      }
    });

    it('is refused before an outgoing proxy sees it', async () => {
      const dns = track(await openDnsServer(answer));
      const guard = createCallbackGuard({
        policy: createAddressPolicy({ allowCidrs: [] }),
        resolver: createResolver({ servers: [dns.address] }),
        now: Date.now,
      });
      const proxy = track(await openConnectProxy((socket) => socket.end('HTTP/1.1 502 Bad Gateway\r\n\r\n')));
      const sender = track(createSender({ guard, version: '0', proxy: proxy.url }));
      for (const { url, reason, stage } of forbidden) {
        if (stage === 'delivery') expect([url, await guard.check(url)]).toMatchObject([url, { ok: true }]);
        const outcome = await sender.send({ url, headers: {}, body: '{}' });
        const { errorClass } = attemptOf(reason);
        expect([url, outcome]).toMatchObject([url, { errorClass, reason, statusCode: undefined }]);
      }
      expect(proxy.connectionCount).toBe(0);
      // the control: what is permitted does get there
      const seen = await sender.send({ url: `https://${GOOD_HOST}/hook`, headers: {}, body: '{}' });
      expect([seen.kind, proxy.connectionCount, proxy.targets]).toEqual(['failed', 1, [`${GOOD_HOST}:443`]]);
    });

    it('is told from one that may, which is taken when a webhook is made or changed', async () => {
      const eventless = await engine.addAccount(); // nothing is ever sent to them
      for (const url of [`https://${GOOD_HOST}/hook`, ...permitted]) {
        const made = (await create(url, eventless)) as { webhook: { id: string } };
        expect([url, made]).toMatchObject([url, { __typename: 'WebhookCreateSuccess' }]);
        const changed = await change(UPDATE, { id: made.webhook.id, url: `${url}/elsewhere` }, eventless);
        expect([url, changed]).toMatchObject([url, { __typename: 'WebhookUpdateSuccess' }]);
      }
    });
  });
}
