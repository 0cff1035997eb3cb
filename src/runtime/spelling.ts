/**
 * The candidate a mistyped word was probably meant to be, or undefined when none is near enough: one edit away, or two
 * when the candidate has 8 or more characters. An edit inserts, deletes or replaces a character, or swaps two neighbours.
 * Of equally near candidates the first wins. An exact match is distance 0 and is returned too. Case counts.
 */
export function nearest(word: string, candidates: Iterable<string>): string | undefined {
  let best: { readonly candidate: string; readonly edits: number } | undefined;
  for (const candidate of candidates) {
    const allowed = candidate.length >= 8 ? 2 : 1;
    // Cheap and exact: lengths further apart than the allowance can't be near, so hostile lengths cost nothing.
    if (Math.abs(candidate.length - word.length) > allowed) continue;
    const edits = editDistance(word, candidate);
    if (edits <= allowed && (best === undefined || edits < best.edits)) best = { candidate, edits };
  }
  return best?.candidate;
}

/** Damerau-Levenshtein in its restricted form (optimal string alignment): no character is edited twice. */
export function editDistance(from: string, to: string): number {
  let beforeLast: readonly number[] = [];
  let last: readonly number[] = Array.from({ length: to.length + 1 }, (_, column) => column);
  for (let row = 1; row <= from.length; row++) {
    const current = [row];
    for (let column = 1; column <= to.length; column++) {
      const replaced = at(last, column - 1) + (from[row - 1] === to[column - 1] ? 0 : 1);
      const swapped =
        from[row - 1] === to[column - 2] && from[row - 2] === to[column - 1]
          ? at(beforeLast, column - 2) + 1
          : Number.POSITIVE_INFINITY;
      current.push(Math.min(replaced, at(last, column) + 1, at(current, column - 1) + 1, swapped));
    }
    beforeLast = last;
    last = current;
  }
  return at(last, to.length);
}

/** A cell outside the table is unreachable, never zero. */
function at(row: readonly number[], column: number): number {
  return row[column] ?? Number.POSITIVE_INFINITY;
}
