/** The middle one, or the mean of the two in the middle. @throws Error without values */
export function median(values: readonly number[]): number {
  return percentile(values, 50);
}

/**
 * The value below which `percent` of the values lie, interpolated between neighbours.
 * @throws Error without values: nothing was measured
 */
export function percentile(values: readonly number[], percent: number): number {
  if (values.length === 0) throw new Error('expected measured values, found none');
  const sorted = [...values].sort((a, b) => a - b);
  const place = ((sorted.length - 1) * percent) / 100;
  const below = sorted[Math.floor(place)] ?? 0;
  const above = sorted[Math.ceil(place)] ?? below;
  return below + (above - below) * (place - Math.floor(place));
}
