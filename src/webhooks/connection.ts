import { isIP, type LookupFunction, connect as openTcp, type Socket } from 'node:net';
import { connect as openTls } from 'node:tls';
import type { buildConnector } from 'undici';
import { type ConnectionTimings, type StepWatch, startStepWatch } from './connection-timings.ts';
import { CallbackForbiddenError, type CallbackGuard, type CallbackPermitted } from './guard.ts';

/** No connection came about: `CONNECT` before TCP stood, within the time-out or not; `TLS` after. The cause is kept. */
export class ConnectionError extends Error {
  readonly stage: 'CONNECT' | 'TLS';
  readonly timings: ConnectionTimings;

  constructor(
    stage: 'CONNECT' | 'TLS',
    message: string,
    options: { readonly cause?: unknown; readonly timings: ConnectionTimings },
  ) {
    super(message, { cause: options.cause });
    this.name = 'ConnectionError';
    this.stage = stage;
    this.timings = options.timings;
  }
}

export interface ConnectorOptions {
  readonly guard: CallbackGuard;
  /** Bounds TCP and TLS together, name resolution excluded. Unit: ms. */
  readonly connectTimeoutMs: number;
  /** Certificate authorities (PEM) to trust in place of Node's own. */
  readonly ca: string | undefined;
}

/** Opens connections, and knows of each how it came about. */
export interface Connector {
  readonly connect: buildConnector.connector;
  /** Undefined for a socket of another's making. */
  timingsOf(socket: Socket): ConnectionTimings | undefined;
}

/**
 * Makes what undici opens every connection through: check, then connect to the checked addresses only.
 *
 * undici's own connector would resolve by `lookup`, which Node never calls for a literal address; so the check
 * stands before it and its answers are pinned. The URL keeps its name: SNI, certificate and Host stay those of the name.
 * Fails with {@link CallbackForbiddenError} or {@link ConnectionError}.
 */
export function createConnector(options: ConnectorOptions): Connector {
  const timings = new WeakMap<Socket, ConnectionTimings>();
  return {
    connect: (target, callback) => {
      openChecked(target, options).then(
        (opened) => {
          timings.set(opened.socket, opened.timings);
          callback(null, opened.socket);
        },
        (error) => callback(error, null),
      );
    },
    timingsOf: (socket) => timings.get(socket),
  };
}

interface Opened {
  readonly socket: Socket;
  readonly timings: ConnectionTimings;
}

async function openChecked(target: buildConnector.Options, options: ConnectorOptions): Promise<Opened> {
  const watch = startStepWatch();
  const checked = await options.guard.check(`${target.protocol}//${target.host}`);
  if (isIP(target.hostname) === 0) watch.end('dnsMs');
  if (!checked.ok) throw new CallbackForbiddenError(checked, watch.read());
  const socket = await openPinned(checked, options, watch);
  // Belt and braces: whatever the lookup did, this is who answers.
  if (socket.remoteAddress !== undefined && options.guard.permits(socket.remoteAddress)) {
    return { socket, timings: watch.read() };
  }
  socket.destroy();
  throw new CallbackForbiddenError({ reason: 'IP_NOT_GLOBAL', transient: false }, watch.read());
}

function openPinned(checked: CallbackPermitted, options: ConnectorOptions, watch: StepWatch): Promise<Socket> {
  const isTls = checked.url.protocol === 'https:';
  watch.begin();
  const socket = isTls ? startTls(checked, options.ca) : startTcp(checked);
  let stage: 'CONNECT' | 'TLS' = 'CONNECT';
  socket.once('connect', () => {
    watch.end('connectMs');
    if (isTls) stage = 'TLS';
  });
  return new Promise((resolve, reject) => {
    // A timer of Node's: undici's own are coarse, and would let 5 s become 5.5 s.
    const timer = setTimeout(
      () => socket.destroy(new Error('not connected within the time-out')),
      options.connectTimeoutMs,
    );
    const fail = (cause: Error) => {
      clearTimeout(timer);
      watch.end(stage === 'TLS' ? 'tlsMs' : 'connectMs');
      reject(new ConnectionError(stage, cause.message, { cause, timings: watch.read() }));
    };
    socket.once('error', fail);
    socket.once(isTls ? 'secureConnect' : 'connect', () => {
      clearTimeout(timer);
      socket.off('error', fail);
      if (isTls) watch.end('tlsMs');
      resolve(socket);
    });
  });
}

function startTcp(checked: CallbackPermitted): Socket {
  return openTcp({ ...pinnedTarget(checked), port: Number(checked.url.port || 80) });
}

function startTls(checked: CallbackPermitted, ca: string | undefined): Socket {
  return openTls({
    ...pinnedTarget(checked),
    port: Number(checked.url.port || 443),
    servername: isIP(checked.host) === 0 ? checked.host : '', // SNI carries names only, RFC 6066 section 3
    minVersion: 'TLSv1.2',
    ALPNProtocols: ['http/1.1'],
    ...(ca === undefined ? {} : { ca }),
  });
}

function pinnedTarget({ host, addresses }: CallbackPermitted) {
  const answers = addresses.map((address) => ({ address, family: isIP(address) }));
  const lookup: LookupFunction = (_hostname, { all }, callback) => {
    const [first] = answers;
    if (all === true || first === undefined) callback(null, answers);
    else callback(null, first.address, first.family);
  };
  return { host, lookup, autoSelectFamily: true, noDelay: true, keepAlive: true, keepAliveInitialDelay: 60_000 };
}
