import type { GraphQLResolveInfo } from 'graphql';
import { sql } from 'kysely';
import { EngineError, Refusal } from '../errors.ts';
import { requireScope } from '../identity/principal.ts';
import type { Place } from '../outbox/cursor.ts';
import { claimKey, hashArguments, type IdempotentCall, type Outcome, rememberOutcome } from '../outbox/idempotency.ts';
import { readHead } from '../outbox/read.ts';
import type { Author, Tx } from '../outbox/transact.ts';
import type { EngineContext } from './context.ts';
import type { EntityRow } from './loader.ts';
import type { RefusalClass } from './pothos-types.ts';
import { toRefusalValue } from './refusal.ts';

/** One field of a change's success. */
export interface SuccessField {
  readonly name: string;
  /** The entity that it is, or undefined for scalars and snapshots. */
  readonly entity: string | undefined;
  readonly nullable: boolean;
  readonly secret: boolean;
}

/** A success as its type's resolvers get it. */
export interface Success {
  readonly values: Readonly<Record<string, unknown>>;
  readonly cursor: string;
}

export interface ChangePlan {
  readonly name: string;
  readonly scope: string | null;
  readonly fields: readonly SuccessField[];
  readonly refusals: readonly RefusalClass[];
  /** Before the transaction, unless the outcome is known. */
  readonly prepare?: ((args: unknown, context: EngineContext) => Promise<unknown>) | undefined;
  readonly run: (
    tx: Tx,
    args: unknown,
    context: EngineContext,
    prepared: unknown,
  ) => Promise<Readonly<Record<string, unknown>>>;
  /** Behind the commit. */
  readonly committed?: ((context: EngineContext) => void) | undefined;
}

type Change = (args: unknown, context: EngineContext, info: GraphQLResolveInfo) => Promise<object>;

/** What one transaction gives: the values as `run` made them, or the outcome of an earlier equal call. */
interface Attempt {
  readonly values: Readonly<Record<string, unknown>> | undefined;
  readonly outcome: Outcome;
}

/**
 * Makes the resolver of a mutation: scope, idempotency, one transaction. It gives a `Success` or a refusal's value.
 * The first call and each repeat run their own selection on the same outcome.
 */
export function makeChange(plan: ChangePlan): Change {
  return async function change(args, context, info) {
    if (plan.scope !== null) requireScope(context.principal, plan.scope);
    const call = idempotentCall(plan, { args, context, info });
    try {
      const attempt =
        call === undefined ? await makeOnce(plan, args, context) : await shareWait(plan, { call, args, context });
      plan.committed?.(context);
      context.loaders.clear();
      return await toSuccess(plan, context, attempt);
    } catch (error) {
      if (error instanceof Refusal && plan.refusals.some((refusal) => error.constructor === refusal))
        return toRefusalValue(error);
      throw error;
    }
  };
}

interface CallParts {
  readonly args: unknown;
  readonly context: EngineContext;
  readonly info: GraphQLResolveInfo;
}

function idempotentCall(plan: ChangePlan, { args, context, info }: CallParts): IdempotentCall | undefined {
  const key = context.idempotencyKey;
  if (key === undefined) return undefined;
  const { selections } = info.operation.selectionSet;
  if (selections.length !== 1 || selections[0]?.kind !== 'Field') {
    throw new EngineError('BAD_INPUT', 'with an Idempotency-Key the operation must have exactly one root field');
  }
  return { accountId: context.accountId, key, field: plan.name, argumentsHash: hashArguments(args) };
}

/** Equal calls in this process wait for the first one's outcome rather than for a row lock each. */
async function shareWait(
  plan: ChangePlan,
  { call, args, context }: { call: IdempotentCall; args: unknown; context: EngineContext },
): Promise<Attempt> {
  const { callsUnderWay } = context.engine;
  const name = JSON.stringify([call.accountId, call.key, call.field, Buffer.from(call.argumentsHash).toString('hex')]);
  for (let other = callsUnderWay.get(name); other !== undefined; other = callsUnderWay.get(name)) {
    const outcome = await other;
    if (outcome !== undefined) return { values: undefined, outcome };
  }
  const made = makeOnce(plan, args, context, call);
  // a follower of a call that failed or was refused makes its own
  callsUnderWay.set(
    name,
    made.then(
      ({ outcome }) => outcome,
      () => undefined,
    ),
  );
  try {
    return await made;
  } finally {
    callsUnderWay.delete(name);
  }
}

async function makeOnce(
  plan: ChangePlan,
  args: unknown,
  context: EngineContext,
  call?: IdempotentCall,
): Promise<Attempt> {
  const isKnown = plan.prepare !== undefined && call !== undefined && (await isRemembered(context, call));
  const prepared = isKnown ? undefined : await plan.prepare?.(args, context);
  const { result } = await context.engine.transact(authorOf(context), async (tx): Promise<Attempt> => {
    const earlier = call && (await claimKey(tx.db, call));
    if (earlier !== undefined) return { values: undefined, outcome: earlier };
    // forgotten between the look and the claim, after a day
    if (isKnown) throw new EngineError('UNAVAILABLE', 'the Idempotency-Key just expired; use a new one');
    const values = await plan.run(tx, args, context, prepared);
    const outcome = toOutcome(plan, values, await lastPlace(tx));
    if (call !== undefined) await rememberOutcome(tx.db, call, outcome);
    return { values, outcome };
  });
  return result;
}

/** A look without a lock; whether the call is the same is `claimKey`'s to say. */
async function isRemembered({ engine }: EngineContext, { accountId, key }: IdempotentCall): Promise<boolean> {
  const row = await engine.database.db
    .selectFrom('fanfare.idempotency')
    .select('key')
    .where('account_id', '=', accountId)
    .where('key', '=', key)
    .where('outcome', 'is not', null)
    .where('created_at', '>=', sql<Date>`fanfare.now() - interval '24 hours'`)
    .executeTakeFirst();
  return row !== undefined;
}

function authorOf(context: EngineContext): Author {
  return {
    accountId: context.accountId,
    actor: context.principal.id,
    requestId: context.requestId,
    causedBy: context.causedBy ?? null,
  };
}

async function lastPlace(tx: Tx): Promise<Place> {
  const eventId = tx.lastEventId;
  return eventId === undefined
    ? { kind: 'position', position: await readHead(tx.db, tx.accountId) }
    : { kind: 'commit', eventId };
}

/** Ids for entities, the value itself for the rest, nothing for secrets. */
function toOutcome(plan: ChangePlan, values: Readonly<Record<string, unknown>>, place: Place): Outcome {
  const fields = plan.fields.map(({ name, entity, secret }) => {
    const value = values[name] ?? null;
    if (secret) return [name, null];
    return [name, entity === undefined || value === null ? value : (value as EntityRow).id];
  });
  return { values: Object.fromEntries(fields), place };
}

async function toSuccess(plan: ChangePlan, context: EngineContext, { values, outcome }: Attempt): Promise<Success> {
  // written by toOutcome, in this process or an earlier one
  const stored = outcome as { readonly values: Record<string, unknown>; readonly place: Place };
  const cursor = context.engine.cursors.encode(context.accountId, stored.place);
  if (values !== undefined) return { values, cursor };
  const loaded = await Promise.all(
    plan.fields.map(async (field) => [field.name, await reload(field, stored.values[field.name], context)] as const),
  );
  return { values: Object.fromEntries(loaded), cursor };
}

/** What a repeat shows for a field: an entity as it is now, anything else as it was. */
async function reload(
  { name, entity, nullable }: SuccessField,
  value: unknown,
  context: EngineContext,
): Promise<unknown> {
  if (entity === undefined || typeof value !== 'string') return value;
  const row = await context.loaders.own(entity, value);
  if (row === null && !nullable) {
    throw new EngineError('NOT_FOUND', `the change was made; its "${name}", ${value}, is no longer there`);
  }
  return row;
}
