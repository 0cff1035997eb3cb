import type { Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { StartupError } from '../errors.ts';

/** Where a server listens. */
export interface ListenPlace {
  /** 0 for any free one. */
  readonly port: number;
  readonly host: string;
}

/** @throws StartupError if the port is taken or may not be used. @returns the port, which matters for port 0 */
export async function listen(server: Server, { port, host }: ListenPlace): Promise<number> {
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => reject(describeListenFault(error, { port, host })));
    server.listen(port, host, resolve);
  });
  return (server.address() as AddressInfo).port; // a TCP server's address is never a path
}

function describeListenFault(error: NodeJS.ErrnoException, { port, host }: ListenPlace): StartupError {
  const reason = {
    EADDRINUSE: `port ${port} on ${host} is in use; stop its owner or set PORT to another, 0 for any free one`,
    EACCES: `port ${port} on ${host} may not be used by this user; set PORT to 1024 or more`,
    EADDRNOTAVAIL: `HOST ${host} is not an address of this machine; set HOST to one, 127.0.0.1 or 0.0.0.0`,
  }[error.code ?? ''];
  return new StartupError(reason ?? `can't listen on ${host}:${port}: ${error.message}`, { cause: error });
}
