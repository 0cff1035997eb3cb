import { EVENT_FILTER, toStoredFilter } from '../graphql/event-filter.ts';
import type { WebhookBuilder } from './graphql.ts';
import { checkRate, RATES } from './pace.ts';
import type { declareReplay } from './replay-fields.ts';
import { resolveRange } from './replay-range.ts';
import { cancelReplay, createReplay, resumeReplay } from './replays.ts';

type ReplayRef = ReturnType<typeof declareReplay>;

/** Adds what is done with replays. */
export function addReplayChanges(builder: WebhookBuilder, replay: ReplayRef): void {
  addReplay(builder, replay);
  builder.mutationField('deliveriesReplayCancel', (t) =>
    t.change({
      scope: 'webhooks:write',
      description: 'Stops a replay, and cancels its open deliveries but for those that are being sent.',
      args: { id: t.arg.id({ required: true }) },
      success: { replay },
      run: async (tx, { id }) => ({ replay: await cancelReplay(tx, id) }),
    }),
  );
  builder.mutationField('deliveriesReplayResume', (t) =>
    t.change({
      scope: 'webhooks:write',
      description:
        'Lets a cancelled replay go on where it was, by a key that may see all that the webhook sees. What has arrived is not sent again.',
      args: { id: t.arg.id({ required: true }) },
      success: { replay },
      run: async (tx, { id }, { principal }) => ({ replay: await resumeReplay(tx, principal, id) }),
    }),
  );
}

function addReplay(builder: WebhookBuilder, replay: ReplayRef): void {
  const input = builder.inputType('DeliveriesReplayInput', {
    fields: (t) => ({
      webhookId: t.id({ required: true }),
      startAfter: t.string({ description: 'Either a cursor: the range begins behind it …' }),
      since: t.field({
        type: 'DateTime',
        description: '… or a moment: it begins with the first event that got its position then or later.',
      }),
      until: t.string({
        description:
          'Where it ends: the cursor of its last event, or a moment as in `since`, before which it ends. Left out: now.',
      }),
      filter: t.field({
        type: EVENT_FILTER,
        description: 'Which of its events, on top of what the webhook itself asks for.',
      }),
      missing: t.boolean({
        defaultValue: false,
        description:
          'Only events that have neither arrived at the webhook nor are on their way to it: whatever became of them, also if no delivery was ever made.',
      }),
      ratePerSecond: t.float({
        description: `First attempts a second at most: ${RATES.least} to ${RATES.most}; 0 or left out: as many as the webhook takes. The webhook's own limits hold, too.`,
      }),
    }),
  });
  builder.mutationField('deliveriesReplay', (t) =>
    t.change({
      scope: 'webhooks:write',
      description:
        'Sends a range of the log to a webhook once more, oldest first, by a key that may see all that it sees. Each event gets a delivery of its own, with the full schedule of retries and the header `fanfare-replay`, outside of any order.',
      args: { input: t.arg({ type: input, required: true }) },
      success: { replay },
      prepare: async ({ input: given }, { engine, accountId }) => ({
        filter: toStoredFilter(given.filter),
        ratePerSecond: typeof given.ratePerSecond === 'number' ? checkRate(given.ratePerSecond) : null,
        range: await resolveRange(engine, accountId, given),
      }),
      run: async (tx, { input: { webhookId, missing } }, { principal }, prepared) => ({
        replay: await createReplay(tx, { ...prepared, webhookId, missing: missing ?? false, creator: principal }),
      }),
    }),
  );
}
