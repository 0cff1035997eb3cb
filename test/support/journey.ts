import { createClient as createSseClient } from 'graphql-sse';
import { createClient as createWsClient } from 'graphql-ws';
import { Webhook } from 'standardwebhooks';
import { expect } from 'vitest';
import { type GraphqlAnswer, post } from './app.ts';
import { eventually } from './eventually.ts';
import { openReceiver, type Receiver } from './receiver.ts';

/** A server as its clients see it. */
export interface Server {
  readonly url: string;
  readonly wsUrl: string;
  readonly key: string;
}

/** What each channel is asked for, the same on all. */
const SELECTION = `
  fragment Line on OrderSnapshot { orderId version state placedAt customerId total { amount currency } lines { number productId sku quantity unitPrice { amount currency } } }
  fragment Whole on Event {
    __typename id position cursor type name payloadVersion occurredAt subjectType subjectId subjectVersion changed actor requestId causedBy
    ... on OrderPlaced { order { ...Line } }
    ... on OrderPaid { order { ...Line } }
    ... on OrderShipped { order { ...Line } }
    ... on ProductUpdated { product { productId sku title price { amount currency } stock version } }
  }`;
const TYPES = '[ORDER_PLACED, ORDER_PAID, ORDER_SHIPPED, PRODUCT_UPDATED]';
const WATCH = `subscription ($after: String) { events(filter: { types: ${TYPES} }, after: $after) { ...Whole } } ${SELECTION}`;
const PULL = `query ($after: String) { events(filter: { types: ${TYPES} }, after: $after) { nodes { ...Whole } } } ${SELECTION}`;

/** An event as some channel showed it. */
export type Shown = Readonly<Record<string, unknown>> & {
  readonly id: string;
  readonly cursor: string;
  readonly position: string;
};

/** Listens on every channel from one place in the log on. */
export interface Listeners {
  /** Waits for this many events on each channel; gives them by channel. */
  take(count: number): Promise<Readonly<Record<'pull' | 'webSocket' | 'sse' | 'webhook', readonly Shown[]>>>;
  close(): Promise<void>;
}

export async function listenEverywhere(server: Server): Promise<Listeners> {
  const { data } = await post(server, { query: '{ head }' });
  const after: string = data.head;
  const headers = { authorization: `Bearer ${server.key}` };
  const ws = createWsClient({ url: server.wsUrl, connectionParams: headers });
  const sse = createSseClient({ url: server.url, headers });
  const receiver = await openReceiver();
  const secret = await registerWebhook(server, {
    url: `${receiver.url}/hook`,
    query: WATCH,
    variables: {},
    startAfter: after,
  });
  const overWebSocket = ws.iterate<{ events: Shown }>({ query: WATCH, variables: { after } });
  const overSse = sse.iterate<{ events: Shown }>({ query: WATCH, variables: { after } });
  return {
    async take(count) {
      const webSocket = await takeFrom(overWebSocket, { count, transport: 'WebSocket' });
      const sseEvents = await takeFrom(overSse, { count, transport: 'SSE' });
      const webhook = await takeCallbacks(receiver, secret, count);
      const pull = await post(server, { query: PULL, variables: { after } });
      return { pull: pull.data.events.nodes, webSocket, sse: sseEvents, webhook };
    },
    async close() {
      await ws.dispose();
      sse.dispose();
      await receiver.close();
    },
  };
}

async function registerWebhook(server: Server, input: Record<string, unknown>): Promise<string> {
  const query = `mutation ($input: WebhookCreateInput!) {
    webhookCreate(input: $input) { __typename ... on WebhookCreateSuccess { secret } ... on Refusal { code message } }
  }`;
  const answer = await post(server, { query, variables: { input } });
  expect(answer).toMatchObject({ data: { webhookCreate: { __typename: 'WebhookCreateSuccess' } } });
  return answer.data.webhookCreate.secret;
}

async function takeFrom(
  iterator: AsyncIterableIterator<{ data?: { events: Shown } | null | undefined }>,
  { count, transport }: { readonly count: number; readonly transport: string },
): Promise<Shown[]> {
  const events: Shown[] = [];
  while (events.length < count) {
    const coming = iterator.next();
    const describe = `event ${events.length + 1} of ${count} over ${transport}`;
    const { value } = await eventually(() => coming, { describe });
    expect(value).toHaveProperty('data.events');
    events.push(value.data.events);
  }
  return events;
}

/** In order of position: callbacks may overtake each other. Each signature is checked by the official library. */
async function takeCallbacks(receiver: Receiver, secret: string, count: number): Promise<Shown[]> {
  const events: Shown[] = [];
  for (let taken = 0; taken < count; taken++) {
    const { headers, body } = await receiver.next();
    const verified = new Webhook(secret).verify(body.toString(), headers as Record<string, string>) as {
      type: string;
      timestamp: string;
      data: Shown & { name: string; occurredAt: string };
    };
    expect(verified.type).toBe(verified.data.name);
    expect(verified.timestamp).toBe(verified.data.occurredAt);
    expect(headers['fanfare-event-id']).toBe(verified.data.id);
    expect(headers['fanfare-cursor']).toBe(verified.data.cursor);
    events.push(verified.data);
  }
  return events.sort((a, b) => Number(a.position) - Number(b.position));
}

/** Makes a product and an order of it, pays and ships it. */
export async function buySomething(server: Server): Promise<{ readonly productId: string; readonly orderId: string }> {
  const product = await change(server, 'productCreate', 'ProductCreateInput', {
    sku: `J${crypto.randomUUID()}`,
    title: 'Ünïcode “kettle” 🫖',
    price: { amount: '12.50', currency: 'GBP' },
    stock: 5,
  });
  const placed = await change(server, 'orderPlace', 'OrderPlaceInput', {
    lines: [{ productId: product.product.id, quantity: 2 }],
  });
  const { id } = placed.order;
  for (const field of ['orderPay', 'orderShip']) {
    const moved = await post(server, {
      query: `mutation ($id: ID!) { ${field}(id: $id) { __typename ... on Refusal { message } } }`,
      variables: { id },
    });
    expect(moved).toMatchObject({
      data: { [field]: { __typename: `${field[0]?.toUpperCase()}${field.slice(1)}Success` } },
    });
  }
  return { productId: product.product.id, orderId: id };
}

async function change(
  server: Server,
  field: string,
  inputType: string,
  input: unknown,
): Promise<GraphqlAnswer['data']> {
  const typeName = `${field[0]?.toUpperCase()}${field.slice(1)}Success`;
  const part = field.startsWith('product') ? 'product { id }' : 'order { id }';
  const answer = await post(server, {
    query: `mutation ($input: ${inputType}!) { ${field}(input: $input) { __typename ... on ${typeName} { ${part} } ... on Refusal { message } } }`,
    variables: { input },
  });
  expect(answer).toMatchObject({ data: { [field]: { __typename: typeName } } });
  return answer.data[field];
}

/** The same events, ids, cursors and JSON on each channel. */
export function expectEqualEverywhere(taken: Awaited<ReturnType<Listeners['take']>>): void {
  expect(taken.webSocket).toEqual(taken.pull);
  expect(taken.sse).toEqual(taken.pull);
  expect(taken.webhook).toEqual(taken.pull);
}
