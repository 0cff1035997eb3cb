import { setTimeout as wait } from 'node:timers/promises';
import { createFanfareClient, createFanfareSseClient } from '#client';
import { followSocket, followSse, type Result } from './connections.ts';
import { filterFor, type Wanted } from './filters.ts';
import { createRecorder, type Record } from './record.ts';

/** How a reader listens. */
export interface ReaderPlan {
  readonly name: string;
  /** By a bare client, or by the helper for front-ends. */
  readonly transport: 'WebSocket' | 'SSE' | 'helper over WebSocket' | 'helper over SSE';
  readonly wanted: Wanted;
  /**
   * What it subscribes with again. *last*: the cursor of the last result, a checkpoint's too. The careless: *first*, the
   * cursor that it began with; *none*.
   */
  readonly resume: 'last' | 'first' | 'none';
  /** Only this node, not whichever lets it in. */
  readonly onlyNode?: number;
}

/** Where all readers listen, and from where on. */
export interface Place {
  readonly urls: readonly string[];
  readonly key: string;
  /** A cursor. */
  readonly after: string;
  /** Declares `$filter` and `$after`, asks for `events`. @default one for id and position */
  readonly query?: string;
}

export interface Progress {
  readonly name: string;
  readonly wanted: Wanted;
  readonly resume: ReaderPlan['resume'];
  readonly count: number;
  /** The newest position. */
  readonly last: number;
  /** Connections that ended. */
  readonly breaks: number;
  /** Results without an event. */
  readonly checkpoints: number;
  /** Why the last connection ended. */
  readonly lastFault: string | undefined;
}

/** A client that subscribes again whenever its connection ends. It drops no duplicate: the server must send none. */
export interface Reader {
  progress(): Progress;
  record(): Record;
  /** Resolves when it has let go of its connection. */
  close(): Promise<void>;
}

const QUERY =
  'subscription ($filter: EventFilter, $after: String) { events(filter: $filter, after: $after) { id position } }';
const PAUSE_MS = { least: 50, most: 400 };

export function openReader(plan: ReaderPlan, place: Place): Reader {
  const recorder = createRecorder();
  const stop = new AbortController();
  const state = { breaks: 0, checkpoints: 0, lastFault: undefined as string | undefined };
  let cursor: string | undefined = place.after;

  function take({ data, errors, extensions }: Result): void {
    if (errors !== undefined) throw new Error(JSON.stringify(errors));
    if (data) recorder.note(data.events);
    else state.checkpoints += 1;
    if (extensions?.cursor !== undefined) cursor = extensions.cursor;
  }

  function after(): string | undefined {
    if (plan.resume === 'none') return undefined;
    return plan.resume === 'last' ? cursor : place.after;
  }

  /** One connection, which also ends with the first result that is a fault. */
  async function follow(): Promise<string> {
    const broken = new AbortController();
    let fault: string | undefined;
    const onResult = (result: Result) => {
      try {
        if (fault === undefined) take(result);
      } catch (error) {
        fault = String(error);
        broken.abort();
      }
    };
    const isById = plan.transport === 'SSE' && plan.wanted === 'all';
    const reason = await (plan.transport === 'SSE' ? followSse : followSocket)({
      url: pickNode(plan, place),
      key: place.key,
      query: place.query ?? QUERY,
      variables: { filter: filterFor(plan.wanted), after: isById ? undefined : after() },
      extensions: { checkpoints: plan.wanted !== 'all' },
      lastEventId: isById ? after() : undefined,
      onResult,
      signal: AbortSignal.any([stop.signal, broken.signal]),
    });
    return fault ?? reason;
  }

  async function run(): Promise<void> {
    while (!stop.signal.aborted) {
      const reason = await follow();
      if (stop.signal.aborted) return;
      state.breaks += 1;
      state.lastFault = reason;
      const pauseMs = PAUSE_MS.least + Math.random() * (PAUSE_MS.most - PAUSE_MS.least);
      await wait(pauseMs, undefined, { signal: stop.signal }).catch(() => {}); // the stop
    }
  }

  /** By itself it stays with one address, which a balancer would stand behind. */
  async function runHelper(): Promise<void> {
    const create = plan.transport === 'helper over SSE' ? createFanfareSseClient : createFanfareClient;
    const client = create({ url: pickNode(plan, place), key: place.key });
    const { promise, resolve } = Promise.withResolvers<void>();
    const payload = { query: place.query ?? QUERY, variables: { filter: filterFor(plan.wanted) } };
    client.subscribe(
      payload,
      {
        // as the document asks for it
        next: (result) => take(result as Result),
        error(error) {
          state.lastFault = `given up: ${JSON.stringify(error)}`;
          resolve();
        },
        complete: resolve,
      },
      {
        after: place.after,
        onState(told) {
          if (told.state !== 'interrupted') return;
          state.breaks += 1;
          state.lastFault = told.reason;
        },
      },
    );
    stop.signal.addEventListener('abort', () => resolve(), { once: true });
    await promise;
    await client.dispose();
  }

  const ended = (plan.transport.startsWith('helper') ? runHelper() : run()).catch((error: unknown) => {
    state.lastFault = `given up: ${error}`;
  });
  return {
    progress() {
      const { name, wanted, resume } = plan;
      return { name, wanted, resume, count: recorder.count, last: recorder.last, ...state };
    },
    record: () => recorder.read(),
    close() {
      stop.abort();
      return ended;
    },
  };
}

function pickNode({ onlyNode }: ReaderPlan, { urls }: Place): string {
  const url = urls[onlyNode ?? Math.floor(Math.random() * urls.length)];
  if (url === undefined) throw new Error(`there is no node ${onlyNode}`);
  return url;
}
