import { sql } from 'kysely';
import { stepReplay } from '../../src/webhooks/replayer.ts';
import { workOff } from './webhook-engine.ts';
import { type Hooked, useWebhookScene } from './webhook-scene.ts';

const REPLAY = `id webhookId status reason filter { subjects } missing ratePerSecond total looked expired created estimated pending
  succeeded exhausted cancelled renderFailed finishedAt`;
export const BEGIN = `mutation ($input: DeliveriesReplayInput!) { deliveriesReplay(input: $input) {
  ... on DeliveriesReplaySuccess { replay { ${REPLAY} startAfter until lookedTo } } } }`;

/** A replay as tests see it; with the rest of its fields. */
export interface Shown {
  readonly id: string;
  readonly status: string;
  readonly created: number;
  readonly pending: number;
  readonly succeeded: number;
  readonly cancelled: number;
  readonly finishedAt: string | null;
}

/** What tests of replays stand on: the scene of webhooks, and what is done with replays in it. */
export function useReplayScene() {
  const scene = useWebhookScene();
  const db = () => scene.engine.services.database.db;
  const at = (position: number) =>
    scene.engine.services.cursors.encode(scene.accountId, { kind: 'position', position });
  const ask = <Data>(source: string, variables: object = {}, options: object = {}) =>
    scene.engine.run<Data>(source, { accountId: scene.accountId, variables: { ...variables }, ...options });

  async function begin(input: Readonly<Record<string, unknown>>): Promise<Shown> {
    const { deliveriesReplay } = await ask<{ deliveriesReplay: { replay: Shown } }>(BEGIN, { input });
    return deliveriesReplay.replay;
  }

  const refuse = (input: Readonly<Record<string, unknown>>, options: object = {}) =>
    scene.engine.fail(BEGIN, { accountId: scene.accountId, variables: { input }, ...options });

  async function change(name: 'Cancel' | 'Resume', id: string): Promise<Shown> {
    const field = `deliveriesReplay${name}`;
    const source = `mutation ($id: ID!) { it: ${field}(id: $id) { ... on ${field.replace('d', 'D')}Success { replay { ${REPLAY} } } } }`;
    return (await ask<{ it: { replay: Shown } }>(source, { id })).it.replay;
  }

  async function show(id: string): Promise<Shown> {
    return (await ask<{ replay: Shown }>(`query ($id: ID!) { replay(id: $id) { ${REPLAY} } }`, { id })).replay;
  }

  const texts = (count: number, prefix = 'note') => Array.from({ length: count }, (_, n) => `${prefix} ${n}`);

  async function write(...notes: readonly string[]): Promise<void> {
    for (const text of notes) await scene.engine.writeNote(text, scene.accountId);
    await scene.engine.stampedEvents(scene.accountId);
  }

  /** Written, and what the webhooks' first deliveries are is sent. */
  async function writeAndSend(...notes: readonly string[]): Promise<void> {
    await write(...notes);
    await workOff(scene.engine.createWorker());
  }

  /** Steps and sends in turn until nothing is left to see to. */
  async function finish(id: string, positions?: number): Promise<Shown> {
    const worker = scene.engine.createWorker();
    for (let isOver = false; !isOver; ) {
      const step = await stepReplay(db(), { replayId: id, ...(positions === undefined ? {} : { positions }) });
      await workOff(worker);
      isOver = step === undefined || step.has_finished;
    }
    return show(id);
  }

  const runsOf = (hooked: Hooked) => hooked.received().map(({ headers }) => headers['fanfare-replay']);

  /** Of the deliveries of a replay, by its record: how often each position is there. */
  async function positionsOf(id: string): Promise<number[]> {
    const { rows } = await sql<{ position: number }>`
      select position from fanfare.delivery_record where run = ${id} order by position`.execute(db());
    return rows.map(({ position }) => position);
  }

  return {
    scene,
    db,
    at,
    ask,
    begin,
    refuse,
    change,
    show,
    texts,
    write,
    writeAndSend,
    finish,
    runsOf,
    positionsOf,
  };
}
