/** @jsxImportSource hono/jsx/dom */
import { render, useState } from "hono/jsx/dom";
import type { ArtifactVersion, SetVersion } from "../../artifact/schema.ts";
import type { Run } from "../../run/schema.ts";
import type { VersionState } from "../artifact-state.ts";
import { artifactHref, fileHref, modelsHref, versionApi, versionHref } from "../artifact-view.ts";
import { serverNow, setServerTime } from "../components/time.tsx";
import { VersionView } from "../components/version-view.tsx";
import { FileBrowser } from "./file-browser.tsx";
import { FileSource } from "./file-source.ts";
import { ask, shortcut } from "./frame.ts";
import { Refusal, request } from "./http.ts";
import { createRefresh } from "./keep-fresh.ts";
import { openLive } from "./live.ts";

const app = document.getElementById("app")!;
const initial = JSON.parse(app.dataset["state"]!) as VersionState;
setServerTime(initial.now);
const { id, version: word, kind, name } = initial.version;

interface State extends VersionState {
  busy: boolean;
  editing: boolean;
  problem: string | undefined;
}

let state: State = { ...initial, busy: false, editing: false, problem: undefined };
let show: (state: State) => void = () => {};
let leaving = false;

function update(change: Partial<State>): void {
  state = { ...state, ...change };
  show(state);
}

// A version's files never change: they are kept, whatever else is loaded anew.
const source = new FileSource(initial.version, initial.files);

async function load(): Promise<void> {
  if (leaving) return;
  try {
    const fetched = await request<VersionState>(`/ui${versionHref(id, word)}`);
    setServerTime(fetched.now);
    if (state.pending > 0) source.renew(fetched.files.files);
    update(fetched);
  } catch (error) {
    if (error instanceof Refusal && error.status === 404) update({ problem: "This version was deleted." });
    else throw error;
  }
}

const refresh = createRefresh(load);

async function onSet(_version: ArtifactVersion, change: SetVersion): Promise<void> {
  update({ problem: undefined, editing: false });
  try {
    update({
      version: await request<ArtifactVersion>(versionApi(id, word), { method: "PATCH", body: change }),
    });
  } catch (error) {
    update({ problem: (error as Error).message });
  }
}

async function onDelete(): Promise<void> {
  const { aliases, used_by } = state.version;
  const kept = aliases.filter((alias) => alias !== "latest");
  const warnings = [
    ...(kept.length > 0 ? [`It is called ${kept.join(", ")}.`] : []),
    ...(used_by.length > 0
      ? [`${used_by.length === 1 ? "A run uses" : `${used_by.length} runs use`} it.`]
      : []),
  ];
  const answer = await ask({
    title: `Delete ${word} of “${name}”?`,
    text: `${[...warnings, "Its files go, and its number is not used again."].join(" ")} This cannot be undone.`,
    action: "Delete",
    danger: true,
  });
  if (!answer) return;
  update({ busy: true, problem: undefined });
  leaving = true;
  try {
    await request(`${versionApi(id, word)}?force=${warnings.length > 0}`, { method: "DELETE" });
    location.href = state.artifact.versions > 1 ? artifactHref(id) : modelsHref({ kind, search: "" });
  } catch (error) {
    leaving = false;
    update({ busy: false, problem: (error as Error).message });
  }
}

function select(path: string | undefined, push = true): void {
  if (push)
    history.pushState(null, "", path === undefined ? versionHref(id, word) : fileHref(id, word, path));
  if (path === undefined) source.close();
  else void source.select(path);
}

const fileInUrl = () => new URLSearchParams(location.search).get("file") ?? undefined;

function App() {
  const [shown, setShown] = useState(state);
  show = setShown;
  return (
    <VersionView
      {...shown}
      now={serverNow()}
      onSet={(version, change) => void onSet(version, change)}
      onDelete={() => void onDelete()}
      onEdit={() => {
        update({ editing: true });
        requestAnimationFrame(() => document.querySelector<HTMLElement>("textarea[name=notes]")?.focus());
      }}
      onCancel={() => update({ editing: false })}
    >
      <FileBrowser source={source} onSelect={select} />
    </VersionView>
  );
}

render(<App />, app);
const asked = fileInUrl();
if (asked !== undefined) select(asked, false);
addEventListener("popstate", () => select(fileInUrl(), false));

function moveFile(by: number): void {
  const names = [...app.querySelectorAll<HTMLElement>(".file-open")];
  const at = names.indexOf(document.activeElement as HTMLElement);
  names[Math.min(names.length - 1, Math.max(0, at + by))]?.focus();
}

shortcut(["j", "ArrowDown"], "Next file", () => moveFile(1));
shortcut(["k", "ArrowUp"], "Previous file", () => moveFile(-1));
shortcut(["Escape"], "Close the preview", () => {
  if (source.state.selected !== undefined) select(undefined);
});
shortcut(["u"], "Up to all versions", () => {
  location.href = artifactHref(id);
});

/** Nothing says that bytes have come: while some are on their way it is asked for. */
const PENDING_EVERY_MS = 3000;
setInterval(() => {
  if (!document.hidden && state.pending > 0) refresh();
}, PENDING_EVERY_MS);

openLive(
  {},
  {
    ready: refresh,
    artifact: refresh,
    run: ({ id: run }: Run) => {
      if (state.runs[run]) refresh();
    },
  },
  refresh,
);
