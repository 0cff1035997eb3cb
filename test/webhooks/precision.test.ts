import { describe, expect, it } from 'vitest';
import { editNote, noteEdited } from '../support/toy-domain.ts';
import { textsOf, workOff } from './webhook-engine.ts';
import { useWebhookScene } from './webhook-scene.ts';

const UPDATE = `mutation ($input: WebhookUpdateInput!) { webhookUpdate(input: $input) {
  __typename ... on WebhookUpdateSuccess { webhook { eventTypes filter { types subjects related changed triggers } } } } }`;
const CREATE = 'mutation ($input: WebhookCreateInput!) { webhookCreate(input: $input) { __typename } }';
const EDITS = 'subscription ($names: [String!]) { noteEdited(filter: { triggers: $names }) { changed note { text } } }';

describe('a webhook gets no more than it asks for', () => {
  const scene = useWebhookScene();
  const { hook } = scene;

  /** One update each, of a note's fields by these names. */
  function edit(subjectId: string, ...changes: readonly (readonly string[])[]): Promise<unknown> {
    const author = { accountId: scene.accountId, actor: null, requestId: null, causedBy: null };
    const rest = { mood: null, attachments: [], editedAt: '2026-01-01T00:00:00Z', score: 1, extra: null, mentions: [] };
    return scene.engine.services.transact(author, async (tx) => {
      for (const changed of changes)
        await tx.emit(noteEdited, {
          subjectId,
          changed,
          payload: { note: { noteId: subjectId, text: changed.join() }, ...rest },
        });
    });
  }

  async function send(): Promise<void> {
    await scene.engine.stampedEvents(scene.accountId);
    await workOff(scene.engine.createWorker());
  }

  it('of hundreds of updates of other fields, and of those that change nothing', async () => {
    const { id: noteId } = await scene.engine.writeNote('priced', scene.accountId);
    const byFilter = await hook({ eventTypes: ['NOTE_EDITED'], filter: { triggers: ['price'] } });
    const byDocument = await hook({ query: EDITS, variables: { names: ['price'] } });
    const all = await hook({ eventTypes: ['NOTE_EDITED'] }); // the control
    await edit(
      noteId,
      ...Array<string[]>(200).fill(['title']),
      [],
      ['price'],
      [],
      ...Array<string[]>(200).fill(['title']),
    );
    await edit(noteId, ['title', 'price']);
    await send();
    const changes = ['price', 'title,price'];
    expect(textsOf(byFilter.received())).toEqual(changes);
    expect(textsOf(byDocument.received())).toEqual(changes);
    expect(all.received()).toHaveLength(402);
  });

  it('where a change writes what was there before', async () => {
    const { id } = await scene.engine.writeNote('same', scene.accountId);
    await scene.engine.stampedEvents(scene.accountId);
    const { received } = await hook({ query: 'subscription { events { name } }' });
    const author = { accountId: scene.accountId, actor: null, requestId: null, causedBy: null };
    await scene.engine.services.transact(author, (tx) => editNote(tx as never, { id, text: 'same' }));
    await scene.engine.services.transact(author, (tx) => editNote(tx as never, { id, text: 'other' }));
    await send();
    expect(received().map(({ body }) => JSON.parse(body.toString()).type)).toEqual(['note.edited']);
  });

  it('and facts, whatever its triggers', async () => {
    const { received } = await hook({ eventTypes: ['NOTE_WRITTEN', 'NOTE_EDITED'], filter: { triggers: ['text'] } });
    const { id } = await scene.engine.writeNote('a fact', scene.accountId);
    await edit(id, ['title'], ['text']);
    await send();
    expect(textsOf(received())).toEqual(['a fact', 'text']);
  });

  it('about other subjects, with a filter on the field of one type', async () => {
    const wanted = await scene.engine.writeNote('wanted', scene.accountId);
    const other = await scene.engine.writeNote('other', scene.accountId);
    const query = 'subscription ($ids: [ID!]) { noteEdited(filter: { subjects: $ids }) { note { text } } }';
    const { received } = await hook({ query, variables: { ids: [wanted.id] } });
    await edit(other.id, ['of the other']);
    await edit(wanted.id, ['of the wanted']);
    await send();
    expect(textsOf(received())).toEqual(['of the wanted']);
  });

  it('after a change of its filter, which leaves its types', async () => {
    const { id: noteId } = await scene.engine.writeNote('filtered', scene.accountId);
    const { id, received } = await hook({
      eventTypes: ['NOTE_EDITED'],
      filter: { triggers: ['price'], subjects: [noteId] },
    });
    const update = async (input: object) => {
      const { webhookUpdate } = await scene.engine.run<{ webhookUpdate: { webhook: object } }>(UPDATE, {
        variables: { input: { id, ...input } },
        accountId: scene.accountId,
      });
      return webhookUpdate.webhook;
    };
    const none = { subjects: null, related: null, changed: null, triggers: null };
    const edited = { eventTypes: ['NOTE_EDITED'], filter: { ...none, types: ['NOTE_EDITED'] } };
    expect(await update({ description: 'as it was' })).toEqual({
      ...edited,
      filter: { ...edited.filter, triggers: ['price'], subjects: [noteId] },
    });
    expect(await update({ filter: { triggers: ['text'] } })).toEqual({
      ...edited,
      filter: { ...edited.filter, triggers: ['text'] },
    });
    expect(await update({ eventTypes: ['NOTE_EDITED', 'NOTE_WRITTEN'] })).toMatchObject({
      eventTypes: ['NOTE_EDITED', 'NOTE_WRITTEN'],
      filter: { triggers: ['text'] },
    });
    expect(await update({ eventTypes: ['NOTE_EDITED'], filter: { triggers: ['title'] } })).toMatchObject({
      filter: { triggers: ['title'] },
    });
    expect(await update({ filter: {} })).toEqual(edited);
    await edit(noteId, ['anything']);
    await send();
    expect(received()).toHaveLength(1);
  });

  it('as its dry run shows', async () => {
    const { id } = await scene.engine.writeNote('dry', scene.accountId);
    await edit(id, ['price'], ['title']);
    await scene.engine.stampedEvents(scene.accountId);
    const { webhookDryRun } = await scene.engine.run<{ webhookDryRun: { body: string } }>(
      `mutation { webhookDryRun(eventTypes: [NOTE_EDITED], filter: { triggers: ["price"] }) { ... on WebhookDryRunSuccess { body } } }`,
      { accountId: scene.accountId },
    );
    expect(JSON.parse(webhookDryRun.body).data.changed).toEqual(['price']);
  });

  it.each([
    [{ query: 'subscription { noteEdited { id } }', filter: { triggers: ['text'] } }, 'give the filter inside "query"'],
    [{ eventTypes: ['NOTE_EDITED'], filter: { types: ['NOTE_EDITED'] } }, 'give the types by "eventTypes"'],
    [{ eventTypes: ['NOTE_EDITED'], filter: { triggers: [] } }, 'filter.triggers is empty'],
    [{ eventTypes: ['NOTE_EDITED'], filter: { triggers: ['\u0000'] } }, "a character that can't be stored"],
    [{ eventTypes: ['NOTE_EDITED'], filter: { subjects: Array(101).fill('a') } }, 'filter.subjects has 101 values'],
    [
      { query: String.raw`subscription { noteEdited(filter: { triggers: ["\u0000"] }) { id } }` },
      "a character that can't be stored",
    ],
    [{ query: 'subscription { noteEdited(filter: { subjects: [] }) { id } }' }, 'filter.subjects is empty'],
    [
      { query: 'subscription { noteEdited(filter: { types: [NOTE_EDITED] }) { id } }' },
      '"noteEdited" is of one type: leave filter.types out, or ask for "events"',
    ],
  ])('and is refused what it can not mean: %j', async (input, message) => {
    const variables = { input: { url: `${scene.receiver.url}/`, ...input } };
    expect(await scene.engine.fail(CREATE, { variables, accountId: scene.accountId })).toMatchObject({
      code: 'BAD_INPUT',
      message: expect.stringContaining(message),
    });
  });
});
