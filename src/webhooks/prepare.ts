import type { Kysely } from 'kysely';
import type { EngineTables } from '../database/tables.ts';
import { readBodies } from './bodies.ts';
import type { Claim } from './claim.ts';
import type { ClaimResult } from './finish.ts';
import { renderBodies } from './render-bodies.ts';
import { SealError } from './seal.ts';
import { readSealedSecrets } from './secrets.ts';
import { type Draft, PAST_RETENTION, type PrepareDeps, type Progress, release } from './wanted.ts';
import type { Webhook } from './webhook.ts';

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

/** Who asked for the preparation. */
export interface Asker {
  /** Whether no attempt may begin any more: what is not rendered by then is handed back. */
  isLate(): boolean;
  /** Given each part as soon as it is ready. */
  take(prepared: Prepared): Promise<void>;
}

/**
 * Makes claims ready: webhooks and secrets, then bodies, first those that are stored, then those that are rendered now,
 * each once for equal (event, document, grants).
 */
export async function prepareDeliveries(deps: PrepareDeps, claims: readonly Claim[], asker: Asker): Promise<void> {
  const { db } = deps.engine.database;
  const progress: Progress = { ended: [], parked: new Map() };
  const webhooks = await readWebhooks(db, claims);
  const secrets = await openSecrets(deps, [...webhooks.keys()], progress);
  for (const webhook of webhooks.values()) {
    const fault = deps.headers.faultOf(webhook);
    if (fault !== undefined) progress.parked.set(webhook.id, fault);
  }
  const drafts = claims.flatMap((claim) => {
    const webhook = webhooks.get(claim.webhookId);
    // deleted since the claim: its deliveries are cancelled already
    if (webhook === undefined) return [];
    return progress.parked.has(webhook.id) ? release(progress, claim) : [{ claim, webhook, key: claim.bodyKey }];
  });
  const known = drafts.flatMap(({ key, ...draft }) => (key === null ? [] : [{ ...draft, key }]));
  await give(known, progress);
  await renderBodies(
    deps,
    drafts.filter(({ key }) => key === null),
    { isLate: asker.isLate, take: give },
  );

  async function give(held: readonly Draft[], { ended, parked }: Progress): Promise<void> {
    const bodies = await bodiesOf(db, held);
    const ready = held.flatMap(({ claim, webhook, key }) => {
      const body = bodies.get(`${claim.seq}:${key}`);
      if (body !== undefined) return [{ claim, webhook, secrets: secrets.get(webhook.id) ?? [], body }];
      ended.push({ claim, status: 'cancelled', error: PAST_RETENTION });
      return [];
    });
    await asker.take({ ready, ended, parked });
  }
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

async function bodiesOf(db: Kysely<EngineTables>, drafts: readonly Draft[]): Promise<ReadonlyMap<string, string>> {
  const bodies = await readBodies(
    db,
    drafts.map(({ claim, key }) => ({ seq: claim.seq, key, eventId: claim.eventId })),
  );
  return new Map(bodies.map(({ seq, key, body }) => [`${seq}:${key}`, body]));
}
