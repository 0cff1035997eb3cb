import { domain } from '#domain';
import { readConfig } from './config.ts';
import { StartupError } from './errors.ts';
import { describeKeyFault } from './identity/key-format.ts';
import { bannerText } from './main/banner.ts';
import { type App, compose } from './main/compose.ts';
import { createLog, observeToLog } from './runtime/log.ts';
import { nearest } from './runtime/spelling.ts';

/** Runs the server by the environment's settings until it is told to stop. @returns the exit code */
async function main(): Promise<number> {
  const config = readConfig(process.env, { describeKeyFault, nearest });
  const log = createLog({ level: config.logLevel });
  const stopping = Promise.withResolvers<number>();
  const app = await compose({
    config,
    domain,
    observe: observeToLog(log),
    onFatal: (error) => {
      process.stderr.write(`fanfare: ${error.message}\n`);
      stopping.resolve(1);
    },
  });
  onStopSignal(() => stopping.resolve(0));
  process.stdout.write(bannerText({ config, port: app.port, adminKey: app.adminKey, adminKeyFile: app.adminKeyFile }));
  const code = await stopping.promise;
  process.stdout.write(`stopping, in at most ${config.drainSeconds + 5} s\n`);
  await stopWithin(app, config.drainSeconds * 1_000 + 5_000);
  return code;
}

/** Ctrl-C comes twice at once under npm: from the terminal, and passed on by npm. */
const ECHO_MS = 1_000;

/** Calls `stop` at the first SIGINT or SIGTERM; a later one ends the process at once. */
function onStopSignal(stop: () => void): void {
  let stoppedAtMs: number | undefined;
  const listener = () => {
    if (stoppedAtMs !== undefined && performance.now() - stoppedAtMs > ECHO_MS) process.exit(130);
    stoppedAtMs ??= performance.now();
    stop();
  };
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, listener);
}

/** A service that does not end must not keep a stopped process alive. */
async function stopWithin(app: App, ms: number): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, ms);
  });
  await Promise.race([app.stop(), late]);
  clearTimeout(timer);
}

if (import.meta.main) {
  try {
    process.exit(await main());
  } catch (error) {
    if (!(error instanceof StartupError)) throw error;
    process.stderr.write(`fanfare: ${error.message}\n`);
    process.exit(1);
  }
}
