import { expect, test } from 'vitest';
import { createLog, observeToLog } from '../src/runtime/log.ts';

function capture(level: 'trace' | 'info' | 'silent' = 'info') {
  const lines: string[] = [];
  const log = createLog({ level, destination: { write: (line) => void lines.push(line) } });
  return { log, observe: observeToLog(log), lines, last: () => JSON.parse(lines.at(-1) ?? 'null') };
}

test('an observation is one line with its facts, its name and a readable time', () => {
  const { observe, lines, last } = capture();
  observe({ name: 'relay.batch', shard: 3, duration_ms: 1.5, seq: 12n });
  expect(lines).toHaveLength(1);
  expect(last()).toMatchObject({
    level: 'info',
    msg: 'relay.batch',
    shard: 3,
    duration_ms: 1.5,
    seq: 12,
    pid: process.pid,
  });
  expect(new Date(last().time).toISOString()).toBe(last().time);
});

test('a fact `level` chooses the level, unless it names none', () => {
  const { observe, lines, last } = capture();
  observe({ name: 'a.b', level: 'error' });
  expect(last().level).toBe('error');
  for (const level of ['silent', 'toString', 7]) {
    observe({ name: 'a.b', level });
    expect(last().level).toBe('info');
  }
  observe({ name: 'a.b', level: 'debug' });
  expect(lines).toHaveLength(4);
});

test('secrets are redacted by the name of their key, at any depth', () => {
  const { log, observe, lines, last } = capture();
  observe({
    name: 'a.b',
    secret: 'hidden',
    apiKey: 'hidden',
    Authorization: 'hidden',
    key_id: 'shown',
    nested: { headers: [{ authorization: 'hidden', 'set-cookie': 'hidden' }], password: ['hidden'] },
    error: Object.assign(new Error('failed'), { config: { password: 'hidden' } }),
  });
  expect(lines.at(-1)).not.toContain('hidden');
  expect(last()).toMatchObject({ secret: '[redacted]', key_id: 'shown', error: { message: 'failed', type: 'Error' } });
  log.warn({ SECRETS_KEY: 'hidden' }, 'said directly');
  expect(last()).toMatchObject({ level: 'warn', SECRETS_KEY: '[redacted]', msg: 'said directly' });
});

test('a fact that can not be written does not throw', () => {
  const { observe, lines } = capture();
  const cyclic: Record<string, unknown> = { password: 'hidden' };
  cyclic.self = cyclic;
  const throwing = { toJSON: () => expect.unreachable() };
  observe({
    name: 'a.b',
    cyclic,
    throwing: Object.assign(Object.create({}), throwing),
    nothing: undefined,
    call: () => 1,
  });
  expect(lines).toHaveLength(1);
  expect(lines[0]).not.toContain('hidden');
});

test('a silent log writes nothing', () => {
  const { observe, lines } = capture('silent');
  observe({ name: 'a.b', level: 'fatal' });
  expect(lines).toEqual([]);
});
