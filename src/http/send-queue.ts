/**
 * What a client has not taken yet, for one connection. Live events never wait: they are queued, and a client that lets
 * more than 1 MiB pile up is cut off with its queue dropped, so that it costs no more than that.
 */
export interface SendQueue {
  push(text: string): void;
  /** Resolves when little is queued, for one caller in a turn: push one frame then, at once. Replay goes by it. */
  ready(): Promise<void>;
  /** Call when the transport can take more. */
  drain(): void;
  /** Hands over all that is queued, for the transport to send before it ends; then as `close`. */
  finish(): void;
  /** Drops what is queued; `push` does nothing any more. */
  close(): void;
}

export interface SendQueueOptions {
  /** Hands texts to the transport in one write. */
  readonly write: (texts: readonly string[]) => void;
  /** Bytes that the transport holds and has not sent. */
  readonly pendingBytes: () => number;
  /** Called once, when more than 1 MiB is queued that the transport does not take. */
  readonly onOverflow: () => void;
}

/** The most that is queued for a client, in UTF-16 units: at least as many bytes. */
export const MAX_QUEUED = 1024 * 1024;
/** What the transport may hold; the rest stays here, where it can be dropped and a close still gets through. */
const MAX_IN_TRANSPORT = 64 * 1024;

export function createSendQueue({ write, pendingBytes, onOverflow }: SendQueueOptions): SendQueue {
  let queue: string[] = [];
  let queued = 0;
  let isScheduled = false;
  let isClosed = false;
  let waiting: (() => void)[] = [];
  let isGranting = false;

  /** Stops where the transport holds more than its high-water mark, so that it will tell when it has drained. */
  function flush(): void {
    isScheduled = false;
    while (!isClosed && queue.length > 0 && pendingBytes() <= MAX_IN_TRANSPORT) writeBatch();
    grant();
  }

  function hasRoom(): boolean {
    return queued <= MAX_IN_TRANSPORT && pendingBytes() <= MAX_IN_TRANSPORT;
  }

  /** One at a time, and the next in another turn, when its frame is counted: a hundred replays at once would overflow. */
  function grant(): void {
    if (isGranting || waiting.length === 0 || !hasRoom()) return;
    isGranting = true;
    waiting.shift()?.();
    setImmediate(endGrant);
  }

  function endGrant(): void {
    isGranting = false;
    grant();
  }

  function writeBatch(): void {
    let size = 0;
    let count = 0;
    while (count < queue.length && size <= MAX_IN_TRANSPORT) size += queue[count++]?.length ?? 0;
    const batch = count === queue.length ? queue : queue.slice(0, count);
    queue = count === queue.length ? [] : queue.slice(count);
    queued -= size;
    write(batch);
  }

  function release(): void {
    const resolved = waiting;
    waiting = [];
    for (const resolve of resolved) resolve();
  }

  return {
    push(text) {
      if (isClosed) return;
      queue.push(text);
      queued += text.length;
      // a large answer, or many in one turn, are no reason to cut off a client that reads
      if (queued > MAX_QUEUED) flush();
      if (queued > MAX_QUEUED) {
        this.close();
        onOverflow();
      } else if (!isScheduled) {
        // the events of one turn go out in one write. By a microtask each would have its own, since executing the next is
        // awaited in between: 15 against 3.5 µs of CPU per delivery (1,000 sockets, 100 events at once, 2 cores, 2026-11-22)
        isScheduled = true;
        setImmediate(flush);
      }
    },
    ready() {
      if (isClosed) return Promise.resolve();
      return new Promise((resolve) => {
        waiting.push(resolve);
        grant();
      });
    },
    drain: flush,
    finish() {
      if (!isClosed && queue.length > 0) write(queue);
      this.close();
    },
    close() {
      isClosed = true;
      queue = [];
      queued = 0;
      release();
    },
  };
}
