import { sql } from 'kysely';
import { eventually } from '../support/eventually.ts';
import type { DoneDelivery, StormEvidence } from './kill-check.ts';
import { openNoteLog } from './note-log.ts';
import { openRequestBook, type RequestBook } from './request-book.ts';
import type { WebhookEngine } from './webhook-engine.ts';
import { databaseUrlOf, type Fleet, openFleet, type WorkerSettings } from './worker-fleet.ts';

/** Events for some webhooks, whose receiver answers when it is told to. */
export interface HeldRequests extends AsyncDisposable, Pick<Fleet, 'launch'> {
  readonly book: RequestBook;
  /** What is held, and from now on all that comes, but for what was held for a worker of which `answerOf` says else. */
  answer(status: number, answerOf?: (sender: string) => number | undefined): void;
  /** Waits until no delivery is open. */
  untilDone(): Promise<void>;
  done(): Promise<DoneDelivery[]>;
  /** With workers that lived on. */
  evidence(): Promise<StormEvidence>;
}

export interface HeldOptions {
  readonly webhooks: number;
  readonly events: number;
  readonly settings: WorkerSettings & { readonly deadlineMs: number };
}

/** Makes the webhooks and their deliveries; workers come when they are launched. */
export async function holdRequests(
  engine: WebhookEngine,
  { webhooks, events, settings }: HeldOptions,
): Promise<HeldRequests> {
  await using opening = new AsyncDisposableStack();
  const answered = Promise.withResolvers<(sender: string) => number>();
  const book = await openRequestBook(async ({ sender }) => (await answered.promise)(sender));
  opening.defer(book.close);
  const accountId = await engine.addAccount();
  const query = 'subscription { noteWritten { id } }';
  for (let at = 0; at < webhooks; at++) await engine.createWebhook({ url: `${book.url}/${at}`, query }, { accountId });
  const log = openNoteLog(engine.services);
  await log.write(
    accountId,
    Array.from({ length: events }, (_, n) => ({ subjectId: 'note_held', text: `${n}` })),
  );
  await log.close();
  const fleet = openFleet(await databaseUrlOf(engine), settings);
  opening.defer(fleet.close);
  const opened = opening.move();
  const { db } = engine.services.database;

  async function done(): Promise<DoneDelivery[]> {
    const { rows } = await sql<DoneDelivery>`
      select id, status, (extract(epoch from finished_at) * 1000)::float8 as "finishedAtMs"
      from fanfare.delivery_done where account_id = ${accountId} order by id
    `.execute(db);
    return rows;
  }

  return {
    book,
    launch: fleet.launch,
    answer: (status, answerOf = () => undefined) => answered.resolve((sender) => answerOf(sender) ?? status),
    untilDone: async () => {
      await eventually(async () => {
        const { rows } = await sql`select from fanfare.delivery where account_id = ${accountId} limit 1`.execute(db);
        return rows.length === 0;
      });
    },
    done,
    evidence: async () => ({
      requests: book.requests,
      killedAtMs: new Map(),
      expected: new Set(book.requests.map(({ path, eventId }) => `${path} ${eventId}`)),
      done: await done(),
      deadlineMs: settings.deadlineMs,
    }),
    [Symbol.asyncDispose]: () => opened.disposeAsync(),
  };
}
