import { eventually } from '../eventually.ts';
import type { Deployment } from './deployment.ts';
import { readHead } from './log.ts';
import { type NaiveBus, openNaiveBus } from './naive-bus.ts';
import { type NaiveSender, startNaiveSender } from './naive-sender.ts';
import { openNaiveWebSocketStream, type Stream } from './streams.ts';

/** Careless clients beside the listeners, which must lose events where those don't: else the kills prove nothing. */
export interface Controls {
  /** Killed together with the role that sends callbacks; undefined where nothing is killed. */
  readonly sender: NaiveSender | undefined;
  /** Marks the log until each of them has got a mark: so what it has not got by then, it has lost. */
  hear(mark: () => Promise<string>): Promise<void>;
  /** By name, the ids of the events that it got. */
  ids(): Readonly<Record<string, ReadonlySet<string>>>;
  close(): Promise<void>;
}

const HEARS_WITHIN_MS = 3_000;
/** Marks in vain, while it gets nothing else either. */
const GIVE_UP_AFTER = 10;

export async function openControls(
  { api, live, key, redis }: Deployment,
  { query, isKilled }: { readonly query: string; readonly isKilled: boolean },
): Promise<Controls> {
  if (!isKilled) return { sender: undefined, hear: async () => {}, ids: () => ({}), close: async () => {} };
  const after = await readHead({ url: api.url, key });
  const sender = await startNaiveSender({ url: live.url, key, after });
  const stream = openNaiveWebSocketStream({ url: live.url, wsUrl: live.wsUrl, key, query });
  const bus = redis === undefined ? undefined : await openNaiveBus(redis.url);
  const ids = () => idsOf({ sender, stream, bus });
  return {
    sender,
    ids,
    hear: (mark) => hearMark(mark, ids),
    async close() {
      bus?.close();
      await stream.close();
      await sender.close();
    },
  };
}

interface Careless {
  readonly sender: NaiveSender;
  readonly stream: Stream;
  readonly bus: NaiveBus | undefined;
}

function idsOf({ sender, stream, bus }: Careless): Readonly<Record<string, ReadonlySet<string>>> {
  return {
    'a WebSocket client without cursor': new Set(stream.events.map(({ id }) => id)),
    'a sender that notes a page before it is sent': sender.ids,
    ...(bus === undefined ? {} : { 'the bus alone': bus.ids }),
  };
}

/** One that is connecting just then misses the mark, and one that is behind will come to it: others are made for them. */
async function hearMark(mark: () => Promise<string>, ids: Controls['ids']): Promise<void> {
  const deaf = new Set(Object.keys(ids()));
  const heard = () => [...deaf].reduce((sum, name) => sum + (ids()[name]?.size ?? 0), 0);
  for (let inVain = 0; deaf.size > 0 && inVain < GIVE_UP_AFTER; ) {
    const before = heard();
    const id = await mark();
    const hasAllHeard = () => {
      for (const name of deaf) if (ids()[name]?.has(id)) deaf.delete(name);
      return deaf.size === 0;
    };
    await eventually(hasAllHeard, { deadlineMs: HEARS_WITHIN_MS }).catch(() => {}); // the next mark
    inVain = heard() > before ? 0 : inVain + 1;
  }
  if (deaf.size > 0) throw new Error(`expected every control to listen at the end, ${[...deaf].join(' and ')} did not`);
}
