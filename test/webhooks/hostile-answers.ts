import type { Socket } from 'node:net';
import { gzipSync } from 'node:zlib';
import { expect } from 'vitest';

const LONG_LINE = 'x'.repeat(60_000);
/** Within what undici allows in bytes. */
const SHORT_HEADERS = 'x: y\r\n'.repeat(8_000);
const BOMB = gzipSync(Buffer.alloc(50_000_000));

/** By what the receiver does: its answer to a request, and what is known of the attempt. */
export type Receivers = Readonly<Record<string, readonly [answer: (socket: Socket) => void, expected: object]>>;

/** What a receiver does with a request without ever coming to an end, and what is known when the deadline ends the attempt. */
export const ENDLESS: Receivers = {
  'never answers': [() => {}, { kind: 'failed', errorClass: 'TIMEOUT' }],
  'drips a legal header': [
    (socket) => {
      socket.write('HTTP/1.1 200 OK\r\nx: ');
      repeat(socket, 'a', 20);
    },
    { kind: 'failed', errorClass: 'TIMEOUT', statusCode: undefined },
  ],
  'drips its body': [
    (socket) => {
      socket.write('HTTP/1.1 200 OK\r\ncontent-length: 4000\r\n\r\n');
      repeat(socket, 'b', 20);
    },
    { kind: 'failed', errorClass: 'TIMEOUT', statusCode: 200, responseBody: expect.stringMatching(/^b+$/) },
  ],
  'sends its body in chunks of one byte, and then nothing': [
    (socket) => {
      socket.write(`HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n${'1\r\nb\r\n'.repeat(4_000)}`);
    },
    { kind: 'failed', errorClass: 'TIMEOUT', statusCode: 200, responseBody: 'b'.repeat(4_000) },
  ],
  'drips 103 without end': [
    (socket) => repeat(socket, 'HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n', 20),
    { kind: 'failed', errorClass: 'TIMEOUT', statusCode: undefined },
  ],
};

/** What a hostile receiver does with a request, and how the attempt must end at once. */
export const HOSTILE: Receivers = {
  'drips what is no header': [(socket) => repeat(socket, 'H', 20), { kind: 'failed', errorClass: 'PROTOCOL' }],
  'floods 103': [
    (socket) => flood(socket, 'HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n'.repeat(100)),
    { kind: 'failed', errorClass: 'HEADERS_OVERFLOW', statusCode: undefined },
  ],
  'sends a body without end': [
    (socket) => {
      socket.write('HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n');
      flood(socket, `10000\r\n${'c'.repeat(65_536)}\r\n`);
    },
    { kind: 'succeeded', statusCode: 200, responseBody: 'c'.repeat(4_096), isTruncated: true },
  ],
  'sends a chunk extension without end': [
    (socket) => {
      socket.write('HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1;');
      flood(socket, LONG_LINE);
    },
    { kind: 'failed' },
  ],
  'sends trailers without end': [
    (socket) => {
      socket.write('HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n');
      flood(socket, `t: ${'x'.repeat(1_000)}\r\n`);
    },
    { kind: 'failed', errorClass: 'HEADERS_OVERFLOW' },
  ],
  'sends a gzip bomb': [
    (socket) => {
      socket.write(`HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: ${BOMB.length}\r\n\r\n`);
      socket.write(BOMB);
    },
    { kind: 'succeeded', isTruncated: true },
  ],
  'sends a header of 1 MB': [
    (socket) => {
      socket.write(`HTTP/1.1 200 OK\r\nx: ${'x'.repeat(1_000_000)}\r\n\r\n`);
    },
    { kind: 'failed', errorClass: 'HEADERS_OVERFLOW' },
  ],
  'sends 100,000 headers': [
    (socket) => {
      socket.write(`HTTP/1.1 200 OK\r\n${'x: y\r\n'.repeat(100_000)}\r\n`);
    },
    { kind: 'failed', errorClass: 'HEADERS_OVERFLOW' },
  ],
  'sends many short headers, and then nothing': [
    (socket) => {
      socket.write(`HTTP/1.1 200 OK\r\n${SHORT_HEADERS}`);
    },
    { kind: 'failed', errorClass: 'HEADERS_OVERFLOW' },
  ],
  'sends many short headers, and then no body': [
    (socket) => {
      socket.write(`HTTP/1.1 200 OK\r\ncontent-length: 4000\r\n${SHORT_HEADERS}\r\n`);
    },
    { kind: 'failed', errorClass: 'HEADERS_OVERFLOW' },
  ],
  'sends many short trailers, and then nothing': [
    (socket) => {
      socket.write(`HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n${SHORT_HEADERS}`);
    },
    { kind: 'failed', errorClass: 'HEADERS_OVERFLOW' },
  ],
  'redirects to itself': [
    (socket) => {
      socket.write('HTTP/1.1 308 Again\r\nlocation: /hook\r\ncontent-length: 0\r\n\r\n');
    },
    { kind: 'failed', errorClass: 'REDIRECT' },
  ],
  'speaks SSH': [
    (socket) => {
      socket.write('SSH-2.0-OpenSSH_9.2\r\n');
    },
    { kind: 'failed', errorClass: 'PROTOCOL' },
  ],
  'resets at once': [(socket) => socket.resetAndDestroy(), { kind: 'failed', errorClass: 'RESET' }],
  'hangs up at once': [(socket) => socket.destroy(), { kind: 'failed', errorClass: 'RESET' }],
  'hangs up in the middle of its body': [
    (socket) => socket.end('HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf'),
    { kind: 'failed', statusCode: 200, responseBody: 'half' },
  ],
  'gives two lengths': [
    (socket) => {
      socket.write('HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n');
    },
    { kind: 'failed', errorClass: 'PROTOCOL' },
  ],
  'switches protocols unasked': [
    (socket) => {
      socket.write('HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n');
    },
    { kind: 'failed' },
  ],
  'answers in what is no text': [
    (socket) => {
      socket.write(
        Buffer.concat([Buffer.from('HTTP/1.1 500 No\r\ncontent-length: 4\r\n\r\n'), Buffer.from([0, 0xff, 65, 0xc3])]),
      );
    },
    { kind: 'failed', errorClass: 'HTTP_STATUS', responseBody: '\ufffd\ufffdA' },
  ],
};

/** Writes again and again until the other side goes away. */
export function repeat(socket: Socket, text: string, everyMs: number): void {
  const timer = setInterval(() => socket.write(text), everyMs);
  socket.on('close', () => clearInterval(timer));
}

/** Writes as fast as the other side reads. */
function flood(socket: Socket, text: string): void {
  const fill = () => {
    while (!socket.destroyed && socket.write(text));
  };
  socket.on('drain', fill);
  fill();
}
