/** Characters of a page: the answer has each twice. 10,000 lines of a million each would be 20 GB. */
const MAX_VIEW = 16 * 1024 * 1024;

/** The lines of a page, all of them: where they are too much, the longest are cut. */
export interface LogView {
  readonly lines: string[];
  add(line: string): void;
}

export function createLogView(): LogView {
  const lines: string[] = [];
  const lengths: number[] = [];
  let size = 0;
  let longest = MAX_VIEW;
  return {
    lines,
    add(line) {
      lengths.push(line.length);
      lines.push(cut(line, line.length, longest));
      size += lines.at(-1)!.length;
      while (size > MAX_VIEW) {
        longest = Math.floor(longest / 2);
        size = 0;
        for (const [index, whole] of lengths.entries()) {
          lines[index] = cut(lines[index]!, whole, longest);
          size += lines[index].length;
        }
      }
    },
  };
}

function cut(line: string, whole: number, longest: number): string {
  if (whole <= longest) return line;
  // Copied: a piece of a string keeps all of it in memory. Half a character at its end becomes U+FFFD.
  const begin = Buffer.from(line.slice(0, longest)).toString();
  return `${begin} … (${whole - longest} characters more)`;
}
