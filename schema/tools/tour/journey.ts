import { setTimeout as wait } from 'node:timers/promises';
import { type Server, ToolError } from '../command-line.ts';
import type { GraphqlClient } from '../graphql-client.ts';
import { type Change, createStore, type Store } from '../store.ts';
import { type Arrival, type Board, createBoard, LateError, type ShownEvent, type Way } from './board.ts';
import { openReceiver, type TourReceiver } from './receiver.ts';
import { type Interest, openSse, openWebSocket } from './streams.ts';
import { createWebhook, deleteWebhook, describeDelivery, type TourWebhook } from './webhook.ts';

export interface JourneyOptions {
  readonly client: GraphqlClient;
  readonly server: Server;
  readonly callbackHost: string | undefined;
  /** Aborting it ends the journey, with its webhook deleted. */
  readonly signal: AbortSignal;
  /** Distinguishes this tour from others: in the product's sku and in idempotency keys. */
  readonly tourId: string;
  /** Called with each caption, as soon as it is true. */
  readonly tell: (caption: string) => void;
  /** Monotonic milliseconds. @default performance.now */
  readonly now?: () => number;
}

/** One change of the order, and its event as each way brought it. */
export interface Leg {
  /** `order.placed` … */
  readonly name: string;
  /** Monotonic milliseconds: when the change was answered. */
  readonly answeredAtMs: number;
  readonly arrivals: Readonly<Record<Way, Arrival>>;
}

/** One selection, whatever the way: it is what makes the four comparable. */
const SELECTION = `{
  __typename id name position cursor occurredAt subjectType subjectId subjectVersion
  ... on OrderPlaced { order { ...Facts } } ... on OrderPaid { order { ...Facts } } ... on OrderShipped { order { ...Facts } }
}`;
const FACTS = `fragment Facts on OrderSnapshot {
  orderId version state total { amount currency } lines { sku quantity unitPrice { amount currency } }
}`;
const FILTER = '{ types: [ORDER_PLACED, ORDER_PAID, ORDER_SHIPPED], related: [$product] }';
const WATCH = `subscription ($after: String, $product: ID!) { events(filter: ${FILTER}, after: $after) ${SELECTION} } ${FACTS}`;
const PULL = `query ($after: String, $product: ID!) { events(filter: ${FILTER}, after: $after) { nodes ${SELECTION} } } ${FACTS}`;

/**
 * Listens to one product's orders in four ways, then places, pays and ships one. Whatever happens, the webhook is deleted.
 * @returns each event with its arrivals
 * @throws ToolError, ServerLost
 */
export async function makeJourney(options: JourneyOptions): Promise<readonly Leg[]> {
  const { client, server, callbackHost, signal, tourId, tell } = options;
  const board = createBoard();
  signal.addEventListener('abort', () => board.fail(new ToolError('stopped')), { once: true });
  const opened = new AsyncDisposableStack(); // closed in reverse
  try {
    let webhook: TourWebhook | undefined;
    const receiver = await openReceiver({
      host: callbackHost,
      secret: () => webhook?.secret,
      onCallback: ({ data }) => board.arrived('webhook', data as ShownEvent), // what the document selects
    });
    opened.defer(() => receiver.close());
    tell(`A receiver listens on ${receiver.url}.`);

    const store = createStore({ client, keyPrefix: `tour:${tourId}`, onAcknowledged: () => {} });
    const product = await createProduct(store, tourId);
    tell(`A product is made: ${product.id}.`);

    const interest = { query: WATCH, variables: { product: product.id }, after: product.cursor };
    webhook = await register(options, { interest, url: receiver.url });
    const { id } = webhook;
    opened.defer(async () => tell(describeDeletion(id, await deleteWebhook(client, id))));
    tell(`The receiver is registered: webhook ${id} is called back for the orders of this product.`);

    for (const open of [openWebSocket, openSse]) {
      const stream = await open({ server, interest, board, signal });
      opened.defer(() => stream.close());
    }
    tell('The same document is watched over WebSocket and over SSE.');
    return await buy(options, { board, store, interest }).catch(async (error: unknown) => {
      throw await explainLate(error, { client, webhookId: id, receiver });
    });
  } catch (error) {
    board.fail(error instanceof Error ? error : new Error(String(error))); // ends what still waits
    throw error;
  } finally {
    await opened.disposeAsync();
  }
}

async function createProduct(store: Store, tourId: string): Promise<Done> {
  const sku = `TOUR-${tourId}`;
  return requireDone(await store.createProduct({ sku, title: 'Teapot of the tour', pence: 1_250n, stock: 10 }));
}

function register(
  { client, tourId }: JourneyOptions,
  { interest: { query, variables, after }, url }: { readonly interest: Interest; readonly url: string },
): Promise<TourWebhook> {
  return createWebhook(client, { url, query, variables, startAfter: after, idempotencyKey: `tour:${tourId}:webhook` });
}

interface Listening {
  readonly board: Board;
  readonly store: Store;
  readonly interest: Interest;
}

/** Places, pays and ships an order, awaiting each event on all ways before the next change. */
async function buy(options: JourneyOptions, listening: Listening): Promise<readonly Leg[]> {
  const { store, interest } = listening;
  const invoice = 'tour';
  const lines = [{ productId: String(interest.variables.product), quantity: 2, pence: 1_195n }];
  const leg = (name: string, make: () => Promise<Change>) => makeLeg(options, listening, { name, make });
  const placed = await leg('order.placed', () => store.placeOrder({ invoice, customerId: undefined, lines }));
  const { id } = placed;
  const paid = await leg('order.paid', () => store.moveOrder({ invoice, id, move: 'pay' }));
  const shipped = await leg('order.shipped', () => store.moveOrder({ invoice, id, move: 'ship' }));
  options.tell(`An order was placed, then paid, then shipped: ${id}.`);
  return [placed, paid, shipped];
}

interface LegPlan {
  readonly name: string;
  readonly make: () => Promise<Change>;
}

async function makeLeg(
  { client, now = () => performance.now() }: JourneyOptions,
  { board, interest }: Listening,
  { name, make }: LegPlan,
): Promise<Leg & { readonly id: string }> {
  const { id } = requireDone(await make());
  const answeredAtMs = now();
  const pulling = new AbortController();
  try {
    const [, query, WebSocket, SSE, webhook] = await Promise.all([
      pull({ client, board, interest, name, signal: pulling.signal }),
      board.wait('query', name),
      board.wait('WebSocket', name),
      board.wait('SSE', name),
      board.wait('webhook', name),
    ]);
    return { id, name, answeredAtMs, arrivals: { query, WebSocket, SSE, webhook } };
  } finally {
    pulling.abort();
  }
}

interface Pulling {
  readonly client: GraphqlClient;
  readonly board: Board;
  readonly interest: Interest;
  readonly name: string;
  readonly signal: AbortSignal;
}

const PULL_EVERY_MS = 20;

/** Asks until the event is there, as a program would that has just made the change. */
async function pull({ client, board, interest, name, signal }: Pulling): Promise<void> {
  const variables = { ...interest.variables, after: interest.after };
  while (!signal.aborted && board.find('query', name) === undefined) {
    const answer = await client.ask({ document: PULL, variables, field: 'events' });
    if (answer.status === 'failed') throw new ToolError(`query: ${answer.code}: ${answer.message}`);
    // what the document selects
    for (const event of (answer.value as { readonly nodes: readonly ShownEvent[] }).nodes)
      board.arrived('query', event);
    await wait(PULL_EVERY_MS);
  }
}

type Done = Extract<Change, { status: 'done' }>;

function requireDone(change: Change): Done {
  if (change.status === 'done') return change;
  throw new ToolError(`${change.field} answered ${change.code}: ${change.message}`);
}

interface Late {
  readonly client: GraphqlClient;
  readonly webhookId: string;
  readonly receiver: TourReceiver;
}

/** For a callback that did not come, adds what is known of it. */
async function explainLate(error: unknown, { client, webhookId, receiver }: Late): Promise<unknown> {
  if (!(error instanceof LateError && error.way === 'webhook')) return error;
  const rejection = receiver.rejections.at(-1);
  if (rejection !== undefined)
    return new ToolError(`${error.message}; the last callback was turned away: ${rejection}`);
  return new ToolError(`${error.message}${await describeDelivery(client, webhookId)}`);
}

function describeDeletion(id: string, problem: string | undefined): string {
  return problem === undefined
    ? 'The webhook is deleted; the product and the order stay.'
    : `The webhook ${id} could not be deleted: ${problem}; delete it by webhookDelete.`;
}
