import type { Generated, JSONColumnType } from 'kysely';

/** Row shapes of the engine's tables, by their full names. Made by `migrations/engine`. */
export interface EngineTables {
  'fanfare.installation': { one: Generated<boolean>; id: string; epoch: string };
  'fanfare.shard': {
    id: number;
    generation: Generated<number>;
    owner: string | null;
    lease_until: Date;
    head: Generated<number>;
    stamped_at: Date;
  };
  'fanfare.process': { id: string; seen_at: Date };
  'fanfare.account': { id: string; name: string; shard: number; created_at: Generated<Date> };
  'fanfare.head': { account_id: string; position: number };
  'fanfare.api_key': {
    id: string;
    account_id: string;
    hash: Uint8Array;
    scopes: string[];
    description: Generated<string>;
    created_at: Generated<Date>;
    created_by: string | null;
    expires_at: Date | null;
    revoked_at: Date | null;
  };
  'fanfare.event_type': {
    name: string;
    kind: 'fact' | 'update';
    version: number;
    subject_type: string;
    scope: string;
    related: string[];
    schema: JSONColumnType<object>;
    synced_at: Generated<Date>;
  };
  'fanfare.subject': { account_id: string; type: string; id: string; version: number };
  'fanfare.event': {
    seq: number;
    id: string;
    account_id: string;
    name: string;
    payload_version: number;
    occurred_at: Date;
    subject_type: string;
    subject_id: string;
    subject_version: number;
    changed: string[];
    related: string[];
    payload: JSONColumnType<Record<string, unknown>>;
    actor: string | null;
    request_id: string | null;
    caused_by: string | null;
  };
  'fanfare.outbox': { shard: number; seq: number; checked: boolean };
  'fanfare.log': {
    shard: number;
    shard_offset: number;
    account_id: string;
    position: number;
    seq: number;
    stamped_at: Date;
  };
  'fanfare.parked': {
    seq: number;
    event_id: string;
    account_id: string;
    name: string;
    reason: string;
    parked_at: Generated<Date>;
  };
  'fanfare.idempotency': {
    account_id: string;
    key: string;
    field: string;
    arguments_hash: Uint8Array;
    outcome: JSONColumnType<Record<string, unknown>> | null;
    created_at: Generated<Date>;
  };
}
