import type { Bus, BusSubscription } from '../bus/bus.ts';
import { type LogDatabase, readShard, readShardHeads, type ShardRecord } from '../outbox/read.ts';
import type { Observe } from '../runtime/observe.ts';
import { readMessage, type ShardMessage, shardChannel } from './message.ts';

/** Called with each event of an account, in order, without gap; synchronous, and returns at once. */
export type EventListener = (event: ShardRecord) => void;

/**
 * The events of the shards as this process sees them: from the bus while it works, from Postgres where it does not.
 * A process has one bus subscription per shard that somebody listens to.
 */
export interface ShardFeeds {
  /**
   * Resolves when each event stamped from now on is sure to reach the listener. Close it by what it resolves to.
   * @throws whatever the database throws while the shard's head is read
   */
  attach(place: { readonly shard: number; readonly accountId: string }, listener: EventListener): Promise<() => void>;
  /** Compares what was seen with the heads in Postgres and fills what is missing; call each second, more often while the bus is down. */
  checkHeads(): Promise<void>;
  /** Whether some shard's subscription is interrupted. */
  isInterrupted(): boolean;
  /** Ends all bus subscriptions; listeners are not called any more. */
  close(): Promise<void>;
}

export interface FeedDeps {
  readonly database: LogDatabase;
  readonly bus: Bus;
  readonly observe: Observe;
}

/** Messages kept while a gap is filled; more are dropped and read from Postgres instead. */
const MAX_PENDING = 256;
const FILL_PAGE = 500;

export function createShardFeeds(deps: FeedDeps): ShardFeeds {
  const feeds = new Map<number, Feed>();

  async function attach(
    { shard, accountId }: { shard: number; accountId: string },
    listener: EventListener,
  ): Promise<() => void> {
    let feed = feeds.get(shard);
    if (feed === undefined) {
      feed = new Feed(shard, deps);
      feeds.set(shard, feed);
    }
    const mine = feed;
    const detach = mine.listen(accountId, listener);
    const close = () => {
      detach();
      if (mine.isIdle() && feeds.get(shard) === mine) {
        feeds.delete(shard);
        void mine.close(); // never rejects
      }
    };
    await mine.open().catch((error: unknown) => {
      close();
      throw error;
    });
    return close;
  }

  return {
    attach,
    async checkHeads() {
      if (feeds.size === 0) return;
      const heads = await readShardHeads(deps.database.db);
      for (const [shard, feed] of feeds) feed.noticeHead(heads.get(shard) ?? 0);
    },
    isInterrupted: () => [...feeds.values()].some((feed) => feed.interrupted),
    async close() {
      const open = [...feeds.values()];
      feeds.clear();
      await Promise.all(open.map((feed) => feed.close()));
    },
  };
}

/**
 * One shard. *Opening* until the subscription is confirmed and the head read; *following* while messages join up with
 * `offset`; *behind* while a gap is filled from Postgres, messages meanwhile kept or dropped; *closed*.
 */
class Feed {
  interrupted = false;
  readonly #shard: number;
  readonly #deps: FeedDeps;
  readonly #listeners = new Map<string, Set<EventListener>>();
  #opening: Promise<void> | undefined;
  #subscription: BusSubscription | undefined;
  #offset = 0;
  #pending: ShardMessage[] = [];
  /** The offset that is known to exist in Postgres. */
  #known = 0;
  #advancing = false;
  #ready = false;
  #closed = false;

  constructor(shard: number, deps: FeedDeps) {
    this.#shard = shard;
    this.#deps = deps;
  }

  listen(accountId: string, listener: EventListener): () => void {
    const listeners = this.#listeners.get(accountId) ?? new Set();
    this.#listeners.set(accountId, listeners.add(listener));
    return () => {
      listeners.delete(listener);
      if (listeners.size === 0) this.#listeners.delete(accountId);
    };
  }

  isIdle(): boolean {
    return this.#listeners.size === 0;
  }

  open(): Promise<void> {
    this.#opening ??= this.#open().catch((error: unknown) => {
      this.#opening = undefined;
      throw error;
    });
    return this.#opening;
  }

  async #open(): Promise<void> {
    this.#subscription ??= await this.#deps.bus.subscribe(shardChannel(this.#shard), {
      message: (text) => this.#receive(text),
      interrupted: () => {
        this.interrupted = true;
      },
      resumed: () => {
        this.interrupted = false;
        this.#fillFromHead();
      },
    });
    // read after the confirmation: whatever is stamped later comes by the bus, or shows as a gap
    const head = (await readShardHeads(this.#deps.database.db)).get(this.#shard) ?? 0;
    this.#offset = head;
    this.#known = Math.max(this.#known, head);
    this.#ready = true;
    this.#advance();
    if (this.#closed) await this.#subscription.close();
  }

  /** Postgres has stamped up to this offset. */
  noticeHead(head: number): void {
    if (!this.#ready || head <= this.#offset) return;
    this.#known = Math.max(this.#known, head);
    this.#advance();
  }

  #receive(text: string): void {
    const message = readMessage(text);
    if (message === undefined) return;
    this.#known = Math.max(this.#known, message.upTo);
    if (this.#pending.length < MAX_PENDING) this.#pending.push(message);
    this.#advance();
  }

  #fillFromHead(): void {
    readShardHeads(this.#deps.database.db).then(
      (heads) => this.noticeHead(heads.get(this.#shard) ?? 0),
      (error: unknown) => this.#deps.observe({ name: 'feed.fill_failed', level: 'warn', shard: this.#shard, error }),
    );
  }

  /** One at a time; what comes in meanwhile is seen before it ends. A failure is tried again by the next head check. */
  #advance(): void {
    if (this.#advancing || !this.#ready || this.#closed) return;
    this.#advancing = true;
    this.#catchUp().catch((error: unknown) =>
      this.#deps.observe({ name: 'feed.fill_failed', level: 'warn', shard: this.#shard, error }),
    );
  }

  async #catchUp(): Promise<void> {
    try {
      while (!this.#closed && (this.#pending.length > 0 || this.#offset < this.#known)) {
        const message = this.#pending[0];
        if (message === undefined || !this.#joinsUp(message)) await this.#fill();
        else {
          this.#pending.shift();
          for (const event of message.events) this.#deliver(event);
        }
      }
    } finally {
      // in the same turn as the look at what is pending, so that nothing can come in between
      this.#advancing = false;
    }
  }

  #joinsUp({ before, upTo, events }: ShardMessage): boolean {
    return before <= this.#offset && (events.length > 0 || upTo <= this.#offset);
  }

  async #fill(): Promise<void> {
    const known = this.#known; // what comes in while it reads is not part of what it has seen
    const events = await readShard(this.#deps.database.db, this.#shard, this.#offset, FILL_PAGE);
    this.#deps.observe({ name: 'feed.filled', shard: this.#shard, events: events.length });
    // rows that retention has dropped are no gap to wait for
    if (events.length === 0) this.#offset = Math.max(this.#offset, known);
    for (const event of events) this.#deliver(event);
  }

  #deliver(event: ShardRecord): void {
    if (event.shardOffset <= this.#offset) return;
    this.#offset = event.shardOffset;
    for (const listener of this.#listeners.get(event.accountId) ?? []) listener(event);
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#listeners.clear();
    await this.#subscription?.close();
  }
}
