import { EngineError } from '../errors.ts';
import { isSameAudience, type Principal } from '../identity/principal.ts';
import type { StreamOwner } from '../live/stream.ts';
import { newId } from '../runtime/id.ts';
import { tooManyConnections } from './admission.ts';
import { authorizationOf, bearerKey } from './authenticate.ts';
import type { Connection } from './connection.ts';
import type { Gateway } from './gateway.ts';

/** What a client is told of its credentials: until when they hold (ISO 8601 UTC, null for no end), or why they were refused. */
export type CredentialsAnswer =
  | { readonly expiresAt: string | null }
  | { readonly error: { readonly code: string; readonly message: string } };

/** What came of `connection_init`. */
export type Opening = 'refused' | 'full' | Principal;

/**
 * On whose behalf a socket is open. *Anonymous* until its first key is accepted; then *somebody's*, holding one of their
 * connections, and later perhaps another key's of the same audience; *over* when the socket is closed, its place given back.
 */
export class Session implements StreamOwner {
  readonly connection: Connection;
  readonly #gateway: Gateway;
  /** Whose place it holds. */
  #holder: string | undefined;
  #isOver = false;
  /** The renewal under way: the next one waits for it. */
  #renewing: Promise<unknown> | undefined;

  constructor(gateway: Gateway, connection: Connection) {
    this.#gateway = gateway;
    this.connection = connection;
  }

  get principalId(): string {
    return this.connection.principal?.id ?? '';
  }

  /** Whose it is now. @throws EngineError UNAUTHENTICATED while it is anonymous */
  requirePrincipal(): Principal {
    const { principal } = this.connection;
    if (principal === undefined) throw new EngineError('UNAUTHENTICATED', 'send connection_init with an API key first');
    return principal;
  }

  /** Takes the key of `connection_init`. Rejects only with what may pass, such as a database that can't be reached. */
  async begin(params: Readonly<Record<string, unknown>> | undefined): Promise<Opening> {
    try {
      const principal = await this.#gateway.keys.authenticate(bearerKey(authorizationOf(params)));
      if (!(await this.#moveTo(principal))) return 'full';
      return principal;
    } catch (error) {
      if (error instanceof EngineError && error.code === 'UNAUTHENTICATED') return 'refused';
      throw error;
    }
  }

  /**
   * Goes on with another key of the same account and narrowing: streams stay, but for those that need a scope which the
   * new key lacks. Never rejects; a key that is refused leaves everything as it was.
   */
  async renew(payload: Readonly<Record<string, unknown>>): Promise<CredentialsAnswer> {
    const before = this.#renewing;
    const renewal = Promise.resolve(before).then(() => this.#renew(payload));
    this.#renewing = renewal;
    const answer = await renewal;
    if (this.#renewing === renewal) this.#renewing = undefined;
    return answer;
  }

  /** Gives its place back; call when the socket is closed, whichever way. */
  end(): void {
    this.#isOver = true;
    this.#release();
  }

  async #renew(payload: Readonly<Record<string, unknown>>): Promise<CredentialsAnswer> {
    try {
      const current = this.requirePrincipal();
      const principal = await this.#gateway.keys.authenticate(bearerKey(authorizationOf(payload)));
      if (!isSameAudience(principal, current))
        throw new EngineError(
          'FORBIDDEN',
          'expected a key of the same account and narrowing, found another; open another socket with it',
        );
      if (!(await this.#moveTo(principal))) throw tooManyConnections();
      this.#gateway.endLost(this, principal);
      return { expiresAt: endOf(principal) ?? null };
    } catch (error) {
      const [told] = this.#gateway.report(error, newId('req'));
      return {
        error: { code: String(told?.extensions.code ?? 'INTERNAL'), message: told?.message ?? 'internal error' },
      };
    }
  }

  /** Takes a place of the principal's instead of the one that it holds; false if there is none. */
  async #moveTo(principal: Principal): Promise<boolean> {
    if (principal.id !== this.#holder) {
      if (!(await this.#gateway.connections.take(principal.id))) return false;
      this.#release();
      this.#holder = principal.id;
      if (this.#isOver) this.#release(); // the socket closed meanwhile
    }
    this.connection.principal = principal;
    return true;
  }

  #release(): void {
    if (this.#holder !== undefined) this.#gateway.connections.release(this.#holder);
    this.#holder = undefined;
  }
}

/** When the principal ends by itself, as clients are told. */
export function endOf({ expiresAt }: Principal): string | undefined {
  return expiresAt?.toISOString();
}
