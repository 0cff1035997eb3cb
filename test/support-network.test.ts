import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import { Agent, request } from 'undici';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { eventually } from './support/eventually.ts';
import { openReceiver, type Receiver } from './support/receiver.ts';
import { openTcpProxy, type TcpProxy } from './support/tcp-proxy.ts';

describe('eventually', () => {
  it('gives the first answer that is not false', async () => {
    let tries = 0;
    expect(await eventually(() => ++tries === 3 && 'ready')).toBe('ready');
  });

  it('fails at the deadline with the last error and what was awaited', async () => {
    const check = () => {
      throw new Error('saw 2 of 3 rows');
    };
    const failing = eventually(check, { deadlineMs: 50, describe: 'three rows' });
    await expect(failing).rejects.toThrow('waited 50 ms for three rows: saw 2 of 3 rows');
  });

  it('fails at the deadline when the check hangs', async () => {
    await expect(eventually(() => new Promise(() => {}), { deadlineMs: 50 })).rejects.toThrow('never answered');
  });
});

describe('the receiver', () => {
  const dispatcher = new Agent();
  let receiver: Receiver;
  const post = (path: string, body = 'hello') => request(receiver.url + path, { method: 'POST', body, dispatcher });
  beforeAll(async () => {
    receiver = await openReceiver();
  });
  afterAll(async () => {
    await receiver.close();
    await dispatcher.destroy();
  });

  it('records bytes, headers and path, and gives each request once', async () => {
    await (await post('/a?x=1', 'one')).body.dump();
    await (await post('/a?x=2', 'two')).body.dump();
    const second = await receiver.next(({ path }) => path.endsWith('2'));
    const first = await receiver.next();
    expect([first.body.toString(), second.body.toString()]).toEqual(['one', 'two']);
    expect(first).toMatchObject({ method: 'POST', path: '/a?x=1', headers: { 'content-length': '3' } });
  });

  it('follows its script, then its standing behaviour', async () => {
    receiver.always('/b', { status: 410 });
    receiver.script('/b', { status: 503, headers: { 'retry-after': '7' } }, { status: 200, body: 'fine' });
    const answers = [await post('/b'), await post('/b'), await post('/b')];
    expect(answers.map(({ statusCode }) => statusCode)).toEqual([503, 200, 410]);
    expect(answers[0]?.headers['retry-after']).toBe('7');
    expect(await answers[1]?.body.text()).toBe('fine');
  });

  it('answers when the test lets it', async () => {
    const gate = Promise.withResolvers<void>();
    receiver.script('/c', { status: 202, after: gate.promise });
    const answer = post('/c');
    await receiver.next(({ path }) => path === '/c');
    gate.resolve();
    expect((await answer).statusCode).toBe(202);
  });

  it('hangs, resets and drips', async () => {
    receiver.script('/d', { kind: 'hang' }, { kind: 'reset' }, { kind: 'drip', everyMs: 5 });
    const giveUp = new AbortController();
    let isAnswered = false;
    const hanging = request(`${receiver.url}/d`, { dispatcher, signal: giveUp.signal }).then(() => {
      isAnswered = true;
    });
    hanging.catch(() => {}); // looked at below
    await receiver.next(({ path }) => path === '/d');
    await expect(post('/d')).rejects.toMatchObject({ code: 'ECONNRESET' });
    const { body } = await post('/d');
    let bytes = 0;
    for await (const chunk of body) {
      bytes += chunk.length;
      if (bytes >= 5) break;
    }
    expect(bytes).toBeGreaterThanOrEqual(5);
    expect(isAnswered).toBe(false);
    giveUp.abort();
    await expect(hanging).rejects.toMatchObject({ name: 'AbortError' });
  });

  it('comes back on its port after it was closed', async () => {
    const before = await openReceiver();
    await before.close();
    const after = await openReceiver({ port: before.port });
    expect(after.url).toBe(before.url);
    await after.close();
  });
});

describe('the proxy', () => {
  const echo = createServer((socket) => {
    socket.on('error', () => {}); // cut
    socket.pipe(socket);
  });
  let proxy: TcpProxy;
  beforeAll(async () => {
    echo.listen(0, '127.0.0.1');
    await once(echo, 'listening');
    const address = echo.address();
    proxy = await openTcpProxy({ port: typeof address === 'object' && address ? address.port : 0 });
  });
  afterAll(async () => {
    await proxy.close();
    await new Promise((resolve) => echo.close(resolve));
  });

  it('forwards both ways, an end included', async () => {
    const client = connect(proxy.port, '127.0.0.1');
    client.end('ping');
    expect(await readAll(client)).toBe('ping');
  });

  it('holds everything while stalled and lets it through when healed', async () => {
    const client = connect(proxy.port, '127.0.0.1');
    const heard: string[] = [];
    client.on('data', (bytes) => heard.push(String(bytes)));
    client.write('before ');
    await eventually(() => heard.join('') === 'before ');
    proxy.stall();
    client.write('during');
    const late = connect(proxy.port, '127.0.0.1');
    late.end('late');
    await once(late, 'connect');
    await expect(eventually(() => heard.join('') !== 'before ', { deadlineMs: 200 })).rejects.toThrow();
    await proxy.heal();
    expect(await readAll(late)).toBe('late');
    await eventually(() => heard.join('') === 'before during');
    client.destroy();
  });

  it('resets connections and refuses new ones while cut', async () => {
    const client = connect(proxy.port, '127.0.0.1');
    client.write('x');
    await once(client, 'data');
    const broken = new Promise((resolve) => client.once('close', resolve));
    client.on('error', () => {}); // the reset
    await proxy.cut();
    await broken;
    await expect(once(connect(proxy.port, '127.0.0.1'), 'connect')).rejects.toMatchObject({ code: 'ECONNREFUSED' });
    await proxy.heal();
    const again = connect(proxy.port, '127.0.0.1');
    again.end('back');
    expect(await readAll(again)).toBe('back');
  });

  it('leads a URL through itself', () => {
    const led = new URL(proxy.through('postgres://someone:secret@db.internal:5432/shop'));
    expect([led.username, led.password, led.port, led.pathname]).toEqual([
      'someone',
      'secret',
      `${proxy.port}`,
      '/shop',
    ]);
  });
});

async function readAll(socket: AsyncIterable<Buffer>): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of socket) chunks.push(chunk);
  return Buffer.concat(chunks).toString();
}
