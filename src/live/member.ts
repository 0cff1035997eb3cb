import { EngineError } from '../errors.ts';
import type { Frame, Sink, StreamOwner } from './stream.ts';

/** Live frames kept while a member replays; past it they are dropped and replayed as well. */
const MAX_BUFFER_BYTES = 256 * 1024;

export interface MemberOptions {
  /** For revocation. */
  readonly owner: StreamOwner;
  /** Whether it is told where it stands. */
  readonly checkpoints: boolean;
}

/**
 * One subscriber in a group. *Replaying*: live frames are buffered, or, past the bound, dropped and remembered as
 * dropped. *Live*: frames behind `position` go to the sink. *Closed*: nothing goes anywhere.
 */
export class Member {
  readonly sink: Sink;
  readonly owner: StreamOwner;
  isClosed = false;
  #isLive = false;
  /** It has got everything up to here. */
  #position = 0;
  /** While it replays. */
  #buffer: Frame[] | undefined;
  #bufferBytes = 0;
  #hasDropped = false;
  /** Where the group stood when the buffer began: only frames behind it are in the buffer. */
  #bufferFrom = 0;
  readonly #checkpoints: boolean;
  /** The place that it was last told, by an event or a checkpoint. */
  #told = -1;
  /** Whether a checkpoint has told it that it has caught up. */
  #isTold = false;
  /** What `#told` was at the last look, and when it was first seen. */
  #quietAt = -1;
  #quietSince = 0;

  constructor(sink: Sink, { owner, checkpoints }: MemberOptions) {
    this.sink = sink;
    this.owner = owner;
    this.#checkpoints = checkpoints;
  }

  goLive(position: number): void {
    this.#position = position;
    this.#isLive = true;
  }

  startBuffer(groupPosition: number): void {
    this.#buffer = [];
    this.#bufferBytes = 0;
    this.#hasDropped = false;
    this.#bufferFrom = groupPosition;
  }

  /** Goes live behind `position`, up to which it has replayed; false if frames in between are missing. */
  goLiveFrom(position: number): boolean {
    if (this.isClosed) return true;
    if (this.#hasDropped || position < this.#bufferFrom) return false;
    this.goLive(position);
    const frames = this.#buffer ?? [];
    this.#buffer = undefined;
    for (const frame of frames) this.take(frame);
    return true;
  }

  take(frame: Frame): void {
    if (this.isClosed) return;
    if (this.#isLive) {
      if (frame.position <= this.#position) return;
      this.#position = frame.position;
      this.#told = frame.position;
      this.sink.next(frame);
      return;
    }
    this.#bufferBytes += frame.bytes.length;
    if (this.#bufferBytes > MAX_BUFFER_BYTES) this.#hasDropped = true;
    else this.#buffer?.push(frame);
  }

  /** Takes a frame of its replay. */
  takeReplayed(frame: Frame): void {
    if (this.isClosed) return;
    this.#told = frame.position;
    this.sink.next(frame);
  }

  /** Frames up to where the group stands now can't be had: one that is live ends, one that replays reads them itself. */
  lose(error: unknown): void {
    if (this.#isLive) this.fail(error);
    else this.#hasDropped = true;
  }

  /**
   * The place for a checkpoint, given that of its group: it has got all up to there. Undefined if it wants none, replays,
   * or knows the place already.
   */
  untold(groupPosition: number): number | undefined {
    if (!this.#checkpoints || !this.#isLive || this.isClosed) return undefined;
    // ahead of its group it is after a replay
    const place = Math.max(groupPosition, this.#position);
    return place > this.#told || !this.#isTold ? place : undefined;
  }

  /** Hands over a checkpoint at a place that `untold` gave. */
  tell(checkpoint: Frame): void {
    this.#isTold = true;
    this.#told = checkpoint.position;
    this.sink.next(checkpoint);
  }

  /** For how long it has been told nothing, as far as earlier calls could see. */
  quietMs(now: number): number {
    if (this.#quietAt !== this.#told) {
      this.#quietAt = this.#told;
      this.#quietSince = now;
    }
    return now - this.#quietSince;
  }

  close(): void {
    this.isClosed = true;
    this.#buffer = undefined;
  }

  /** Ends it with an error that the client may see. */
  fail(error: unknown): void {
    this.close();
    this.sink.end(
      error instanceof EngineError
        ? error
        : new EngineError('UNAVAILABLE', 'the stream broke off; resume from your last cursor'),
    );
  }
}
