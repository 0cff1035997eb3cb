import { authorizationBy, type Key } from './link.ts';

/** Keeps an open connection's key fresh. */
export interface Refresh {
  /** The payload of the acknowledgement, and how to send a message. */
  acknowledged(payload: unknown, send: (message: object) => void): void;
  /** The payload of a pong: the answer to a refresh, or nothing to it. */
  ponged(payload: unknown): void;
  stop(): void;
}

export interface RefreshOptions {
  readonly key: Key;
  readonly now?: () => number;
}

/** Asks for the next key so long before the old one ends, or after half of its time if that is less. */
const LEAD_MS = 30_000;
/** So shortly before the end no try is left: the server closes, and the next connection has a key of its own. */
const LAST_TRY_MS = 1_000;
/** The longest that a timer takes. */
const MAX_TIMER_MS = 2 ** 31 - 1;

/**
 * Builds one, for one connection. A key that is a function is asked again shortly before `expiresAt`, and sent as the payload
 * of a ping; a refusal, or a failure of the function, is tried again while there is time. A key that is text stays.
 */
export function createRefresh({ key, now = Date.now }: RefreshOptions): Refresh {
  let timer: ReturnType<typeof setTimeout> | undefined;
  let send: ((message: object) => void) | undefined;
  let expiresAtMs = Number.NaN;

  const stop = () => {
    clearTimeout(timer);
    send = undefined;
  };

  function plan(): void {
    const leftMs = expiresAtMs - now();
    clearTimeout(timer);
    // without an end it is no number, which is greater than none
    if (typeof key === 'function' && leftMs > LAST_TRY_MS) {
      timer = setTimeout(refresh, Math.min(MAX_TIMER_MS, Math.max(leftMs - LEAD_MS, leftMs / 2)));
    }
  }

  function refresh(): void {
    const planAgain = () => send !== undefined && plan(); // in case it is refused, or no answer comes
    authorizationBy(key).then((authorization) => {
      send?.({ type: 'ping', payload: { authorization } });
      planAgain();
    }, planAgain);
  }

  function learn(expiresAt: unknown): void {
    expiresAtMs = typeof expiresAt === 'string' ? Date.parse(expiresAt) : Number.NaN;
    plan();
  }

  return {
    acknowledged(payload, by) {
      send = by;
      learn(propertyOf(payload, 'expiresAt'));
    },
    ponged(payload) {
      const expiresAt = propertyOf(propertyOf(payload, 'authorization'), 'expiresAt');
      if (send !== undefined && expiresAt !== undefined) learn(expiresAt); // null: the new key has no end
    },
    stop,
  };
}

function propertyOf(value: unknown, name: string): unknown {
  // whatever it is, reading a name of it is safe
  return (value as Readonly<Record<string, unknown>> | null | undefined)?.[name];
}
