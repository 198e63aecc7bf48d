/** @jsxImportSource hono/jsx/dom */
import { render, useState } from "hono/jsx/dom";
import type { SourceList } from "../../source/schema.ts";
import { SourceTable, type SourcePageState } from "../components/source-table.tsx";
import { serverNow, setServerTime } from "../components/time.tsx";
import { shortcut } from "./frame.ts";
import { request } from "./http.ts";
import { poll } from "./poll.ts";

const app = document.getElementById("app")!;
const { list: initial, now, origin } = JSON.parse(app.dataset["state"]!) as SourcePageState;
setServerTime(now);

/** A thousand rows are some hundred kilobytes. */
const MANY = 100;

let list = initial;
let show: (list: SourceList) => void = () => {};

function App() {
  const [shown, setShown] = useState(list);
  show = setShown;
  return <SourceTable list={shown} now={serverNow()} origin={origin} />;
}

render(<App />, app);
poll(
  () => (list.sources.length > MANY ? 10_000 : 2000),
  async () => {
    list = await request<SourceList>("/api/v1/sources");
    show(list);
  },
);

shortcut(["u"], "Up to the runs", () => {
  location.href = "/";
});
