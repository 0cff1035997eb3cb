import { Resolver } from 'node:dns/promises';
import { setTimeout as wait } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { createResolver, type NameServer, resolveName } from '../../src/webhooks/resolver.ts';
import { type DnsServer, openDnsServer } from '../support/dns-server.ts';
import { track } from '../support/sender.ts';

const SILENT = 'silent.fanfare-test.com';
const ANSWERED = 'quick.fanfare-test.com';

describe('a name for which no server answers, where others are answered quickly,', () => {
  /** How long it is waited for, in ms, after others were answered and while they go on being. */
  async function timeSilence(open: (dns: DnsServer) => NameServer): Promise<{ forMs: number; asked: number }> {
    const dns = track(
      await openDnsServer(({ name, type }) => (name === SILENT ? 'nothing' : type === 'A' ? ['127.0.0.1'] : [])),
    );
    const resolver = open(dns);
    for (let n = 0; n < 5; n++) await resolveName(resolver, ANSWERED);
    const startedAtMs = performance.now();
    let isOver = false;
    const silence = resolveName(resolver, SILENT).finally(() => {
      isOver = true;
    });
    while (!isOver) {
      expect(await resolveName(resolver, ANSWERED)).toEqual({ status: 'answered', addresses: ['127.0.0.1'] });
      await wait(20);
    }
    expect(await silence).toEqual({ status: 'unreachable' });
    const asked = dns.questions.filter((question) => question.endsWith(SILENT)).length;
    return { forMs: performance.now() - startedAtMs, asked };
  }

  it('is given up after two questions of each kind, 2 s each', async () => {
    const { forMs, asked } = await timeSilence((dns) => createResolver({ servers: [dns.address] }));
    expect(asked).toBe(4);
    expect(forMs).toBeGreaterThan(3_700);
    expect(forMs).toBeLessThan(8_000);
  });

  it('is so too where it is asked for in one turn with them', async () => {
    const dns = track(
      await openDnsServer(({ name, type }) => (name === SILENT ? 'nothing' : type === 'A' ? ['127.0.0.1'] : [])),
    );
    const resolver = createResolver({ servers: [dns.address] });
    const startedAtMs = performance.now();
    const quick = [1, 2, 3, 4, 5].map((n) => `${n}.${ANSWERED}`);
    const [silence] = await Promise.all([SILENT, ...quick].map((name) => resolveName(resolver, name)));
    expect(silence).toEqual({ status: 'unreachable' });
    expect(performance.now() - startedAtMs).toBeGreaterThan(3_700);
  });

  it('would be given up sooner by what c-ares learns from the others (control)', async () => {
    const { forMs } = await timeSilence((dns) => {
      const learning = new Resolver({ timeout: 1_900, tries: 2, maxTimeout: 1_900 });
      learning.setServers([dns.address]);
      return learning;
    });
    expect(forMs).toBeLessThan(2_500);
  });
});
