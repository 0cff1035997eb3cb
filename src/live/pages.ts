import type { CursorCodec } from '../outbox/cursor.ts';
import { requireRetained } from '../outbox/place.ts';
import { type EventRecord, type LogDatabase, readEventPage } from '../outbox/read.ts';
import type { StreamOrder } from './stream.ts';

export interface PagesRequest extends Pick<StreamOrder, 'accountId' | 'filters'> {
  /** Exclusive. */
  readonly after: number;
  /** Inclusive: not behind the head. */
  readonly upTo: number;
}

export interface PagesDeps {
  readonly database: LogDatabase;
  readonly cursors: CursorCodec;
}

/** Events of a stream in order; with the pages before it holds all that there are up to `upTo`. */
export interface Page {
  readonly events: readonly EventRecord[];
  readonly upTo: number;
}

/** JSON of the payloads of a page, in bytes: a replay holds two pages. */
const PAGE_BYTES = 256 * 1024;
const FIRST_LIMIT = 100;
const MAX_LIMIT = 500;

/**
 * Reads a part of the log in pages that are bounded by their bytes, each while the one before is being dealt with.
 * @throws EngineError CURSOR_EXPIRED instead of a page that retention has taken events out of
 */
export async function* readPages(deps: PagesDeps, request: PagesRequest): AsyncGenerator<Page, void, undefined> {
  const { after, upTo } = request;
  let coming = after < upTo ? readPage(deps, request, { after, limit: FIRST_LIMIT }) : undefined;
  while (coming !== undefined) {
    const page = await coming;
    coming = page.upTo < upTo ? readPage(deps, request, { after: page.upTo, limit: page.nextLimit }) : undefined;
    coming?.catch(() => {}); // a failure is told when its turn comes, if the reader is still there
    yield page;
  }
}

async function readPage(
  deps: PagesDeps,
  { accountId, filters, upTo }: PagesRequest,
  { after, limit }: { readonly after: number; readonly limit: number },
): Promise<Page & { readonly nextLimit: number }> {
  const { db } = deps.database;
  const page = await readEventPage(db, { accountId, filters, after, before: upTo + 1, limit, maxBytes: PAGE_BYTES });
  // behind the read: what retention drops from now on was seen
  await requireRetained(deps, accountId, after);
  const { events, bytes, isLast } = page;
  return { events, upTo: isLast ? upTo : (events.at(-1)?.position ?? upTo), nextLimit: limitFor(events.length, bytes) };
}

/** As many as fit, going by those before: Postgres looks at the payloads of all that it is asked for. */
function limitFor(count: number, bytes: number): number {
  return Math.max(1, Math.min(MAX_LIMIT, Math.ceil((PAGE_BYTES / Math.max(bytes, 1)) * count)));
}
