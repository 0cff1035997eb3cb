import type { Kysely } from 'kysely';
import type { EngineTables } from '../database/tables.ts';
import type { EngineServices } from '../graphql/context.ts';
import { type EventRecord, toRecord } from '../outbox/read.ts';
import type { Observe } from '../runtime/observe.ts';
import { assignBodies, bodyKey, readBodies, type StoredBody, storeBodies } from './bodies.ts';
import type { Claim } from './claim.ts';
import type { ClaimResult } from './finish.ts';
import { readDocuments, renderEvent, type WebhookDocuments, wantsEvent } from './render.ts';
import { SealError, type Sealer } from './seal.ts';
import { readSealedSecrets } from './secrets.ts';
import type { DocumentReader } from './selection.ts';
import { principalOf, type Webhook } from './webhook.ts';

/** A claim with all that an attempt needs. */
export interface ReadyDelivery {
  readonly claim: Claim;
  readonly webhook: Webhook;
  /** Live ones, newest first. */
  readonly secrets: readonly string[];
  readonly body: string;
}

/** A claim goes one of three ways: it is sent, it ends here, or its webhook needs repair first. */
export interface Prepared {
  readonly ready: readonly ReadyDelivery[];
  readonly ended: readonly ClaimResult[];
  /** Reasons by webhook: its deliveries are parked. */
  readonly parked: ReadonlyMap<string, string>;
}

export interface PrepareDeps {
  readonly engine: EngineServices;
  readonly documents: DocumentReader;
  readonly sealer: Sealer;
  readonly observe: Observe;
}

/** What has been decided so far. */
interface Progress {
  readonly ended: ClaimResult[];
  readonly parked: Map<string, string>;
}

/** A claim before its body is known. */
interface Draft {
  readonly claim: Claim;
  readonly webhook: Webhook;
  readonly key: string;
}

/**
 * Makes a batch of claims ready: webhooks and secrets, then bodies, those that are stored and those that are rendered
 * now, each once for equal (event, document, grants).
 */
export async function prepareDeliveries(deps: PrepareDeps, claims: readonly Claim[]): Promise<Prepared> {
  const progress: Progress = { ended: [], parked: new Map() };
  const webhooks = await readWebhooks(deps.engine.database.db, claims);
  const secrets = await openSecrets(deps, [...webhooks.keys()], progress);
  const drafts = claims.flatMap((claim) => {
    const webhook = webhooks.get(claim.webhookId);
    // deleted since the claim: its deliveries are cancelled already
    if (webhook === undefined) return [];
    return progress.parked.has(webhook.id) ? release(progress, claim) : [{ claim, webhook, key: claim.bodyKey }];
  });
  const known = drafts.flatMap(({ key, ...draft }) => (key === null ? [] : [{ ...draft, key }]));
  const fresh = await renderBodies(
    deps,
    drafts.filter(({ key }) => key === null),
    progress,
  );
  const bodies = await bodiesOf(deps.engine.database.db, [...known, ...fresh]);
  const ready = [...known, ...fresh].flatMap(({ claim, webhook, key }) => {
    const body = bodies.get(`${claim.seq}:${key}`);
    if (body !== undefined) return [{ claim, webhook, secrets: secrets.get(webhook.id) ?? [], body }];
    progress.ended.push({ claim, status: 'cancelled', error: PAST_RETENTION });
    return [];
  });
  return { ready, ...progress };
}

const PAST_RETENTION = 'the event is past retention';

function release({ ended }: Progress, claim: Claim): [] {
  ended.push({ claim, status: 'released' });
  return [];
}

async function readWebhooks(db: Kysely<EngineTables>, claims: readonly Claim[]): Promise<ReadonlyMap<string, Webhook>> {
  const ids = [...new Set(claims.map(({ webhookId }) => webhookId))];
  const rows = await db.selectFrom('fanfare.webhook').selectAll().where('id', 'in', ids).execute();
  return new Map(rows.map((row) => [row.id, row]));
}

/** The live secrets of each webhook; one whose secrets can't be opened is parked. */
async function openSecrets(
  { engine, sealer }: PrepareDeps,
  webhookIds: readonly string[],
  { parked }: Progress,
): Promise<ReadonlyMap<string, readonly string[]>> {
  const opened = new Map<string, string[]>(webhookIds.map((id) => [id, []]));
  if (webhookIds.length === 0) return opened;
  for (const { webhook_id, sealed } of await readSealedSecrets(engine.database.db, webhookIds)) {
    try {
      opened.get(webhook_id)?.push(sealer.open(sealed, webhook_id));
    } catch (error) {
      if (!(error instanceof SealError)) throw error;
      parked.set(webhook_id, `its signing secret can't be opened: ${error.message}`);
    }
  }
  for (const [id, secrets] of opened)
    if (secrets.length === 0 && !parked.has(id)) parked.set(id, 'it has no signing secret');
  return opened;
}

type Unrendered = Omit<Draft, 'key'>;

/** Renders what nobody has rendered yet, stores it and ties the deliveries to it. */
async function renderBodies(deps: PrepareDeps, drafts: readonly Unrendered[], progress: Progress): Promise<Draft[]> {
  if (drafts.length === 0) return [];
  const { database } = deps.engine;
  const events = await readEvents(
    database.db,
    drafts.map(({ claim }) => claim.seq),
  );
  const wanted = selectWanted(deps, { drafts, events }, progress);
  const stored = await readBodies(
    database.db,
    wanted.map(({ claim, key }) => ({ seq: claim.seq, key })),
  );
  const known = new Set(stored.map(({ seq, key }) => `${seq}:${key}`));
  const failed = new Map<string, string>();
  const rendered = new Map<string, StoredBody & { readonly occurredAt: Date }>();
  for (const { claim, webhook, key, event, documents } of wanted) {
    const name = `${claim.seq}:${key}`;
    if (known.has(name) || failed.has(name) || rendered.has(name)) continue;
    const rendering = await renderEvent({
      engine: deps.engine,
      document: documents.documentOf(event.name),
      principal: principalOf(webhook),
      event,
      observe: deps.observe,
    });
    if (rendering.status === 'failed') failed.set(name, describeErrors(rendering.errors));
    else rendered.set(name, { seq: claim.seq, key, body: rendering.body, occurredAt: event.occurredAt });
  }
  await storeBodies(database.db, [...rendered.values()]);
  const sendable = wanted.filter(({ claim, key }) => {
    const error = failed.get(`${claim.seq}:${key}`);
    if (error !== undefined) progress.ended.push({ claim, status: 'renderFailed', error });
    return error === undefined;
  });
  const held = await assignBodies(database, sendable);
  return sendable.filter(({ claim }) => held.has(claim.id));
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

async function bodiesOf(db: Kysely<EngineTables>, drafts: readonly Draft[]): Promise<ReadonlyMap<string, string>> {
  const bodies = await readBodies(
    db,
    drafts.map(({ claim, key }) => ({ seq: claim.seq, key })),
  );
  return new Map(bodies.map(({ seq, key, body }) => [`${seq}:${key}`, body]));
}
