import { EngineError } from '../errors.ts';

/**
 * The key of an `Authorization` value: `Bearer ff_…`.
 * @throws EngineError UNAUTHENTICATED if it is absent or of another scheme
 */
export function bearerKey(authorization: string | undefined): string {
  const key = /^Bearer +(\S+) *$/i.exec(authorization ?? '')?.[1];
  if (key === undefined)
    throw new EngineError(
      'UNAUTHENTICATED',
      'expected "Authorization: Bearer ff_…"; the admin key is in DATA_DIR/admin-key or ADMIN_API_KEY',
    );
  return key;
}

/** The same value in `connection_init`'s payload, whatever the case of its key. */
export function authorizationOf(params: Readonly<Record<string, unknown>> | undefined): string | undefined {
  const found = Object.entries(params ?? {}).find(([name]) => name.toLowerCase() === 'authorization')?.[1];
  return typeof found === 'string' ? found : undefined;
}
