import { domain } from '#domain';
import type { Tables } from '../../schema/tables.ts';
import { readConfig } from '../../src/config.ts';
import { describeKeyFault } from '../../src/identity/key-format.ts';
import { CAPTURED, createEngine } from '../../src/main/services.ts';
import { openStores } from '../../src/main/stores.ts';
import type { Transact } from '../../src/outbox/transact.ts';
import { nearest } from '../../src/runtime/spelling.ts';

/** A program that changes what a server's processes serve. */
export interface OpenEngine {
  /** With the hint after each commit, as in the role `api`. */
  readonly transact: Transact<Tables>;
  /** The same hint, for events that were captured by SQL. */
  hint(): Promise<void>;
}

/** Opens what the role `api` changes the database by, without its server. @param env the settings of the processes beside it */
export async function openEngine(env: Readonly<Record<string, string>>): Promise<OpenEngine> {
  const config = readConfig(env, { describeKeyFault, nearest });
  const stores = await openStores({
    config,
    domainMigrations: undefined,
    observe: () => {},
    onFatal: (error) => {
      throw error;
    },
  });
  const { transact } = (await createEngine({ stores, domain, config })).services;
  return { transact, hint: () => stores.bus.publish(CAPTURED, '') };
}
