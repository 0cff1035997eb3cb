import { sql } from 'kysely';
import { Webhook as Verifier } from 'standardwebhooks';
import { describe, expect, it } from 'vitest';
import { eventually } from '../support/eventually.ts';
import { openReceiver } from '../support/receiver.ts';
import { textsOf, workOff } from './webhook-engine.ts';
import { useWebhookScene } from './webhook-scene.ts';

const NOTES = 'subscription { noteWritten { note { text } } }';

describe('the retries of a webhook', () => {
  const scene = useWebhookScene();
  const { hook, start } = scene;

  async function write(...texts: string[]): Promise<void> {
    for (const text of texts) await scene.engine.writeNote(text, scene.accountId);
    await scene.engine.stampedEvents(scene.accountId);
  }

  const run = <Data>(source: string, variables: Readonly<Record<string, unknown>> = {}) =>
    scene.engine.run<Data>(source, { variables, accountId: scene.accountId });
  const deliveries = () => scene.engine.deliveries({}, { accountId: scene.accountId });
  const heldUntil = async (id: string) =>
    (
      await run<{ webhook: { heldUntil: string | null } }>('query ($id: ID!) { webhook(id: $id) { heldUntil } }', {
        id,
      })
    ).webhook.heldUntil;

  /** How many attempts are made, stepping through so many seconds. */
  async function attemptsAt(received: () => readonly unknown[], ...seconds: readonly number[]): Promise<number[]> {
    const worker = scene.engine.createWorker();
    await workOff(worker);
    const counts = [received().length];
    for (const each of seconds) {
      await scene.engine.advanceClock(each * 1_000);
      await workOff(worker);
      counts.push(received().length);
    }
    return counts;
  }

  it('follow the delays that it gives, and end with them', async () => {
    const { path, received } = await hook({ retry: { delays: [60, 300] } });
    scene.receiver.always(path, { status: 500 });
    await write('own');
    expect(await attemptsAt(received, 30, 31, 200, 101, 100_000)).toEqual([1, 1, 2, 2, 3, 3]);
    expect(await deliveries()).toMatchObject([{ status: 'EXHAUSTED', attemptCount: 3 }]);
  });

  it('repeat the last delay until the window ends', async () => {
    const { path, received } = await hook({ retry: { delays: [60], window: 200 } });
    scene.receiver.always(path, { status: 500 });
    await write('window');
    expect(await attemptsAt(received, 61, 61, 61, 100_000)).toEqual([1, 2, 3, 4, 4]);
    expect(await deliveries()).toMatchObject([{ status: 'EXHAUSTED', attemptCount: 4 }]);
  });

  it('begin a new window by deliveryRetry', async () => {
    const { path, received } = await hook({ retry: { delays: [60], window: 100 } });
    scene.receiver.always(path, { status: 500 });
    await write('again');
    expect(await attemptsAt(received, 61, 1_000)).toEqual([1, 2, 2]);
    await run('mutation ($id: ID!) { deliveryRetry(id: $id) { __typename } }', { id: (await deliveries())[0]?.id });
    expect(await attemptsAt(received, 61, 1_000)).toEqual([3, 4, 4]);
  });

  it('are none where it gives no delay', async () => {
    const { path, received } = await hook({ retry: { delays: [] } });
    scene.receiver.always(path, { status: 500 });
    await write('once');
    expect(await attemptsAt(received, 100_000)).toEqual([1, 1]);
    expect(await deliveries()).toMatchObject([{ status: 'EXHAUSTED' }]);
  });

  it('are shown, and changed for what is not due yet', async () => {
    const { id } = await hook();
    const RETRY = 'webhook { retry { delays window } }';
    const update = async (retry: object) =>
      (
        await run<{ webhookUpdate: { webhook: { retry: object } } }>(
          `mutation ($input: WebhookUpdateInput!) { webhookUpdate(input: $input) { ... on WebhookUpdateSuccess { ${RETRY} } } }`,
          { input: { id, retry } },
        )
      ).webhookUpdate.webhook.retry;
    const standard = { delays: [5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400], window: null };
    expect(await update({ delays: [1, 2], window: 60 })).toEqual({ delays: [1, 2], window: 60 });
    expect(await update({ window: 86_400 })).toEqual({ ...standard, window: 86_400 });
    expect(await update({})).toEqual(standard);
    const input = { url: `${scene.receiver.url}/`, query: NOTES, retry: { delays: [0] } };
    const refused = await scene.engine.fail(
      'mutation ($input: WebhookCreateInput!) { webhookCreate(input: $input) { __typename } }',
      {
        variables: { input },
        accountId: scene.accountId,
      },
    );
    expect(refused).toMatchObject({ code: 'BAD_INPUT', message: expect.stringContaining('found 0') });
  });

  it.each([
    ['429 in seconds', { status: 429, headers: { 'retry-after': '120' } }],
    ['503 in seconds', { status: 503, headers: { 'retry-after': '120' } }],
  ])('wait for all of its deliveries where one is answered %s', async (_name, answer) => {
    const { id, path, received } = await hook();
    scene.receiver.script(path, answer);
    await write('first', 'second', 'third');
    const worker = scene.engine.createWorker({ webhookCap: 1 });
    await workOff(worker);
    expect(textsOf(received())).toEqual(['first']);
    const held = Date.parse((await heldUntil(id)) ?? '');
    expect(Math.abs(held - Date.now() - (await aheadMs()) - 120_000)).toBeLessThan(5_000);
    for (const { nextAttemptAt } of await deliveries())
      expect(Date.parse(nextAttemptAt ?? '')).toBeGreaterThanOrEqual(held);
    await scene.engine.advanceClock(60_000);
    await workOff(worker);
    expect(received()).toHaveLength(1);
    await scene.engine.advanceClock(61_000);
    await workOff(worker);
    expect(textsOf(received()).sort()).toEqual(['first', 'first', 'second', 'third']);
  });

  it('go on for the others where one is answered 500 (control)', async () => {
    const { id, path, received } = await hook();
    scene.receiver.script(path, { status: 500, headers: { 'retry-after': '120' } });
    await write('first', 'second', 'third');
    await workOff(scene.engine.createWorker({ webhookCap: 1 }));
    expect(textsOf(received())).toEqual(['first', 'second', 'third']);
    expect(await heldUntil(id)).toBeNull();
  });

  it('wait longer with each 503 in a row that does not say for how long', async () => {
    const { path, received } = await hook({ retry: { delays: [1], window: 60 } });
    scene.receiver.always(path, { status: 503 });
    await write('overloaded');
    // held for 1, 2, 4, 8 s
    expect(await attemptsAt(received, 1.2, 1.2, 1, 2, 2.2, 4, 4.2)).toEqual([1, 2, 2, 3, 3, 4, 4, 5]);
  });

  it('go on at once after webhookResume', async () => {
    const { id, path, received } = await hook();
    scene.receiver.script(path, { status: 429, headers: { 'retry-after': '3000' } });
    await write('first', 'second');
    const worker = scene.engine.createWorker({ webhookCap: 1 });
    await workOff(worker);
    await run('mutation ($id: ID!) { webhookResume(id: $id) { __typename } }', { id });
    expect(await heldUntil(id)).toBeNull();
    await workOff(worker);
    expect(textsOf(received())).toEqual(['first', 'second']);
  });

  it('come when nextAttemptAt says, to the second, also from another process', async () => {
    const { path, received } = await hook({ retry: { delays: [1, 1] } });
    scene.receiver.script(path, { status: 500 }, { status: 503, headers: { 'retry-after': '2' } });
    await write('timely');
    for (let attempt = 1; attempt <= 3; attempt++) {
      const stop = start(scene.engine.createWorker());
      await eventually(async () => received().length === attempt && (await deliveries())[0]?.attemptCount === attempt);
      await stop();
      const [delivery] = await deliveries();
      if (delivery?.nextAttemptAt == null) break;
      const stopped = start(scene.engine.createWorker());
      const dueAt = Date.parse(delivery.nextAttemptAt) - (await aheadMs());
      await eventually(() => received().length === attempt + 1);
      expect(Math.abs((received()[attempt]?.receivedAt.getTime() ?? 0) - dueAt)).toBeLessThan(1_000);
      await stopped();
    }
    expect(await deliveries()).toMatchObject([{ status: 'SUCCEEDED', attemptCount: 3 }]);
  });

  it('use connections again', async () => {
    const other = await openReceiver();
    try {
      await scene.engine.createWebhook({ url: `${other.url}/reused`, query: NOTES }, { accountId: scene.accountId });
      await write(...Array.from({ length: 200 }, (_, n) => `note ${n}`));
      await workOff(scene.engine.createWorker());
      expect(other.requests).toHaveLength(200);
      expect(other.connectionCount).toBeLessThanOrEqual(10);
    } finally {
      await other.close();
    }
  });

  it('are signed by earlier secrets as long as a rotation says', async () => {
    const { id, secret: first, received } = await hook();
    const rotate = async (graceSeconds: number) =>
      (
        await run<{ webhookSecretRotate: { secret: string } }>(
          `mutation ($id: ID!, $graceSeconds: Int) { webhookSecretRotate(id: $id, graceSeconds: $graceSeconds) {
             ... on WebhookSecretRotateSuccess { secret } } }`,
          { id, graceSeconds },
        )
      ).webhookSecretRotate.secret;
    const signers = async (text: string, ...secrets: string[]) => {
      await write(text);
      await workOff(scene.engine.createWorker());
      const { body, headers } = received().at(-1) ?? { body: Buffer.alloc(0), headers: {} };
      return secrets.map((secret) => {
        try {
          new Verifier(secret).verify(body, headers as Record<string, string>);
          return true;
        } catch {
          return false;
        }
      });
    };
    const second = await rotate(604_800);
    expect(await signers('both', first, second)).toEqual([true, true]);
    await scene.engine.advanceClock(6 * 86_400_000);
    expect(await signers('still both', first, second)).toEqual([true, true]);
    const third = await rotate(60);
    expect(await signers('three', first, second, third)).toEqual([true, true, true]);
    await scene.engine.advanceClock(61_000); // a grace ends earlier secrets, too, and lengthens none
    expect(await signers('the last', first, second, third)).toEqual([false, false, true]);
    const fourth = await rotate(0);
    expect(await signers('at once', third, fourth)).toEqual([false, true]);
    // however many sign along, one that has leaked can be ended
    for (let n = 1; n < 50; n++) await rotate(60);
    await expect(rotate(60)).rejects.toThrow('50 live secrets');
    const last = await rotate(0);
    expect(await signers('the only one', fourth, last)).toEqual([false, true]);
  });

  it.each([-1, 604_801])('can not be signed by an earlier secret for %s seconds', async (graceSeconds) => {
    const { id } = await hook();
    const refused = await scene.engine.fail(
      'mutation ($id: ID!, $s: Int) { webhookSecretRotate(id: $id, graceSeconds: $s) { __typename } }',
      { variables: { id, s: graceSeconds }, accountId: scene.accountId },
    );
    expect(refused).toMatchObject({
      code: 'BAD_INPUT',
      message: `"graceSeconds": expected 0 to 604800, found ${graceSeconds}`,
    });
  });

  /** How far tests before have set the database's clock ahead. */
  async function aheadMs(): Promise<number> {
    const { rows } = await sql<{ ms: number }>`
      select extract(epoch from fanfare.now() - clock_timestamp())::float8 * 1000 as ms
    `.execute(scene.engine.services.database.db);
    return rows[0]?.ms ?? 0;
  }
});
