import type { IncomingMessage } from 'node:http';
import { EngineError } from '../errors.ts';
import { HttpFault } from './request.ts';

/** The path that is asked for. @throws HttpFault 400 for a target that is no path, such as `//` */
export function pathOf(request: IncomingMessage): string {
  const target = request.url ?? '/';
  if (!URL.canParse(target, 'http://host')) throw new HttpFault(400, 'the request target is not a path');
  return new URL(target, 'http://host').pathname;
}

/** Two hosts would be one to a proxy and the other here. @throws HttpFault 400 @see RFC 9112, section 3.2 */
export function requireOneHost({ rawHeaders }: IncomingMessage): void {
  const hosts = rawHeaders.filter((name, at) => at % 2 === 0 && name.toLowerCase() === 'host');
  if (hosts.length > 1) throw new HttpFault(400, 'the request has more than one Host header');
}

/** Whether an `Accept` names the type, and not with `q=0`. */
export function accepts({ headers }: IncomingMessage, type: string): boolean {
  const ranges = (headers.accept ?? '').toLowerCase().split(',');
  return ranges.some((range) => range.split(';')[0]?.trim() === type && !/;\s*q=0(\.0*)?\s*(;|$)/.test(range));
}

/** Whether an `Accept` names a type that a result in one piece may have. */
export function acceptsJson(request: IncomingMessage): boolean {
  return ['application/json', 'application/graphql-response+json', '*/*'].some((type) => accepts(request, type));
}

/** Whether a browser asks for a page, and for no operation. */
export function asksForPage({ method, headers, url }: IncomingMessage): boolean {
  return method === 'GET' && (headers.accept ?? '').includes('text/html') && !/[?&]query=/.test(url ?? '');
}

/** A header's value, its first if it was sent more than once. */
export function headerOf(request: IncomingMessage, name: string): string | undefined {
  const value = request.headers[name];
  return Array.isArray(value) ? value[0] : value;
}

/** A GET's parameters, as a body would hold them. @throws EngineError BAD_INPUT for one that is not the JSON it has to be */
export function queryOf(request: IncomingMessage): unknown {
  const { searchParams } = new URL(request.url ?? '/', 'http://host');
  const json = (name: string) => {
    const text = searchParams.get(name);
    try {
      return text === null ? undefined : (JSON.parse(text) as unknown);
    } catch {
      throw new EngineError('BAD_INPUT', `"${name}" is not JSON`);
    }
  };
  return {
    query: searchParams.get('query'),
    operationName: searchParams.get('operationName'),
    variables: json('variables'),
    extensions: json('extensions'),
  };
}
