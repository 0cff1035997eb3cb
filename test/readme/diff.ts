import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

/**
 * Does to the files in `dir` what a diff says: `--- file` begins a file's changes, `@@` parts them.
 * @throws Error for lines that the file does not have, or has more than once
 */
export async function applyDiff(dir: string, diff: string): Promise<void> {
  for (const [, path = '', changes = ''] of diff.matchAll(/^--- (\S+)\n((?:(?!--- ).*\n)*)/gm)) {
    const file = join(dir, path);
    const text = changes.split(/^@@.*\n/m).reduce(applyChange, await readFile(file, 'utf8'));
    await writeFile(file, text);
  }
}

function applyChange(text: string, change: string): string {
  const lines = change.match(/^.*\n/gm) ?? [];
  const side = (marks: string) =>
    lines.flatMap((line) => (marks.includes(line.charAt(0)) ? [line.slice(1)] : [])).join('');
  const found = text.split(side(' -'));
  if (found.length !== 2)
    throw new Error(`expected these lines once, found them ${found.length - 1} times:\n${side(' -')}`);
  return found.join(side(' +'));
}
