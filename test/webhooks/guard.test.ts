import { Resolver } from 'node:dns/promises';
import { afterEach, describe, expect, it } from 'vitest';
import { createAddressPolicy, isGlobal } from '../../src/webhooks/addresses.ts';
import { createCallbackGuard } from '../../src/webhooks/guard.ts';
import { nat64Prefixes } from '../../src/webhooks/nat64.ts';
import { createResolver } from '../../src/webhooks/resolver.ts';
import { type DnsAnswer, type DnsQuestion, openDnsServer } from '../support/dns-server.ts';

const opened: { close(): Promise<unknown> }[] = [];
afterEach(async () => {
  await Promise.all(opened.splice(0).map((each) => each.close()));
});

function track<T extends { close(): Promise<unknown> }>(each: T): T {
  opened.push(each);
  return each;
}

/** A guard whose names mean what `records` says, A and AAAA mixed. */
async function guardOver(
  records: Readonly<Record<string, DnsAnswer>> | ((question: DnsQuestion) => DnsAnswer),
  options: { allowCidrs?: string[]; ttlSeconds?: number; now?: () => number; publicUrl?: string } = {},
) {
  const answer = ({ name, type }: DnsQuestion) => {
    const all = typeof records === 'function' ? [] : (records[name] ?? 'notFound');
    return typeof all === 'string' ? all : all.filter((ip) => ip.includes(':') === (type === 'AAAA'));
  };
  const dns = track(await openDnsServer(typeof records === 'function' ? records : answer, options));
  const guard = createCallbackGuard({
    policy: createAddressPolicy({ allowCidrs: options.allowCidrs ?? [] }),
    resolver: createResolver({ servers: [dns.address] }),
    publicUrl: options.publicUrl,
    now: options.now ?? Date.now,
  });
  return { guard, dns };
}

const PUBLIC = '93.184.215.14';
const PUBLIC_6 = '2606:4700:4700::1111';

describe('the guard', () => {
  it('gives the addresses of a public name', async () => {
    const { guard } = await guardOver({
      'hooks.example.com': [PUBLIC, PUBLIC_6],
      'xn--mnchen-3ya.example.com': [PUBLIC],
    });
    expect(await guard.check('https://hooks.example.com/in')).toMatchObject({
      ok: true,
      addresses: [PUBLIC, PUBLIC_6],
    });
    expect(await guard.check('https://münchen.example.com./')).toMatchObject({
      ok: true,
      host: 'xn--mnchen-3ya.example.com',
    });
    expect(await guard.check(`https://[${PUBLIC_6}]:8443/`)).toMatchObject({ ok: true, addresses: [PUBLIC_6] });
  });

  it("gives a new webhook no URL of the installation's own, in any spelling, and asks no name server about it", async () => {
    const records = { 'api.example.com': [PUBLIC], 'hooks.example.com': [PUBLIC] };
    const { guard, dns } = await guardOver(records, { publicUrl: 'https://api.example.com/shop' });
    const own = ['/shop', '/shop/', '/shop/graphql?query=x', '/a/../shop/b', '/%2e/shop/'];
    for (const url of [...own.map((path) => `https://API.example.com.:443${path}`), 'https://api.example.com/shop?a']) {
      expect([url, await guard.checkNew(url)]).toEqual([url, { ok: false, reason: 'OWN_URL', transient: false }]);
      expect([url, (await guard.check(url)).ok]).toEqual([url, true]); // the control: what there is goes on
    }
    const asked = dns.questions.length;
    await guard.checkNew('https://api.example.com/shop');
    expect(dns.questions).toHaveLength(asked);
    const others = [
      'https://api.example.com/',
      'https://api.example.com/shopping',
      'https://api.example.com:8443/shop',
    ];
    for (const url of [...others, 'https://hooks.example.com/shop'])
      expect([url, (await guard.checkNew(url)).ok]).toEqual([url, true]);
    // what it refuses of others keeps its reason
    expect(await guard.checkNew('http://api.example.com/')).toMatchObject({ reason: 'SCHEME' });
    const { guard: unaware } = await guardOver(records);
    expect((await unaware.checkNew('https://api.example.com/shop')).ok).toBe(true);
  });

  it.each<[string, DnsAnswer]>([
    ['a private answer', ['10.1.2.3']],
    ['a loopback answer', ['127.0.0.1']],
    ['metadata', ['169.254.169.254']],
    ['zero', ['0.0.0.0']],
    ['one inward answer among public ones', [PUBLIC, '93.184.215.15', '192.168.0.1']],
    ['an inward AAAA beside a public A', [PUBLIC, '::1']],
    ['a mapped address', ['::ffff:127.0.0.1']],
    ['a translated address', ['64:ff9b::a9fe:a9fe']],
    ['a local address', ['fd00:ec2::254']],
    ['more answers than an honest host has', Array.from({ length: 33 }, (_, index) => `93.184.215.${index}`)],
  ])('refuses a name with %s', async (_, answer) => {
    const { guard } = await guardOver({ 'a.example.com': answer });
    expect(await guard.check('https://a.example.com/')).toEqual({
      ok: false,
      reason: 'DNS_NOT_GLOBAL',
      transient: false,
    });
  });

  it('refuses a name with as many answers as a message holds, the last of them inward, within 3 s', async () => {
    const many = Array.from({ length: 3_999 }, (_, index) => `93.184.${index >> 8}.${index & 255}`);
    const { guard } = await guardOver({ 'a.example.com': [...many, '127.0.0.1'] });
    const startedAtMs = performance.now();
    expect(await guard.check('https://a.example.com/')).toMatchObject({ ok: false, reason: 'DNS_NOT_GLOBAL' });
    expect(performance.now() - startedAtMs).toBeLessThan(3_000);
  });

  it('accepts as many answers as an honest host may have', async () => {
    const answers = Array.from({ length: 32 }, (_, index) => `93.184.215.${index}`);
    const { guard } = await guardOver({ 'a.example.com': answers });
    expect(await guard.check('https://a.example.com/')).toMatchObject({ ok: true });
  });

  it('tells a name that does not exist from name servers that fail', async () => {
    const { guard } = await guardOver({ 'none.example.com': [], 'broken.example.com': 'serverFailure' });
    expect(await guard.check('https://gone.example.com/')).toEqual({
      ok: false,
      reason: 'DNS_EMPTY',
      transient: false,
    });
    expect(await guard.check('https://none.example.com/')).toEqual({
      ok: false,
      reason: 'DNS_EMPTY',
      transient: false,
    });
    expect(await guard.check('https://broken.example.com/')).toEqual({
      ok: false,
      reason: 'DNS_FAILED',
      transient: true,
    });
  });

  it('gives up on a name server that keeps silent', async () => {
    const dns = track(await openDnsServer(() => 'nothing'));
    const resolver = new Resolver({ timeout: 50, tries: 1 });
    resolver.setServers([dns.address]);
    const guard = createCallbackGuard({ policy: createAddressPolicy({ allowCidrs: [] }), resolver, now: Date.now });
    expect(await guard.check('https://a.example.com/')).toEqual({ ok: false, reason: 'DNS_FAILED', transient: true });
  });

  it('asks again at each check, even within the record’s time to live', async () => {
    const { guard } = await guardOver(
      ({ type, earlier }) => (type === 'AAAA' ? [] : earlier === 0 ? [PUBLIC] : ['10.0.0.1']),
      { ttlSeconds: 3_600 },
    );
    expect(await guard.check('https://a.example.com/')).toMatchObject({ ok: true });
    expect(await guard.check('https://a.example.com/')).toMatchObject({ ok: false, reason: 'DNS_NOT_GLOBAL' });
  });

  it('asks no server about a URL whose text is refused', async () => {
    const { guard, dns } = await guardOver({});
    for (const url of [
      'http://a.example.com/',
      'https://localhost/',
      'https://db.internal/',
      'https://10.0.0.1/',
      'nonsense',
    ]) {
      expect((await guard.check(url)).ok).toBe(false);
    }
    expect(dns.questions).toEqual([]);
  });

  it('refuses what lies behind this network’s own NAT64 prefix', async () => {
    const translated = '2a00:1234:5678:9abc::10.0.0.1';
    const { guard, dns } = await guardOver({
      'ipv4only.arpa': ['2a00:1234:5678:9abc::192.0.0.170', '2a00:1234:5678:9abc::192.0.0.171'],
      'a.example.com': [PUBLIC, translated],
      'b.example.com': ['2a00:1234:5678:9abd::1'],
    });
    expect(await guard.check('https://a.example.com/')).toMatchObject({ ok: false, reason: 'DNS_NOT_GLOBAL' });
    expect(await guard.check(`https://[${translated}]/`)).toMatchObject({ ok: false, reason: 'IP_NOT_GLOBAL' });
    expect(await guard.check('https://b.example.com/')).toMatchObject({ ok: true });
    expect(dns.questions.filter((question) => question === 'AAAA ipv4only.arpa')).toHaveLength(1);
    expect(isGlobal(translated)).toBe(true);
  });

  it('asks for the NAT64 prefix again after ten minutes, and at once if nobody answered', async () => {
    let nowMs = 0;
    let answer: DnsAnswer = 'serverFailure';
    const { guard, dns } = await guardOver(({ name }) => (name === 'ipv4only.arpa' ? answer : []), {
      now: () => nowMs,
    });
    const count = async () => {
      await guard.check(`https://[${PUBLIC_6}]/`);
      return dns.questions.length;
    };
    const afterFailure = await count();
    answer = [];
    const answered = await count();
    expect(answered).toBeGreaterThan(afterFailure);
    expect(await count()).toBe(answered);
    nowMs = 600_000;
    expect(await count()).toBeGreaterThan(answered);
  });
});

describe('allowed addresses', () => {
  const records = {
    'receiver.internal': ['10.1.0.5'],
    'mixed.internal': ['10.1.0.5', PUBLIC],
    'hooks.example.com': [PUBLIC],
  };
  const allowCidrs = ['10.1.0.0/16', '127.0.0.0/8'];

  it.each([
    ['http://receiver.internal/', 'ok'],
    ['http://receiver.internal:6379/', 'ok'],
    ['https://hooks.example.com/', 'ok'],
    ['http://mixed.internal/', 'SCHEME'],
    ['https://mixed.internal/', 'HOST_NOT_PUBLIC_NAME'],
    ['http://hooks.example.com/', 'SCHEME'],
    ['https://hooks.example.com:22/', 'PORT'],
    ['https://gone.internal/', 'HOST_NOT_PUBLIC_NAME'],
    ['http://127.0.0.1:4001/', 'ok'],
    ['http://localhost:4001/', 'ok'],
    ['https://a.localhost/', 'ok'],
  ])('may be called by any name that means only them: %s', async (url, expected) => {
    const { guard } = await guardOver(records, { allowCidrs });
    const checked = await guard.check(url);
    expect(checked.ok ? 'ok' : checked.reason).toBe(expected);
  });

  it('take localhost from no name server, and only as far as loopback is allowed', async () => {
    const inside = await guardOver({ localhost: ['10.1.0.5'] }, { allowCidrs: ['127.0.0.0/8', '::1/128'] });
    expect(await inside.guard.check('http://localhost/')).toMatchObject({ ok: true, addresses: ['127.0.0.1', '::1'] });
    const elsewhere = await guardOver({ localhost: ['10.1.0.5'] }, { allowCidrs: ['10.0.0.0/8'] });
    expect(await elsewhere.guard.check('https://localhost/')).toMatchObject({
      ok: false,
      reason: 'HOST_NOT_PUBLIC_NAME',
    });
    expect([...inside.dns.questions, ...elsewhere.dns.questions]).toEqual([]);
  });
});

describe('a NAT64 prefix', () => {
  it.each([
    ['64:ff9b::c000:aa', 96],
    ['2a00:1:2:3:c0:0:aa00::', 64],
    ['2a00:1:2:3c0:0:aa::', 56],
    ['2a00:1:2:c000:0:aa00::', 48],
    ['2a00:1:2c0:0:aa::', 40],
    ['2a00:1:c000:ab::', 32],
    ['2a00:1:2:3::1', 96],
  ])('is found in %s as /%i', (answer, bits) => {
    expect(nat64Prefixes([answer])).toMatchObject([{ bits }]);
  });
});

describe('a list of name servers', () => {
  it.each(['dns.example.com', '10.0.0.1:x', ''])('is refused when it can’t be read: %j', (server) => {
    expect(() => createResolver({ servers: [server] })).toThrow(/WEBHOOK_DNS_SERVERS: expected/);
  });
});
