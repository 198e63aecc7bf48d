/** @jsxImportSource hono/jsx */
import { useEffect, useState } from "hono/jsx";
import { formatAgo, formatDuration, formatTime } from "../format.ts";
import type { Run } from "../../run/schema.ts";

/** A browser's clock may be minutes off the server's; durations of live runs are counted on the server's. */
let skew = 0;

export const setServerTime = (now: number) => {
  skew = now - Date.now();
};

export const serverNow = () => Date.now() + skew;

/** The server's time, renewed every `every` ms; still on the server and for what has ended (0). */
export function useNow(every: number, start: number): number {
  const [now, setNow] = useState(start);
  useEffect(() => {
    if (every === 0) return undefined;
    setNow(serverNow());
    const timer = setInterval(() => {
      if (!document.hidden) setNow(serverNow());
    }, every);
    return () => clearInterval(timer);
  }, [every]);
  return now;
}

export const Ago = ({ time, now }: { time: string | null; now: number }) => {
  const current = useNow(30_000, now);
  if (time === null) return <span class="faint">—</span>;
  const ms = Date.parse(time);
  return (
    <time datetime={time} title={formatTime(ms)}>
      {formatAgo(current - ms)}
    </time>
  );
};

export const isEnded = (run: Pick<Run, "status">) =>
  run.status === "FINISHED" || run.status === "FAILED" || run.status === "KILLED";

/** How long a run took, or has been taking. */
export const Duration = ({ run, now }: { run: Run; now: number }) => {
  const live = run.started !== null && run.finished === null && !isEnded(run);
  const current = useNow(live ? 1000 : 0, now);
  if (run.started === null) return <span class="faint">—</span>;
  const end = run.finished === null ? (live ? current : null) : Date.parse(run.finished);
  if (end === null) return <span class="faint">—</span>;
  return <span>{formatDuration(end - Date.parse(run.started))}</span>;
};
