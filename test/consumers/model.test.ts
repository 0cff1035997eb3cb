import fc from 'fast-check';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { ACK, type ConsumerEngine, openConsumerEngine } from './consumer-engine.ts';
import { ConsumerModel } from './consumer-model.ts';

let engine: ConsumerEngine;
beforeAll(async () => {
  engine = await openConsumerEngine('postgres');
  await engine.writeNotes(['the one that is edited']);
});
afterAll(() => engine.close());

type Step =
  | { readonly do: 'write'; readonly pattern: readonly boolean[] }
  | { readonly do: 'poll'; readonly first: number }
  | { readonly do: 'ack'; readonly at: number }
  | { readonly do: 'expire'; readonly at: number }
  | { readonly do: 'expire all' };

const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 2,
    arbitrary: fc.record({ do: fc.constant('write' as const), pattern: fc.array(fc.boolean(), { maxLength: 6 }) }),
  },
  { weight: 4, arbitrary: fc.record({ do: fc.constant('poll' as const), first: fc.integer({ min: 1, max: 4 }) }) },
  { weight: 4, arbitrary: fc.record({ do: fc.constant('ack' as const), at: fc.nat(1_000) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('expire' as const), at: fc.nat(1_000) }) },
  { weight: 1, arbitrary: fc.constant({ do: 'expire all' as const }) },
);

let runs = 0;

it.each([
  ['all events', undefined],
  ['some events', { types: ['NOTE_WRITTEN'] }],
])('a consumer of %s does what a table of its positions does', async (_title, filter) => {
  const runOne = async (steps: readonly Step[]) => {
    const name = `model-${++runs}`;
    const { position } = await engine.create({ name, ...(filter ? { filter } : {}) });
    const model = new ConsumerModel(Number(position), filter === undefined ? () => true : (isWritten) => isWritten);
    for (const each of steps) {
      await take(name, model, each);
      expect(await engine.consumer(name)).toMatchObject(model.view());
    }
  };
  await fc.assert(fc.asyncProperty(fc.array(step, { minLength: 10, maxLength: 25 }), runOne), { numRuns: 25 });
});

async function take(name: string, model: ConsumerModel, step: Step): Promise<void> {
  switch (step.do) {
    case 'write':
      await engine.writeMixed(step.pattern);
      return model.write(step.pattern);
    case 'poll': {
      const { events } = await engine.poll({ name, first: step.first });
      return expect(events.map(({ position }) => Number(position))).toEqual(model.poll(step.first));
    }
    case 'ack': {
      const position = model.pick(step.at);
      const expected = model.ack(position);
      const variables = { name, cursor: engine.cursorOf(position) };
      if (expected === undefined) return void (await engine.run(ACK, { variables }));
      return expect(await engine.fail(ACK, { variables })).toMatchObject({ code: expected });
    }
    case 'expire': {
      const position = model.pick(step.at);
      await engine.expire(name, position);
      return model.expire(position);
    }
    case 'expire all':
      await engine.expire(name);
      return model.expireAll();
  }
}
