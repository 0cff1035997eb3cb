import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

// loaded into a program whose memory is measured: it collects its garbage when it is told to

setFlagsFromString('--expose-gc');
const collect: () => void = runInNewContext('gc');

let done = 0;

process.on('SIGUSR2', () => {
  collect();
  // what the first has let go of by weak references and finalizers
  setImmediate(() => {
    collect();
    // anybody can read it, also of a process that has no other way to say that it is done
    process.title = `collected ${++done}`;
  });
});
