import { isDeepStrictEqual } from 'node:util';
import { sumMoney } from './money.ts';

/** A change that the server has acknowledged to the client. */
export interface Acknowledged {
  /** Of its call: the same over all tries. */
  readonly key: string;
  /** The mutation's field. */
  readonly field: string;
  /** The entity's id. */
  readonly id: string;
}

/** An event as some channel gave it: the fields that the comparison looks at, and all others. */
export interface SeenEvent {
  readonly id: string;
  readonly position: string;
  readonly cursor: string;
  readonly name: string;
  readonly occurredAt: string;
  readonly subjectId: string;
  readonly subjectVersion: number;
  readonly order?: { readonly total: { readonly amount: string } };
  readonly product?: { readonly sku: string };
}

/** One request that the webhook's receiver got. */
export interface Callback {
  readonly webhookId: string;
  readonly eventId: string | undefined;
  readonly cursor: string | undefined;
  /** The bytes, as text. */
  readonly body: string;
  /** Why its signature does not hold; undefined if it does. */
  readonly fault: string | undefined;
}

/** What a run leaves behind. */
export interface Evidence {
  readonly ledger: readonly Acknowledged[];
  /** The whole log, as it was pulled. */
  readonly log: readonly SeenEvent[];
  /** What the live channels brought, by name, in the order of arrival. */
  readonly streams: Readonly<Record<string, readonly SeenEvent[]>>;
  /** In the order of arrival. */
  readonly callbacks: readonly Callback[];
  /** What the query `orders` gives. */
  readonly orders: readonly { readonly id: string; readonly total: { readonly amount: string } }[];
  /** What the rows of the file add up to: `93029.47`. */
  readonly total: string;
}

/** Something that is not as promised. `where` is the channel; `what` names the event or change. */
export interface Difference {
  readonly kind: 'lost' | 'doubled' | 'stray' | 'order' | 'gap' | 'version' | 'json' | 'signature' | 'total';
  readonly where: string;
  readonly what: string;
}

/** Compares what was acknowledged, logged, streamed and called back. @returns every difference; none when all is kept */
export function compare({ ledger, log, streams, callbacks, orders, total }: Evidence): Difference[] {
  return [
    ...compareLedger(ledger, log),
    ...comparePositions(log),
    ...compareVersions(log),
    ...Object.entries(streams).flatMap(([name, seen]) => compareChannel(name, { seen, log })),
    ...compareCallbacks(callbacks, log),
    ...compareTotals({ log, orders, total }),
  ];
}

/** The event that a mutation's acknowledgement promises. */
const EVENT_OF: Readonly<Record<string, string>> = {
  productCreate: 'product.created',
  customerCreate: 'customer.created',
  orderPlace: 'order.placed',
  orderPay: 'order.paid',
  orderShip: 'order.shipped',
};

/** Each acknowledged change has exactly one event, and each event that begins a subject was acknowledged exactly once. */
function compareLedger(ledger: readonly Acknowledged[], log: readonly SeenEvent[]): Difference[] {
  const promised = new Set(ledger.map(({ field, id }) => `${EVENT_OF[field]} of ${id}`));
  const counts = countBy(log, ({ name, subjectId }) => `${name} of ${subjectId}`);
  const lost = [...promised].filter((what) => !counts.has(what)).map(difference('lost', 'log'));
  const doubled = [...counts].filter(([what, count]) => count > 1 && promised.has(what)).map(([what]) => what);
  // a call that was carried out twice leaves a second subject, which nobody was told of
  const twice = [...counts.keys()].filter((what) => BEGINS.test(what) && !promised.has(what));
  const answers = countBy(new Map(ledger.map(({ key, id }) => [`${key} ${id}`, key])).values(), (key) => key);
  const otherAnswers = [...answers].filter(([, count]) => count > 1).map(([key]) => `two answers to the key ${key}`);
  const skus = countBy(
    log.filter(({ name }) => name === 'product.created'),
    ({ product }) => `product with the sku ${product?.sku}`,
  );
  const sameSkus = [...skus].filter(([, count]) => count > 1).map(([what]) => what);
  return [...lost, ...[...doubled, ...twice, ...otherAnswers, ...sameSkus].map(difference('doubled', 'log'))];
}

const BEGINS = /^(product\.created|customer\.created|order\.placed) /;

/** 1, 2, 3 … */
function comparePositions(log: readonly SeenEvent[]): Difference[] {
  return log.flatMap(({ position }, at) =>
    position === String(at + 1)
      ? []
      : [{ kind: 'gap', where: 'log', what: `expected position ${at + 1}, found ${position}` }],
  );
}

/** 1, 2, 3 … within each subject, in the order of the log. */
function compareVersions(log: readonly SeenEvent[]): Difference[] {
  const versions = new Map<string, number>();
  return log.flatMap(({ subjectId, subjectVersion }) => {
    const expected = (versions.get(subjectId) ?? 0) + 1;
    versions.set(subjectId, subjectVersion);
    if (subjectVersion === expected) return [];
    return [{ kind: 'version', where: 'log', what: `${subjectId}: expected ${expected}, found ${subjectVersion}` }];
  });
}

interface Channel {
  /** In the order of arrival. */
  readonly seen: readonly SeenEvent[];
  readonly log: readonly SeenEvent[];
}

/** The same events in the same order with the same JSON as the log. */
export function compareChannel(where: string, { seen, log }: Channel): Difference[] {
  const logged = new Map(log.map((event) => [event.id, event]));
  const counts = countBy(seen, ({ id }) => id);
  const differing = seen.filter((event) => logged.has(event.id) && !isDeepStrictEqual(event, logged.get(event.id)));
  return [
    ...lostOf(log, counts.keys()).map(difference('lost', where)),
    ...[...counts].filter(([, count]) => count > 1).map(([id]) => difference('doubled', where)(id)),
    ...[...counts.keys()].filter((id) => !logged.has(id)).map(difference('stray', where)),
    ...seen.flatMap((event, at) => {
      const before = seen[at - 1];
      const isAfter = before === undefined || Number(before.position) <= Number(event.position);
      return isAfter ? [] : [difference('order', where)(`${event.position} after ${before.position}`)];
    }),
    ...differing.map(({ id }) => difference('json', where)(id)),
  ];
}

/** The ids of the logged events that are not among the seen ones. */
export function lostOf(log: readonly Pick<SeenEvent, 'id'>[], seen: Iterable<string>): string[] {
  const ids = new Set(seen);
  return log.filter(({ id }) => !ids.has(id)).map(({ id }) => id);
}

/** Callbacks may come twice, with the same bytes, and overtake each other: the first of each id counts, by position. */
function compareCallbacks(callbacks: readonly Callback[], log: readonly SeenEvent[]): Difference[] {
  const deliveries = [...Map.groupBy(callbacks, ({ webhookId }) => webhookId).values()];
  const changed = deliveries.filter(([first, ...others]) => others.some(({ body }) => body !== first?.body));
  const firsts = deliveries.flatMap(([first]) => (first === undefined ? [] : [{ ...first, ...readBody(first) }]));
  const inconsistent = firsts.filter(
    ({ type, timestamp, data, eventId, cursor }) =>
      type !== data.name || timestamp !== data.occurredAt || eventId !== data.id || cursor !== data.cursor,
  );
  const seen = firsts.map(({ data }) => data).sort((a, b) => Number(a.position) - Number(b.position));
  return [
    ...callbacks.flatMap(({ webhookId, fault }) =>
      fault === undefined ? [] : [difference('signature', 'webhook')(`${webhookId}: ${fault}`)],
    ),
    ...changed.map(([first]) => difference('json', 'webhook')(`${first?.webhookId} came again with other bytes`)),
    ...inconsistent.map(({ webhookId }) =>
      difference('json', 'webhook')(`${webhookId} says otherwise around its data`),
    ),
    ...compareChannel('webhook', { seen, log }),
  ];
}

function readBody({ body }: Callback) {
  // what Standard Webhooks and the one root field make of it; anything else shows as a difference
  return JSON.parse(body) as { readonly type: string; readonly timestamp: string; readonly data: SeenEvent };
}

/** The file, the events and the entities add up to the same. */
function compareTotals({ log, orders, total }: Pick<Evidence, 'log' | 'orders' | 'total'>): Difference[] {
  const placed = log.filter(({ name }) => name === 'order.placed');
  const sums = {
    'order.placed': sumMoney(placed.map(({ order }) => order?.total.amount ?? '0')),
    orders: sumMoney(orders.map((order) => order.total.amount)),
  };
  return Object.entries(sums)
    .filter(([, sum]) => sum !== total)
    .map(([where, sum]) => ({ kind: 'total', where, what: `expected ${total}, found ${sum}` }));
}

function difference(kind: Difference['kind'], where: string) {
  return (what: string): Difference => ({ kind, where, what });
}

function countBy<T>(each: Iterable<T>, keyOf: (one: T) => string): ReadonlyMap<string, number> {
  const counts = new Map<string, number>();
  for (const one of each) counts.set(keyOf(one), (counts.get(keyOf(one)) ?? 0) + 1);
  return counts;
}
