import type { SubscribePayload } from 'graphql-ws';
import { createBackoff, pause } from './backoff.ts';
import { openCall } from './call.ts';
import { ENDED, explain, type Fault, STOPPED, WatchError } from './fault.ts';
import { createHandover } from './handover.ts';
import type { Link, Result } from './link.ts';
import type { OperationShape } from './operation.ts';
import { createSequence, type Gap } from './sequence.ts';

/**
 * How a subscription stands. What the server has done before a state is reached has been handed over when it is told.
 * - *connecting*: a connection is being made, or waited for;
 * - *catching up*: the server takes it; what happened meanwhile is coming;
 * - *live*: the server has said that all up to now was sent, and it was handed over; what happens from now on will come;
 * - *interrupted*: it broke, for `reason`, and will be tried again after `retryMs`.
 *
 * A connection that dies without a word is noticed by its silence: at most 15 s later over WebSocket, 30 s over SSE.
 */
export type StreamState =
  | { readonly state: 'connecting' }
  | { readonly state: 'catching up' }
  | { readonly state: 'live' }
  | { readonly state: 'interrupted'; readonly reason: string; readonly retryMs: number };

export interface SubscriptionOptions {
  readonly payload: SubscribePayload;
  readonly shape: OperationShape;
  /** Where to begin: behind this cursor. @default what the document says, else the log's head */
  readonly after?: string | undefined;
  /** Called with each event once, in order; its promise is awaited before the next. Throwing ends the subscription. */
  readonly onEvent: (result: Result, cursor: string) => void | Promise<void>;
  /** Told of each change. Must not throw. */
  readonly onState: (state: StreamState) => void;
  readonly random?: (() => number) | undefined;
}

/** A subscription that goes on over broken connections. */
export interface OpenSubscription {
  /** Ends it. Twice is harmless. */
  stop(): void;
  /** Resolves after a stop, when `onEvent` is at rest. @throws WatchError, or what `onEvent` threw */
  readonly ended: Promise<void>;
}

/** Events that wait for `onEvent`. A slower one costs another try, never memory without end or an event. */
const MAX_WAITING = 1_000;

/** Begins one. It tries for ever, each time behind the last event or checkpoint that came. */
export function openSubscription(link: Link, options: SubscriptionOptions): OpenSubscription {
  const subscription = new Subscription(link, options);
  return { stop: () => subscription.stop(), ended: subscription.run() };
}

type Item = { readonly result: Result; readonly cursor: string } | { readonly caughtUp: object };

/** Why one try is over, and how long to wait. */
interface End {
  readonly fault: Fault;
  readonly retryMs?: number | undefined;
}

class Subscription {
  readonly #link: Link;
  readonly #options: SubscriptionOptions;
  readonly #stopping = new AbortController();
  readonly #backoff;
  readonly #sequence;
  readonly #keys = { refusedKeys: 0 };
  readonly #handover = createHandover<Item>({
    take: (item) => this.#take(item),
    onFailure: (error) => {
      this.#failure = { error };
      this.stop();
    },
    max: MAX_WAITING,
  });
  #failure: { readonly error: unknown } | undefined;
  #cursor: string | undefined;
  #state: StreamState['state'] | undefined;
  /** The try that goes on; undefined between two. */
  #attempt: object | undefined;
  /** A gap that was there once: it is read again before it counts. */
  #suspect: Gap | undefined;
  #examined: Promise<void> = Promise.resolve();

  constructor(link: Link, options: SubscriptionOptions) {
    this.#link = link;
    this.#options = options;
    this.#cursor = options.after;
    this.#backoff = createBackoff(options);
    this.#sequence = createSequence(options.shape);
  }

  stop(): void {
    this.#stopping.abort();
    this.#handover.close();
  }

  async run(): Promise<void> {
    const { signal } = this.#stopping;
    try {
      while (!signal.aborted) {
        this.#tell({ state: 'connecting' });
        const { fault, retryMs = this.#backoff.next() } = await this.#try();
        if (signal.aborted) break;
        const reason = explain(fault, this.#keys);
        this.#tell({ state: 'interrupted', reason, retryMs });
        await pause(retryMs, signal);
        await this.#handover.drained(); // a slow receiver: what comes next would only wait
        await this.#examined;
      }
    } catch (error) {
      await this.#handover.drained(); // what came before it
      if (!signal.aborted) throw error;
    }
    await this.#handover.drained();
    if (this.#failure !== undefined) throw this.#failure.error;
  }

  /** One try, to its end. */
  #try(): Promise<End> {
    const { signal } = this.#stopping;
    const attempt = {};
    this.#attempt = attempt;
    return new Promise<End>((resolve) => {
      let leave = () => {};
      let forget = () => {};
      const end = (fault: Fault, retryMs?: number) => {
        if (this.#attempt !== attempt) return;
        this.#attempt = undefined;
        signal.removeEventListener('abort', stop);
        forget();
        leave();
        resolve({ fault, retryMs });
      };
      const stop = () => end(STOPPED);
      signal.addEventListener('abort', stop, { once: true });
      const stopTry = this.#link.start(this.#request(), {
        sent: () => {},
        accepted: () => {
          this.#keys.refusedKeys = 0;
          forget = this.#backoff.lasting();
          this.#tell({ state: 'catching up' });
        },
        next: (result) => {
          if (this.#attempt === attempt) this.#receive(result, end);
        },
        end: (fault = ENDED, retryMs) => end(fault, retryMs),
      });
      leave = stopTry;
      if (this.#attempt !== attempt) stopTry(); // it ended at once
    });
  }

  #request(): SubscribePayload {
    const { payload } = this.#options;
    const after = this.#cursor === undefined ? {} : { after: this.#cursor };
    return { ...payload, extensions: { ...payload.extensions, ...after, checkpoints: true } };
  }

  #receive(result: Result, end: (fault: Fault, retryMs?: number) => void): void {
    const cursor = cursorOf(result);
    if (cursor === undefined) end(faultIn(result));
    else if (isCheckpoint(result)) {
      this.#cursor = cursor;
      this.#handover.offer({ caughtUp: this.#attempt ?? {} });
    } else {
      const place = this.#sequence.look(result, cursor);
      if (place === 'new') this.#accept(result, cursor, end);
      else if (place !== 'repeated') this.#meet(place, end);
    }
  }

  #accept(result: Result, cursor: string, end: (fault: Fault, retryMs?: number) => void): void {
    this.#suspect = undefined;
    this.#cursor = cursor;
    this.#backoff.reset();
    this.#link.flowing();
    if (this.#handover.offer({ result, cursor })) return;
    end(new Error(`onEvent is slower than events come: ${MAX_WAITING} wait`), 0);
  }

  /** A gap counts where it is still there when it is read again, unless not all events are for this key. */
  #meet(gap: Gap, end: (fault: Fault) => void): void {
    const jump = `positions jump from ${gap.from} to ${gap.to}`;
    if (this.#suspect?.to === gap.to) {
      end(new WatchError('POSITION_GAP', `${jump}, also when read again: the log has lost events`, { ...gap }));
      return;
    }
    this.#examined = seesAllEvents(this.#link, this.#options).then((seesAll) => {
      if (seesAll === false) this.#sequence.allowGaps();
      if (seesAll === true) this.#suspect = gap;
    });
    end(new Error(`${jump}: they are read again`));
  }

  #take(item: Item): void | Promise<void> {
    if ('result' in item) return this.#options.onEvent(item.result, item.cursor);
    if (item.caughtUp === this.#attempt) this.#tell({ state: 'live' });
    return undefined;
  }

  #tell(state: StreamState): void {
    if (this.#state === state.state) return;
    this.#state = state.state;
    this.#options.onState(state);
  }
}

function cursorOf({ extensions }: Result): string | undefined {
  // whatever it is, reading a name of it is safe
  const cursor = (extensions as { readonly cursor?: unknown } | null | undefined)?.cursor;
  return typeof cursor === 'string' ? cursor : undefined;
}

/** It says only where the stream stands. */
function isCheckpoint({ data, errors }: Result): boolean {
  return data === undefined && errors === undefined;
}

/** What a result without cursor says: over SSE errors come so. */
function faultIn({ data, errors }: Result): Fault {
  if (data === undefined && errors !== undefined) return errors;
  return new WatchError('BAD_INPUT', 'the server sends no cursors: is it Fanfare?');
}

/** Whether all of the account's events are for this key; undefined if that can't be known now. Never rejects. */
async function seesAllEvents(link: Link, { random }: SubscriptionOptions): Promise<boolean | undefined> {
  let answer: Result | undefined;
  const { ended } = openCall(link, {
    payload: { query: '{ viewer { seesAllEvents } }' },
    kind: 'query',
    random,
    onResult: (result) => {
      answer = result;
    },
  });
  await ended.catch(() => {}); // asked again at the next gap
  // what the query asks for
  const viewer = answer?.data?.viewer as { readonly seesAllEvents: boolean } | undefined;
  return viewer?.seesAllEvents;
}
