import { createServer, type IncomingMessage, ServerResponse } from 'node:http';
import type { GraphQLSchema } from 'graphql';
import type { Principal } from '../identity/principal.ts';
import { type Departing, drain } from './drain.ts';
import { createEndpoint } from './endpoint.ts';
import { answerFailure } from './failure.ts';
import type { Gateway } from './gateway.ts';
import { listen } from './listen.ts';
import { createRoutes } from './routes.ts';
import { SseStreams } from './sse.ts';
import { upgrade } from './upgrade.ts';
import { createWebSockets } from './websocket.ts';

export interface HttpServerOptions {
  readonly schema: GraphQLSchema;
  readonly gateway: Gateway;
  readonly graphiql: boolean;
  /** Whether this process has the role `api`; the others serve only health and metrics. */
  readonly servesGraphql: boolean;
  /** Origins of browsers that may call, beside the server's own. */
  readonly corsOrigins: readonly string[];
  /** Aborts when the process is told to stop: new sockets and streams are refused from then on. */
  readonly draining: AbortSignal;
  /** Whether the process can serve; the text says why not. */
  readonly readiness: () => Promise<string | undefined>;
  /** The text of `/metrics`. */
  readonly metrics: () => Promise<string>;
}

/** The HTTP side of a process. */
export interface HttpServer {
  /** @throws StartupError if the port is taken or may not be used. @returns the port, which matters for port 0 */
  listen(port: number, host: string): Promise<number>;
  /** The principals that have sockets. */
  socketOwners(): ReadonlySet<string>;
  /** Lets new operations on open sockets go by what the keys may do now. */
  refreshSockets(principals: ReadonlyMap<string, Principal>): void;
  /** Ends the sockets of these principals with 4403. */
  endSockets(principalIds: ReadonlySet<string>): void;
  /**
   * Sends the clients of sockets (1012) and streams away, spread over `windowMs`, closes the port, lets requests finish;
   * 3 s behind the window whatever is left is cut off. Call it when `draining` has aborted.
   */
  drain(windowMs: number): Promise<void>;
}

export function createHttpServer(options: HttpServerOptions): HttpServer {
  const sockets = createWebSockets(options.gateway);
  const streams = new SseStreams();
  const respond = createRoutes({ ...options, endpoint: createEndpoint(options, streams) });
  const server = createServer(
    {
      maxHeaderSize: 16 * 1024,
      headersTimeout: 10_000,
      requestTimeout: 10_000,
      // longer than the 60 s of common proxies: one that reuses an idle connection must not meet its end
      keepAliveTimeout: 75_000,
      connectionsCheckingInterval: 1_000,
      requireHostHeader: true,
      ServerResponse: responseOf(options.draining),
      // other offers, such as h2c, are declined by serving the request as it is
      shouldUpgradeCallback: ({ headers }) => headers.upgrade?.toLowerCase() === 'websocket',
    },
    (request, response) => {
      respond(request, response).catch((error: unknown) => answerFailure(options.gateway, error, response));
    },
  );
  server.on('upgrade', (request, socket, head) => upgrade({ request, socket, head }, sockets, options));

  /** The same object for the same stream at each call: the drain remembers whom it has sent away. */
  function* departing(): Generator<Departing> {
    yield* streams;
    yield* sockets.connections();
  }

  return {
    listen: (port, host) => listen(server, { port, host }),
    socketOwners: () => new Set([...sockets.connections()].flatMap(({ principal }) => principal?.id ?? [])),
    refreshSockets: (principals) => sockets.refresh(principals),
    endSockets: (principalIds) => sockets.end(principalIds),
    async drain(windowMs) {
      await drain({ server, open: () => [...departing()], windowMs });
      sockets.close();
    },
  };
}

/** Answers that tell their clients, while the process drains, to open the next connection, which then leads elsewhere. */
function responseOf(draining: AbortSignal): typeof ServerResponse {
  return class<Request extends IncomingMessage> extends ServerResponse<Request> {
    /** Whatever its overloads take is passed on as it is. */
    override writeHead(...given: never[]): this {
      if (draining.aborted) this.setHeader('connection', 'close');
      Reflect.apply(super.writeHead, this, given);
      return this;
    }
  };
}
