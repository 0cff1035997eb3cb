import { EngineError } from '../errors.ts';
import { requireStorable } from './storable.ts';

const MAX_DESCRIPTION = 500;
const MAX_METADATA_BYTES = 4_096;

/** What a webhook's maker writes on it. */
export interface Labels {
  readonly description?: string | null | undefined;
  readonly metadata?: unknown;
}

/**
 * @throws EngineError BAD_INPUT for a description over 500 characters, metadata that is no object of at most 4 KiB, or a
 * character in either that can't be stored
 */
export function checkLabels({ description, metadata }: Labels) {
  if (description && description.length > MAX_DESCRIPTION) {
    throw new EngineError(
      'BAD_INPUT',
      `"description" has ${description.length} characters; at most ${MAX_DESCRIPTION} are allowed`,
    );
  }
  requireStorable('description', description);
  requireStorable('metadata', metadata);
  return { description: description ?? undefined, metadata: checkMetadata(metadata) };
}

function checkMetadata(value: unknown): Readonly<Record<string, unknown>> | undefined {
  if (value === null || value === undefined) return undefined;
  if (typeof value !== 'object' || Array.isArray(value))
    throw new EngineError('BAD_INPUT', '"metadata" must be an object');
  if (Buffer.byteLength(JSON.stringify(value)) > MAX_METADATA_BYTES) {
    throw new EngineError('BAD_INPUT', `"metadata" is over ${MAX_METADATA_BYTES} bytes`);
  }
  return value as Record<string, unknown>; // an object that is no array, as JSON has it
}
