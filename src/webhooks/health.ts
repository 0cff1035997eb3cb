import { sql } from 'kysely';
import type { Database } from '../database/connect.ts';
import type { Delivered } from './deliver.ts';

/** How a webhook fared in a batch of attempts, in their order. */
interface Fare {
  failures: number;
  hasRecovered: boolean;
  gone: boolean;
}

/**
 * Counts failures in a row, which narrow the webhook's window of claims, and disables what answered 410. Not in the
 * transaction that finishes deliveries: changes of a webhook lock it before its deliveries, and would meet that one
 * crosswise. A crash in between only forgets a count; a 410 is answered again.
 * @returns the webhooks that were disabled
 */
export async function noteHealth({ db }: Database, delivered: readonly Delivered[]): Promise<string[]> {
  const fares = new Map<string, Fare>();
  for (const { result, gone } of delivered) {
    if (!('attempt' in result)) continue;
    const fare = fares.get(result.claim.webhookId) ?? { failures: 0, hasRecovered: false, gone: false };
    fares.set(result.claim.webhookId, fare);
    if (result.status === 'succeeded') Object.assign(fare, { failures: 0, hasRecovered: true });
    else fare.failures++;
    fare.gone ||= gone;
  }
  const rows = [...fares].map(([id, fare]) => ({ id, ...fare })).sort((a, b) => (a.id < b.id ? -1 : 1));
  if (rows.length === 0) return [];
  const { rows: disabled } = await sql<{ id: string; gone: boolean }>`
    update fanfare.webhook w
    set failures = case when f."hasRecovered" then 0 else w.failures end + f.failures,
        status = case when f.gone then 'DISABLED' else w.status end,
        disabled_reason = case when f.gone then 'the receiver answered 410 Gone' else w.disabled_reason end
    from jsonb_to_recordset(${JSON.stringify(rows)}::jsonb) as f (id text, failures int, "hasRecovered" boolean, gone boolean)
    where w.id = f.id and (f.failures > 0 or (f."hasRecovered" and w.failures > 0))
    returning w.id, f.gone
  `.execute(db);
  return disabled.filter(({ gone }) => gone).map(({ id }) => id);
}

/** Parks all open deliveries of these webhooks until somebody repairs them; reasons by webhook. */
export async function parkWebhooks({ db }: Database, reasons: ReadonlyMap<string, string>): Promise<void> {
  for (const [id, reason] of reasons) {
    await db
      .updateTable('fanfare.webhook')
      .set({ parked_reason: reason.slice(0, 2_000) })
      .where('id', '=', id)
      .where('parked_reason', 'is', null)
      .execute();
  }
}
