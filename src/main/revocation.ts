import type { Bus } from '../bus/bus.ts';
import type { HttpServer } from '../http/server.ts';
import { endedKey, type KeyStore } from '../identity/keys.ts';
import { lossOf } from '../identity/principal.ts';
import type { Hub } from '../live/hub.ts';
import { createWakeup, runLoop } from '../runtime/loop.ts';
import type { Observe } from '../runtime/observe.ts';
import { CONTROL, idleAfter, KEYS_CHANGED, listenForHints, type Service } from './services.ts';

/** The most that passes before a change of a key's row is seen: what is revoked ends within a second of its commit. */
const LOOK_EVERY_MS = 400;

export interface RevocationDeps {
  readonly hub: Hub;
  readonly keys: KeyStore;
  readonly server: HttpServer;
  readonly bus: Bus;
  readonly observe: Observe;
}

/**
 * Looks each 400 ms at the keys that have sockets or streams here, and at once when a process hints that it has revoked
 * one: what a key has lost ends what depends on it. One statement for all keys; nothing where there are none.
 */
export function createRevocation(deps: RevocationDeps): Service {
  return async (signal) => {
    const wakeup = createWakeup();
    const hints = listenForHints(() => wakeup.wake());
    const subscription = await deps.bus.subscribe(CONTROL, {
      ...hints,
      message: (text) => {
        if (text === KEYS_CHANGED) wakeup.wake();
      },
    });
    await runLoop({
      name: 'live.revocation',
      everyMs: LOOK_EVERY_MS,
      signal,
      observe: deps.observe,
      wakeup,
      backoff: { baseMs: 100, capMs: LOOK_EVERY_MS },
      work: idleAfter(() => endRevoked(deps)),
    });
    await subscription.close();
  };
}

async function endRevoked({ hub, keys, server }: RevocationDeps): Promise<void> {
  const asked = new Set([...hub.owners(), ...server.socketOwners()]);
  const live = await keys.refresh(asked);
  server.refreshSockets(live);
  hub.end(({ principalId }, scopes) => {
    const principal = live.get(principalId);
    if (principal !== undefined) return lossOf(principal, scopes);
    // a socket may have gone over to a key that was not asked about
    return asked.has(principalId) ? endedKey() : undefined;
  });
  const gone = new Set([...asked].filter((id) => !live.has(id)));
  // the streams' errors go out first
  if (gone.size > 0) setImmediate(() => server.endSockets(gone));
}
