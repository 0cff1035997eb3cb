/**
 * The scheme, host and port of a callback URL, the same for each of its spellings. A host is known by its name: two names of one address are two.
 * The text itself if it is no URL, which the guard lets none be.
 */
export function originOf(url: string): string {
  const parsed = URL.parse(url);
  return parsed === null ? url : parsed.origin.replace(/\.(?=$|:\d+$)/, '');
}
