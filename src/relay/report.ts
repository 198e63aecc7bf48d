import type { Collector } from "../collector.ts";
import type { Destination } from "./destinations.ts";
import type { DeliveryStatus } from "./line.ts";
import { createMeter } from "./meter.ts";
import type { Clock } from "./ports.ts";

/** What should never happen is tried again after so long. */
const FAILED_MS = 60_000;

export interface ReportOptions {
  collector: Collector;
  destination: Destination;
  clock: Clock;
  onChange: (status: DeliveryStatus) => void;
  onFailed: (error: unknown) => void;
}

/** What a lane tells of its way, wherever it leads. */
export interface Report {
  status(): DeliveryStatus;
  /** ms since the epoch; undefined: nothing yet. */
  ackedAt(): number | undefined;
  rate(): { entries: number; bytes: number } | undefined;
  /** Counted since the start. */
  totals(): { entries: number; errors: number };
  change(next: DeliveryStatus): void;
  onAcked(entries: number, bytes: number): void;
  /** Delivers until aborted: a defect is told, and tried again, and ends nothing for good. */
  persist(deliver: () => Promise<void>, signal: AbortSignal): Promise<void>;
}

export function createReport({ collector, destination, clock, onChange, onFailed }: ReportOptions): Report {
  const { now } = collector;
  const meter = createMeter(clock.monotonic);
  let ackedAt: number | undefined;
  let totals = { entries: 0, errors: 0 };
  let status: DeliveryStatus = {
    state: "starting",
    error: null,
    notice: null,
    acked: destination.acked,
    attempts: 0,
    nextTryAt: null,
    history: null,
  };

  function change(next: DeliveryStatus): void {
    if (next.error !== null && next.error !== status.error) totals = { ...totals, errors: totals.errors + 1 };
    status = next;
    onChange(next);
  }

  return {
    status: () => status,
    ackedAt: () => ackedAt,
    rate: meter.rate,
    totals: () => totals,
    change,
    onAcked(entries, bytes) {
      ackedAt = now();
      totals = { ...totals, entries: totals.entries + entries };
      meter.add(entries, bytes);
    },
    async persist(deliver, signal) {
      while (!signal.aborted)
        try {
          await deliver();
        } catch (error) {
          onFailed(error);
          const message = error instanceof Error ? error.message : String(error);
          const at = now();
          const trouble = { message, hint: "This is a defect: please report it.", at };
          change({ ...status, state: "waiting", error: trouble, nextTryAt: at + FAILED_MS });
          await clock.sleep(FAILED_MS, signal);
        }
    },
  };
}
