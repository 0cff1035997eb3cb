import { Webhook as Standard } from 'standardwebhooks';
import { Webhook as Svix } from 'svix';
import { eventually } from '../support/eventually.ts';
import { openReceiver, type ReceivedRequest, type Receiver } from '../support/receiver.ts';
import { openNoteLog } from './note-log.ts';
import type { WebhookEngine } from './webhook-engine.ts';

export interface RotationOptions {
  readonly rotations: number;
  /** Between two rotations. */
  readonly events: number;
  /** @default the engine's own */
  readonly graceSeconds?: number;
  /** Returns what ends them. */
  startWorkers(): Promise<() => Promise<void>>;
}

/** A request, and places in the list of secrets. */
export interface SignedRequest {
  readonly request: ReceivedRequest;
  /** Of the newest that was known when its event was written. */
  readonly round: number;
  /** Of the newest that was known when it came in. */
  readonly known: number;
  /** Of the newest that was known {@link BITES_WITHIN_MS} before: what a process holds ahead is signed with the secrets of its claim. */
  readonly settled: number;
}

/** From a rotation's answer until every request comes with its secret, as the docs say. */
const BITES_WITHIN_MS = 1_000;

export interface RotationRun {
  /** The first, and what each rotation answered. */
  readonly secrets: readonly string[];
  readonly requests: readonly SignedRequest[];
}

const ROTATE = `mutation ($id: ID!, $graceSeconds: Int) {
  webhookSecretRotate(id: $id, graceSeconds: $graceSeconds) { ... on WebhookSecretRotateSuccess { secret } }
}`;

/** Rotates a webhook's secret again and again while its events are written and sent. */
export async function rotateUnderLoad(engine: WebhookEngine, options: RotationOptions): Promise<RotationRun> {
  const { rotations, events, graceSeconds } = options;
  await using opened = new AsyncDisposableStack();
  const receiver = await openReceiver();
  opened.defer(receiver.close);
  const log = openNoteLog(engine.services);
  opened.defer(log.close);
  const accountId = await engine.addAccount();
  const query = 'subscription { noteWritten { note { text } } }';
  const { id, secret } = await engine.createWebhook(
    { url: `${receiver.url}/hook`, query, maxInFlight: 50 },
    { accountId },
  );
  const secrets = [secret];
  const knownAt: number[] = [];
  opened.defer(await options.startWorkers());

  for (let round = 0; round <= rotations; round++) {
    if (round > 0) knownAt.push(await rotate());
    // what was written before is still under way at the next rotation
    const [, next] = await Promise.all([untilHalf(receiver, events), write(round)]);
    if (next.length !== events) throw new Error(`expected ${events} events, found ${next.length}`);
  }
  await eventually(() => receiver.requests.length >= (rotations + 1) * events, { deadlineMs: 600_000 });
  return { secrets, requests: receiver.requests.map(signedOf) };

  function write(round: number): Promise<readonly string[]> {
    return log.write(
      accountId,
      Array.from({ length: events }, (_, n) => ({ subjectId: `note_${n}`, text: `${round}` })),
    );
  }

  function signedOf(request: ReceivedRequest): SignedRequest {
    const receivedAtMs = request.receivedAt.getTime();
    const newestAt = (atMs: number) => knownAt.filter((at) => at <= atMs).length;
    return {
      request,
      round: roundOf(request),
      known: newestAt(receivedAtMs),
      settled: newestAt(receivedAtMs - BITES_WITHIN_MS),
    };
  }

  /** Gives when its answer was there. */
  async function rotate(): Promise<number> {
    const variables = { id, ...(graceSeconds === undefined ? {} : { graceSeconds }) };
    const { webhookSecretRotate } = await engine.run<{ webhookSecretRotate: { secret: string } }>(ROTATE, {
      accountId,
      variables,
    });
    secrets.push(webhookSecretRotate.secret);
    return Date.now();
  }
}

/** Until half of what one round writes has come in since. */
async function untilHalf({ requests }: Receiver, events: number): Promise<void> {
  const wanted = requests.length + Math.floor(events / 2);
  await eventually(() => requests.length >= wanted, { everyMs: 1 });
}

function roundOf({ body }: ReceivedRequest): number {
  return Number(JSON.parse(String(body)).data.note.text);
}

/** Whether both libraries accept it with this secret. */
export function verifies({ headers, body }: ReceivedRequest, secret: string): boolean {
  try {
    // the three that they read come once each
    for (const library of [new Standard(secret), new Svix(secret)])
      library.verify(body, headers as Record<string, string>);
    return true;
  } catch {
    return false;
  }
}
