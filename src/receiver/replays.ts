/**
 * Remembers which callbacks were handled, for all processes that share it. Each call is one step that nobody else's falls
 * into: an `insert … on conflict do nothing` in a database, `SET key begun NX PX ms` in Redis.
 */
export interface ReplayStore {
  /**
   * Begins to handle a callback.
   * @param holdMs after so long without `finish` or `abandon` another may begin: its process has ended
   * @returns `new` if the caller is to handle it, `begun` if another does, `done` if it was handled
   */
  begin(key: string, holdMs: number): Outcome | Promise<Outcome>;
  /** It was handled: `begin` gives `done` for at least so long. */
  finish(key: string, keepMs: number): void | Promise<void>;
  /** It was not: the next `begin` gives `new`. */
  abandon(key: string): void | Promise<void>;
}

type Outcome = 'new' | 'begun' | 'done';

/** For one process: what it knows ends with it. @param options.maxKeys the oldest are forgotten beyond that; @default 100_000 */
export function memoryReplays({ maxKeys = 100_000, now = Date.now } = {}): ReplayStore {
  const known = new Map<string, { readonly state: 'begun' | 'done'; readonly untilMs: number }>();

  function put(key: string, state: 'begun' | 'done', forMs: number): void {
    known.delete(key); // so that the newest stands last
    known.set(key, { state, untilMs: now() + forMs });
    for (const oldest of known.keys()) {
      if (known.size <= maxKeys) break;
      known.delete(oldest);
    }
  }

  return {
    begin(key, holdMs) {
      const before = known.get(key);
      if (before !== undefined && before.untilMs > now()) return before.state;
      put(key, 'begun', holdMs);
      return 'new';
    },
    finish: (key, keepMs) => put(key, 'done', keepMs),
    abandon: (key) => void known.delete(key),
  };
}
