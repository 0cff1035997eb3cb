import type { Kysely } from 'kysely';
import type { EngineTables } from '../database/tables.ts';
import { readBodies } from './bodies.ts';
import type { Claim } from './claim.ts';
import type { ClaimResult } from './finish.ts';
import { type Draft, PAST_RETENTION, type PrepareDeps, type Progress, release, renderBodies } from './render-bodies.ts';
import { SealError } from './seal.ts';
import { readSealedSecrets } from './secrets.ts';
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
    drafts.map(({ claim, key }) => ({ seq: claim.seq, key })),
  );
  return new Map(bodies.map(({ seq, key, body }) => [`${seq}:${key}`, body]));
}
