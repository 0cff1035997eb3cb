/** The names of the fields that differ between two sets of facts. */
export function changedFields<Facts extends object>(before: Facts, after: Facts): string[] {
  const was = new Map(Object.entries(before));
  return Object.entries(after).flatMap(([name, value]) =>
    JSON.stringify(value) === JSON.stringify(was.get(name)) ? [] : [name],
  );
}
