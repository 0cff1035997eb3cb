import type { BookedRequest } from './request-book.ts';

/** What became of a delivery, by the database. */
export interface DoneDelivery {
  readonly id: string;
  readonly status: string;
  /** In ms of the machine's clock. */
  readonly finishedAtMs: number;
}

/** What a storm of kills leaves behind. */
export interface StormEvidence {
  /** In the order of arrival. */
  readonly requests: readonly BookedRequest[];
  /** When workers were killed, by name; others lived on. */
  readonly killedAtMs: ReadonlyMap<string, number>;
  /** Each event on each path that asked for it: `path event`. */
  readonly expected: ReadonlySet<string>;
  readonly done: readonly DoneDelivery[];
  /** Of an attempt: after it, one that had no answer may be followed by the next. */
  readonly deadlineMs: number;
}

export interface StormFault {
  readonly kind: 'missing' | 'stray' | 'resent' | 'repeated';
  readonly what: string;
}

/** A killed worker's delivery on its way again. */
export interface Retake {
  readonly deliveryId: string;
  readonly path: string;
  /** From the kill to the next request. */
  readonly afterMs: number;
}

/**
 * What is not as promised:
 *
 * - *missing*: an event that a webhook asked for and was not told of, or of which it is not recorded that it was;
 * - *stray*: a request for what was not asked for, or one event in two deliveries to one webhook;
 * - *resent*: a request of a delivery whose 2xx was recorded before;
 * - *repeated*: a request after one whose sender was not killed in between, and that had not failed. So a kill costs a delivery
 *   that was in flight one request more, and no other any.
 */
export function findFaults(evidence: StormEvidence): StormFault[] {
  const chains = chainsOf(evidence.requests);
  return [
    ...findMissing(evidence),
    ...findStray(evidence.expected, chains),
    ...findResent(evidence),
    ...chains.flatMap((chain) => findRepeated(chain, evidence)),
  ];
}

/** How soon what killed workers held went out again. */
export function retakesOf({ requests, killedAtMs }: StormEvidence): Retake[] {
  return chainsOf(requests).flatMap((chain) =>
    pairsOf(chain).flatMap(([request, next]) => {
      const killed = killedAtMs.get(request.sender);
      if (killed === undefined || killed > next.atMs) return [];
      return [{ deliveryId: request.deliveryId, path: request.path, afterMs: next.atMs - killed }];
    }),
  );
}

/** The requests of each delivery. */
function chainsOf(requests: readonly BookedRequest[]): readonly (readonly BookedRequest[])[] {
  return [...Map.groupBy(requests, ({ deliveryId }) => deliveryId).values()];
}

function pairsOf<T>(all: readonly T[]): (readonly [T, T])[] {
  return all.slice(1).flatMap((next, at) => {
    const before = all[at];
    return before === undefined ? [] : [[before, next] as const];
  });
}

function findMissing({ requests, expected, done }: StormEvidence): StormFault[] {
  const recorded = new Set(done.flatMap(({ id, status }) => (status === 'SUCCEEDED' ? [id] : [])));
  const told = new Set(
    requests.flatMap((request) =>
      request.status === 200 && recorded.has(request.deliveryId) ? [pairOf(request)] : [],
    ),
  );
  return [...expected].filter((pair) => !told.has(pair)).map((what) => ({ kind: 'missing', what }));
}

function findStray(expected: ReadonlySet<string>, chains: readonly (readonly BookedRequest[])[]): StormFault[] {
  const pairs = chains.flatMap((chain) => [...new Set(chain.map(pairOf))]);
  const once = new Set<string>();
  return pairs.flatMap((what) => {
    const isTwice = once.has(what);
    once.add(what);
    return isTwice || !expected.has(what) ? [{ kind: 'stray' as const, what }] : [];
  });
}

function pairOf({ path, eventId }: BookedRequest): string {
  return `${path} ${eventId}`;
}

function findResent({ requests, done }: StormEvidence): StormFault[] {
  const finished = new Map(done.map(({ id, finishedAtMs }) => [id, finishedAtMs]));
  return requests.flatMap(({ deliveryId, path, atMs }) => {
    const afterMs = atMs - (finished.get(deliveryId) ?? Number.POSITIVE_INFINITY);
    return afterMs > 0 ? [{ kind: 'resent', what: `${deliveryId} to ${path}, ${afterMs} ms after its record` }] : [];
  });
}

/** Requests come in a moment after they were sent, some a moment later than others. */
const ROUNDING_MS = 100;

function findRepeated(chain: readonly BookedRequest[], { killedAtMs, deadlineMs }: StormEvidence): StormFault[] {
  return pairsOf(chain).flatMap(([request, next]) => {
    const killed = killedAtMs.get(request.sender);
    // what it sent last may be read a moment after it was killed
    const isOrphan = killed !== undefined && killed <= next.atMs;
    const hasFailed = request.status === undefined && next.atMs - request.atMs >= deadlineMs - ROUNDING_MS;
    if (isOrphan || hasFailed) return [];
    const what = `${request.deliveryId} to ${request.path}, by ${next.sender} after ${next.atMs - request.atMs} ms`;
    return [
      { kind: 'repeated', what: `${what}: ${request.sender} was alive and had ${request.status ?? 'no answer'}` },
    ];
  });
}
