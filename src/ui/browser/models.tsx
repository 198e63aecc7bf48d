/** @jsxImportSource hono/jsx/dom */
import { render, useState } from "hono/jsx/dom";
import type { ModelsState } from "../artifact-state.ts";
import { kindTitles, modelsHref, parseModelsView, type ModelsView } from "../artifact-view.ts";
import { ModelList } from "../components/model-list.tsx";
import { serverNow, setServerTime } from "../components/time.tsx";
import { shortcut } from "./frame.ts";
import { isAbort, request } from "./http.ts";
import { createRefresh } from "./keep-fresh.ts";
import { openLive } from "./live.ts";
import { followRows, walkRows } from "./rows.ts";

const app = document.getElementById("app")!;
const initial = JSON.parse(app.dataset["state"]!) as ModelsState;
setServerTime(initial.now);

interface State extends ModelsState {
  current: number | undefined;
  loading: boolean;
  isFirstPage: boolean;
}

let state: State = {
  ...initial,
  current: undefined,
  loading: false,
  isFirstPage: !new URLSearchParams(location.search).has("after"),
};
let show: (state: State) => void = () => {};

function update(change: Partial<State>): void {
  state = { ...state, ...change };
  show(state);
}

const answerAddress = (view: ModelsView, after?: number) => `/ui${modelsHref(view, after)}`;

let pending: AbortController | undefined;

async function reload(view: ModelsView): Promise<void> {
  pending?.abort();
  pending = new AbortController();
  const isSame = view === state.view;
  try {
    const fetched = await request<ModelsState>(answerAddress(view), { signal: pending.signal });
    setServerTime(fetched.now);
    // Of a long list only the beginning is fetched anew; what followed it follows still.
    const last = fetched.artifacts.at(-1)?.id;
    const at = isSame && fetched.next !== null ? state.artifacts.findIndex(({ id }) => id === last) : -1;
    const isLong = at >= 0 && at < state.artifacts.length - 1;
    const rest = isLong ? state.artifacts.slice(at + 1) : [];
    update({
      ...fetched,
      view,
      artifacts: [...fetched.artifacts, ...rest],
      next: isLong ? state.next : fetched.next,
      runs: { ...state.runs, ...fetched.runs },
      ...(!isSame && { current: undefined }),
      isFirstPage: true,
    });
  } catch (error) {
    if (!isAbort(error)) throw error;
  }
}

async function more(): Promise<void> {
  if (state.loading || state.next === null) return;
  update({ loading: true });
  const { view } = state;
  try {
    const page = await request<ModelsState>(answerAddress(view, state.next));
    if (state.view !== view) return;
    const known = new Set(state.artifacts.map(({ id }) => id));
    update({
      artifacts: [...state.artifacts, ...page.artifacts.filter(({ id }) => !known.has(id))],
      next: page.next,
      runs: { ...state.runs, ...page.runs },
    });
  } finally {
    update({ loading: false });
  }
}

function go(view: ModelsView, replace = false): void {
  history[replace ? "replaceState" : "pushState"](null, "", modelsHref(view));
  document.title = `${kindTitles[view.kind]} · binnacle`;
  // What is shown stays until the other rows are there.
  void reload({ ...view }).catch(() => {});
}

let typing: ReturnType<typeof setTimeout> | undefined;

function onSearch(search: string): void {
  // Its answer would put the words that were there before back into the field.
  pending?.abort();
  update({ view: { ...state.view, search } });
  clearTimeout(typing);
  typing = setTimeout(() => go(state.view, true), 180);
}

function App() {
  const [shown, setShown] = useState(state);
  show = setShown;
  return (
    <ModelList
      {...shown}
      now={serverNow()}
      onSearch={onSearch}
      onSource={(source) => go({ ...state.view, source })}
      onMore={() => void more()}
    />
  );
}

render(<App />, app);

app.addEventListener("click", (event) => {
  if (event.ctrlKey || event.metaKey || event.shiftKey || event.button !== 0) return;
  const link = (event.target as Element).closest<HTMLAnchorElement>("a[data-view]");
  if (!link) return;
  event.preventDefault();
  go(parseModelsView(new URL(link.href).searchParams));
});
app.addEventListener("submit", (event) => {
  event.preventDefault();
  go(state.view, true);
});
addEventListener("popstate", () => go(parseModelsView(new URLSearchParams(location.search)), true));

followRows(app);
shortcut(["/"], "Search", () => document.getElementById("search")?.focus());
walkRows({
  what: "name",
  app,
  current: () => state.current,
  setCurrent: (current) => update({ current }),
});
shortcut(["u"], "Up to the runs", () => {
  location.href = "/";
});

const refresh = createRefresh(async () => {
  if (state.isFirstPage) await reload(state.view);
});
openLive({}, { ready: refresh, artifact: refresh, run: refresh }, refresh);
