import { fork } from 'node:child_process';
import { once } from 'node:events';
import { basename } from 'node:path';
import { fileURLToPath } from 'node:url';

/** What a program offers to the one that started it. Arguments and results are copied between the processes. */
export type Methods = Readonly<Record<string, (...parameters: never[]) => unknown>>;

/** A program in a process of its own, so that it does not share a core's time with what it measures. */
export interface Worker<M extends Methods> {
  readonly pid: number;
  /** @throws Error what the method threw, that the process has ended, or that it took over 2 minutes */
  call<Name extends keyof M & string>(
    name: Name,
    ...parameters: Parameters<M[Name]>
  ): Promise<Awaited<ReturnType<M[Name]>>>;
  stop(): Promise<void>;
}

export interface WorkerOptions {
  /** The working directory; a folder of the servers, so that the process can't outlive it. */
  readonly cwd: string;
  readonly execArgv: readonly string[];
}

interface Question {
  readonly id: number;
  readonly name: string;
  readonly parameters: readonly unknown[];
}

type Answer = { readonly id: number } & ({ readonly value: unknown } | { readonly error: string });

const CALL_DEADLINE_MS = 120_000;
const STOP_DEADLINE_MS = 5_000;

/** Starts a program that calls `serveMethods`. */
export function startWorker<M extends Methods>(program: URL, { cwd, execArgv }: WorkerOptions): Worker<M> {
  const file = fileURLToPath(program);
  const child = fork(file, { cwd, execArgv: [...execArgv], serialization: 'advanced' });
  const waiting = new Map<number, PromiseWithResolvers<unknown>>();
  let asked = 0;
  // what serveMethods sends
  child.on('message', (answer) => settle(waiting, answer as Answer));
  // 'close' never comes once this side has disconnected (Node 24)
  const ended = once(child, 'exit').then(() => {
    for (const each of waiting.values()) each.reject(new Error(`${basename(file)} ended before it had answered`));
    waiting.clear();
  });
  return {
    pid: child.pid ?? 0,
    async call(name, ...parameters) {
      const id = asked++;
      const question: Question = { id, name, parameters };
      child.send(question);
      const settled = Promise.withResolvers<unknown>();
      waiting.set(id, settled);
      // the type that the program declares for the method
      return within(settled.promise, `${basename(file)}: ${name}`) as never;
    },
    async stop() {
      if (child.connected) child.disconnect();
      const timer = setTimeout(() => child.kill('SIGKILL'), STOP_DEADLINE_MS);
      await ended;
      clearTimeout(timer);
    },
  };
}

function settle(waiting: Map<number, PromiseWithResolvers<unknown>>, answer: Answer): void {
  const settled = waiting.get(answer.id);
  waiting.delete(answer.id);
  if ('error' in answer) settled?.reject(new Error(answer.error));
  else settled?.resolve(answer.value);
}

async function within<T>(work: Promise<T>, what: string): Promise<T> {
  const late = Promise.withResolvers<never>();
  const timer = setTimeout(
    () => late.reject(new Error(`${what} did not answer within ${CALL_DEADLINE_MS} ms`)),
    CALL_DEADLINE_MS,
  );
  try {
    return await Promise.race([work, late.promise]);
  } finally {
    clearTimeout(timer);
  }
}

/** Answers the calls of the process that started this one, and ends with it. */
export function serveMethods(methods: Methods): void {
  process.on('disconnect', () => process.exit(0));
  process.on('SIGINT', () => {}); // Ctrl-C reaches all: the one that started this ends it
  process.on('message', (message) => {
    // what startWorker sends
    const { id, name, parameters } = message as Question;
    run(methods, name, parameters).then(
      (value) => process.send?.({ id, value }),
      (error: unknown) => process.send?.({ id, error: error instanceof Error ? `${error.stack}` : String(error) }),
    );
  });
}

async function run(methods: Methods, name: string, parameters: readonly unknown[]): Promise<unknown> {
  const method = methods[name];
  if (method === undefined) throw new Error(`there is no method "${name}"`);
  // typed by Worker.call on the other side
  return method(...(parameters as never[]));
}
