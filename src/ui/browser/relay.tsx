/** @jsxImportSource hono/jsx/dom */
import { render, useState } from "hono/jsx/dom";
import type { DeadLetter, DeadLetterPage, RelayList } from "../../relay/schema.ts";
import { RelayDestinations, type RelayPageState } from "../components/relay-list.tsx";
import { serverNow, setServerTime } from "../components/time.tsx";
import { plural } from "../format.ts";
import { ask, shortcut } from "./frame.ts";
import { request } from "./http.ts";
import { poll } from "./poll.ts";

const app = document.getElementById("app")!;
const initial = JSON.parse(app.dataset["state"]!) as RelayPageState;
setServerTime(initial.now);

const EVERY_MS = 2000;

interface State {
  list: RelayList;
  letters: ReadonlyMap<string, DeadLetterPage>;
  busy: boolean;
  problem: string | undefined;
}

let state: State = { list: initial.list, letters: new Map(), busy: false, problem: undefined };
let show: (state: State) => void = () => {};

function update(change: Partial<State>): void {
  state = { ...state, ...change };
  show(state);
}

const pathOf = (name: string) => `/api/v1/relays/${encodeURIComponent(name)}`;

async function load(): Promise<void> {
  const list = await request<RelayList>("/api/v1/relays");
  const there = new Map(list.relays.map(({ name, dead_letters }) => [name, dead_letters]));
  const before = new Map(state.list.relays.map(({ name, dead_letters }) => [name, dead_letters]));
  const letters = new Map([...state.letters].filter(([name]) => (there.get(name) ?? 0) > 0));
  update({ list, letters });
  for (const name of letters.keys()) if (there.get(name) !== before.get(name)) await loadLetters(name);
}

async function loadLetters(name: string): Promise<void> {
  const page = await request<DeadLetterPage>(`${pathOf(name)}/dead-letters`);
  // Closed meanwhile.
  if (state.letters.has(name)) update({ letters: new Map(state.letters).set(name, page) });
}

async function attempt(work: () => Promise<void>): Promise<void> {
  update({ busy: true, problem: undefined });
  try {
    await work();
  } catch (error) {
    update({ problem: (error as Error).message });
  }
  update({ busy: false });
}

function onLetters(name: string): void {
  const letters = new Map(state.letters);
  if (letters.delete(name)) return update({ letters });
  update({ letters: letters.set(name, { dead_letters: [], next: null }) });
  void attempt(() => loadLetters(name));
}

const onMoreLetters = (name: string) =>
  attempt(async () => {
    const page = state.letters.get(name);
    if (!page || page.next === null) return;
    const more = await request<DeadLetterPage>(
      `${pathOf(name)}/dead-letters?${new URLSearchParams({ after: page.next })}`,
    );
    const dead_letters = [...page.dead_letters, ...more.dead_letters];
    update({ letters: new Map(state.letters).set(name, { dead_letters, next: more.next }) });
  });

async function onSettle(
  name: string,
  action: "requeue" | "discard",
  letter: DeadLetter | undefined,
): Promise<void> {
  const count = state.list.relays.find((relay) => relay.name === name)?.dead_letters ?? 0;
  const what = letter ? "It" : plural(count, "entry", "entries");
  const answer =
    action === "requeue" ||
    (await ask({
      title: letter ? "Discard this entry?" : "Discard all of them?",
      text: `${what} will never arrive at ${name}, which is noted as dropped. Here everything stays.`,
      action: "Discard",
      danger: true,
    }));
  if (!answer) return;
  await attempt(async () => {
    const letters = letter && [letter.id];
    await request(`${pathOf(name)}/dead-letters`, {
      method: "POST",
      body: { action, ...(letters && { letters }) },
    });
    await refresh();
    if (state.letters.has(name)) await loadLetters(name);
  });
}

const onRetry = (name: string) =>
  attempt(async () => {
    await request(`${pathOf(name)}/retry`, { method: "POST", body: {} });
    await refresh();
  });

function App() {
  const [shown, setShown] = useState(state);
  show = setShown;
  return (
    <RelayDestinations
      {...shown}
      now={serverNow()}
      onRetry={(name) => void onRetry(name)}
      onLetters={onLetters}
      onMoreLetters={(name) => void onMoreLetters(name)}
      onSettle={(name, action, letter) => void onSettle(name, action, letter)}
    />
  );
}

render(<App />, app);
const refresh = poll(() => EVERY_MS, load);

// A time that is counted down is counted by the second.
setInterval(() => {
  if (!document.hidden && state.list.relays.some(({ next_try_at }) => next_try_at !== null)) update({});
}, 1000);

shortcut(["u"], "Up to the runs", () => {
  location.href = "/";
});
