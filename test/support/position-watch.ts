import type { Client } from 'graphql-ws';
import { expect } from 'vitest';
import { eventually } from './eventually.ts';
import { type Collected, collect } from './live-client.ts';

/** A subscriber that keeps the positions of what it gets. */
export interface PositionWatch {
  readonly collected: Collected;
  positions(): number[];
  /** Waits until it stands at `head`, then requires exactly the positions behind `after`. */
  expectSuffix(after: number, head: number): Promise<void>;
}

const QUERY = 'subscription ($after: String) { events(after: $after) { position } }';

/** Watches all events behind a cursor by a stock client. */
export function watchPositions(client: Client, after: string | undefined, query = QUERY): PositionWatch {
  const collected = collect(client, query, { after });
  const positions = () => collected.results.map(({ data }) => Number(data?.events.position));
  return {
    collected,
    positions,
    async expectSuffix(from, head) {
      const describe = `all of ${from + 1} to ${head}`;
      await eventually(() => collected.error !== undefined || (positions().at(-1) ?? from) >= head, { describe });
      expect(collected.error).toBeUndefined();
      expect(positions()).toEqual(Array.from({ length: head - from }, (_, at) => from + 1 + at));
    },
  };
}
