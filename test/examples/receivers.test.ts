import { Webhook } from 'standardwebhooks';
import { afterAll, beforeAll, describe, expect, onTestFinished, test, vi } from 'vitest';
import { domain } from '#domain';
import { startApp, type TestApp } from '../support/app.ts';
import { eventually } from '../support/eventually.ts';
import { freePort } from '../support/servers.ts';
import { ensurePrograms } from './programs.ts';
import { LANGUAGES, type ReceiverProcess, startReceiver } from './receiver-process.ts';

vi.setConfig({ testTimeout: 120_000 });
const PATIENTLY = { deadlineMs: 60_000 };

let app: TestApp;

beforeAll(async () => {
  await ensurePrograms('python3');
  app = await startApp({ backend: 'postgres', domain });
});

afterAll(() => app?.stop());

describe.each(LANGUAGES)('the receiver in %s', (language) => {
  let receiver: ReceiverProcess;
  let secret: string;

  beforeAll(async () => {
    const port = await freePort();
    secret = await registerWebhook(`http://127.0.0.1:${port}/hook`);
    receiver = await startReceiver(language, { secret, port });
  });
  afterAll(() => receiver?.close());

  test('accepts what the server sends', async () => {
    const event = await createProduct(`Tee „${language}“ 🫖`);
    const [, type, data] = await eventually(() => findVerified(receiver, event.id) ?? false, PATIENTLY);
    expect(type).toBe('product.created');
    expect(JSON.parse(data)).toMatchObject(event);
  });

  const BODY = '{"type":"product.created","timestamp":"2026-01-01T00:00:00.000Z","data":{"id":"evt_1"}}';

  test.each([
    [204, 'what is signed with its secret', {}],
    [204, 'a signature among others, as in a rotation', { others: ['v1a,AAAA', `v1,${'A'.repeat(43)}=`] }],
    [400, 'an altered body', { body: BODY.replace('evt_1', 'evt_2') }],
    [400, 'another id', { id: 'dlv_2' }],
    [400, 'another secret', { secret: `whsec_${Buffer.alloc(32, 7).toString('base64')}` }],
    [400, 'a request of more than five minutes ago', { sentSecondsAgo: 310 }],
    [400, 'a request from more than five minutes ahead', { sentSecondsAgo: -310 }],
    [400, 'a signature of another scheme', { scheme: 'v1a' }],
    [400, 'no signature', { scheme: '' }],
  ])('answers %i to %s', async (status, _what, change) => {
    const request = { id: 'dlv_1', secret, sentSecondsAgo: 0, scheme: 'v1', others: [], body: BODY, ...change };
    const sentAt = new Date(Date.now() - request.sentSecondsAgo * 1_000);
    const signature = new Webhook(request.secret).sign('dlv_1', sentAt, BODY).replace('v1', request.scheme);
    const answer = await send(receiver, {
      id: request.id,
      timestamp: Math.floor(sentAt.getTime() / 1_000),
      signature: [...request.others, signature].join(' '),
      body: request.body,
    });
    expect(answer.status).toBe(status);
  });

  test('knows the published vector, at its time and at no other', async () => {
    const vector = {
      id: 'msg_p5jXN8AQM9LWM0D4loKWxJek',
      timestamp: 1_614_265_330,
      signature: 'v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=',
      body: '{"test": 2432232314}',
    };
    const known = { secret: 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw' };
    const then = await startReceiver(language, { ...known, at: vector.timestamp });
    onTestFinished(then.close);
    const now = await startReceiver(language, known);
    onTestFinished(now.close);
    expect((await send(then, vector)).status).toBe(204);
    expect((await send(now, vector)).status).toBe(400);
  });
});

interface SignedRequest {
  readonly id: string;
  readonly timestamp: number;
  readonly signature: string;
  readonly body: string;
}

function send({ url }: ReceiverProcess, { id, timestamp, signature, body }: SignedRequest): Promise<Response> {
  const headers = { 'webhook-id': id, 'webhook-timestamp': String(timestamp), 'webhook-signature': signature };
  return fetch(url, { method: 'POST', headers, body });
}

function findVerified(
  receiver: ReceiverProcess,
  eventId: string,
): readonly [id: string, type: string, data: string] | undefined {
  const line = receiver.lines().find((each) => each.startsWith('verified') && each.includes(eventId));
  const [, id = '', type = '', data = ''] = /^verified (\S+) (\S+) (.*)$/.exec(line ?? '') ?? [];
  return line === undefined ? undefined : [id, type, data];
}

async function registerWebhook(url: string): Promise<string> {
  const { data } = await app.post(
    'mutation ($input: WebhookCreateInput!) { webhookCreate(input: $input) { ... on WebhookCreateSuccess { secret } } }',
    { input: { url, eventTypes: ['PRODUCT_CREATED'] } },
  );
  return data.webhookCreate.secret;
}

/** @returns its event, as a query shows it */
async function createProduct(title: string) {
  const { data } = await app.post(
    `mutation ($input: ProductCreateInput!) { productCreate(input: $input) { ... on ProductCreateSuccess { product { id } } } }`,
    { input: { sku: `S${crypto.randomUUID()}`, title, price: { amount: '4.50', currency: 'EUR' }, stock: 1 } },
  );
  const subjects = [data.productCreate.product.id];
  return eventually(async () => {
    const pulled = await app.post(PULL, { subjects });
    return pulled.data.events.nodes[0] ?? false;
  }, PATIENTLY);
}

const PULL = `query ($subjects: [ID!]) { events(filter: { subjects: $subjects }) { nodes {
  id cursor position ... on ProductCreated { product { productId title } } } } }`;
