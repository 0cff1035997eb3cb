/**
 * Tells the URLs that lead to this installation's own API: at the address by which clients know it, or below it. The scheme makes no
 * difference, as long as each has its default port: who answers one leads to the other.
 *
 * Says nothing of other names of the same server, nor of what leads there by a proxy: what comes to the API by these is refused there.
 */
export function createOwnUrlCheck(publicUrl: string | undefined): (url: URL) => boolean {
  const own = publicUrl === undefined ? null : URL.parse(publicUrl);
  if (own === null) return () => false;
  const path = own.pathname.replace(/\/+$/, '');
  return (url) =>
    hostOf(url) === hostOf(own) &&
    url.port === own.port &&
    (url.pathname === path || url.pathname.startsWith(`${path}/`));
}

/** Without the dot that a full name may end with. */
function hostOf({ hostname }: URL): string {
  return hostname.replace(/\.$/, '');
}
