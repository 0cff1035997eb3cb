import type { GraphQLError } from 'graphql';
import { Refusal } from '../errors.ts';
import { CALLBACK_REFUSED_MESSAGE } from './callback-url.ts';

/** The callback URL may not be called. It tells no reason: by reasons a client could find out what lies inside. */
export class CallbackRefused extends Refusal {
  static override readonly code = 'CALLBACK_REFUSED';

  constructor() {
    super(CALLBACK_REFUSED_MESSAGE);
  }
}

/** One fault of a document, with its place in the text where it has one. */
export interface DocumentFault {
  readonly message: string;
  /** From 1. */
  readonly line: number | null;
  /** From 1. */
  readonly column: number | null;
}

/** The document is no subscription that this schema can run. */
export class DocumentInvalid extends Refusal {
  static override readonly code = 'DOCUMENT_INVALID';
  readonly errors: readonly DocumentFault[];

  constructor(errors: readonly DocumentFault[]) {
    super(`the document can't be used: ${errors[0]?.message ?? 'it is not valid'}`);
    this.errors = errors;
  }
}

/** A fault as GraphQL found it. */
export function toFault({ message, locations }: GraphQLError): DocumentFault {
  const [place] = locations ?? [];
  return { message, line: place?.line ?? null, column: place?.column ?? null };
}
