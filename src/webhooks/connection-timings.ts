/** How long each step to a connection took, or lasted until it failed. Null: it was not taken. Whole ms. */
export interface ConnectionTimings {
  /** Null for an address, which no name server was asked for. */
  readonly dnsMs: number | null;
  readonly connectMs: number | null;
  readonly tlsMs: number | null;
}

/** No step was taken. */
export const NO_STEPS: ConnectionTimings = { dnsMs: null, connectMs: null, tlsMs: null };

/** Times one step after the other. */
export interface StepWatch {
  begin(): void;
  /** The step lasted from `begin`, or from the end of the one before. */
  end(step: keyof ConnectionTimings): void;
  read(): ConnectionTimings;
}

export function startStepWatch(): StepWatch {
  const timings = { dnsMs: null, connectMs: null, tlsMs: null } as {
    -readonly [K in keyof ConnectionTimings]: number | null;
  };
  let beganAtMs = performance.now();
  return {
    begin: () => {
      beganAtMs = performance.now();
    },
    end: (step) => {
      const now = performance.now();
      timings[step] = Math.round(now - beganAtMs);
      beganAtMs = now;
    },
    read: () => ({ ...timings }),
  };
}
