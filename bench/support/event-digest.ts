import { createHash } from 'node:crypto';

/**
 * A digest of results of the subscription `events`, each as JSON with its `data`: equal for equal events in equal order.
 * Cursors do not count, since only the server can make them.
 */
export function digestEvents(results: readonly string[]): string {
  const hash = createHash('sha256');
  for (const text of results) hash.update(JSON.stringify({ ...JSON.parse(text).data.events, cursor: '' })).update('\n');
  return hash.digest('hex');
}
