import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { createBuilder, defineDomain, defineEvent, id } from '#engine';
import { completeSchema } from '../../src/main/schema.ts';
import { startApp, type TestApp } from '../support/app.ts';
import { eventually } from '../support/eventually.ts';
import { collect, stockClient } from '../support/live-client.ts';
import { createProbeDomain, notesWrite } from '../support/probe-domain.ts';
import { openReceiver, type Receiver } from '../support/receiver.ts';
import { toyMigrations } from '../support/toy-domain.ts';

const CREATE = `mutation ($input: WebhookCreateInput!) {
  webhookCreate(input: $input) { ... on WebhookCreateSuccess { webhook { id } } ... on Refusal { message } } }`;
const EACH = 'id position cursor type name occurredAt subjectType subjectId subjectVersion actor';
const FAILING = `${EACH} webhook { webhookId description } failures failingSince lastStatusCode lastErrorClass`;
const EXHAUSTED = `${EACH} delivery { deliveryId webhookId eventId eventName attempts }`;
const TYPES = '[WEBHOOK_FAILING, WEBHOOK_RECOVERED, WEBHOOK_DISABLED, DELIVERY_EXHAUSTED]';

describe.each(['embedded', 'postgres'] as const)('an event of the engine on %s', (backend) => {
  let app: TestApp;
  let receiver: Receiver;
  beforeAll(async () => {
    const env = { WEBHOOK_ALLOW_CIDRS: '127.0.0.0/8' };
    app = await startApp({ backend, domain: createProbeDomain().domain, domainMigrations: toyMigrations, env });
    receiver = await openReceiver();
  });
  afterEach(async () => {
    const { data } = await app.post('{ webhooks(first: 100) { nodes { id } } }');
    for (const { id: webhookId } of data.webhooks.nodes)
      await app.post('mutation ($id: ID!) { webhookDelete(id: $id) { __typename } }', { id: webhookId });
  });
  afterAll(async () => {
    await receiver?.close();
    await app?.stop();
  });

  async function hook(path: string, input: Readonly<Record<string, unknown>>): Promise<string> {
    const { data } = await app.post(CREATE, { input: { url: `${receiver.url}${path}`, ...input } });
    return data.webhookCreate.webhook.id;
  }
  const bodies = (path: string) =>
    receiver.requests.filter((request) => request.path === path).map(({ body }) => JSON.parse(body.toString()));

  it('is pulled, watched and called back as one and the same', async () => {
    const { data } = await app.post('{ head }');
    const failing = await hook('/failing', {
      eventTypes: ['NOTE_WRITTEN'],
      retry: { delays: [] },
      maxInFlight: 1,
      description: 'the ledger',
    });
    await hook('/notices', { query: `subscription { webhookFailing { ${FAILING} } }` });
    await hook('/exhausted', { eventTypes: ['DELIVERY_EXHAUSTED'] });
    receiver.always('/failing', { status: 500 });
    const client = stockClient(app.wsUrl, app.key);
    const watch = (field: string, selection: string) =>
      collect(client, `subscription ($after: String) { ${field}(after: $after) { ${selection} } }`, {
        after: data.head,
      });
    const watched = watch('webhookFailing', FAILING);
    const ended = watch('deliveryExhausted', EXHAUSTED);
    await notesWrite(app, { count: 5 });
    await eventually(() => watched.results.length === 1 && ended.results.length === 5);
    await eventually(() => bodies('/notices').length === 1 && bodies('/exhausted').length === 5);

    const pulled = await app.post(
      `query ($after: String) { events(after: $after, filter: { types: ${TYPES} }) { nodes {
        __typename ... on WebhookFailing { ${FAILING} } ... on DeliveryExhausted { ${EXHAUSTED} } } } }`,
      { after: data.head },
    );
    const nodes: { __typename: string; cursor: string }[] = pulled.data.events.nodes;
    const shown = (typeName: string) =>
      nodes.filter(({ __typename }) => __typename === typeName).map(({ __typename, ...event }) => event);
    expect(shown('WebhookFailing')).toMatchObject([
      {
        type: 'WEBHOOK_FAILING',
        name: 'webhook.failing',
        subjectType: 'Webhook',
        subjectId: failing,
        actor: null,
        webhook: { webhookId: failing, description: 'the ledger' },
        failures: 5,
        lastStatusCode: 500,
        lastErrorClass: 'HTTP_STATUS',
      },
    ]);
    expect(watched.results.map((result) => result.data?.webhookFailing)).toEqual(shown('WebhookFailing'));
    expect(ended.results.map((result) => result.data?.deliveryExhausted)).toEqual(shown('DeliveryExhausted'));
    const [notice] = bodies('/notices');
    expect(notice).toMatchObject({ type: 'webhook.failing' });
    expect(notice.data).toEqual(shown('WebhookFailing')[0]);
    expect(bodies('/exhausted').map((body) => body.data.delivery.webhookId)).toEqual(Array(5).fill(failing));
  });

  it('leads to the webhook or the delivery as it is now, and to nothing when that is gone', async () => {
    const { data } = await app.post('{ head }');
    receiver.always('/gone', { status: 410 });
    const gone = await hook('/gone', { eventTypes: ['NOTE_WRITTEN'], retry: { delays: [] } });
    await notesWrite(app, { count: 1 });
    const read = async () => {
      const answer = await app.post(
        `query ($after: String) { events(after: $after, filter: { types: ${TYPES} }) { nodes { name
          ... on WebhookDisabled { disabledReason currentWebhook { id status disabledReason } }
          ... on DeliveryExhausted { delivery { deliveryId } currentDelivery { id status } } } } }`,
        { after: data.head },
      );
      return answer.data.events.nodes.toSorted((a: { name: string }, b: { name: string }) =>
        a.name < b.name ? -1 : 1,
      );
    };
    const disabledReason = 'the receiver answered 410 Gone';
    await eventually(async () =>
      expect(await read()).toMatchObject([
        { name: 'delivery.exhausted', currentDelivery: { status: 'EXHAUSTED' } },
        { name: 'webhook.disabled', disabledReason, currentWebhook: { id: gone, status: 'DISABLED', disabledReason } },
      ]),
    );
    await app.post('mutation ($id: ID!) { webhookDelete(id: $id) { __typename } }', { id: gone });
    expect(await read()).toMatchObject([{}, { disabledReason, currentWebhook: null }]);
  });

  it('is listed among the types of events', async () => {
    const { data } = await app.post('{ eventTypes { name scope subjectType kind } }');
    expect(data.eventTypes).toContainEqual({
      name: 'webhook.recovered',
      scope: 'webhooks:read',
      subjectType: 'Webhook',
      kind: 'fact',
    });
  });
});

describe('a domain that has an event of such a name', () => {
  it('is refused at the start', () => {
    const twin = defineEvent('webhook.failing', {
      kind: 'fact',
      version: 1,
      subject: 'Hook',
      scope: 'hooks:read',
      payload: { hookId: id('Hook'), note: z.string() },
      related: [],
    });
    const domain = defineDomain({ builder: createBuilder<object>().events([twin]), idPrefixes: {} });
    expect(() => completeSchema(domain)).toThrow(
      'the domain declares the event "webhook.failing", which is the engine\'s own: give it another name',
    );
  });
});
