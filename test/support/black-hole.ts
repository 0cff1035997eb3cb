import { once } from 'node:events';
import { connect } from 'node:net';
import { Worker } from 'node:worker_threads';

/** A port of 127.0.0.1 that listens and accepts nothing: who connects gets no answer to the first packet. */
export interface BlackHole {
  readonly port: number;
  close(): Promise<void>;
}

/** Listens, says where, and then never looks at it again. */
const PROGRAM = `
  const { createServer } = require('node:net');
  const { parentPort } = require('node:worker_threads');
  const server = createServer().listen({ port: 0, host: '127.0.0.1', backlog: 1 }, () => {
    parentPort.postMessage(server.address().port);
    setTimeout(() => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0), 20);
  });`;
/** So many are taken by the kernel though nobody accepts them. */
const BACKLOG = 2;

export async function openBlackHole(): Promise<BlackHole> {
  const worker = new Worker(PROGRAM, { eval: true });
  const [port] = (await once(worker, 'message')) as [number];
  const fillers = Array.from({ length: BACKLOG }, () => connect(port, '127.0.0.1'));
  await Promise.all(
    fillers.map((filler) => {
      filler.on('error', () => {}); // at the end it is reset
      return once(filler, 'connect');
    }),
  );
  return {
    port,
    async close() {
      for (const filler of fillers) filler.destroy();
      await worker.terminate();
    },
  };
}
