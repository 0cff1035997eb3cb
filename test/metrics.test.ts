import { expect, test } from 'vitest';
import { createMetrics } from '../src/runtime/metrics.ts';

test('counts what is observed, by name and by what operators watch', async () => {
  const { observe, text } = createMetrics();
  observe({ name: 'relay.stamped', events: 3 });
  observe({ name: 'relay.stamped', events: 2 });
  observe({ name: 'relay.checked', seqs: 4, invalid: 1 });
  observe({ name: 'feed.filled', shard: 3, events: 7 });
  observe({ name: 'delivery.attempted', outcome: 'succeeded', duration_ms: 40 });
  expect(await samples(text)).toMatchObject({
    'fanfare_observations_total{name="relay.stamped"}': 2,
    fanfare_events_stamped_total: 5,
    fanfare_events_parked_total: 1,
    fanfare_feed_filled_events_total: 7,
    'fanfare_delivery_attempt_seconds_bucket{le="0.025",outcome="succeeded"}': 0,
    'fanfare_delivery_attempt_seconds_bucket{le="0.05",outcome="succeeded"}': 1,
    'fanfare_delivery_attempt_seconds_count{outcome="succeeded"}': 1,
  });
});

test('shows a loop as failing until it recovers', async () => {
  const { observe, text } = createMetrics();
  observe({ name: 'loop.failed', loop: 'relay.stamp', error: new Error('no database') });
  expect(await samples(text)).toMatchObject({ 'fanfare_loop_failing{loop="relay.stamp"}': 1 });
  observe({ name: 'loop.recovered', loop: 'relay.stamp', failures: 2, down_ms: 10 });
  expect(await samples(text)).toMatchObject({ 'fanfare_loop_failing{loop="relay.stamp"}': 0 });
});

test('reads a gauge each time, and knows the process', async () => {
  const { gauge, text } = createMetrics();
  let open = 1;
  gauge('fanfare_streams', 'Live streams.', () => open);
  expect(await samples(text)).toMatchObject({ fanfare_streams: 1, process_cpu_seconds_total: expect.any(Number) });
  open = 5;
  expect(await samples(text)).toMatchObject({ fanfare_streams: 5 });
});

test('makes no series without end out of labels without end', async () => {
  const { observe, text } = createMetrics();
  for (let each = 0; each < 1_000; each++) observe({ name: `made.up_${each}` });
  const names = Object.keys(await samples(text)).filter((name) => name.startsWith('fanfare_observations_total'));
  expect(names).toHaveLength(201);
  expect(await samples(text)).toMatchObject({ 'fanfare_observations_total{name="other"}': 800 });
});

test('keeps two processes in one apart, and does not throw over a fact that is no number', async () => {
  const [one, other] = [createMetrics(), createMetrics()];
  one.observe({ name: 'relay.stamped', events: 'many' });
  one.observe({ name: 'delivery.attempted', duration_ms: -1 });
  expect(await samples(one.text)).toMatchObject({ fanfare_events_stamped_total: 0 });
  expect(await other.text()).not.toContain('relay.stamped');
});

async function samples(text: () => Promise<string>): Promise<Record<string, number>> {
  const lines = (await text()).split('\n').filter((line) => line !== '' && !line.startsWith('#'));
  return Object.fromEntries(lines.map((line) => [line.replace(/ \S+$/, ''), Number(line.split(' ').at(-1))]));
}
