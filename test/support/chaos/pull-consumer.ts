import { setTimeout as wait } from 'node:timers/promises';
import { type GraphqlAnswer, post } from '../app.ts';
import { filterFor, type Wanted } from './filters.ts';
import { createRecorder, type Record } from './record.ts';

/** A program that polls, records, acks: one poll at a time, on another node whenever one does not answer. */
export interface PullConsumer {
  readonly wanted: Wanted;
  readonly last: number;
  /** Polls and acks that were not answered. */
  readonly faults: number;
  readonly lastFault: string | undefined;
  record(): Record;
  close(): Promise<void>;
}

export interface PullConsumerOptions {
  readonly urls: readonly string[];
  readonly key: string;
  readonly name: string;
  readonly wanted: Wanted;
  readonly after: string;
}

const CREATE = `mutation ($name: String!, $filter: EventFilter, $after: String) {
  consumerCreate(name: $name, filter: $filter, startAfter: $after) { __typename }
}`;
const POLL = `query ($name: String!, $lease: Int) {
  consumerPoll(name: $name, first: 100, waitMs: 1000, leaseSeconds: $lease) { events { id position } cursor }
}`;
const ACK = 'mutation ($name: String!, $cursor: String!) { consumerAck(name: $name, cursor: $cursor) { __typename } }';
const LEASE_SECONDS = 4;

export async function openPullConsumer(options: PullConsumerOptions): Promise<PullConsumer> {
  const { urls, key, name, wanted, after } = options;
  const recorder = createRecorder();
  const stop = new AbortController();
  const state = { faults: 0, lastFault: undefined as string | undefined };

  async function ask(query: string, variables: object): Promise<GraphqlAnswer> {
    const url = urls[state.faults % urls.length] ?? '';
    const answer = await post({ url, key }, { query, variables: { name, ...variables } });
    if (answer.errors !== undefined) throw new Error(JSON.stringify(answer.errors));
    return answer;
  }

  /** What was not answered may have been done: then it has to be asked for again until it is. */
  async function insist(query: string, variables: object, pauseMs: (error: unknown) => number): Promise<GraphqlAnswer> {
    for (;;) {
      try {
        return await ask(query, variables);
      } catch (error) {
        state.faults += 1;
        state.lastFault = `${error}`;
        if (stop.signal.aborted) throw error;
        await wait(pauseMs(error));
      }
    }
  }

  async function run(): Promise<void> {
    while (!stop.signal.aborted) {
      const { data } = await insist(POLL, { lease: LEASE_SECONDS }, pauseAfterPoll);
      const { events, cursor } = data.consumerPoll;
      for (const event of events) recorder.note(event);
      if (cursor !== null) await insist(ACK, { cursor }, () => 50);
    }
  }

  await ask(CREATE, { filter: filterFor(wanted), after });
  const ended = run().catch((error: unknown) => {
    state.lastFault = `given up: ${error}`;
  });
  return {
    wanted,
    get last() {
      return recorder.last;
    },
    get faults() {
      return state.faults;
    },
    get lastFault() {
      return state.lastFault;
    },
    record: () => recorder.read(),
    close() {
      stop.abort();
      return ended;
    },
  };
}

/** Who wants the order kept waits until what the lost answer may have lent out is lent again. */
function pauseAfterPoll(error: unknown): number {
  const { code } = ((error as Error).cause ?? {}) as NodeJS.ErrnoException; // fetch's own form
  return code === 'ECONNREFUSED' ? 50 : LEASE_SECONDS * 1_000 + 500;
}
