import { readDocuments } from './render.ts';
import { SealError } from './seal.ts';
import { readSealedSecrets } from './secrets.ts';
import type { PrepareDeps } from './wanted.ts';
import type { Webhook } from './webhook.ts';

/**
 * Looks again at parked webhooks: those whose documents this program can read and whose secrets it can open are sent to
 * again.
 * @returns how many
 */
export async function reviewParked(deps: PrepareDeps): Promise<number> {
  const { db } = deps.engine.database;
  const parked = await db.selectFrom('fanfare.webhook').selectAll().where('parked_reason', 'is not', null).execute();
  let repaired = 0;
  for (const webhook of parked) {
    if (!(await isSound(deps, webhook))) continue;
    await db
      .updateTable('fanfare.webhook')
      .set({ parked_reason: null })
      .where('id', '=', webhook.id)
      .where('version', '=', webhook.version)
      .execute();
    repaired++;
  }
  return repaired;
}

async function isSound({ engine, documents, sealer, headers }: PrepareDeps, webhook: Webhook): Promise<boolean> {
  if ('fault' in readDocuments(documents, webhook) || headers.faultOf(webhook) !== undefined) return false;
  const secrets = await readSealedSecrets(engine.database.db, [webhook.id]);
  try {
    for (const { sealed } of secrets) sealer.open(sealed, webhook.id);
    return secrets.length > 0;
  } catch (error) {
    if (error instanceof SealError) return false;
    throw error;
  }
}
