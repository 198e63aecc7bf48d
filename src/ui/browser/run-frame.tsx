/** @jsxImportSource hono/jsx/dom */
import { render, useState } from "hono/jsx/dom";
import type { ArtifactCounts } from "../../artifact/count.ts";
import type { Run, RunDetail, SetRun } from "../../run/schema.ts";
import type { KnownSource } from "../../source/known.ts";
import { RunHead } from "../components/run-head.tsx";
import { isEnded, serverNow, setServerTime } from "../components/time.tsx";
import { runTitle, type RunState } from "../state.ts";
import { ask, shortcut } from "./frame.ts";
import { request } from "./http.ts";
import { openLive, type LiveHandlers } from "./live.ts";

const head = document.getElementById("head")!;
const initial = JSON.parse(head.dataset["state"]!) as RunState;
setServerTime(initial.now);

export const initialMetrics = initial.metrics;
export const initialHardware = initial.hardware;
export const initialFiles = initial.files;
export const runId = initial.run.id;
export const runPath = `/api/v1/runs/${runId}`;

interface HeadState {
  run: RunDetail;
  source: KnownSource | null;
  counts: ArtifactCounts;
  hasSpans: boolean;
  busy: boolean;
  problem: string | undefined;
}

let state: HeadState = {
  run: initial.run,
  source: initial.source,
  counts: initial.counts,
  hasSpans: initial.hasSpans,
  busy: false,
  problem: undefined,
};
let show: (state: HeadState) => void = () => {};
const listeners = new Set<(run: RunDetail) => void>();

export const currentRun = () => state.run;
export const currentSource = () => state.source;

/** Hears of every change of the run's own data. */
export function onRunChange(listener: (run: RunDetail) => void): void {
  listeners.add(listener);
}

function update(change: Partial<HeadState>): void {
  state = { ...state, ...change };
  show(state);
  if (!change.run) return;
  document.title = runTitle(state.run.name, initial.tab);
  for (const listener of listeners) listener(state.run);
}

/** The page says so by having a place for what is wrong with a relay. */
const isRelayed = document.getElementById("banner") !== null;

/** The run is being deleted from here: what is heard of it from now on is no news. */
let leaving = false;

export async function refreshRun(): Promise<void> {
  if (leaving) return;
  update({ run: await request<RunDetail>(runPath) });
}

async function attempt(work: () => Promise<void>): Promise<void> {
  update({ busy: true, problem: undefined });
  try {
    await work();
    update({ busy: false });
  } catch (error) {
    update({ busy: false, problem: (error as Error).message });
  }
}

export const setRun = (change: SetRun): Promise<void> =>
  attempt(async () => {
    await request(runPath, { method: "PATCH", body: change });
    await refreshRun();
  });

async function onRename(): Promise<void> {
  const name = await ask({ title: "Rename the run", text: "", action: "Rename", input: state.run.name });
  if (name && name !== state.run.name) await setRun({ name });
}

async function onStop(): Promise<void> {
  const again = state.run.status === "STOPPING";
  const answer = await ask(
    again
      ? {
          title: "Kill the run?",
          text: "It was asked to stop and has not ended yet. Killing ends its processes at once; what they had not saved is lost.",
          action: "Kill",
          danger: true,
        }
      : {
          title: "Stop the run?",
          text: "Its processes are asked to end, as by Ctrl+C. What has been logged stays.",
          action: "Stop",
        },
  );
  if (!answer) return;
  await attempt(async () => {
    await request(`${runPath}/stop`, {
      method: "POST",
      body: { force: again, reason: "Stopped from the dashboard." },
    });
    await refreshRun();
  });
}

async function onDelete(): Promise<void> {
  const { name, source } = state.run;
  const live = !isEnded(state.run);
  const stops = live && source === null;
  const answer = await ask({
    title: source === null ? "Delete the run?" : "Delete the run here?",
    text:
      `“${name}” goes with all its metrics and output${stops ? ", and its processes are stopped" : ""}. This cannot be undone.` +
      (source === null ? "" : ` At ${source} it stays, and what still comes of it is left out.`) +
      (isRelayed ? " Where it was relayed to it stays, marked as deleted here." : ""),
    action: stops ? "Stop and delete" : "Delete",
    danger: true,
  });
  if (!answer) return;
  await attempt(async () => {
    leaving = true;
    try {
      await request(live ? `${runPath}?force=true` : runPath, { method: "DELETE" });
    } catch (error) {
      leaving = false;
      throw error;
    }
    location.href = "/";
  });
}

function Head() {
  const [shown, setShown] = useState(state);
  show = setShown;
  return (
    <RunHead
      run={shown.run}
      source={shown.source}
      tab={initial.tab}
      now={serverNow()}
      counts={shown.counts}
      hasSpans={shown.hasSpans}
      busy={shown.busy}
      problem={shown.problem}
      onRename={() => void onRename()}
      onStop={() => void onStop()}
      onDelete={() => void onDelete()}
    />
  );
}

render(<Head />, head);
// On a phone the tabs are wider than the screen.
requestAnimationFrame(() =>
  head.querySelector(".tabs [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" }),
);

for (const [key, tab] of [
  ["1", "Overview"],
  ["2", "Metrics"],
  ["3", "Logs"],
  ["4", "Hardware"],
  ["5", "Models"],
  ["6", "Artifacts"],
  ["7", "Timeline"],
] as const)
  shortcut([key], tab, () => {
    location.href = `/runs/${runId}${key === "1" ? "" : `/${tab.toLowerCase()}`}`;
  });

shortcut(["u"], "Up to the runs", () => {
  location.href = "/";
});

export const setCounts = (counts: ArtifactCounts): void => update({ counts });

let countTimer: ReturnType<typeof setTimeout> | undefined;

/** How many models and artifacts the run has: asked for when it is heard that they changed. */
function loadCounts(): void {
  countTimer ??= setTimeout(async () => {
    countTimer = undefined;
    const answer = await request<{ counts: ArtifactCounts }>(`/ui/runs/${runId}/files`).catch(
      () => undefined,
    );
    if (answer) setCounts(answer.counts);
  }, 500);
}

const SOURCE_EVERY_MS = 20_000;

/** Who relays the run may fall silent, which nothing that comes from there could say. */
if (initial.source)
  setInterval(() => {
    if (document.hidden) return;
    request<{ source: KnownSource | null }>(`/ui/runs/${runId}/source`)
      .then(({ source }) => update({ source, run: state.run }))
      .catch(() => update({}));
  }, SOURCE_EVERY_MS);

let detailTimer: ReturnType<typeof setTimeout> | undefined;

/** Listens to this run; the frame takes care of the run's own data. */
export function listen(handlers: LiveHandlers, onGap: () => void): void {
  openLive(
    { run: runId },
    {
      artifact: loadCounts,
      span() {
        if (!state.hasSpans) update({ hasSpans: true });
      },
      ...handlers,
      run({ deleted, ...run }: Run & { deleted?: boolean }) {
        if (deleted && leaving) return;
        if (deleted) {
          leaving = true;
          update({ problem: "This run was deleted." });
          return;
        }
        update({ run: { ...state.run, ...run } });
        // A listing's shape: tags, writers and the like are asked for.
        detailTimer ??= setTimeout(() => {
          detailTimer = undefined;
          refreshRun().catch(() => {});
        }, 500);
      },
    },
    () => {
      refreshRun().catch(() => {});
      loadCounts();
      onGap();
    },
  );
}
