import { Refusal } from '../errors.ts';

/** The object has moved on since the caller read it: read it again and decide anew. */
export class VersionConflict extends Refusal {
  static override readonly code = 'VERSION_CONFLICT';
  readonly id: string;
  readonly expectedVersion: number;
  readonly currentVersion: number;

  constructor(conflict: { readonly id: string; readonly expectedVersion: number; readonly currentVersion: number }) {
    super(
      `expected version ${conflict.expectedVersion} of ${conflict.id}, found ${conflict.currentVersion}; read it again`,
    );
    this.id = conflict.id;
    this.expectedVersion = conflict.expectedVersion;
    this.currentVersion = conflict.currentVersion;
  }
}
