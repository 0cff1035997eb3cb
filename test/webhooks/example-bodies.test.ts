import { isDeepStrictEqual } from 'node:util';
import examples from '@octokit/webhooks-examples' with { type: 'json' };
import { sql } from 'kysely';
import { Webhook as Standard } from 'standardwebhooks';
import { Webhook as Svix } from 'svix';
import { describe, expect, it } from 'vitest';
import { eventually } from '../support/eventually.ts';
import type { ReceivedRequest } from '../support/receiver.ts';
import { type Hooked, useWebhookScene } from './webhook-scene.ts';

/** One of some 13 KB for each kind and manner of GitHub's callbacks. */
// an array, of which its types say that it is the default of a CommonJS module
const BODIES = (examples as unknown as readonly { readonly examples: readonly unknown[] }[]).flatMap(
  (kind) => kind.examples,
);
const EDITED = 'subscription { noteEdited { id extra } }';
const RETRY_MS = 10_000;

describe('what GitHub sends, as payloads,', () => {
  const scene = useWebhookScene();

  it('arrives in the same bytes at each attempt, and is verified by both libraries', async () => {
    const hooked = await hook();
    const eventIds = await edit(BODIES.map((body) => JSON.stringify(body)));
    expect(eventIds).toHaveLength(329);
    await failSome(hooked, 100);
    scene.start(scene.engine.createWorker({ pollMs: 20 }));
    await untilDone();

    const requests = hooked.received();
    expect(requests).toHaveLength(329 + 100);
    expect(requests.flatMap((request) => faultsOf(request, hooked.secret))).toEqual([]);
    const attempts = [...Map.groupBy(requests, (request) => request.headers['webhook-id']).values()];
    expect(attempts).toHaveLength(329);
    expect(
      attempts.filter(([first, ...others]) => others.some(({ body }) => first?.body.equals(body) !== true)),
    ).toEqual([]);
    const bodies = new Map(requests.map(({ headers, body }) => [headers['fanfare-event-id'], body]));
    const wrong = eventIds.filter((id, at) => !isDeepStrictEqual(extraOf(bodies.get(id)), BODIES[at]));
    expect(wrong).toEqual([]);
  });

  it('is refused by both with one byte changed (control)', async () => {
    const hooked = await hook();
    await edit([JSON.stringify(BODIES[0])]);
    scene.start(scene.engine.createWorker({ pollMs: 20 }));
    await untilDone();
    const [request] = hooked.received();
    if (request === undefined) throw new Error('expected a request');
    const body = Buffer.from(request.body);
    body[body.length - 3] = (body[body.length - 3] ?? 0) ^ 1;
    expect(faultsOf({ ...request, body }, hooked.secret)).toHaveLength(2);
  });

  it.each([
    [
      'beyond ASCII',
      JSON.stringify({ text: 'naïve 日本語 🎉 \u2028 \u0001 " \\ / </script> e\u0301', '🔑': '\ud83d\ude00' }),
    ],
    [
      'numbers at the edges',
      '{"a":9007199254740991,"b":-9007199254740991,"c":1e21,"d":0.1,"e":5e-324,"f":1.7976931348623157e308}',
    ],
    ['integers beyond 2^53, as JavaScript has them', '{"id":9007199254740993,"other":12345678901234567890}'],
  ])('holds for %s', async (_, json) => {
    const hooked = await hook();
    await edit([json]);
    await failSome(hooked, 1);
    scene.start(scene.engine.createWorker({ pollMs: 20 }));
    await untilDone();
    const [first, second] = hooked.received();
    expect(second?.body.equals(first?.body ?? Buffer.of())).toBe(true);
    expect(hooked.received().flatMap((request) => faultsOf(request, hooked.secret))).toEqual([]);
    expect(extraOf(first?.body)).toEqual(JSON.parse(json));
  });

  const hook = () => scene.hook({ query: EDITED, maxInFlight: 50 });

  /** Another program's events, as it writes them. */
  async function edit(extras: readonly string[]): Promise<readonly string[]> {
    const { rows } = await sql<{ id: string }>`
      select fanfare.emit(${scene.accountId}, 'note.edited', 'note_' || n.rank, ${PAYLOAD}::jsonb || jsonb_build_object('extra', n.extra::jsonb),
        changed => array['text'], payload_version => 2) as id
      from unnest(${extras}::text[]) with ordinality as n (extra, rank) order by n.rank
    `.execute(scene.engine.services.database.db);
    await scene.engine.stampedEvents(scene.accountId);
    return rows.map(({ id }) => id);
  }

  async function failSome({ path }: Hooked, count: number): Promise<void> {
    scene.receiver.script(path, ...Array.from({ length: count }, () => [{ status: 500 }, {}]).flat());
  }

  /** What has failed need not wait. */
  async function untilDone(): Promise<void> {
    await eventually(async () => {
      await scene.engine.advanceClock(RETRY_MS);
      const { rows } = await sql`select from fanfare.delivery limit 1`.execute(scene.engine.services.database.db);
      return rows.length === 0;
    });
  }
});

const PAYLOAD = JSON.stringify({
  note: { noteId: 'note_1', text: 'edited' },
  mood: null,
  attachments: [],
  editedAt: '2026-01-01T00:00:00Z',
  score: 0.5,
  mentions: [],
});

/** Of the two libraries, over the bytes that came. */
function faultsOf({ headers, body }: ReceivedRequest, secret: string): string[] {
  return [new Standard(secret), new Svix(secret)].flatMap((library) => {
    try {
      library.verify(body, headers as Record<string, string>); // the three it reads come once each
      return [];
    } catch (error) {
      return [String(error)];
    }
  });
}

function extraOf(body: Buffer | undefined): unknown {
  return JSON.parse(String(body)).data.extra;
}
