import { EngineError } from '../errors.ts';
import type { CursorCodec } from '../outbox/cursor.ts';
import { filterPredicate } from '../outbox/filter.ts';
import { type EventRecord, type LogDatabase, readHead } from '../outbox/read.ts';
import { toByteString } from '../runtime/byte-string.ts';
import type { Observe } from '../runtime/observe.ts';
import { Member, type MemberOptions } from './member.ts';
import { readPages } from './pages.ts';
import { checkpointFrame, type Frame, type Sink, type StreamOrder, type StreamResult } from './stream.ts';
import type { Turns } from './turns.ts';

export interface GroupDeps {
  readonly database: LogDatabase;
  readonly cursors: CursorCodec;
  readonly observe: Observe;
  /** Shared by all groups of a process. */
  readonly turns: Turns;
}

/** Events waiting for their execution; more are dropped and read from Postgres instead. */
const MAX_WAITING = 1_000;
/** Events that a group deals with before the next group has its turn: what one write to a client may hold together. */
const STEP = 20;
/** Handed over at once to a sink that is ready: half of what it lets wait. */
const READY_BYTES = 32 * 1024;

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
  /** The last that was made. */
  #checkpoint: Frame | undefined;

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
  join(sink: Sink, options: MemberOptions & { readonly after: number | undefined }): Member {
    const member = new Member(sink, options);
    this.#members.add(member);
    if (options.after === undefined) {
      member.goLive(this.#position);
      this.#tell(member);
    } else {
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

  /** Gives members that were told nothing for so long a checkpoint, if the log has moved on past them. Call each second. */
  tellQuiet(now: number, quietMs: number): void {
    for (const member of this.#members) {
      if (member.untold(this.#position) !== undefined && member.quietMs(now) >= quietMs) this.#tell(member);
    }
  }

  /** Between two events all live members have got what lies up to `#position`: no checkpoint is ahead of an event. */
  #tell(member: Member): void {
    const place = member.untold(this.#position);
    if (place === undefined) return;
    // many members of a group stand at one place
    if (this.#checkpoint?.position !== place) this.#checkpoint = checkpointFrame(place, this.#cursorAt(place));
    member.tell(this.#checkpoint);
  }

  #cursorAt(position: number): string {
    return this.#deps.cursors.encode(this.#order.accountId, { kind: 'position', position });
  }

  /** Buffers live frames, replays up to a head read after the buffering began, drops the overlap, goes live. */
  async #replay(member: Member, after: number): Promise<void> {
    const { accountId, filters } = this.#order;
    let position = after;
    while (!member.isClosed) {
      member.startBuffer(this.#position);
      const head = await readHead(this.#deps.database.db, accountId);
      for await (const page of readPages(this.#deps, { accountId, filters, after: position, upTo: head })) {
        await this.#replayPage(member, page.events);
        if (member.isClosed) return;
        position = page.upTo;
      }
      if (member.goLiveFrom(position)) return this.#tell(member);
    }
  }

  async #replayPage(member: Member, events: readonly EventRecord[]): Promise<void> {
    for (let next = 0; next < events.length; ) {
      await member.sink.ready();
      if (member.isClosed) return;
      const from = next;
      next = await this.#deps.turns.run(() => this.#replaySome(member, events, from));
    }
  }

  /** Hands over what a sink that is ready takes at once. Gives the index of the next. */
  #replaySome(member: Member, events: readonly EventRecord[], from: number): number | Promise<number> {
    let next = from;
    for (let bytes = 0; bytes < READY_BYTES; next++) {
      const event = events[next];
      if (event === undefined) break;
      const frame = this.#render(event);
      if (frame instanceof Promise) return frame.then((rendered) => this.#replayOne(member, rendered, next + 1));
      member.takeReplayed(frame);
      bytes += frame.bytes.length;
    }
    return next;
  }

  #replayOne(member: Member, frame: Frame, next: number): number {
    member.takeReplayed(frame);
    return next;
  }

  /** One worker per group keeps its order. */
  #work(): void {
    if (this.#working || !this.#started) return;
    this.#working = true;
    this.#deps.turns.add(this.#step);
  }

  /** Tries again after a failure; called with each check of the heads. */
  retry(): void {
    if (this.#isBehind) this.#work();
  }

  readonly #step = (): void => {
    try {
      const rest = this.#advance();
      if (rest === 'none') this.#working = false;
      else if (rest === 'more') this.#deps.turns.add(this.#step);
      else rest.then(() => this.#deps.turns.add(this.#step), this.#giveUp);
    } catch (error) {
      this.#giveUp(error);
    }
  };

  /** A failure is no end: all behind `#position` is read anew. */
  readonly #giveUp = (error: unknown): void => {
    this.#isBehind = true;
    this.#working = false;
    this.#deps.observe({ name: 'stream.failed', level: 'error', error });
  };

  /** Deals with some of what waits; tells what is left, or what the rest has to wait for. */
  #advance(): Promise<void> | 'more' | 'none' {
    for (let count = 0; count < STEP; count++) {
      if (this.#isBehind) return this.#readMissing();
      const event = this.#waiting.shift();
      if (event === undefined) return 'none';
      const rest = this.#dealWith(event);
      if (rest !== undefined) return rest;
    }
    return 'more';
  }

  async #readMissing(): Promise<void> {
    const { accountId, filters } = this.#order;
    // before the head is read: what is dropped from now on may be behind it
    this.#isBehind = false;
    const head = await readHead(this.#deps.database.db, accountId);
    try {
      for await (const page of readPages(this.#deps, { accountId, filters, after: this.#position, upTo: head })) {
        for (const event of page.events) if (event.position > this.#position) await this.#show(event);
        this.#position = Math.max(this.#position, page.upTo);
      }
    } catch (error) {
      if (!(error instanceof EngineError) || error.code !== 'CURSOR_EXPIRED') throw error;
      this.#position = head;
      this.#loseMembers(error);
    }
  }

  /** What is past retention nobody gets any more: to go on behind it would be a gap. */
  #loseMembers(error: EngineError): void {
    for (const member of this.#members) {
      member.lose(error);
      if (member.isClosed) this.#members.delete(member);
    }
  }

  #dealWith(event: EventRecord): Promise<void> | undefined {
    if (event.position <= this.#position) return undefined;
    // positions have no gaps: what lies between was lost on the way, and with it this one is read
    if (event.position > this.#position + 1) this.#isBehind = true;
    else if (this.#matches(event) && this.#members.size > 0) return this.#show(event);
    else this.#position = event.position;
    return undefined;
  }

  #show(event: EventRecord): Promise<void> | undefined {
    const frame = this.#render(event);
    if (frame instanceof Promise) return frame.then((rendered) => this.#handOut(rendered));
    this.#handOut(frame);
    return undefined;
  }

  #handOut(frame: Frame): void {
    for (const member of this.#members) member.take(frame);
    this.#position = frame.position;
  }

  #render(event: EventRecord): Frame | Promise<Frame> {
    const result = this.#order.execute(event);
    return result instanceof Promise
      ? result.then((settled) => this.#frameOf(event, settled))
      : this.#frameOf(event, result);
  }

  #frameOf({ position }: EventRecord, result: StreamResult): Frame {
    if (hasPassingFault(result))
      throw new EngineError('UNAVAILABLE', 'the event can not be shown now; it will be tried again');
    const cursor = this.#cursorAt(position);
    return { position, cursor, bytes: toByteString(JSON.stringify({ ...result, extensions: { cursor } })) };
  }
}

/** Faults of the server's surroundings are no part of the event: it is tried again rather than handed out with them. */
function hasPassingFault(result: StreamResult): boolean {
  return result.errors?.some(({ extensions: { code } = {} }) => PASSING.has(String(code))) ?? false;
}

const PASSING: ReadonlySet<string> = new Set(['UNAVAILABLE', 'TIMEOUT']);
