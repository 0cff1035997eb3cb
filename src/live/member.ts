import { EngineError } from '../errors.ts';
import type { Frame, Sink } from './stream.ts';

/** Live frames kept while a member replays; past it they are dropped and replayed as well. */
const MAX_BUFFER_BYTES = 256 * 1024;

/**
 * One subscriber in a group. *Replaying*: live frames are buffered, or, past the bound, dropped and remembered as
 * dropped. *Live*: frames behind `position` go to the sink. *Closed*: nothing goes anywhere.
 */
export class Member {
  readonly sink: Sink;
  readonly ownerId: string;
  isClosed = false;
  #isLive = false;
  /** It has got everything up to here. */
  #position = 0;
  #buffer: Frame[] = [];
  #bufferBytes = 0;
  #hasDropped = false;
  /** Where the group stood when the buffer began: only frames behind it are in the buffer. */
  #bufferFrom = 0;

  constructor(sink: Sink, ownerId: string) {
    this.sink = sink;
    this.ownerId = ownerId;
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
    const frames = this.#buffer;
    this.#buffer = [];
    for (const frame of frames) this.take(frame);
    return true;
  }

  take(frame: Frame): void {
    if (this.isClosed) return;
    if (this.#isLive) {
      if (frame.position <= this.#position) return;
      this.#position = frame.position;
      this.sink.next(frame);
      return;
    }
    this.#bufferBytes += frame.body.length;
    if (this.#bufferBytes > MAX_BUFFER_BYTES) this.#hasDropped = true;
    else this.#buffer.push(frame);
  }

  close(): void {
    this.isClosed = true;
    this.#buffer = [];
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
