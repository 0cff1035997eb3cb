import type { Generated, JSONColumnType } from 'kysely';

/** Row shapes of the engine's tables, by their full names. Made by `migrations/engine`. */
export interface EngineTables {
  'fanfare.installation': { one: Generated<boolean>; id: string; epoch: string; secrets_check: string | null };
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
  'fanfare.outbox': {
    shard: number;
    seq: number;
    checked: boolean;
    account_id: string | null;
    occurred_at: Date | null;
  };
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
    /** Of the event before it. */
    position: number;
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
  'fanfare.webhook': {
    id: string;
    account_id: string;
    url: string;
    description: string;
    metadata: JSONColumnType<Record<string, unknown>>;
    status: Generated<'ACTIVE' | 'PAUSED' | 'DISABLED'>;
    disabled_reason: string | null;
    parked_reason: string | null;
    event_types: string[] | null;
    document: string | null;
    variables: JSONColumnType<Record<string, unknown>>;
    scopes: string[];
    narrowing: JSONColumnType<readonly Readonly<Record<string, readonly string[]>>[]>;
    types: string[] | null;
    subjects: string[] | null;
    related: string[] | null;
    changed: string[] | null;
    triggers: string[] | null;
    live_after: number;
    backfilled_to: number;
    /** Seconds. */
    retry_delays: number[] | null;
    /** Seconds. */
    retry_window: number | null;
    held_until: Date | null;
    holds: Generated<number>;
    max_in_flight: number | null;
    /** Requests a second. */
    rate_limit: number | null;
    rate_next_at: Generated<Date>;
    ordering: Generated<'UNORDERED' | 'PER_SUBJECT'>;
    on_exhausted: Generated<'SKIP' | 'BLOCK'>;
    failures: Generated<number>;
    version: Generated<number>;
    created_by: string | null;
    created_at: Generated<Date>;
    updated_at: Generated<Date>;
  };
  'fanfare.webhook_secret': {
    id: Generated<number>;
    account_id: string;
    webhook_id: string;
    sealed: string;
    created_at: Generated<Date>;
    expires_at: Date | null;
  };
  /** Open deliveries; `fanfare.delivery_record` has the finished ones too. */
  'fanfare.delivery': {
    account_id: string;
    id: string;
    webhook_id: string;
    seq: number;
    position: number;
    event_id: string | null;
    next_at: Date;
    lease_until: Date | null;
    generation: Generated<number>;
    step: Generated<number>;
    attempts: Generated<number>;
    began_at: Date | null;
    body_key: string | null;
    born_at: Date;
    /** Of a replay or a manual resend. */
    run: string | null;
    /** Set where the order within it is kept. */
    subject: string | null;
    /** Its attempts are used up, and those of its subject behind it wait. */
    is_blocking: Generated<boolean>;
  };
  /** Whose turn it is to send to a webhook. */
  'fanfare.turn': { webhook_id: string; holder: string; lease_until: Date };
  'fanfare.delivery_done': {
    account_id: string;
    id: string;
    webhook_id: string;
    seq: number;
    position: number;
    event_id: string | null;
    status: 'SUCCEEDED' | 'EXHAUSTED' | 'CANCELLED' | 'RENDER_FAILED';
    error: string | null;
    attempts: number;
    generation: number;
    body_key: string | null;
    born_at: Date;
    finished_at: Date;
    run: string | null;
  };
  /** A view of both. */
  'fanfare.delivery_record': {
    account_id: string;
    id: string;
    webhook_id: string;
    event_id: string | null;
    position: number;
    status: string;
    error: string | null;
    attempts: number;
    seq: number;
    body_key: string | null;
    born_at: Date;
    next_at: Date | null;
    finished_at: Date | null;
    run: string | null;
    subject: string | null;
  };
  'fanfare.attempt': {
    account_id: string;
    delivery_id: string;
    number: number;
    started_at: Date;
    duration_ms: number;
    status_code: number | null;
    error_class: string | null;
    reason: string | null;
    response_headers: JSONColumnType<Record<string, string>>;
    response_body: string;
    is_truncated: boolean;
    remote_address: string | null;
    next_at: Date | null;
    born_at: Date;
    /** Both are null where an older program has written the row: no list of attempts has it. */
    id: string;
    webhook_id: string;
    request_headers: string | null;
    body_hash: Buffer | null;
    is_reused: boolean | null;
    dns_ms: number | null;
    connect_ms: number | null;
    tls_ms: number | null;
    first_byte_ms: number | null;
  };
  'fanfare.body': { seq: number; key: string; occurred_at: Date; body: string };
  'fanfare.consumer': ConsumerColumns & { created_at: Generated<Date> };
  /** A view: with what follows from the leases, and the account's head. */
  'fanfare.consumer_state': ConsumerColumns & { created_at: Date; position: number; head: number };
  'fanfare.consumer_lease': {
    account_id: string;
    consumer_id: string;
    /** Exclusive. */
    from_position: number;
    /** Inclusive. */
    to_position: number;
    lease_until: Date;
    attempts: number;
  };
}

interface ConsumerColumns {
  id: string;
  account_id: string;
  name: string;
  epoch: string;
  types: string[] | null;
  subjects: string[] | null;
  related: string[] | null;
  changed: string[] | null;
  triggers: string[] | null;
  narrowing: JSONColumnType<readonly Readonly<Record<string, readonly string[]>>[]>;
  leased_to: number;
  created_by: string | null;
}
