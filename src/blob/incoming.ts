import { existsSync, readdirSync, statSync } from "node:fs";
import { join } from "node:path";

/** A look is good for so many times as long as it took: who looks before each part of a large file spends no more on it than this. */
const REST_FACTOR = 20;

/** What files take that are under way. */
export interface IncomingUsage {
  bytes(): number;
  /** One of so many bytes is whole, and counts elsewhere. */
  left(size: number): void;
  /** Some went. */
  forget(): void;
}

export function createIncomingUsage(folder: string): IncomingUsage {
  const dir = join(folder, "incoming");
  let bytes = 0;
  let until = 0;

  function look(): number {
    if (!existsSync(dir)) return 0;
    let sum = 0;
    // As sparse files they are shorter than their size.
    for (const name of readdirSync(dir))
      sum += 512 * (statSync(join(dir, name), { throwIfNoEntry: false })?.blocks ?? 0);
    return sum;
  }

  return {
    bytes() {
      const began = performance.now();
      if (began < until) return bytes;
      bytes = look();
      const ended = performance.now();
      until = ended + REST_FACTOR * (ended - began);
      return bytes;
    },
    left: (size) => void (bytes = Math.max(0, bytes - size)),
    forget: () => void (until = 0),
  };
}
