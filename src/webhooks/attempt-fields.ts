import type { AttemptRow } from './attempt-loader.ts';
import type { WebhookBuilder } from './graphql.ts';

/** Declares `Attempt`. */
export function declareAttempt(builder: WebhookBuilder) {
  const ref = builder.objectRef<AttemptRow>('Attempt');
  ref.implement({
    description: 'One request of a delivery, and what came of it.',
    fields: (t) => ({
      deliveryId: t.exposeID('delivery_id'),
      number: t.exposeInt('number', { description: 'From 1.' }),
      startedAt: t.field({ type: 'DateTime', resolve: ({ started_at }) => started_at }),
      durationMs: t.exposeInt('duration_ms', { description: 'Names, connecting and the whole response included.' }),
      dnsMs: t.exposeInt('dns_ms', {
        nullable: true,
        description:
          'How long the name servers took. Null where they were not asked, such as on a connection that is used again.',
      }),
      connectMs: t.exposeInt('connect_ms', { nullable: true, description: 'How long TCP took. Null as `dnsMs`.' }),
      tlsMs: t.exposeInt('tls_ms', { nullable: true, description: 'How long the handshake took. Null as `dnsMs`.' }),
      firstByteMs: t.exposeInt('first_byte_ms', {
        nullable: true,
        description: 'From when the request was written to the first byte of an answer.',
      }),
      isReused: t.exposeBoolean('is_reused', {
        nullable: true,
        description: 'Whether its connection had carried a request before. Null if nothing was sent.',
      }),
      requestHeaders: t.field({
        type: 'JSON',
        nullable: true,
        description: 'As they were sent, but for secrets, which are masked. Null if nothing was sent.',
        resolve: ({ request_headers }) => parseHeaders(request_headers),
      }),
      requestBodyHash: t.string({
        nullable: true,
        description: 'SHA-256 of the body that was sent, in hexadecimal. Null if nothing was sent.',
        // PGlite gives plain bytes
        resolve: ({ body_hash }) => body_hash && Buffer.from(body_hash).toString('hex'),
      }),
      statusCode: t.exposeInt('status_code', { nullable: true, description: 'Null if there was no response.' }),
      errorClass: t.exposeString('error_class', {
        nullable: true,
        description: 'At which stage it failed, such as `DNS`, `TIMEOUT` or `HTTP_STATUS`; null after a 2xx.',
      }),
      reason: t.exposeString('reason', { nullable: true, description: 'Why the address was refused.' }),
      responseHeaders: t.field({ type: 'JSON', resolve: ({ response_headers }) => response_headers }),
      responseBody: t.exposeString('response_body', { description: 'Its first 4 KiB.' }),
      isTruncated: t.exposeBoolean('is_truncated', { description: 'Whether the response went on behind that.' }),
      remoteAddress: t.exposeString('remote_address', { nullable: true, description: 'Who was sent to.' }),
      nextAttemptAt: t.field({
        type: 'DateTime',
        nullable: true,
        description: 'What was scheduled after it.',
        resolve: ({ next_at }) => next_at,
      }),
    }),
  });
  return ref;
}

/** The lines of `maskHeaders`. */
function parseHeaders(lines: string | null): Record<string, string> | null {
  if (lines === null) return null;
  return Object.fromEntries(
    lines.split('\n').map((line) => {
      const at = line.indexOf(': ');
      return [line.slice(0, at), line.slice(at + 2)];
    }),
  );
}
