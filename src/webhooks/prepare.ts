import { readBodies, untieBodies } from './bodies.ts';
import type { Claim } from './claim.ts';
import type { ClaimResult } from './finish.ts';
import { type ClaimedWebhook, readClaimed } from './read-claimed.ts';
import { renderBodies, type Sendable } from './render-bodies.ts';
import { SealError } from './seal.ts';
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
 * Makes claims ready: webhooks, secrets and events, then bodies, first those that are stored, then those that are rendered now,
 * each once for equal (event, document, grants).
 */
export async function prepareDeliveries(deps: PrepareDeps, claims: readonly Claim[], asker: Asker): Promise<void> {
  if (claims.length === 0) return;
  const progress: Progress = { ended: [], parked: new Map() };
  const { webhooks, events } = await readClaimed(deps.engine.database.db, claims);
  const secrets = openSecrets(deps, webhooks, progress);
  const drafts = claims.flatMap((claim) => {
    const webhook = webhooks.get(claim.webhookId)?.webhook;
    // deleted since the claim: its deliveries are cancelled already
    if (webhook === undefined) return [];
    return progress.parked.has(webhook.id) ? release(progress, claim) : [{ claim, webhook, key: claim.bodyKey }];
  });
  const known = drafts.flatMap(({ key, ...draft }) => (key === null ? [] : [{ ...draft, key }]));
  await give(await withBodies(deps, known, progress), progress);
  const unrendered = drafts.filter(({ key }) => key === null);
  await renderBodies(deps, { drafts: unrendered, events }, { isLate: asker.isLate, take: give });

  async function give(held: readonly Sendable[], { ended, parked }: Progress): Promise<void> {
    if (held.length === 0 && ended.length === 0 && parked.size === 0) return;
    const ready = held.map(({ claim, webhook, body }) => ({
      claim,
      webhook,
      secrets: secrets.get(webhook.id) ?? [],
      body,
    }));
    await asker.take({ ready, ended, parked });
  }
}

/** The live secrets of each webhook; one whose secrets can't be opened is parked. */
function openSecrets(
  { sealer }: PrepareDeps,
  webhooks: ReadonlyMap<string, ClaimedWebhook>,
  { parked }: Progress,
): ReadonlyMap<string, readonly string[]> {
  const opened = new Map<string, readonly string[]>();
  for (const [id, { sealed }] of webhooks) {
    try {
      opened.set(
        id,
        sealed.map((each) => sealer.open(each, id)),
      );
      if (sealed.length === 0) parked.set(id, 'it has no signing secret');
    } catch (error) {
      if (!(error instanceof SealError)) throw error;
      parked.set(id, `its signing secret can't be opened: ${error.message}`);
    }
  }
  return opened;
}

async function withBodies(deps: PrepareDeps, drafts: readonly Draft[], { ended }: Progress): Promise<Sendable[]> {
  const places = drafts.map(({ claim, key }) => ({ seq: claim.seq, key, eventId: claim.eventId }));
  const bodies = await readBodies(deps.engine.database.db, places);
  const byPlace = new Map(bodies.map(({ seq, key, body }) => [`${seq}:${key}`, body]));
  const bodyOf = ({ claim, key }: Draft) => byPlace.get(`${claim.seq}:${key}`);
  const lost = drafts.flatMap((draft) => (bodyOf(draft) === undefined ? [draft.claim] : []));
  // sent again long after it had succeeded: what was deleted then is rendered anew, under the next claim
  await untieBodies(deps.engine.database, lost);
  for (const claim of lost) {
    ended.push(
      claim.eventId === null ? { claim, status: 'cancelled', error: PAST_RETENTION } : { claim, status: 'released' },
    );
  }
  return drafts.flatMap((draft) => {
    const body = bodyOf(draft);
    return body === undefined ? [] : [{ ...draft, body }];
  });
}
