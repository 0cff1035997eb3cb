import { EngineError } from '../errors.ts';
import type { CursorCodec } from '../outbox/cursor.ts';
import { resolveCursor } from '../outbox/place.ts';
import { type LogDatabase, readShardOf } from '../outbox/read.ts';
import type { Clock } from '../runtime/clock.ts';
import type { Observe } from '../runtime/observe.ts';
import type { ShardFeeds } from './feed.ts';
import { Group } from './group.ts';
import type { Member } from './member.ts';
import type { Sink, StreamOrder, StreamOwner } from './stream.ts';
import { createTurns } from './turns.ts';

/** All live streams of a process. */
export interface Hub {
  /**
   * Attaches a subscriber. Resolves before its first event, when none can be missed any more; `close` detaches it.
   * @throws EngineError INVALID_CURSOR, CURSOR_EXPIRED, CURSOR_PENDING, EPOCH_CHANGED; nothing is attached then
   */
  open(order: StreamOrder, sink: Sink): Promise<() => void>;
  /** The principals that have streams. */
  owners(): ReadonlySet<string>;
  /** Ends each stream for which `reason` gives an error. It is asked once per stream, with the scopes that the results depend on. */
  end(reason: (owner: StreamOwner, scopes: readonly string[]) => EngineError | undefined): void;
  /** Fills what the bus has lost. Call each second, and each 200 ms while `isInterrupted`. */
  catchUp(): Promise<void>;
  isInterrupted(): boolean;
  /** Tells quiet subscribers that asked for it where they stand. Call each second: they are told up to a second late. */
  tellQuiet(): void;
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
  /** For how long a subscriber that asked for checkpoints may be told nothing, in ms. */
  readonly checkpointMs: number;
}

/** A group with its attachment to the feed. */
interface Live {
  readonly key: string;
  readonly group: Group;
  readonly attached: Promise<() => void>;
  /** Opens that are under way: keeps the group while it has no member yet. */
  opening: number;
}

export function createHub(deps: HubDeps): Hub {
  const groupDeps = { ...deps, turns: createTurns() };
  const groups = new Map<string, Live>();
  let isClosed = false;

  async function open(order: StreamOrder, sink: Sink): Promise<() => void> {
    if (isClosed) throw new EngineError('UNAVAILABLE', 'the server is stopping; connect again');
    const after = order.after === undefined ? undefined : await resolveCursor(deps, order.accountId, order.after);
    const live = groups.get(order.key) ?? start(order);
    live.opening++;
    try {
      await live.attached;
      const member = live.group.join(sink, { owner: order.owner, checkpoints: order.checkpoints, after });
      return leaving(live, member);
    } finally {
      live.opening--;
      endIfIdle(live);
    }
  }

  /** Apart from `open`, so that what it gives does not hold on to the order: a stream's operation is kept once for its group. */
  function leaving(live: Live, member: Member): () => void {
    return () => {
      live.group.leave(member);
      endIfIdle(live);
    };
  }

  function start(order: StreamOrder): Live {
    const group = new Group(groupDeps, order);
    const live: Live = { key: order.key, group, attached: attach(order, group), opening: 0 };
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

  function endIfIdle(live: Live): void {
    if (!live.group.isEmpty || live.opening > 0 || groups.get(live.key) !== live) return;
    groups.delete(live.key);
    // a failure to attach has been told to whoever opened
    live.attached.then(
      (detach) => detach(),
      () => {},
    );
  }

  function end(reason: (owner: StreamOwner, scopes: readonly string[]) => EngineError | undefined): void {
    for (const live of groups.values()) {
      for (const member of live.group.members) {
        const error = reason(member.owner, live.group.scopes);
        if (error !== undefined) endMember(live, member, error);
      }
      endIfIdle(live);
    }
  }

  function endMember({ group }: Live, member: Member, error: EngineError | undefined): void {
    group.leave(member);
    member.sink.end(error);
  }

  function owners(): ReadonlySet<string> {
    const principals = new Set<string>();
    for (const { group } of groups.values()) for (const { owner } of group.members) principals.add(owner.principalId);
    return principals;
  }

  return {
    open,
    owners,
    end,
    async catchUp() {
      await deps.feeds.checkHeads();
      for (const { group } of groups.values()) group.retry();
    },
    isInterrupted: () => deps.feeds.isInterrupted(),
    tellQuiet() {
      const now = deps.clock.now();
      for (const { group } of groups.values()) group.tellQuiet(now, deps.checkpointMs);
    },
    count: () => ({
      groups: groups.size,
      streams: [...groups.values()].reduce((sum, { group }) => sum + [...group.members].length, 0),
    }),
    async close() {
      isClosed = true;
      for (const live of groups.values()) {
        for (const member of live.group.members) endMember(live, member, undefined);
        endIfIdle(live);
      }
      await deps.feeds.close();
    },
  };
}
