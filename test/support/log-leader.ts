// A sequencer in a process of its own, for tests that freeze and kill it. Its one argument is a `LeaderPlan` as JSON. Each
// observation is a line of JSON on standard output. It ends when its standard input does.
import { writeSync } from 'node:fs';
import { setTimeout as wait } from 'node:timers/promises';
import { connectPostgres, openPglite } from '../../src/database/connect.ts';
import type { Observation } from '../../src/runtime/observe.ts';
import { createLeader, type LeaderPlan } from './log-sequencer.ts';

const plan: LeaderPlan = JSON.parse(process.argv[2] ?? '');
const database =
  plan.url === undefined ? await openPglite({ dataDir: plan.dataDir ?? '' }) : await connectPostgres({ url: plan.url });
let passed = 0;
let isOver = false;
process.stdin.resume().on('end', () => {
  isOver = true;
});

const leader = createLeader(database, { ...plan, observe, batchSize: plan.batchSize ?? 5 });
let renewAt = 0;
while (!isOver) {
  if (performance.now() >= renewAt) {
    await leader.keepLeases();
    renewAt = performance.now() + (plan.leaseMs ?? 3_000) / 3;
  }
  if ((await leader.stampBatch()) === 'idle') await wait(2);
}
await leader.release();
await database.close();

function observe(observation: Observation): void {
  writeSync(1, `${JSON.stringify(observation)}\n`);
  if (observation.name !== plan.signalAt?.name) return;
  passed += 1;
  if (passed === (plan.signalAt.nth ?? 1)) process.kill(process.pid, plan.signalAt.signal);
}
