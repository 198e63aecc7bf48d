/** @jsxImportSource hono/jsx/dom */
import { render, useState } from "hono/jsx/dom";
import type { ArtifactVersion, RunArtifact, SetVersion } from "../../artifact/schema.ts";
import type { RunFilesState } from "../artifact-state.ts";
import { openRows, openRowsQuery, rowKey, versionApi } from "../artifact-view.ts";
import { RunFiles } from "../components/run-files.tsx";
import { serverNow } from "../components/time.tsx";
import { FileBrowser } from "./file-browser.tsx";
import { FileSource } from "./file-source.ts";
import { shortcut } from "./frame.ts";
import { request } from "./http.ts";
import { createRefresh } from "./keep-fresh.ts";
import { initialFiles, listen, runId, setCounts } from "./run-frame.tsx";

const ROWS = 100;

interface State {
  files: RunFilesState;
  open: ReadonlySet<string>;
  limit: number;
  problem: string | undefined;
}

const openInUrl = (files: RunFilesState) => openRows(new URLSearchParams(location.search), files);

let state: State = {
  files: initialFiles!,
  open: openInUrl(initialFiles!),
  limit: ROWS,
  problem: undefined,
};
let show: (state: State) => void = () => {};

function update(change: Partial<State>): void {
  state = { ...state, ...change };
  show(state);
}

async function load(): Promise<void> {
  const files = await request<RunFilesState>(`/ui/runs/${runId}/files?kind=${state.files.kind}`);
  update({ files });
  setCounts(files.counts);
}

const refresh = createRefresh(load);

const sourceByRow = new Map<string, FileSource>();

function sourceOf(version: RunArtifact): FileSource {
  const key = rowKey(version);
  let source = sourceByRow.get(key);
  if (!source) sourceByRow.set(key, (source = new FileSource(version)));
  return source;
}

async function onSet({ id, version }: ArtifactVersion, change: SetVersion): Promise<void> {
  update({ problem: undefined });
  try {
    await request(versionApi(id, version), { method: "PATCH", body: change });
  } catch (error) {
    update({ problem: (error as Error).message });
  }
  await load().catch(() => {});
}

function onToggle(key: string): void {
  const open = new Set(state.open);
  if (!open.delete(key)) open.add(key);
  history.replaceState(null, "", location.pathname + openRowsQuery(open));
  update({ open });
}

function Files() {
  const [shown, setShown] = useState(state);
  show = setShown;
  const { files, open, limit, problem } = shown;
  return (
    <RunFiles
      {...files}
      now={serverNow()}
      run={runId}
      open={open}
      limit={limit}
      problem={problem}
      onToggle={onToggle}
      onSet={(version, change) => void onSet(version, change)}
      onMore={() => update({ limit: limit + ROWS })}
      filesOf={(version) => <FileBrowser key={rowKey(version)} source={sourceOf(version)} />}
    />
  );
}

const tab = document.getElementById("tab")!;
render(<Files />, tab);

function move(by: number): void {
  const buttons = [...tab.querySelectorAll<HTMLElement>("tr[data-row] button[aria-expanded]")];
  const row = document.activeElement?.closest("tr[data-row]");
  const at = buttons.findIndex((button) => button.closest("tr") === row);
  const button = buttons[Math.min(buttons.length - 1, Math.max(0, at + by))];
  button?.focus({ preventScroll: true });
  button?.scrollIntoView({ block: "nearest" });
}

shortcut(["j", "ArrowDown"], "Next version", () => move(1));
shortcut(["k", "ArrowUp"], "Previous version", () => move(-1));
addEventListener("popstate", () => update({ open: openInUrl(state.files) }));
listen({ artifact: refresh, ready: refresh }, refresh);
