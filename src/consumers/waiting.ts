import { EngineError } from '../errors.ts';
import type { Clock } from '../runtime/clock.ts';
import { createWakeup, type Wakeup } from '../runtime/loop.ts';
import type { Lease } from './lease.ts';

/**
 * Rings after events of an account were stamped; a ring too many does no harm. Resolves when each event stamped from then
 * on is sure to ring, with what ends it.
 */
export type WatchAccount = (accountId: string, ring: () => void) => Promise<() => void>;

/** The polls of a process that wait for events. */
export interface Waiting {
  /**
   * Joins those who wait for one consumer. Call `leave` in any case.
   * @throws EngineError RATE_LIMITED if 1,000 polls of the account wait in this process, UNAVAILABLE while it stops;
   * what the watch throws
   */
  join(consumer: { readonly account_id: string; readonly id: string }): Promise<Waiter>;
  /** How many wait. */
  count(): number;
}

export interface Waiter {
  /**
   * Asks for a lease, one waiter of a consumer behind the other. Where one has just learnt that there is nothing, the
   * others take its word until the next ring: a crowd that waits costs one question for each batch, not one for each of it.
   */
  take(lease: () => Promise<Lease>): Promise<Lease>;
  /** Resolves when there may be something, after `ms`, or at the end: of the signal, or of the process. */
  rest(ms: number, signal: AbortSignal): Promise<void>;
  leave(): void;
}

export interface WaitingDeps {
  readonly watch: WatchAccount;
  readonly clock: Clock;
  /** Aborts when the process is told to stop: all who wait are woken, none joins any more. */
  readonly draining: AbortSignal;
}

/** Polls of one account that wait in one process. */
export const MAX_WAITING = 1_000;

/** The waiters of one consumer. */
interface Line {
  size: number;
  /** Settles when it is the next one's turn. */
  turn: Promise<unknown>;
  /** What the last found, if that was nothing, and the ring and time until which it holds. */
  nothing: { readonly rings: number; readonly untilMs: number | undefined } | undefined;
}

/** One account's waiters: there while somebody waits. */
interface Account {
  readonly wakeups: Set<Wakeup>;
  readonly lines: Map<string, Line>;
  readonly watched: Promise<() => void>;
  rings: number;
}

export function createWaiting({ watch, clock, draining }: WaitingDeps): Waiting {
  const accounts = new Map<string, Account>();
  draining.addEventListener('abort', () => {
    for (const { wakeups } of accounts.values()) for (const wakeup of wakeups) wakeup.wake();
  });

  function enter(accountId: string): Account {
    const known = accounts.get(accountId);
    if (known !== undefined) return known;
    const account: Account = {
      wakeups: new Set(),
      lines: new Map(),
      watched: watch(accountId, () => {
        account.rings++;
        for (const wakeup of account.wakeups) wakeup.wake();
      }),
      rings: 0,
    };
    account.watched.catch(() => {}); // whoever joins awaits it
    accounts.set(accountId, account);
    return account;
  }

  async function join(consumer: { readonly account_id: string; readonly id: string }): Promise<Waiter> {
    if (draining.aborted) throw new EngineError('UNAVAILABLE', 'the server is about to stop; try again');
    const account = enter(consumer.account_id);
    if (account.wakeups.size >= MAX_WAITING)
      throw new EngineError(
        'RATE_LIMITED',
        `${MAX_WAITING} polls of this account wait already; poll with "waitMs: 0", or less`,
      );
    const line = account.lines.get(consumer.id) ?? { size: 0, turn: Promise.resolve(), nothing: undefined };
    const wakeup = createWakeup();
    account.lines.set(consumer.id, line);
    account.wakeups.add(wakeup);
    line.size++;
    const leave = () => {
      if (!account.wakeups.delete(wakeup)) return;
      if (--line.size === 0) account.lines.delete(consumer.id);
      if (account.wakeups.size > 0) return;
      accounts.delete(consumer.account_id);
      account.watched.then(
        (end) => end(),
        () => {},
      );
    };
    await account.watched.catch((error: unknown) => {
      leave();
      throw error;
    });
    return {
      take: (lease) => {
        wakeup.clear();
        return takeTurn({ account, line, clock }, lease);
      },
      rest: (ms, signal) => (draining.aborted ? Promise.resolve() : wakeup.wait(ms, { clock, signal })),
      leave,
    };
  }

  return {
    join,
    count: () => [...accounts.values()].reduce((sum, { wakeups }) => sum + wakeups.size, 0),
  };
}

interface Turn {
  readonly account: Account;
  readonly line: Line;
  readonly clock: Clock;
}

function takeTurn({ account, line, clock }: Turn, lease: () => Promise<Lease>): Promise<Lease> {
  const mine = line.turn.then(async (): Promise<Lease> => {
    const { nothing } = line;
    if (nothing?.rings === account.rings && !isOver(nothing.untilMs, clock)) {
      return { outcome: 'EMPTY', waitMs: nothing.untilMs === undefined ? undefined : nothing.untilMs - clock.now() };
    }
    const { rings } = account; // what is stamped while it looks rings again
    const found = await lease();
    line.nothing =
      found.outcome === 'EMPTY'
        ? { rings, untilMs: found.waitMs === undefined ? undefined : clock.now() + found.waitMs }
        : undefined;
    return found;
  });
  line.turn = mine.catch(() => {});
  return mine;
}

function isOver(untilMs: number | undefined, clock: Clock): boolean {
  return untilMs !== undefined && clock.now() >= untilMs;
}
