/** @jsxImportSource hono/jsx */
import { Hono, type Context } from "hono";
import { getCookie } from "hono/cookie";
import { countRunArtifacts } from "../artifact/count.ts";
import type { ArtifactKind } from "../artifact/schema.ts";
import type { Collector } from "../collector.ts";
import { CollectorError } from "../error.ts";
import { getRow } from "../run/find.ts";
import { RunId } from "../run/schema.ts";
import { modelsState, modelState, runFilesState, versionState } from "./artifact-data.ts";
import { parseModelView, parseModelsView } from "./artifact-view.ts";
import type { ShowPage } from "./pages/layout.tsx";
import { ModelPage, ModelsPage, VersionPage } from "./pages/model.tsx";
import { parseTheme, THEME_COOKIE } from "./theme.ts";

/** Pages of models and artifacts across runs, and the answers made for those pages alone. */
export function artifactPages(collector: Collector, page: ShowPage): Hono {
  const app = new Hono();

  app.get("/models", async (c) =>
    page(
      c,
      <ModelsPage
        state={await namesIn(c)}
        isFirstPage={c.req.query("after") === undefined}
        theme={themeOf(c)}
      />,
    ),
  );
  app.get("/models/:id", async (c) => {
    const view = parseModelView(new URL(c.req.url).searchParams);
    return page(c, <ModelPage state={await modelState(collector, idIn(c))} view={view} theme={themeOf(c)} />);
  });
  app.get("/models/:id/:version", async (c) => {
    const state = await versionState(collector, idIn(c), c.req.param("version"));
    // An alias may lead elsewhere tomorrow; the address that people pass on says which version they saw.
    if (c.req.param("version") !== state.version.version)
      return c.redirect(
        `/models/${state.artifact.id}/${state.version.version}${new URL(c.req.url).search}`,
        302,
      );
    return page(c, <VersionPage state={state} theme={themeOf(c)} />);
  });

  app.get("/ui/models", async (c) => c.json(await namesIn(c)));
  app.get("/ui/models/:id", async (c) => {
    const before = numberIn(c.req.query("before")?.replace(/^v/, ""));
    const limit = Math.min(numberIn(c.req.query("limit")) ?? 100, 1000);
    return c.json(await modelState(collector, idIn(c), { before, limit }));
  });
  app.get("/ui/models/:id/:version", async (c) =>
    c.json(await versionState(collector, idIn(c), c.req.param("version"))),
  );
  app.get("/ui/runs/:id/files", async (c) => {
    const run = RunId.safeParse(c.req.param("id"));
    if (!run.success) throw noSuch("There is no such run.");
    await getRow(collector, run.data);
    const kind = c.req.query("kind");
    const isKind = (word: string | undefined): word is ArtifactKind =>
      word === "model" || word === "artifact";
    return c.json(
      isKind(kind)
        ? await runFilesState(collector, run.data, kind)
        : { counts: countRunArtifacts(collector, run.data) },
    );
  });

  function namesIn(c: Context) {
    const params = new URL(c.req.url).searchParams;
    return modelsState(collector, parseModelsView(params), numberIn(params.get("after") ?? undefined));
  }

  return app;
}

const themeOf = (c: Context) => parseTheme(getCookie(c, THEME_COOKIE));

const numberIn = (text: string | undefined): number | undefined =>
  text !== undefined && /^[1-9]\d{0,14}$/.test(text) ? Number(text) : undefined;

const noSuch = (message: string) =>
  new CollectorError("not-found", message, { hint: "It may have been deleted." });

function idIn(c: Context): number {
  const id = numberIn(c.req.param("id"));
  if (id === undefined) throw noSuch("There is no such model or artifact: that is no number.");
  return id;
}
