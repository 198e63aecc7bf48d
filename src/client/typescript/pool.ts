/** Work of which at most so many pieces are under way at once. The first failure is everybody's. */
export interface Pool {
  /** Aborted with the first failure. */
  readonly signal: AbortSignal;
  /** Resolves once the work has begun: whoever brings more waits for a place. */
  add(work: () => Promise<void>): Promise<void>;
  /** All of these, begun in order; rejects with the first failure, when those under way have ended. Others' failures are theirs. */
  all<T>(items: readonly T[], work: (item: T) => Promise<void>): Promise<void>;
  /** Resolves when all that was added has ended; rejects with the first failure. */
  idle(): Promise<void>;
  /** Resolves when all that was added has ended, however. */
  settled(): Promise<void>;
  abort(reason: unknown): void;
}

export function createPool(size: number): Pool {
  const controller = new AbortController();
  const running = new Set<Promise<void>>();
  const waiting: (() => void)[] = [];
  let free = size;

  async function enter(): Promise<void> {
    if (free > 0) free--;
    else await new Promise<void>((resolve) => waiting.push(resolve));
  }

  function leave(): void {
    const next = waiting.shift();
    if (next) next();
    else free++;
  }

  async function settled(): Promise<void> {
    while (running.size > 0) await Promise.allSettled(running);
  }

  return {
    signal: controller.signal,
    async add(work) {
      await enter();
      if (controller.signal.aborted) {
        leave();
        throw controller.signal.reason;
      }
      const done = work()
        .catch((error: unknown) => controller.abort(error))
        .finally(() => {
          running.delete(done);
          leave();
        });
      running.add(done);
    },
    async all(items, work) {
      let failure: { error: unknown } | undefined;
      const begun: Promise<void>[] = [];
      for (const item of items) {
        await enter();
        if (failure) {
          leave();
          break;
        }
        begun.push(
          work(item)
            .catch((error: unknown) => void (failure ??= { error }))
            .finally(leave),
        );
      }
      await Promise.all(begun);
      if (failure) throw failure.error;
    },
    async idle() {
      await settled();
      if (controller.signal.aborted) throw controller.signal.reason;
    },
    settled,
    abort: (reason) => controller.abort(reason),
  };
}
