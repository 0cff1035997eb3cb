import { EngineError } from '../errors.ts';
import type { CursorCodec } from '../outbox/cursor.ts';
import { resolveCursor } from '../outbox/place.ts';
import { type LogDatabase, readShardOf } from '../outbox/read.ts';
import type { Clock } from '../runtime/clock.ts';
import type { Observe } from '../runtime/observe.ts';
import type { ShardFeeds } from './feed.ts';
import { Group } from './group.ts';
import type { Sink, StreamOrder } from './stream.ts';

/** All live streams of a process. */
export interface Hub {
  /**
   * Attaches a subscriber. Resolves before its first event, when none can be missed any more; `close` detaches it.
   * @throws EngineError INVALID_CURSOR, CURSOR_EXPIRED, CURSOR_PENDING, EPOCH_CHANGED; nothing is attached then
   */
  open(order: StreamOrder, sink: Sink): Promise<() => void>;
  /** The principals that have streams. */
  owners(): ReadonlySet<string>;
  /** Ends the streams of a principal, or only those whose scopes are affected. */
  end(ownerId: string, error: EngineError, isAffected?: (scopes: readonly string[]) => boolean): void;
  /** Fills what the bus has lost. Call each second, and each 200 ms while `isInterrupted`. */
  catchUp(): Promise<void>;
  isInterrupted(): boolean;
  /** How many streams and groups there are. */
  count(): { readonly streams: number; readonly groups: number };
  /** Ends all streams, without an error. */
  close(): Promise<void>;
}

export interface HubDeps {
  readonly database: LogDatabase;
  readonly cursors: CursorCodec;
  readonly feeds: ShardFeeds;
  readonly clock: Clock;
  readonly observe: Observe;
}

/** A group with its attachment to the feed. */
interface Live {
  readonly group: Group;
  readonly attached: Promise<() => void>;
  /** Opens that are under way: keeps the group while it has no member yet. */
  opening: number;
}

export function createHub(deps: HubDeps): Hub {
  const groups = new Map<string, Live>();
  let isClosed = false;

  async function open(order: StreamOrder, sink: Sink): Promise<() => void> {
    if (isClosed) throw new EngineError('UNAVAILABLE', 'the server is stopping; connect again');
    const after = order.after === undefined ? undefined : await resolveCursor(deps, order.accountId, order.after);
    const live = groups.get(order.key) ?? start(order);
    live.opening++;
    try {
      await live.attached;
      const member = live.group.join(sink, { ownerId: order.ownerId, after });
      return () => {
        live.group.leave(member);
        endIfIdle(order.key, live);
      };
    } finally {
      live.opening--;
      endIfIdle(order.key, live);
    }
  }

  function start(order: StreamOrder): Live {
    const group = new Group(deps, order);
    const live: Live = { group, attached: attach(order, group), opening: 0 };
    groups.set(order.key, live);
    live.attached.catch(() => groups.delete(order.key));
    return live;
  }

  async function attach(order: StreamOrder, group: Group): Promise<() => void> {
    const { accountId } = order;
    const shard = await readShardOf(deps.database.db, accountId);
    const detach = await deps.feeds.attach({ shard, accountId }, (event) => group.push(event));
    await group.start().catch((error: unknown) => {
      detach();
      throw error;
    });
    return detach;
  }

  function endIfIdle(key: string, live: Live): void {
    if (!live.group.isEmpty || live.opening > 0 || groups.get(key) !== live) return;
    groups.delete(key);
    // a failure to attach has been told to whoever opened
    live.attached.then(
      (detach) => detach(),
      () => {},
    );
  }

  function endMembers(
    error: EngineError | undefined,
    isMeant: (ownerId: string, scopes: readonly string[]) => boolean,
  ): void {
    for (const [key, live] of groups) {
      for (const member of [...live.group.members]) {
        if (!isMeant(member.ownerId, live.group.scopes)) continue;
        live.group.leave(member);
        member.sink.end(error);
      }
      endIfIdle(key, live);
    }
  }

  return {
    open,
    owners: () =>
      new Set([...groups.values()].flatMap(({ group }) => [...group.members].map(({ ownerId }) => ownerId))),
    end: (ownerId, error, isAffected = () => true) =>
      endMembers(error, (each, scopes) => each === ownerId && isAffected(scopes)),
    async catchUp() {
      await deps.feeds.checkHeads();
      for (const { group } of groups.values()) group.retry();
    },
    isInterrupted: () => deps.feeds.isInterrupted(),
    count: () => ({
      groups: groups.size,
      streams: [...groups.values()].reduce((sum, { group }) => sum + [...group.members].length, 0),
    }),
    async close() {
      isClosed = true;
      endMembers(undefined, () => true);
      await deps.feeds.close();
    },
  };
}
