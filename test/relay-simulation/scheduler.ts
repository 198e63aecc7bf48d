import { drainMicrotasks } from "bun:jsc";

/** Virtual time: what is due happens one after another, and whatever it sets off happens before the next. */
export interface Scheduler {
  now(): number;
  after(ms: number, what: () => void): void;
  sleep(ms: number): Promise<void>;
  /** Until nothing is due before `until`, or `isDone`. */
  run(until: number, isDone?: () => boolean): void;
}

interface Due {
  at: number;
  order: number;
  what: () => void;
}

export function createScheduler(): Scheduler {
  const heap: Due[] = [];
  let now = 0;
  let order = 0;
  const isBefore = (a: Due, b: Due) => a.at < b.at || (a.at === b.at && a.order < b.order);

  function push(due: Due): void {
    let at = heap.push(due) - 1;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!isBefore(due, heap[parent]!)) break;
      heap[at] = heap[parent]!;
      at = parent;
    }
    heap[at] = due;
  }

  function pop(): Due {
    const first = heap[0]!;
    const last = heap.pop()!;
    if (heap.length === 0) return first;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && isBefore(heap[child + 1]!, heap[child]!)) child++;
      if (!isBefore(heap[child]!, last)) break;
      heap[at] = heap[child]!;
      at = child;
    }
    heap[at] = last;
    return first;
  }

  const after = (ms: number, what: () => void) => push({ at: now + Math.max(0, ms), order: order++, what });

  return {
    now: () => now,
    after,
    sleep: (ms) => new Promise((resolve) => after(ms, resolve)),
    run(until, isDone = () => false) {
      drainMicrotasks();
      while (heap.length > 0 && heap[0]!.at <= until && !isDone()) {
        const due = pop();
        now = due.at;
        due.what();
        drainMicrotasks();
      }
      if (heap.length === 0 || heap[0]!.at > until) now = Math.max(now, until);
    },
  };
}
