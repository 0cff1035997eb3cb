import type { ConnectionLimit } from './connections.ts';

/** The limit of a single process. */
export function createMemoryConnectionLimit({ limit }: { readonly limit: number }): ConnectionLimit {
  const held = new Map<string, number>();
  let sum = 0;

  function add(owner: string, places: number): void {
    const count = (held.get(owner) ?? 0) + places;
    if (count > 0) held.set(owner, count);
    else held.delete(owner);
    sum += places;
  }

  return {
    async take(owner) {
      const hasRoom = (held.get(owner) ?? 0) < limit;
      if (hasRoom) add(owner, 1);
      return hasRoom;
    },
    release(owner) {
      if (held.has(owner)) add(owner, -1);
    },
    held: () => sum,
    async run() {},
    async close() {
      held.clear();
      sum = 0;
    },
  };
}
