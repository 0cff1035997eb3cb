import { EventEmitter } from 'node:events';
import { expect, test } from 'vitest';
import { ToolError, UsageError } from '../../schema/tools/command-line.ts';
import { runProgram, stopOnSignals } from '../../schema/tools/program.ts';

/** A process whose signals a test sends itself. */
class Host extends EventEmitter {
  readonly exits: number[] = [];
  exit(code: number): never {
    this.exits.push(code);
    throw new Error('the process has ended');
  }
}

test('stops at the first Ctrl-C, takes no notice of its echo, and ends at the second', () => {
  const host = new Host();
  let [nowMs, stops] = [1_000, 0];
  const stopping = stopOnSignals(host, { onStop: () => (stops += 1), now: () => nowMs });
  expect(stopping.signal.aborted).toBe(false);
  host.emit('SIGINT');
  host.emit('SIGINT');
  expect([stopping.signal.aborted, stops, host.exits]).toEqual([true, 1, []]);
  nowMs += 2_000;
  expect(() => host.emit('SIGTERM')).toThrow('the process has ended');
  expect(host.exits).toEqual([130]);
  stopping.close();
  expect(host.eventNames()).toEqual([]);
});

test('tells foreseen errors in one message, and leaves bugs alone', async () => {
  const said: string[] = [];
  const run = (error: Error) =>
    runProgram('tour', { main: () => Promise.reject(error), say: (text) => void said.push(text) });
  expect(await run(new ToolError('no server'))).toBe(1);
  expect(await run(new UsageError('no option'))).toBe(2);
  await expect(run(new TypeError('a bug'))).rejects.toThrow('a bug');
  expect(said).toEqual(['tour: no server\n', 'tour: no option (see: npm run tour -- --help)\n']);
});
