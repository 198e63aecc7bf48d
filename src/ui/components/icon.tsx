/** @jsxImportSource hono/jsx */
import type { RunStatus } from "../../run/schema.ts";

/** Stroke icons on a 16 × 16 grid, drawn in the colour of the text. */
const paths = {
  search: "M7 12.5a5.5 5.5 0 1 0 0-11 5.5 5.5 0 0 0 0 11Zm4-1.5 3.5 3.5",
  moon: "M13.5 9.6A5.9 5.9 0 0 1 6.4 2.5a5.9 5.9 0 1 0 7.1 7.1Z",
  sun: "M8 11a3 3 0 1 0 0-6 3 3 0 0 0 0 6Zm0-9.5v1.2m0 10.6v1.2M1.5 8h1.2m10.6 0h1.2M3.4 3.4l.9.9m7.4 7.4.9.9m0-9.2-.9.9m-7.4 7.4-.9.9",
  auto: "M8 14.2A6.2 6.2 0 1 0 8 1.8a6.2 6.2 0 0 0 0 12.4ZM8 1.8v12.4M8 5h5.3M8 8h6.2M8 11h5.3",
  help: "M8 14.5a6.5 6.5 0 1 0 0-13 6.5 6.5 0 0 0 0 13ZM6.2 6.2a1.8 1.8 0 1 1 2.6 1.7c-.6.3-.8.7-.8 1.3m0 2.3v.1",
  copy: "M6 5.5h7.5V14H6zM10.5 5.5V2H2.5v8.5H6",
  check: "m3 8.5 3.4 3.4L13 4.6",
  stop: "M4 4h8v8H4z",
  trash: "M2.5 4.2h11M6.2 4V2.2h3.6V4M4 4.2l.6 9.6h6.8l.6-9.6M6.6 7v4m2.8-4v4",
  edit: "m10.7 2.8 2.5 2.5-7.7 7.7-3.1.6.6-3.1 7.7-7.7Z",
  down: "m3.5 6 4.5 4.5L12.5 6",
  up: "m3.5 10 4.5-4.5 4.5 4.5",
  download: "M8 2v8m-3.2-3L8 10.2 11.2 7M2.5 13.5h11",
  close: "m3.5 3.5 9 9m0-9-9 9",
  clock: "M8 14.2A6.2 6.2 0 1 0 8 1.8a6.2 6.2 0 0 0 0 12.4ZM8 4.6V8l2.4 1.6",
  expand: "M9.5 2.5h4v4m-7 7h-4v-4m11-7-4.4 4.4m-2.2 2.2-4.4 4.4",
  right: "m6 3.5 4.5 4.5L6 12.5",
  table: "M2.5 3h11v10h-11zM2.5 6.4h11M2.5 9.7h11M6.6 6.4V13",
  plus: "M8 3v10M3 8h10",
  minus: "M3 8h10",
  file: "M9.2 2H4v12h8V4.8zM9 2v3h3",
  folder: "M2 12.8V3.4h4.2l1.4 1.8H14v7.6z",
  reset: "M3 3v3.6h3.6M3.4 6.4a5.4 5.4 0 1 1-.7 3.2",
} as const;

export type IconName = keyof typeof paths;

export const Icon = ({ name, size = 16 }: { name: IconName; size?: number }) => (
  <svg
    width={size}
    height={size}
    viewBox="0 0 16 16"
    fill="none"
    stroke="currentColor"
    stroke-width="1.5"
    stroke-linecap="round"
    stroke-linejoin="round"
    aria-hidden="true"
    focusable="false"
  >
    <path d={paths[name]} />
  </svg>
);

/** The compass card of the brand. */
export const Compass = ({ size = 24 }: { size?: number }) => (
  <svg width={size} height={size} viewBox="0 0 24 24" fill="none" aria-hidden="true" focusable="false">
    <circle cx="12" cy="12" r="10.2" stroke="currentColor" stroke-width="1.5" />
    <path d="M12 3.6 14.1 12 12 20.4 9.9 12Z" fill="currentColor" opacity="0.4" />
    <path d="M12 3.6 14.1 12H9.9Z" fill="currentColor" />
    <path d="M3.6 12h2.6m11.6 0h2.6" stroke="currentColor" stroke-width="1.5" stroke-linecap="round" />
  </svg>
);

const shapes: Record<RunStatus, string> = {
  QUEUED: "M5 1.6a3.4 3.4 0 1 1 0 6.8 3.4 3.4 0 0 1 0-6.8Z",
  STARTING: "M5 1.6a3.4 3.4 0 1 1 0 6.8 3.4 3.4 0 0 1 0-6.8Z",
  RUNNING: "M5 3a2 2 0 1 1 0 4 2 2 0 0 1 0-4Z",
  STOPPING: "M3 3h4v4H3z",
  FINISHED: "m1.8 5.2 2.2 2.3 4.2-4.9",
  FAILED: "m2.2 2.2 5.6 5.6m0-5.6L2.2 7.8",
  KILLED: "M3 3h4v4H3z",
};

export const statusWords: Record<RunStatus, string> = {
  QUEUED: "Queued",
  STARTING: "Starting",
  RUNNING: "Running",
  STOPPING: "Stopping",
  FINISHED: "Finished",
  FAILED: "Failed",
  KILLED: "Killed",
};

const filled = new Set<RunStatus>(["RUNNING", "STOPPING", "KILLED"]);

export const StatusBadge = ({ status }: { status: RunStatus }) => (
  <span class="status" data-status={status}>
    <svg width="10" height="10" viewBox="0 0 10 10" aria-hidden="true" focusable="false">
      <path
        d={shapes[status]}
        fill={filled.has(status) ? "currentColor" : "none"}
        stroke="currentColor"
        stroke-width="1.7"
        stroke-linecap="round"
        stroke-linejoin="round"
      />
    </svg>
    {statusWords[status]}
  </span>
);
