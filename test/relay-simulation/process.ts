import type { Dice } from "./random.ts";
import type { Scheduler } from "./scheduler.ts";

/** One life of a program: once it has crashed, nothing that it was doing goes on. */
export interface Process {
  readonly name: string;
  readonly isAlive: boolean;
  readonly startedAt: number;
  /** Takes a moment, in which it may crash. Never resolves where it did. */
  step(what: string): Promise<void>;
  /** What others answer reaches nobody after a crash. */
  hear<T>(answer: Promise<T>): Promise<T>;
  crash(why: string): void;
}

export interface Chaos {
  /** Whether a process ends at this step. */
  crashes(process: Process, what: string): boolean;
}

/** One of its own for each: what waits for it can be collected. */
const never = () => new Promise<never>(() => {});

export function createProcess(
  name: string,
  {
    scheduler,
    dice,
    chaos,
    say,
  }: { scheduler: Scheduler; dice: Dice; chaos: Chaos; say: ((text: string) => void) | undefined },
  onCrash: () => void,
): Process {
  let isAlive = true;
  const process: Process = {
    name,
    get isAlive() {
      return isAlive;
    },
    startedAt: scheduler.now(),
    async step(what) {
      if (!isAlive) return await never();
      await scheduler.sleep(dice.next() * 2);
      if (!isAlive) return await never();
      if (!chaos.crashes(process, what)) return;
      process.crash(`at ${what}`);
      await never();
    },
    async hear(answer) {
      try {
        const heard = await answer;
        return isAlive ? heard : await never();
      } catch (error) {
        if (!isAlive) return await never();
        throw error;
      }
    },
    crash(why) {
      if (!isAlive) return;
      isAlive = false;
      say?.(`${name} crashes ${why}`);
      onCrash();
    },
  };
  return process;
}
