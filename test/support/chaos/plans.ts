import type { ReaderPlan } from './reader.ts';

/** So many careful readers of each kind (`SSE rare`), and two careless ones. */
export function planReaders(counts: Readonly<Record<string, number>>): ReaderPlan[] {
  const unknown = Object.keys(counts).filter(
    (name) => !KINDS.some((kind) => name === `${kind.transport} ${kind.wanted}`),
  );
  if (unknown.length > 0) throw new Error(`there are no readers of the kind ${unknown}`);
  const careful = KINDS.flatMap((kind) => {
    const name = `${kind.transport} ${kind.wanted}`;
    return Array.from(
      { length: counts[name] ?? 0 },
      (_, at): ReaderPlan => ({ name: `${name} ${at}`, resume: 'last', ...kind }),
    );
  });
  // each with one node: when that is killed, nobody else lets it in
  const careless: ReaderPlan[] = [
    { name: 'without cursor', transport: 'WebSocket', wanted: 'all', resume: 'none', onlyNode: 0 },
    { name: 'with its first cursor', transport: 'WebSocket', wanted: 'all', resume: 'first', onlyNode: 0 },
  ];
  return [...careful, ...careless];
}

const KINDS: readonly Pick<ReaderPlan, 'transport' | 'wanted'>[] = (
  ['WebSocket', 'SSE', 'helper over WebSocket', 'helper over SSE'] as const
).flatMap((transport) => (['all', 'stock', 'rare'] as const).map((wanted) => ({ transport, wanted })));
