/**
 * When the reader reads what. Ticks are on the wall clock, so that machines align; turns are on a clock that nobody sets, so
 * that none is an hour away when somebody sets the other. All in ms; `second` is how long one is, so that tests need not wait.
 */

/** A timer may fire a little early: then the tick it was set for is the one meant. */
const EARLY = 0.05;

/** The next multiple of the interval on the wall clock, so that the samples of all machines align. Missed ones are skipped. */
export const nextTick = (now: number, interval: number): number =>
  (Math.floor(now / interval + EARLY) + 1) * interval;

export const tiers = {
  /** Lists of processes cost milliseconds each; encoder and decoder change seldom. */
  processes: { least: 5, most: 10 },
  /** What changes by the hour. */
  slow: 30,
  /** Instances of a divided GPU, GPUs that were lost, the number of GPUs. */
  inventory: 60,
} as const;

/** Seconds between two lists of one GPU's processes: with up to ten GPUs one GPU's turn a tick. */
export const processesEvery = (gpus: number): number =>
  Math.min(Math.max(gpus, tiers.processes.least), tiers.processes.most);

/** The next time of something that recurs every so many seconds; GPUs at different positions have it at different ticks. */
export function nextTurn(now: number, every: number, position: number, second = 1000): number {
  const period = every * second;
  const offset = (position % every) * second;
  return (Math.floor((now - offset) / period) + 1) * period + offset;
}

/** Memory that moved so far says that a process came or went. */
export const MEMORY_JUMP = 64 * 2 ** 20;
/** A list out of turn waits so many times as long as the last one took: at most 1 % of a core goes into them. */
const SPARING = 100;

/** Whether the processes of a GPU are to be listed at this tick. */
export function isProcessTurn(
  now: number,
  { turn, listed, took, memoryThen, memoryNow }: ProcessTurn,
): boolean {
  if (now >= turn) return true;
  if (memoryThen === undefined || memoryNow === undefined) return false;
  return Math.abs(memoryNow - memoryThen) > MEMORY_JUMP && now - listed >= took * SPARING;
}

export interface ProcessTurn {
  /** Its regular turn. */
  turn: number;
  /** When they were listed last, and what it took, ms. */
  listed: number;
  took: number;
  /** Bytes used then, and now; undefined where the GPU does not tell. */
  memoryThen: number | undefined;
  memoryNow: number | undefined;
}

/** Seconds between ticks, and how the last ones went. */
export interface Pace {
  every: number;
  slow: number;
  quick: number;
}

export const FULL_PACE: Pace = { every: 1, slow: 0, quick: 0 };

const paces = [1, 2, 5, 10];
/** A tick should not take longer, ms: others wait for the driver's locks meanwhile. */
export const LONG_TICK_MS = 100;
const SLOW_TICKS = 3;
const QUICK_TICKS = 30;

/** Reading slows down when ticks are long, and recovers when they have been short for a while. */
export function paceAfter(pace: Pace, tookMs: number): Pace {
  const at = paces.indexOf(pace.every);
  if (tookMs > LONG_TICK_MS) {
    if (pace.slow + 1 < SLOW_TICKS) return { ...pace, slow: pace.slow + 1, quick: 0 };
    return { every: paces[Math.min(at + 1, paces.length - 1)]!, slow: 0, quick: 0 };
  }
  if (at === 0) return pace.slow === 0 ? pace : FULL_PACE;
  if (tookMs > LONG_TICK_MS / 2) return { ...pace, slow: 0, quick: 0 };
  if (pace.quick + 1 < QUICK_TICKS) return { ...pace, slow: 0, quick: pace.quick + 1 };
  return { every: paces[at - 1]!, slow: 0, quick: 0 };
}
