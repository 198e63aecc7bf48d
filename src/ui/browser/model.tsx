/** @jsxImportSource hono/jsx/dom */
import { render, useState } from "hono/jsx/dom";
import type { ArtifactVersion, SetVersion } from "../../artifact/schema.ts";
import type { Run } from "../../run/schema.ts";
import type { ModelState } from "../artifact-state.ts";
import {
  artifactApi,
  modelQuery,
  modelsHref,
  parseModelView,
  versionApi,
  type ModelView,
} from "../artifact-view.ts";
import { serverNow, setServerTime } from "../components/time.tsx";
import { ModelVersions } from "../components/version-table.tsx";
import { plural } from "../format.ts";
import { ask, shortcut } from "./frame.ts";
import { Refusal, request } from "./http.ts";
import { createRefresh } from "./keep-fresh.ts";
import { openLive } from "./live.ts";
import { followRows, walkRows } from "./rows.ts";

const app = document.getElementById("app")!;
const initial = JSON.parse(app.dataset["state"]!) as ModelState;
setServerTime(initial.now);
const { id, kind } = initial.artifact;

/** New rows are marked for so long. */
const FRESH_MS = 4000;
const MAX_ROWS = 1000;

interface State extends ModelState {
  view: ModelView;
  current: number | undefined;
  fresh: ReadonlySet<string>;
  busy: boolean;
  loading: boolean;
  problem: string | undefined;
}

let state: State = {
  ...initial,
  view: parseModelView(new URLSearchParams(location.search)),
  current: undefined,
  fresh: new Set(),
  busy: false,
  loading: false,
  problem: undefined,
};
let show: (state: State) => void = () => {};
let leaving = false;

function update(change: Partial<State>): void {
  state = { ...state, ...change };
  show(state);
}

async function load(limit: number): Promise<void> {
  if (leaving) return;
  try {
    const fetched = await request<ModelState>(`/ui/models/${id}?limit=${limit}`);
    setServerTime(fetched.now);
    const newest = Number(state.versions[0]?.version.slice(1) ?? 0);
    const added = fetched.versions
      .map(({ version }) => version)
      .filter((version) => Number(version.slice(1)) > newest);
    update({ ...fetched, fresh: new Set([...state.fresh, ...added]) });
    if (added.length > 0) setTimeout(() => update({ fresh: new Set() }), FRESH_MS);
  } catch (error) {
    if (error instanceof Refusal && error.status === 404)
      update({ problem: `This ${kind} was deleted.`, versions: [], next: null });
    else throw error;
  }
}

const refresh = createRefresh(() => load(Math.max(100, state.versions.length)));

async function more(): Promise<void> {
  update({ loading: true });
  await load(Math.min(MAX_ROWS, state.versions.length + 100)).catch(() => {});
  update({ loading: false });
}

async function onSet({ version }: ArtifactVersion, change: SetVersion): Promise<void> {
  update({ problem: undefined });
  try {
    await request(versionApi(id, version), { method: "PATCH", body: change });
  } catch (error) {
    update({ problem: (error as Error).message });
  }
  await load(Math.max(100, state.versions.length)).catch(() => {});
}

async function onDelete(): Promise<void> {
  const { name, versions } = state.artifact;
  const answer = await ask({
    title: `Delete all of “${name}”?`,
    text: `${plural(versions, "version")} with their files go, whatever uses them. This cannot be undone.`,
    action: "Delete all",
    danger: true,
  });
  if (!answer) return;
  update({ busy: true, problem: undefined });
  leaving = true;
  try {
    await request(`${artifactApi(id)}?force=true`, { method: "DELETE" });
    location.href = modelsHref({ kind, search: "" });
  } catch (error) {
    leaving = false;
    update({ busy: false, problem: (error as Error).message });
  }
}

function setView(view: ModelView): void {
  history.replaceState(null, "", location.pathname + modelQuery(view));
  update({ view });
}

function App() {
  const [shown, setShown] = useState(state);
  show = setShown;
  return (
    <ModelVersions
      {...shown}
      now={serverNow()}
      onSet={(version, change) => void onSet(version, change)}
      onDelete={() => void onDelete()}
      onMetrics={(metrics) => setView({ metrics })}
      onMore={() => void more()}
    />
  );
}

render(<App />, app);
followRows(app);
walkRows({
  what: "version",
  app,
  current: () => state.current,
  setCurrent: (current) => update({ current }),
});

const picker = () => app.querySelector<HTMLDetailsElement>("details.picker");
shortcut(["m"], "Choose metrics", () => picker()?.querySelector("summary")?.click());
document.addEventListener("click", (event) => {
  const open = picker();
  if (open?.open && !open.contains(event.target as Node)) open.open = false;
});
document.addEventListener("keydown", (event) => {
  const open = picker();
  if (event.key !== "Escape" || !open?.open) return;
  open.open = false;
  open.querySelector("summary")?.focus();
});
shortcut(["u"], `Up to the ${kind}s`, () => {
  location.href = modelsHref({ kind, search: "" });
});
addEventListener("popstate", () => update({ view: parseModelView(new URLSearchParams(location.search)) }));

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
