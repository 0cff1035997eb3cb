import { existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { setTimeout as wait } from 'node:timers/promises';

// A careless sender of callbacks, in a process of its own: it pulls a page, notes its end as done, then sends its events one
// by one. Whatever the page still held when it is killed is never sent.
// Arguments: the server's URL, a key, the URL to call, the file of its cursor, the cursor to begin with.

const [url = '', key = '', target = '', cursorFile = '', first = ''] = process.argv.slice(2);
const QUERY = 'query ($after: String) { events(first: 20, after: $after) { nodes { id } pageInfo { endCursor } } }';

interface Page {
  readonly nodes: readonly { readonly id: string }[];
  readonly pageInfo: { readonly endCursor: string | null };
}

async function pull(after: string): Promise<Page | undefined> {
  try {
    const response = await fetch(url, {
      method: 'POST',
      headers: { 'content-type': 'application/json', authorization: `Bearer ${key}` },
      body: JSON.stringify({ query: QUERY, variables: { after } }),
    });
    const { data } = (await response.json()) as { readonly data?: { readonly events: Page } };
    return data?.events;
  } catch {
    return undefined; // the server is down; it asks again
  }
}

async function send({ nodes }: Page): Promise<void> {
  for (const [at, { id }] of nodes.entries()) {
    const headers = { 'event-id': id, 'left-in-page': String(nodes.length - at - 1) };
    await fetch(target, { method: 'POST', headers }).catch(() => {}); // it tries once
  }
}

for (let after = existsSync(cursorFile) ? readFileSync(cursorFile, 'utf8') : first; ; ) {
  const page = await pull(after);
  if (page?.pageInfo.endCursor) {
    after = page.pageInfo.endCursor;
    // before it has sent them: at most once
    writeFileSync(`${cursorFile}.new`, after);
    renameSync(`${cursorFile}.new`, cursorFile);
    await send(page);
  } else await wait(20);
}
