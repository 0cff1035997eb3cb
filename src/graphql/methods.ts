import SchemaBuilder, { MutationFieldBuilder, RootFieldBuilder, type SchemaTypes } from '@pothos/core';
import type { EngineBuilder } from './builder.ts';
import { draftChange } from './change.ts';
import { declareEntity, entityEdge } from './entity.ts';
import { declareEvents, eventRef } from './event-types.ts';
import { pageField } from './page.ts';
import { enumRef, snapshotRef } from './payload-types.ts';
import { declareRefusal } from './refusal.ts';

/** Any value: these methods stand between the typed signatures of pothos-types.ts and the engine's own code. */
type Loose = never;

/**
 * Puts the methods that pothos-types.ts declares on Pothos's classes; again is harmless. Each hands over to a function
 * of its own, with the builder.
 */
export function installMethods(): void {
  const builders = (SchemaBuilder as unknown as { prototype: Record<string, unknown> }).prototype;
  Object.assign(builders, {
    events(this: EngineBuilder, events: Loose) {
      declareEvents(this, events);
      return this;
    },
    event(this: EngineBuilder, event: Loose) {
      return eventRef(this, event);
    },
    entity(this: EngineBuilder, name: string, options: Loose) {
      return declareEntity(this, name, options);
    },
    snapshot(this: EngineBuilder, schema: Loose) {
      return snapshotRef(this, schema);
    },
    payloadEnum(this: EngineBuilder, schema: Loose) {
      return enumRef(this, schema);
    },
    refusal(this: EngineBuilder, refusal: Loose, options: Loose) {
      return declareRefusal(this, refusal, options);
    },
  });
  Object.assign(RootFieldBuilder.prototype, {
    entity(this: RootFieldBuilder<SchemaTypes, unknown>, entity: Loose, options: Loose) {
      return entityEdge(this, entity, options);
    },
    page(this: RootFieldBuilder<SchemaTypes, unknown>, entity: Loose, options: Loose) {
      return pageField(this, entity, options);
    },
  });
  Object.assign(MutationFieldBuilder.prototype, { change: draftChange });
}
