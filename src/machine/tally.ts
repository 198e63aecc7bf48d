/** One process, as far as a sum over a tree needs it. */
export interface Counted {
  /** Ticks from boot to its start. */
  start: number;
  parent: number;
  /** What it used itself. */
  own: number;
  /** What children used that ended and were waited for, with theirs; a counter that holds both alike is all here. */
  waited: number;
  /** all: it belongs to the sum; waited: only what its children used; none: it is counted elsewhere. */
  counts: "all" | "waited" | "none";
}

/**
 * Sums a counter over processes that come and go. A child that ends hands what it used to whoever waits for it: the last of it,
 * after our last look, is found there, and what we had seen of it is not counted twice. What a child used that nobody waited
 * for stays counted as far as it was seen. `since`: a process that started before (ticks) counts from where it stands.
 */
export function createTally(since: number): { grow(present: ReadonlyMap<number, Counted>): number } {
  let members = new Map<number, Counted>();
  return {
    grow(present) {
      const isGone = (pid: number) => present.get(pid)?.start !== members.get(pid)?.start;
      const handedTo = new Map<number, number>();
      for (const [pid, last] of members) {
        if (!isGone(pid)) continue;
        let heir = last.parent;
        while (members.has(heir) && isGone(heir)) heir = members.get(heir)!.parent;
        handedTo.set(heir, (handedTo.get(heir) ?? 0) + last.own + last.waited);
      }
      let grown = 0;
      for (const [pid, now] of present) {
        const last = members.get(pid);
        if (now.counts === "none") continue;
        if (last === undefined || last.start !== now.start) {
          if (now.counts === "all" && now.start >= since) grown += now.own + now.waited;
          continue;
        }
        if (now.counts === "all") grown += Math.max(0, now.own - last.own);
        grown += Math.max(0, now.waited - last.waited - (handedTo.get(pid) ?? 0));
      }
      members = new Map(present);
      return grown;
    },
  };
}
