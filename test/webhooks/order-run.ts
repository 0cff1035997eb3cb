import { eventually } from '../support/eventually.ts';
import { seeded } from '../support/kill-embedded.ts';
import { openNoteLog } from './note-log.ts';
import type { Acceptance } from './order-check.ts';
import { openRequestBook, type RequestBook } from './request-book.ts';
import type { WebhookEngine } from './webhook-engine.ts';

export interface OrderOptions {
  readonly seed: number;
  readonly subjects: number;
  readonly perSubject: number;
  /** The webhooks by name, each of all subjects or of the first so many. */
  readonly webhooks: Readonly<Record<string, OrderedWebhook>>;
  /** Returns what ends them. */
  startWorkers(): Promise<() => Promise<void>>;
  /** Does what waits for a retry at once. @default false */
  readonly isHurried?: boolean;
}

export interface OrderedWebhook {
  /** @default all */
  readonly subjects?: number;
  /** Never accepts the event of the first subject that is in the middle of its own. */
  readonly isPoisoned?: boolean;
  /** How many acceptances the run waits for. */
  readonly accepts: number;
  readonly input?: Readonly<Record<string, unknown>>;
}

/** What each webhook's receiver accepted, in that order. */
export type OrderRun = Readonly<Record<string, readonly Acceptance[]>>;

/** One in ten requests is refused. */
const FAILING = 0.1;
/** So that nothing is given up by chance. */
const RETRY = { delays: Array(8).fill(1) };
const BATCH = 1_000;
const ENDS_WITHIN_MS = 1_500_000;

/** The subject with the event that a poisoned webhook does not accept. */
export const POISONED = 'note_0';

/**
 * Writes all events, those of all subjects in turn, and then lets workers send them to receivers that refuse one request in ten, at
 * random.
 */
export async function runInOrder(engine: WebhookEngine, options: OrderOptions): Promise<OrderRun> {
  const random = seeded(options.seed);
  const accepted = Object.fromEntries(Object.keys(options.webhooks).map((name) => [name, [] as Acceptance[]]));
  await using opened = new AsyncDisposableStack();
  const book = await openRequestBook(({ path, deliveryId }, body) => {
    const name = path.slice(1);
    // what the webhooks' document asks for
    const { position, subjectId, note } = JSON.parse(body).data as NoteSent;
    const isRefused = options.webhooks[name]?.isPoisoned && subjectId === POISONED && note.text === POISON;
    if (isRefused || random() < FAILING) return 500;
    accepted[name]?.push({ deliveryId, subjectId, position: Number(position) });
    return 200;
  });
  opened.defer(book.close);
  const accountId = await engine.addAccount();
  await createWebhooks(engine, { accountId, book, options });
  await writeAll(engine, { accountId, options });
  opened.defer(await options.startWorkers());
  await eventually(() => hasAll(), { deadlineMs: ENDS_WITHIN_MS, everyMs: 50, describe: 'all to be accepted' });
  return accepted;

  async function hasAll(): Promise<boolean> {
    if (options.isHurried) await engine.advanceClock(1_000);
    const lacking = Object.entries(options.webhooks).filter(
      ([name, { accepts }]) => new Set(accepted[name]?.map(({ deliveryId }) => deliveryId)).size < accepts,
    );
    if (lacking.length === 0) return true;
    throw new Error(
      lacking.map(([name, { accepts }]) => `/${name}: ${accepted[name]?.length} of ${accepts}`).join(', '),
    );
  }
}

interface NoteSent {
  readonly position: string;
  readonly subjectId: string;
  readonly note: { readonly text: string };
}

const POISON = 'poison';

interface Prepared {
  readonly accountId: string;
  readonly book: RequestBook;
  readonly options: OrderOptions;
}

async function createWebhooks(engine: WebhookEngine, { accountId, book, options }: Prepared): Promise<void> {
  for (const [name, { subjects = options.subjects, input }] of Object.entries(options.webhooks)) {
    const asked = Array.from({ length: subjects }, (_, at) => `note_${at}`);
    const filter = `(filter: { subjects: ${JSON.stringify(asked)} })`;
    const query = `subscription { noteWritten${filter} { position subjectId note { text } } }`;
    await engine.createWebhook(
      { url: `${book.url}/${name}`, query, retry: RETRY, maxInFlight: 100, ...input },
      { accountId },
    );
  }
}

async function writeAll(
  engine: WebhookEngine,
  { accountId, options: { subjects, perSubject } }: Pick<Prepared, 'accountId' | 'options'>,
): Promise<void> {
  const log = openNoteLog(engine.services);
  const middle = Math.floor(perSubject / 2);
  const notes = Array.from({ length: subjects * perSubject }, (_, at) => {
    const subjectId = `note_${at % subjects}`;
    const isPoison = subjectId === POISONED && Math.floor(at / subjects) === middle;
    return { subjectId, text: isPoison ? POISON : 'a note' };
  });
  for (let from = 0; from < notes.length; from += BATCH) await log.write(accountId, notes.slice(from, from + BATCH));
  await log.close();
}
