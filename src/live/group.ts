import { setImmediate as nextTurn } from 'node:timers/promises';
import { EngineError } from '../errors.ts';
import type { CursorCodec } from '../outbox/cursor.ts';
import { filterPredicate } from '../outbox/filter.ts';
import { requireReadable } from '../outbox/place.ts';
import { type EventRecord, type LogDatabase, readEvents, readHead } from '../outbox/read.ts';
import type { Observe } from '../runtime/observe.ts';
import { Member } from './member.ts';
import type { Frame, Sink, StreamOrder, StreamResult } from './stream.ts';

export interface GroupDeps {
  readonly database: LogDatabase;
  readonly cursors: CursorCodec;
  readonly observe: Observe;
}

/** Events waiting for their execution; more are dropped and read from Postgres instead. */
const MAX_WAITING = 1_000;
const PAGE = 100;
/** Executions in one turn of the event loop. */
const TURN = 20;

/**
 * Equal subscribers of an account: one execution and one serialization per event, whoever and however many they are.
 * `position` is that of the last event it has dealt with; members that are *live* have got all up to it.
 */
export class Group {
  readonly #deps: GroupDeps;
  readonly #order: StreamOrder;
  readonly #matches: (event: EventRecord) => boolean;
  readonly #members = new Set<Member>();
  #position = 0;
  #waiting: EventRecord[] = [];
  #isBehind = false;
  #working = false;
  #started = false;

  constructor(deps: GroupDeps, order: StreamOrder) {
    this.#deps = deps;
    this.#order = order;
    this.#matches = filterPredicate(order.filters);
  }

  /** Starts behind the account's head; call once the feed is attached, so that nothing falls in between. */
  async start(): Promise<void> {
    const head = await readHead(this.#deps.database.db, this.#order.accountId);
    this.#position = Math.max(this.#position, head);
    this.#waiting = this.#waiting.filter(({ position }) => position > this.#position);
    this.#started = true;
    this.#work();
  }

  get isEmpty(): boolean {
    return this.#members.size === 0;
  }

  /** Scopes that its results depend on. */
  get scopes(): readonly string[] {
    return this.#order.scopes;
  }

  get members(): Iterable<Member> {
    return this.#members;
  }

  /** A live event of the account. */
  push(event: EventRecord): void {
    if (this.#waiting.length >= MAX_WAITING) {
      this.#waiting = [];
      this.#isBehind = true;
    }
    this.#waiting.push(event);
    this.#work();
  }

  /** Adds a subscriber: live from here on, or behind `after` by replay. */
  join(sink: Sink, options: { readonly ownerId: string; readonly after: number | undefined }): Member {
    const member = new Member(sink, options.ownerId);
    this.#members.add(member);
    if (options.after === undefined) member.goLive(this.#position);
    else {
      this.#replay(member, options.after).catch((error: unknown) => {
        this.#deps.observe({ name: 'stream.replay_failed', level: 'error', error });
        this.leave(member);
        member.fail(error);
      });
    }
    return member;
  }

  leave(member: Member): void {
    member.close();
    this.#members.delete(member);
  }

  /** Buffers live frames, replays up to a head read after the buffering began, drops the overlap, goes live. */
  async #replay(member: Member, after: number): Promise<void> {
    const { database } = this.#deps;
    const { accountId, filters } = this.#order;
    let position = after;
    while (!member.isClosed) {
      member.startBuffer(this.#position);
      const head = await readHead(database.db, accountId);
      while (position < head && !member.isClosed) {
        const events = await readEvents(database.db, {
          accountId,
          filters,
          after: position,
          before: head + 1,
          limit: PAGE,
        });
        await requireReadable(this.#deps, accountId, position);
        for (const event of events) {
          const frame = await this.#render(event);
          await member.sink.ready();
          if (member.isClosed) return;
          member.sink.next(frame);
        }
        position = events.length < PAGE ? head : (events.at(-1)?.position ?? head);
      }
      if (member.goLiveFrom(position)) return;
    }
  }

  /** One worker per group keeps its order. */
  #work(): void {
    if (this.#working || !this.#started) return;
    this.#working = true;
    void this.#drain(); // never rejects
  }

  /** Tries again after a failure; called with each check of the heads. */
  retry(): void {
    if (this.#isBehind) this.#work();
  }

  async #drain(): Promise<void> {
    try {
      for (let done = 1; ; done++) {
        if (this.#isBehind) await this.#readMissing();
        const event = this.#waiting.shift();
        if (event === undefined) return;
        await this.#handOut(event);
        if (done % TURN === 0) await nextTurn();
      }
    } catch (error) {
      this.#isBehind = true;
      this.#deps.observe({ name: 'stream.failed', level: 'error', error });
    } finally {
      // in the same turn as the look at what is waiting, so that nothing can come in between
      this.#working = false;
    }
  }

  async #readMissing(): Promise<void> {
    const { accountId, filters } = this.#order;
    // before the head is read: what is dropped from now on may be behind it
    this.#isBehind = false;
    const head = await readHead(this.#deps.database.db, accountId);
    while (this.#position < head) {
      const events = await readEvents(this.#deps.database.db, {
        accountId,
        filters,
        after: this.#position,
        before: head + 1,
        limit: PAGE,
      });
      for (const event of events) await this.#handOut(event);
      const isLast = events.length < PAGE;
      this.#position = Math.max(this.#position, isLast ? head : (events.at(-1)?.position ?? head));
    }
  }

  async #handOut(event: EventRecord): Promise<void> {
    if (event.position <= this.#position) return;
    if (this.#matches(event) && this.#members.size > 0) {
      const frame = await this.#render(event);
      for (const member of this.#members) member.take(frame);
    }
    this.#position = event.position;
  }

  async #render(event: EventRecord): Promise<Frame> {
    const cursor = this.#deps.cursors.encode(event.accountId, { kind: 'position', position: event.position });
    const result = await this.#order.execute(event);
    if (hasPassingFault(result))
      throw new EngineError('UNAVAILABLE', 'the event can not be shown now; it will be tried again');
    return { position: event.position, cursor, body: JSON.stringify({ ...result, extensions: { cursor } }) };
  }
}

/** Faults of the server's surroundings are no part of the event: it is tried again rather than handed out with them. */
function hasPassingFault(result: StreamResult): boolean {
  return result.errors?.some(({ extensions: { code } = {} }) => PASSING.has(String(code))) ?? false;
}

const PASSING: ReadonlySet<string> = new Set(['UNAVAILABLE', 'TIMEOUT']);
