/** @jsxImportSource hono/jsx */
import { Hono, type Context } from "hono";
import { getCookie } from "hono/cookie";
import { countRunArtifacts } from "../artifact/count.ts";
import type { Collector } from "../collector.ts";
import { CollectorError } from "../error.ts";
import type { Device } from "../device/schema.ts";
import { getDevice, listDevices } from "../device/list.ts";
import { listRunDevices } from "../device/run-devices.ts";
import { countRuns } from "../run/count.ts";
import { listMetrics } from "../metric/query.ts";
import type { RunRow } from "../run/change.ts";
import { getRow, getRunDetail } from "../run/find.ts";
import { listRuns } from "../run/list.ts";
import { ListRuns, RunId } from "../run/schema.ts";
import { knownSource, sourceLabels, type KnownSource } from "../source/known.ts";
import { hasSpans } from "../span/list.ts";
import { sourceLabel } from "../store/source-label.ts";
import { runFilesState } from "./artifact-data.ts";
import { artifactPages } from "./artifact-routes.tsx";
import { openRows } from "./artifact-view.ts";
import { assetPath, serveAsset } from "./assets.ts";
import type { DeviceListState } from "./components/device-tiles.tsx";
import type { Places } from "./components/place-filters.tsx";
import type { RunListState } from "./components/run-list.tsx";
import { listQuery, parseListView } from "./list-view.ts";
import { logText } from "./log-text.ts";
import { DeviceListPage, DevicePage } from "./pages/device.tsx";
import { RunListPage } from "./pages/run-list.tsx";
import { RunPage } from "./pages/run.tsx";
import { pageIn } from "./pages/layout.tsx";
import { relayPages, shellOf, type RelayOptions } from "./relay-routes.tsx";
import type { RunState, RunTab } from "./state.ts";
import { parseTheme, THEME_COOKIE } from "./theme.ts";

/** The dashboard: pages, the files they need, and some answers made for them alone. */
export function uiRoutes(collector: Collector, options: RelayOptions = {}): Hono {
  const app = new Hono();
  const page = pageIn(() => shellOf(collector, options));

  app.get("/", async (c) => {
    const params = new URL(c.req.url).searchParams;
    const view = parseListView(params);
    const query = readList(listQuery(view, params.get("after") ?? undefined));
    const [shown, places] = [
      await listState(collector, query, new URL(c.req.url).origin),
      await placesOf(collector),
    ];
    const state = { ...shown, places, view };
    return page(c, <RunListPage state={state} theme={themeOf(c)} />);
  });

  app.get("/ui/runs", async (c) => {
    const url = new URL(c.req.url);
    return c.json(await listState(collector, readList(url.searchParams), url.origin));
  });

  const runPage = async (c: Context, tab: RunTab) => {
    const state = await runState(c, collector, tab);
    const open = state.files && openRows(new URL(c.req.url).searchParams, state.files);
    return page(c, <RunPage state={state} theme={themeOf(c)} open={open} />);
  };
  app.get("/runs/:id", (c) => runPage(c, "overview"));
  app.get("/runs/:id/metrics", (c) => runPage(c, "metrics"));
  app.get("/runs/:id/logs", (c) => runPage(c, "logs"));
  app.get("/runs/:id/hardware", (c) => runPage(c, "hardware"));
  app.get("/runs/:id/models", (c) => runPage(c, "models"));
  app.get("/runs/:id/artifacts", (c) => runPage(c, "artifacts"));
  app.get("/runs/:id/timeline", (c) => runPage(c, "timeline"));
  app.get("/ui/runs/:id/source", async (c) =>
    c.json({ source: await sourceOf(collector, await getRow(collector, readId(c))), now: collector.now() }),
  );

  app.route("/", artifactPages(collector, page));
  app.route("/", relayPages(collector, page, options));

  app.get("/devices", async (c) => {
    const source = c.req.query("source")?.slice(0, 250) || undefined;
    const state = {
      ...(await deviceState(collector, await listDevices(collector, { source }))),
      source: source ?? "",
      sources: await sourceLabels(collector),
    };
    return page(c, <DeviceListPage state={state} theme={themeOf(c)} />);
  });

  app.get("/devices/:id", async (c) => {
    const device = await getDevice(collector, c.req.param("id"));
    return page(c, <DevicePage state={await deviceState(collector, [device])} theme={themeOf(c)} />);
  });

  app.get("/runs/:id/logs.txt", async (c) => {
    const row = await getRow(collector, readId(c));
    return new Response(logText(collector, row.id), {
      headers: {
        "content-type": "text/plain; charset=utf-8",
        "content-disposition": `attachment; filename="${row.id}.log"`,
      },
    });
  });

  app.get("/assets/:file", (c) => {
    const asset = serveAsset(c.req.path, c.req.header("accept-encoding"));
    if (!asset)
      throw new CollectorError("not-found", "There is no such asset.", { hint: "Reload the page." });
    return asset;
  });

  app.get("/favicon.ico", (c) => c.redirect(assetPath("icon"), 302));

  return app;
}

const themeOf = (c: Context) => parseTheme(getCookie(c, THEME_COOKIE));

/** A page by a typed or stale address shows what it can; only the cursor may name a run that is gone. */
function readList(params: URLSearchParams): ListRuns {
  const parsed = ListRuns.safeParse(Object.fromEntries(params));
  return parsed.success ? parsed.data : ListRuns.parse({});
}

async function listState(
  collector: Collector,
  query: ListRuns,
  origin: string,
): Promise<Omit<RunListState, "view" | "places">> {
  const [page, counts] = [await listRuns(collector, query), await countRuns(collector, query)];
  return { ...page, counts, now: collector.now(), origin };
}

async function placesOf(collector: Collector): Promise<Places> {
  const devices = await listDevices(collector);
  return {
    sources: await sourceLabels(collector),
    devices: devices.map(({ id, name, source }) => ({ id, name, source })),
  };
}

async function deviceState(collector: Collector, devices: Device[]): Promise<DeviceListState> {
  const ids = [...new Set(devices.flatMap(({ runs }) => runs))];
  const rows = await Promise.all(ids.map((id) => getRow(collector, id)));
  return { devices, now: collector.now(), runs: Object.fromEntries(rows.map(({ id, name }) => [id, name])) };
}

function readId(c: Context): string {
  const id = RunId.safeParse(c.req.param("id"));
  if (!id.success)
    throw new CollectorError("not-found", "There is no such run: that is no run id.", {
      hint: "It may have been typed wrongly; the list of runs has the right one.",
    });
  return id.data;
}

/** More metrics than this are fetched by the page, which stands before they are there. */
const MAX_EMBEDDED = 200;

/** Who relayed it, and whether there is word of them. */
async function sourceOf(collector: Collector, run: RunRow): Promise<KnownSource | null> {
  const label = sourceLabel(collector.connection, run.source);
  return label === null ? null : ((await knownSource(collector, label)) ?? null);
}

async function runState(c: Context, collector: Collector, tab: RunTab): Promise<RunState> {
  const row = await getRow(collector, readId(c));
  const run = await getRunDetail(collector, row);
  const metrics = tab === "overview" ? (await listMetrics(collector, run.id)).metrics : undefined;
  return {
    run,
    tab,
    now: collector.now(),
    source: await sourceOf(collector, row),
    metrics: metrics && metrics.length <= MAX_EMBEDDED ? metrics : undefined,
    hardware:
      tab === "hardware"
        ? { devices: await listDevices(collector), uses: await listRunDevices(collector, run.id) }
        : undefined,
    counts: countRunArtifacts(collector, run.id),
    hasSpans: hasSpans(collector.connection, run.id),
    files:
      tab === "models" || tab === "artifacts"
        ? await runFilesState(collector, run.id, tab === "models" ? "model" : "artifact")
        : undefined,
  };
}
