import type { ClientState, FanfareClient, StreamState } from '#client';
import { createFanfareClient, createFanfareSseClient } from '#client';

/** Both ways, for tests that hold for each. */
export const WAYS = [
  ['WebSocket', createFanfareClient],
  ['SSE', createFanfareSseClient],
] as const;

/** What a subscription has told, in order. */
export interface Followed {
  readonly log: (number | StreamState['state'])[];
  readonly positions: () => number[];
  /** The state that was told last. */
  state(): ClientState | undefined;
  readonly error: unknown;
  readonly stop: () => void;
}

export const ALL_EVENTS = 'subscription ($after: String) { events(after: $after) { position } }';

/** Follows all events by one of our clients. */
export function followAll(client: FanfareClient, after?: string, query = ALL_EVENTS): Followed {
  const followed = { log: [] as Followed['log'], error: undefined as unknown };
  const stop = client.subscribe<{ readonly events: { readonly position: string } }>(
    { query, variables: { after } },
    {
      next: ({ data }) => void followed.log.push(Number(data?.events.position)),
      error: (error) => {
        followed.error = error;
      },
      complete: () => {},
    },
    { onState: ({ state }) => void followed.log.push(state) },
  );
  return Object.assign(followed, {
    stop,
    positions: () => followed.log.filter((each) => typeof each === 'number'),
    state: () => followed.log.findLast((each) => typeof each === 'string'),
  });
}

/** 1, 2, 3 … */
export function upTo(count: number): number[] {
  return Array.from({ length: count }, (_, at) => at + 1);
}
