import type { WebhookVerificationError } from '#receiver';

/** The code that a check of a callback throws; `none` if it does not throw. */
export function codeOf(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    return (error as WebhookVerificationError).code;
  }
  return 'none';
}
