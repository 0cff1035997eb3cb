import type { Kysely } from 'kysely';
import type { EngineTables } from '../database/tables.ts';
import type { EngineServices } from '../graphql/context.ts';
import { type EventRecord, toRecord } from '../outbox/read.ts';
import type { Observe } from '../runtime/observe.ts';
import { bodyKey } from './bodies.ts';
import type { Claim } from './claim.ts';
import type { ClaimResult } from './finish.ts';
import type { HeaderBook } from './header-book.ts';
import { occurrenceOf } from './occurrence.ts';
import { readDocuments, type WebhookDocuments, wantsEvent } from './render.ts';
import type { Sealer } from './seal.ts';
import type { DocumentReader } from './selection.ts';
import type { Webhook } from './webhook.ts';

/** What it takes to make claims ready. */
export interface PrepareDeps {
  readonly engine: EngineServices;
  readonly documents: DocumentReader;
  readonly sealer: Sealer;
  readonly headers: HeaderBook;
  readonly observe: Observe;
  /** The rendering for an account that is under way or waits last, by account. */
  readonly turns: Map<string, Promise<void>>;
}

/** What has been decided so far. */
export interface Progress {
  readonly ended: ClaimResult[];
  readonly parked: Map<string, string>;
}

/** A claim before its body is known. */
export interface Draft {
  readonly claim: Claim;
  readonly webhook: Webhook;
  readonly key: string;
}

/** The same before it is known where its body is stored. */
export type Unrendered = Omit<Draft, 'key'>;

/** A claim with all that rendering needs. */
export interface Wanted extends Draft {
  readonly event: EventRecord;
  readonly documents: Exclude<WebhookDocuments, { readonly fault: string }>;
}

/** Leaves out what can't or may not be rendered, and says why: a webhook whose document breaks by a fault of ours is parked. */
export function selectWanted(
  deps: PrepareDeps,
  { drafts, events }: { readonly drafts: readonly Unrendered[]; readonly events: ReadonlyMap<number, EventRecord> },
  progress: Progress,
): Wanted[] {
  const { engine, observe } = deps;
  const documentsOf = new Map<string, WebhookDocuments>();
  return drafts.flatMap((draft) => {
    const { claim, webhook } = draft;
    try {
      return judge(draft);
    } catch (error) {
      observe({
        name: 'delivery.render_broken',
        level: 'error',
        webhook_id: webhook.id,
        event_id: claim.eventId,
        error,
      });
      progress.parked.set(webhook.id, BROKEN);
      return release(progress, claim);
    }
  });

  function judge({ claim, webhook }: Unrendered): Wanted[] {
    const documents = documentsOf.get(webhook.id) ?? readDocuments(deps.documents, webhook);
    documentsOf.set(webhook.id, documents);
    if ('fault' in documents) {
      progress.parked.set(webhook.id, documents.fault);
      return release(progress, claim);
    }
    const event = events.get(claim.seq);
    if (event === undefined || !wantsEvent(engine, webhook, event)) {
      const error =
        event === undefined ? PAST_RETENTION : 'the webhook may not see this event, or no longer asks for it';
      progress.ended.push({ claim, status: 'cancelled', error });
      return [];
    }
    const source = documents.documentOf(event.name).source;
    return [{ claim, webhook, event, documents, key: bodyKey(webhook, source) }];
  }
}

/** The events of claims by their serial numbers; those past retention are left out. */
export async function readEvents(
  db: Kysely<EngineTables>,
  claims: readonly Claim[],
): Promise<ReadonlyMap<number, EventRecord>> {
  const positions = new Map(claims.map(({ seq, position }) => [seq, position]));
  const occurred = occurrenceOf(claims.map(({ eventId }) => eventId));
  let query = db
    .selectFrom('fanfare.event')
    .selectAll()
    .where('seq', 'in', [...positions.keys()]);
  if (occurred !== undefined) {
    query = query.where('occurred_at', '>=', occurred.first).where('occurred_at', '<=', occurred.last);
  }
  const rows = await query.execute();
  return new Map(rows.map((row) => [row.seq, toRecord({ ...row, position: positions.get(row.seq) ?? 0 })]));
}

/** The reason of a delivery that has nothing left to send. */
export const PAST_RETENTION = 'the event is past retention';

/** The reason of a webhook whose rendering fails by a fault of ours, which is told to the operator only. */
export const BROKEN = 'its document could not be rendered: internal error';

/** Hands a claim back untouched. */
export function release({ ended }: Progress, claim: Claim): [] {
  ended.push({ claim, status: 'released' });
  return [];
}
