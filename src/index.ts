/** `#engine`: everything of the engine that a domain may see. */
export { type Domain, type DomainOptions, defineDomain } from './domain.ts';
export { EngineError, type ErrorCode, Refusal } from './errors.ts';
export { type BuilderTypes, createBuilder, type EngineBuilder } from './graphql/builder.ts';
export type { EngineContext } from './graphql/context.ts';
export { defaultDocument } from './graphql/default-document.ts';
export { defineEvent, type EventDefinition } from './outbox/event.ts';
export { decimal, enumType, id, snapshot } from './outbox/payload.ts';
export type { Emission, Tx } from './outbox/transact.ts';
export { VersionConflict } from './outbox/version-conflict.ts';
export { nearest } from './runtime/spelling.ts';
