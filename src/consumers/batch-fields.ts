import { EngineError } from '../errors.ts';
import { EVENT } from '../graphql/base-types.ts';
import { MAX_PAGE } from '../graphql/connection.ts';
import { SCOPE } from './consumer.ts';
import { countBehind } from './consumer-fields.ts';
import type { ConsumerBuilder } from './graphql.ts';
import { type Batch, type PollRequest, pollConsumer } from './poll.ts';

/** The longest that a poll may wait, in ms. */
export const MAX_WAIT_MS = 30_000;
/** The longest lease, in seconds. */
export const MAX_LEASE_SECONDS = 600;

const DEFAULTS = { first: MAX_PAGE, waitMs: 0, leaseSeconds: 30 };
const LIMITS = { first: [1, MAX_PAGE], waitMs: [0, MAX_WAIT_MS], leaseSeconds: [1, MAX_LEASE_SECONDS] } as const;

/** Adds `consumerPoll` to Query. */
export function addPoll(builder: ConsumerBuilder): void {
  const batch = declareBatch(builder);
  builder.queryField('consumerPoll', (t) =>
    t.field({
      type: batch,
      scope: SCOPE,
      description:
        'The next events of a consumer, lent to the caller alone until they are acked or the lease runs out; then the next poll gets them again. The key must be allowed to see every event that the consumer gives.',
      args: {
        name: t.arg.string({ required: true }),
        first: t.arg.int({ description: `1 to ${MAX_PAGE}.`, defaultValue: DEFAULTS.first }),
        waitMs: t.arg.int({
          description: `With nothing to give, how long to wait for it: 0 to ${MAX_WAIT_MS}.`,
          defaultValue: DEFAULTS.waitMs,
        }),
        leaseSeconds: t.arg.int({
          description: `For how long the events are the caller's: 1 to ${MAX_LEASE_SECONDS}.`,
          defaultValue: DEFAULTS.leaseSeconds,
        }),
      },
      resolve: (_root, args, context) => pollConsumer(context, checkPoll(args)),
    }),
  );
}

interface PollArguments {
  readonly name: string;
  readonly first?: number | null | undefined;
  readonly waitMs?: number | null | undefined;
  readonly leaseSeconds?: number | null | undefined;
}

/** @throws EngineError BAD_INPUT naming the argument that is out of its range */
function checkPoll({ name, ...given }: PollArguments): PollRequest {
  const checked = { ...DEFAULTS };
  for (const part of ['first', 'waitMs', 'leaseSeconds'] as const) {
    const value = given[part] ?? DEFAULTS[part];
    const [least, most] = LIMITS[part];
    if (value < least || value > most)
      throw new EngineError('BAD_INPUT', `"${part}" is ${value}; expected ${least} to ${most}`);
    checked[part] = value;
  }
  return { name, ...checked };
}

function declareBatch(builder: ConsumerBuilder) {
  const ref = builder.objectRef<Batch>('ConsumerBatch');
  ref.implement({
    description: 'What a poll gives. Ack it when it is done, as a whole or event by event.',
    fields: (t) => ({
      events: t.field({
        type: [EVENT],
        description: 'In the order of the log.',
        resolve: ({ events }) => events as never,
      }),
      cursor: t.string({
        nullable: true,
        description: 'What to ack when all of it is done; null without events.',
        resolve: ({ to }, _args, { engine, accountId }) =>
          to === undefined ? null : engine.cursors.encode(accountId, { kind: 'position', position: to }),
      }),
      leasedUntil: t.field({
        type: 'DateTime',
        nullable: true,
        description: 'From then on another poll may get the same events; null without events.',
        resolve: ({ leasedUntil }) => leasedUntil ?? null,
      }),
      attempts: t.exposeInt('attempts', {
        description: 'How often these were polled, this time included: above 1, somebody had them and never acked.',
      }),
      behind: t.int({
        description:
          'How many events of the log, of all kinds, lie behind this. Without events and above 0: much was looked through for nothing; poll again.',
        resolve: ({ behind }) => countBehind(behind),
      }),
    }),
  });
  return ref;
}
