import type { Kysely } from 'kysely';
import type { EngineTables } from '../database/tables.ts';
import { EngineError } from '../errors.ts';
import type { EngineServices } from '../graphql/context.ts';
import { type EventRecord, toRecord } from '../outbox/read.ts';
import type { Observe } from '../runtime/observe.ts';
import { assignBodies, bodyKey, readBodies, type StoredBody, storeBodies } from './bodies.ts';
import type { Claim } from './claim.ts';
import type { ClaimResult } from './finish.ts';
import { type Rendering, readDocuments, renderEvent, type WebhookDocuments, wantsEvent } from './render.ts';
import type { Sealer } from './seal.ts';
import type { DocumentReader } from './selection.ts';
import { principalOf, type Webhook } from './webhook.ts';

export interface PrepareDeps {
  readonly engine: EngineServices;
  readonly documents: DocumentReader;
  readonly sealer: Sealer;
  readonly observe: Observe;
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

type Unrendered = Omit<Draft, 'key'>;

/**
 * Renders what nobody has rendered yet, each once for equal (event, document, grants), stores it and ties the deliveries
 * to it. What the database kept from being rendered is in neither answer: it comes round again with its lease.
 */
export async function renderBodies(
  deps: PrepareDeps,
  drafts: readonly Unrendered[],
  progress: Progress,
): Promise<Draft[]> {
  if (drafts.length === 0) return [];
  const { database } = deps.engine;
  const seqs = drafts.map(({ claim }) => claim.seq);
  const wanted = selectWanted(deps, { drafts, events: await readEvents(database.db, seqs) }, progress);
  const stored = await readBodies(database.db, wanted.map(placeOf));
  const done = new Set(stored.map(({ seq, key }) => `${seq}:${key}`));
  const renderings = await renderEach(
    deps,
    wanted.filter((each) => !done.has(nameOf(each))),
  );
  const fresh = wanted.flatMap((each) => toBody(each, renderings.get(nameOf(each))));
  await storeBodies(database.db, [...new Map(fresh.map((body) => [`${body.seq}:${body.key}`, body])).values()]);
  const sendable = wanted.filter((each) => {
    const rendering = renderings.get(nameOf(each));
    if (rendering?.status === 'failed') {
      progress.ended.push({ claim: each.claim, status: 'renderFailed', error: describeErrors(rendering.errors) });
    }
    return done.has(nameOf(each)) || rendering?.status === 'rendered';
  });
  const held = await assignBodies(database, sendable);
  return sendable.filter(({ claim }) => held.has(claim.id));
}

function placeOf({ claim, key }: Draft) {
  return { seq: claim.seq, key };
}

function nameOf({ claim, key }: Draft): string {
  return `${claim.seq}:${key}`;
}

async function renderEach(deps: PrepareDeps, wanted: readonly Wanted[]): Promise<ReadonlyMap<string, Rendering>> {
  const { engine, observe } = deps;
  const renderings = new Map<string, Rendering>();
  const deferred = new Set<string>();
  for (const each of wanted) {
    const name = nameOf(each);
    if (renderings.has(name) || deferred.has(name)) continue;
    const { webhook, event, documents } = each;
    const document = documents.documentOf(event.name);
    try {
      renderings.set(name, await renderEvent({ engine, document, principal: principalOf(webhook), event, observe }));
    } catch (error) {
      if (!(error instanceof EngineError)) throw error;
      // one event whose rendering takes too long must not hold up the others of its batch
      deferred.add(name);
      observe({ name: 'delivery.render_deferred', level: 'warn', webhook_id: webhook.id, event_id: event.id, error });
    }
  }
  return renderings;
}

function toBody(
  { claim, key, event }: Wanted,
  rendering: Rendering | undefined,
): (StoredBody & { occurredAt: Date })[] {
  if (rendering?.status !== 'rendered') return [];
  return [{ seq: claim.seq, key, body: rendering.body, occurredAt: event.occurredAt }];
}

function describeErrors(errors: readonly { readonly message: string; readonly path: string | null }[]): string {
  return errors.map(({ message, path }) => (path === null ? message : `${path}: ${message}`)).join('; ');
}

interface Wanted extends Draft {
  readonly event: EventRecord;
  readonly documents: Exclude<WebhookDocuments, { readonly fault: string }>;
}

/** Leaves out what can't or may not be rendered, and says why. */
function selectWanted(
  { engine, documents: reader }: PrepareDeps,
  { drafts, events }: { readonly drafts: readonly Unrendered[]; readonly events: ReadonlyMap<number, EventRecord> },
  progress: Progress,
): Wanted[] {
  const documentsOf = new Map<string, WebhookDocuments>();
  return drafts.flatMap(({ claim, webhook }) => {
    const documents = documentsOf.get(webhook.id) ?? readDocuments(reader, webhook);
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
  });
}

async function readEvents(
  db: Kysely<EngineTables>,
  seqs: readonly number[],
): Promise<ReadonlyMap<number, EventRecord>> {
  const rows = await db
    .selectFrom('fanfare.log as l')
    .innerJoin('fanfare.event as e', 'e.seq', 'l.seq')
    .selectAll('e')
    .select('l.position')
    .where('l.seq', 'in', seqs)
    .execute();
  return new Map(rows.map((row) => [row.seq, toRecord(row)]));
}

/** The reason of a delivery that has nothing left to send. */
export const PAST_RETENTION = 'the event is past retention';

/** Hands a claim back untouched. */
export function release({ ended }: Progress, claim: Claim): [] {
  ended.push({ claim, status: 'released' });
  return [];
}
