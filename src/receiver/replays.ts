import { randomUUID } from 'node:crypto';

/** What became of a callback so far. Who gets `new` handles it, and shows the token to say how it went. */
export type Begun = { readonly state: 'new'; readonly token: string } | { readonly state: 'begun' | 'done' };

/**
 * Remembers which callbacks were handled, for all processes that share it. Each call is one step that nobody else's falls
 * into: an `insert … on conflict do nothing` in a database, `SET key token NX PX ms` in Redis.
 */
export interface ReplayStore {
  /**
   * Begins to handle a callback: `new` for the first, `begun` while another does, `done` once it was handled.
   * @param holdMs after so long without `finish` or `abandon` another may begin: its process has ended, or is slow
   */
  begin(key: string, holdMs: number): Begun | Promise<Begun>;
  /** It was handled: `begin` gives `done` for at least so long. */
  finish(key: string, token: string, keepMs: number): void | Promise<void>;
  /** It was not: the next `begin` gives `new`, unless somebody else has begun or finished meanwhile. */
  abandon(key: string, token: string): void | Promise<void>;
}

interface Entry {
  /** Undefined once it is done. */
  readonly token: string | undefined;
  readonly untilMs: number;
}

/**
 * For one process: what it knows ends with it.
 * @param options.maxKeys of handled ones, the oldest are forgotten beyond that; @default 100_000
 */
export function memoryReplays({ maxKeys = 100_000, now = Date.now } = {}): ReplayStore {
  const known = new Map<string, Entry>();

  function put(key: string, entry: Entry): void {
    known.delete(key); // so that the newest stands last
    known.set(key, entry);
    for (const [oldest, { token, untilMs }] of known) {
      if (known.size <= maxKeys) break;
      if (token === undefined || untilMs <= now()) known.delete(oldest);
    }
  }

  return {
    begin(key, holdMs) {
      const before = known.get(key);
      if (before !== undefined && before.untilMs > now())
        return { state: before.token === undefined ? 'done' : 'begun' };
      const token = randomUUID();
      put(key, { token, untilMs: now() + holdMs });
      return { state: 'new', token };
    },
    finish: (key, _token, keepMs) => put(key, { token: undefined, untilMs: now() + keepMs }),
    abandon(key, token) {
      if (known.get(key)?.token === token) known.delete(key);
    },
  };
}
