/** What the URL of a page with hardware charts says. */
export interface HardwareView {
  /** Id of the device that is shown; undefined: the first. */
  device: string | undefined;
  /** "run": the run's own; "all": all of the machine; else UUIDs. */
  gpus: "run" | "all" | readonly string[];
  /** The last so many minutes; undefined: all of it. */
  last: number | undefined;
  /** A part picked out by hand, ms since the epoch; it goes before `last`. */
  zoom: { from: number; to: number } | undefined;
}

export interface Window {
  from: number;
  to: number;
  /** Its end is the present, and moves on. */
  live: boolean;
  /** It begins where the life begins: nothing can be there before the first look. */
  start: boolean;
}

/** Ranges to choose from, in minutes. */
export const runRanges = [5, 15, 60] as const;
export const deviceRanges = [5, 15, 60, 360, 1440, 10_080] as const;

export const rangeLabel = (minutes: number): string => {
  if (minutes < 60) return `${minutes} min`;
  if (minutes < 1440) return `${minutes / 60} h`;
  return `${minutes / 1440} d`;
};

const MAX_MINUTES = 60 * 24 * 366;

export function parseHardwareView(params: URLSearchParams): HardwareView {
  const number = (name: string) => Number(params.get(name) || NaN);
  const from = number("from");
  const to = number("to");
  const last = number("last");
  const gpus = (params.get("gpus") ?? "").slice(0, 10_000);
  return {
    device: /^[0-9a-f]{16}$/.exec(params.get("device") ?? "")?.[0],
    gpus: gpus === "all" ? "all" : gpus === "" || gpus === "run" ? "run" : gpus.split(",").filter(Boolean),
    last: Number.isInteger(last) && last > 0 && last <= MAX_MINUTES ? last : undefined,
    zoom: Number.isFinite(from) && Number.isFinite(to) && from >= 0 && from < to ? { from, to } : undefined,
  };
}

export function hardwareQuery(view: HardwareView): string {
  const params = new URLSearchParams();
  if (view.device) params.set("device", view.device);
  if (view.gpus !== "run") params.set("gpus", view.gpus === "all" ? "all" : view.gpus.join(","));
  if (view.last !== undefined) params.set("last", String(view.last));
  if (view.zoom) {
    params.set("from", String(Math.round(view.zoom.from)));
    params.set("to", String(Math.round(view.zoom.to)));
  }
  const query = params.toString();
  return query ? `?${query}` : "";
}

/** A life on a device: of a run, or of the device itself. `to` is null while it goes on. */
export interface Life {
  from: number;
  to: number | null;
}

/** A line needs two ends: what has only just begun is shown as if it had gone on for so long. */
const MIN_WINDOW_MS = 10_000;

/** What the charts show. */
export function windowOf(view: HardwareView, life: Life, now: number): Window {
  if (view.zoom) return { ...view.zoom, live: false, start: false };
  const to = Math.max(life.to ?? now, life.from + MIN_WINDOW_MS);
  const from = view.last === undefined ? life.from : Math.max(life.from, to - view.last * 60_000);
  return {
    from: Math.min(from, to - MIN_WINDOW_MS),
    to,
    live: life.to === null,
    start: from <= life.from,
  };
}
