export interface EachOptions {
  readonly concurrency: number;
  /** Aborting it starts no further item; those under way are finished. */
  readonly signal: AbortSignal;
}

/**
 * Runs `work` on each item, started in their order, at most `concurrency` at a time. Resolves when none is under way.
 * @throws what the first failing work threw, once the others under way are finished; no further item is started then
 */
export async function forEach<Item>(
  items: readonly Item[],
  { concurrency, signal }: EachOptions,
  work: (item: Item) => Promise<void>,
): Promise<void> {
  const queue = items.values();
  const failures: unknown[] = [];
  const worker = async () => {
    for (const item of queue) {
      if (signal.aborted || failures.length > 0) return;
      await work(item).catch((error: unknown) => void failures.push(error));
    }
  };
  await Promise.all(Array.from({ length: concurrency }, worker));
  if (failures.length > 0) throw failures[0];
}
