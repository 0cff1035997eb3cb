import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

// loaded into a program whose memory is measured: it collects its garbage when it is told to

setFlagsFromString('--expose-gc');
const collect: () => void = runInNewContext('gc');

process.on('SIGUSR2', () => {
  collect();
  // what the first has let go of by weak references and finalizers
  setImmediate(collect);
});
