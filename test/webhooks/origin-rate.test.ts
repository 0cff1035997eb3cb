import { sql } from 'kysely';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Sender } from '../../src/webhooks/attempt.ts';
import { eventually } from '../support/eventually.ts';
import { openReceiver, type Receiver } from '../support/receiver.ts';
import { noteWritten } from '../support/toy-domain.ts';
import { useWebhookScene } from './webhook-scene.ts';

const ACCOUNTS = 3;
const HOOKS = 6;
const EVENTS = 12;
const ALL = ACCOUNTS * HOOKS * EVENTS;

describe('an origin', () => {
  const scene = useWebhookScene();
  /** Somebody who asked for none of it. */
  let victim: Receiver;
  beforeAll(async () => {
    victim = await openReceiver();
  });
  afterAll(() => victim?.close());

  /** Many webhooks of several accounts, all at paths of the victim's, and so many events for each. */
  async function aim(): Promise<string> {
    const mark = `/${Math.random()}`;
    for (let n = 0; n < ACCOUNTS; n++) {
      const accountId = await scene.engine.addAccount();
      for (let at = 0; at < HOOKS; at++)
        await scene.engine.createWebhook(
          { url: `${victim.url}${mark}/${n}/${at}`, query: 'subscription { noteWritten { id } }' },
          { accountId },
        );
      await write(accountId, EVENTS);
    }
    return mark;
  }

  async function write(accountId: string, count: number): Promise<void> {
    const author = { accountId, actor: null, requestId: null, causedBy: null };
    await scene.engine.services.transact(author, async (tx) => {
      for (let n = 0; n < count; n++)
        await tx.emit(noteWritten, { subjectId: `note_${n}`, payload: { note: { noteId: `note_${n}`, text: 'x' } } });
    });
    await scene.engine.stampedEvents(accountId);
  }

  /** Sends, and notes when a request to the victim began. */
  function watchSender() {
    const begunMs: number[] = [];
    const sender: Pick<Sender, 'send'> = {
      send: (request) => {
        if (request.url.startsWith(victim.url)) begunMs.push(performance.now());
        return scene.engine.sender.send(request);
      },
    };
    return { sender, begunMs };
  }

  /** How many more began in any time than the rate allows, with what may be saved up. */
  function excessOf(begunMs: readonly number[], perSecond: number): number {
    const excesses = begunMs.flatMap((from, first) =>
      begunMs.slice(first).map((to, more) => more + 1 - perSecond * ((to - from) / 1_000 + 0.1) - 1),
    );
    return Math.max(...excesses);
  }

  const arrivedAt = (mark: string) => victim.requests.filter(({ path }) => path.startsWith(mark));

  async function attemptsOf(mark: string): Promise<readonly number[]> {
    const { rows } = await sql<{ attempts: number }>`
      select d.attempts from fanfare.delivery_done d join fanfare.webhook w on w.id = d.webhook_id and w.account_id = d.account_id
      where w.url like ${`%${mark}/%`}
    `.execute(scene.engine.services.database.db);
    return rows.map(({ attempts }) => attempts);
  }

  it('gets no more requests a second than its rate, of all accounts together; what waits is no attempt', async () => {
    const perSecond = 100;
    const mark = await aim();
    const { sender, begunMs } = watchSender();
    scene.start(scene.engine.createWorker({ sender, originRate: perSecond }));
    await eventually(async () => (await attemptsOf(mark)).length === ALL, { deadlineMs: 20_000 });
    // a busy machine may begin one up to a tenth of a second after it was let through
    expect(excessOf(begunMs, perSecond)).toBeLessThan(perSecond / 10);
    expect(await attemptsOf(mark)).toEqual(Array.from({ length: ALL }, () => 1));
    expect(arrivedAt(mark)).toHaveLength(ALL);
    // nearly as much, on a busy machine
    const seconds = (Math.max(...begunMs) - Math.min(...begunMs)) / 1_000;
    expect(seconds).toBeLessThan(ALL / perSecond / 0.4);
  });

  it('would get far more without (control)', async () => {
    const mark = await aim();
    const { sender, begunMs } = watchSender();
    scene.start(scene.engine.createWorker({ sender, originRate: 1_000_000 }));
    await eventually(() => arrivedAt(mark).length === ALL, { deadlineMs: 20_000 });
    expect(excessOf(begunMs, 100)).toBeGreaterThan(20);
  });

  it('whose rate is used up holds up no other, though what waits would take all places of the process', async () => {
    const mark = await aim();
    const other = await scene.hook();
    const { sender } = watchSender();
    scene.start(scene.engine.createWorker({ sender, originRate: 8, maxInFlight: 16 }));
    await eventually(() => arrivedAt(mark).length > 0);
    const tookMs: number[] = [];
    for (let n = 1; n <= 8; n++) {
      await write(scene.accountId, 1);
      const writtenAtMs = performance.now();
      await eventually(() => other.received().length === n, { everyMs: 5 });
      tookMs.push(performance.now() - writtenAtMs);
    }
    expect(arrivedAt(mark).length).toBeLessThan(ALL / 2); // it was short all the while
    // where what waits keeps its places, one of them takes eight seconds
    expect(Math.max(...tookMs)).toBeLessThan(2_000);
  });

  it('whose rate is used up is not claimed for over and over', async () => {
    const mark = await aim();
    const { sender } = watchSender();
    scene.start(scene.engine.createWorker({ sender, originRate: 20 }));
    await eventually(() => arrivedAt(mark).length >= 60, { deadlineMs: 20_000 });
    const { rows } = await sql<{ claims: number }>`
      select sum(d.generation)::int as claims from fanfare.delivery d join fanfare.webhook w on w.id = d.webhook_id
      where w.url like ${`%${mark}/%`}
    `.execute(scene.engine.services.database.db);
    // once to hear that there is no room, and once more at most by their turn
    expect(rows[0]?.claims).toBeLessThan((ALL - 60) * 2);
  });
});
