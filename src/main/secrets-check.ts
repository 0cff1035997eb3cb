import { createHmac } from 'node:crypto';
import { sql } from 'kysely';
import type { Database } from '../database/connect.ts';
import { StartupError } from '../errors.ts';

export interface SecretsKeys {
  readonly secretsKey: Uint8Array;
  readonly previousKey: Uint8Array | undefined;
}

/**
 * Makes sure that all processes of an installation have one SECRETS_KEY: with another, cursors of one would be garbage
 * to the other, and no stored secret could be read. A new key takes over where the old one is given as the previous.
 * @throws StartupError if the installation has another key
 */
export async function checkSecretsKey(database: Database, { secretsKey, previousKey }: SecretsKeys): Promise<void> {
  const mine = fingerprint(secretsKey);
  const older = previousKey === undefined ? null : fingerprint(previousKey);
  const { rows } = await sql`
    update fanfare.installation set secrets_check = ${mine}
    where secrets_check is null or secrets_check = ${mine} or secrets_check = ${older}
    returning one
  `.execute(database.db);
  if (rows.length > 0) return;
  throw new StartupError(
    'SECRETS_KEY is not the key that this database has been used with: set that one, the same for all processes, or, to replace it, give it as SECRETS_KEY_PREVIOUS',
  );
}

/** Tells keys apart and gives nothing of them away. */
function fingerprint(key: Uint8Array): string {
  return createHmac('sha256', key).update('fanfare secrets check v1').digest('hex').slice(0, 32);
}
