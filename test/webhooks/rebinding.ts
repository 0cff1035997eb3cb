import { Resolver } from 'node:dns/promises';
import { Agent, request } from 'undici';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createAddressPolicy } from '../../src/webhooks/addresses.ts';
import { type AttemptOutcome, createSender, type Sender } from '../../src/webhooks/attempt.ts';
import { type CallbackGuard, createCallbackGuard } from '../../src/webhooks/guard.ts';
import { createResolver } from '../../src/webhooks/resolver.ts';
import { createCertificate } from '../support/certificate.ts';
import { type DnsAnswer, type DnsQuestion, type DnsServer, openDnsServer } from '../support/dns-server.ts';
import { openRawReceiver, type RawReceiver } from '../support/raw-receiver.ts';

/** Stands for the public Internet: the one address that is allowed. */
const GOOD = '127.0.0.1';
/** Stand for the inside: all loopback but that one. */
const TRAPS = ['127.0.0.2', '127.0.0.3', '127.1.2.3', '::1'];
/** What leads inward at a connect, in whatever spelling. */
const INWARD = [...TRAPS, '::ffff:127.0.0.2', '::ffff:7f00:3', '64:ff9b::7f00:2', '::', '169.254.169.254', '10.0.0.1'];
const HOST = 'rebind.example.com';
const AT_ONCE = 16;

type Draw = (below: number) => number;

/** What the name server answers with next, by its whim. Half of the answers are honest. */
const WHIMS: readonly ((draw: Draw) => DnsAnswer)[] = [
  ...Array<() => DnsAnswer>(6).fill(() => [GOOD]),
  (draw) => [pick(INWARD, draw)],
  (draw) => shuffled([GOOD, pick(INWARD, draw)], draw),
  (draw) => shuffled([GOOD, GOOD, GOOD, pick(INWARD, draw), pick(INWARD, draw)], draw),
  (draw) => [...Array<string>(draw(60)).fill(GOOD), pick(INWARD, draw)],
  () => [],
  (draw) => (draw(4) === 0 ? 'serverFailure' : 'notFound'),
];

/** Where one name's answers change and mix, with a time to live of 0, while it is delivered to. */
export function describeRebinding({ deliveries, seed }: { readonly deliveries: number; readonly seed: number }): void {
  describe(`a name whose answers change and mix over ${deliveries} deliveries`, () => {
    const tls = createCertificate(HOST);
    let dns: DnsServer;
    let good: RawReceiver;
    let traps: readonly RawReceiver[];
    let guard: CallbackGuard;
    let sender: Sender;
    let url: string;

    beforeAll(async () => {
      // half of the connections end with the answer, so that names are asked for all the time
      let answered = 0;
      good = await openRawReceiver(
        (socket) => {
          const connection = answered++ % 2 === 0 ? 'close' : 'keep-alive';
          socket.write(`HTTP/1.1 200 OK\r\ncontent-length: 4\r\nconnection: ${connection}\r\n\r\ngood`);
        },
        { tls, host: GOOD },
      );
      const leak = (socket: { write(text: string): void }) => {
        socket.write('HTTP/1.1 200 OK\r\ncontent-length: 6\r\nconnection: close\r\n\r\nSECRET');
      };
      traps = await Promise.all(TRAPS.map((host) => openRawReceiver(leak, { tls, host, port: good.port })));
      dns = await openDnsServer(createRebinding(seed), { ttlSeconds: 0 });
      guard = createCallbackGuard({
        policy: createAddressPolicy({ allowCidrs: [`${GOOD}/32`] }),
        resolver: createResolver({ servers: [dns.address] }),
        now: Date.now,
      });
      sender = createSender({ guard, version: '0', ca: tls.cert });
      url = `https://${HOST}:${good.port}/hook`;
    });
    afterAll(async () => {
      await sender?.close();
      await dns?.close();
      await Promise.all([good, ...(traps ?? [])].map((each) => each?.close()));
    });

    const trapped = () => traps.reduce((sum, { rawConnectionCount }) => sum + rawConnectionCount, 0);

    it('is connected to at none of its forbidden addresses', async () => {
      const kinds = new Map<string, number>();
      await inParallel(deliveries, async () => {
        const outcome = await sender.send({ url, headers: {}, body: '{}' });
        const kind = kindOf(outcome);
        kinds.set(kind, (kinds.get(kind) ?? 0) + 1);
      });
      expect(trapped()).toBe(0);
      // all that the name server tried was tried often, and nothing else came of it
      expect([...kinds.keys()].sort()).toEqual(['DNS', `answered by ${GOOD}`, 'refused as DNS_NOT_GLOBAL']);
      for (const count of kinds.values()) expect(count).toBeGreaterThan(deliveries / 100);
      expect(good.received().match(/POST \/hook /g)).toHaveLength(kinds.get(`answered by ${GOOD}`) ?? 0);
      expect(dns.questions.length).toBeGreaterThan(deliveries);
    });

    it('leads who checks it and then connects by name into the traps (negative control)', async () => {
      const naive = createNaiveAgent(dns, tls.cert);
      let leaks = 0;
      await inParallel(Math.min(deliveries, 60), async () => {
        if (!(await guard.check(url)).ok) return;
        const text = await request(url, { dispatcher: naive, method: 'POST', body: '{}' }).then(
          ({ body }) => body.text(),
          () => '',
        );
        if (text === 'SECRET') leaks++;
      });
      await naive.destroy();
      expect(leaks).toBeGreaterThan(0);
      expect(trapped()).toBeGreaterThanOrEqual(leaks);
    });
  });
}

function kindOf(outcome: AttemptOutcome): string {
  if (outcome.kind === 'succeeded') return `answered by ${outcome.remoteAddress}`;
  return outcome.kind === 'refused' ? `refused as ${outcome.reason}` : outcome.errorClass;
}

/** Each question is answered anew, those for A and AAAA of one check differently. */
function createRebinding(seed: number): (question: DnsQuestion) => DnsAnswer {
  const draw = createDraw(seed);
  return ({ name, type }) => {
    if (name !== HOST) return 'notFound';
    const answer = pick(WHIMS, draw)(draw);
    return typeof answer === 'string' ? answer : answer.filter((ip) => ip.includes(':') === (type === 'AAAA'));
  };
}

/** As sockets do that are given a name: it is asked for again, and the first answer is taken. */
function createNaiveAgent(dns: DnsServer, ca: string): Agent {
  const resolver = new Resolver();
  resolver.setServers([dns.address]);
  return new Agent({
    keepAliveTimeout: 1,
    connect: {
      ca,
      timeout: 2_000,
      lookup: (name, _options, callback) => {
        resolver.resolve4(name).then(
          ([address = GOOD]) => callback(null, [{ address, family: 4 }]),
          (error) => callback(error, []),
        );
      },
    },
  });
}

async function inParallel(count: number, run: () => Promise<void>): Promise<void> {
  let left = count;
  const drain = async () => {
    while (left-- > 0) await run();
  };
  await Promise.all(Array.from({ length: AT_ONCE }, drain));
}

function pick<T>(from: readonly T[], draw: Draw): T {
  return from[draw(from.length)] as T; // drawn below the length
}

function shuffled<T>(items: readonly T[], draw: Draw): readonly T[] {
  return items
    .map((item) => ({ item, rank: draw(1_000_000) }))
    .sort((a, b) => a.rank - b.rank)
    .map(({ item }) => item);
}

/** Numbers below a bound, the same for the same seed: mulberry32. */
function createDraw(seed: number): Draw {
  let state = seed;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) % below;
  };
}
