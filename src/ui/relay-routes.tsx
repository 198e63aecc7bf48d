/** @jsxImportSource hono/jsx */
import { Hono, type Context } from "hono";
import { getCookie } from "hono/cookie";
import type { Collector } from "../collector.ts";
import { CollectorError } from "../error.ts";
import type { RelayList } from "../relay/schema.ts";
import type { SourceList } from "../source/schema.ts";
import type { ShowPage } from "./pages/layout.tsx";
import { RelayPage, SourcesPage } from "./pages/relay.tsx";
import { relayBanner } from "./relay-view.ts";
import type { Shell } from "./shell.ts";
import { parseTheme, THEME_COOKIE } from "./theme.ts";

/** What sends on what is recorded here. */
export interface Relaying {
  status(): RelayList | Promise<RelayList>;
}

export interface RelayOptions {
  /** Where what is recorded goes on to; absent: nowhere. */
  relays?: Relaying | undefined;
  /** Who relays here; absent where this is no platform. */
  sources?: (() => SourceList | Promise<SourceList>) | undefined;
}

const nowhere: RelayList = { installation: { id: "", epoch: 0 }, relays: [], drops: [] };

/** Where everything goes on to, and on a platform where it comes from. */
export function relayPages(collector: Collector, page: ShowPage, options: RelayOptions): Hono {
  const app = new Hono();
  const { relays, sources } = options;

  app.get("/relay", async (c) => {
    const list = (await relays?.status()) ?? nowhere;
    return page(c, <RelayPage state={{ list, now: collector.now() }} theme={themeOf(c)} />);
  });

  app.get("/sources", async (c) => {
    if (!sources)
      throw new CollectorError("not-found", "This collector is no platform: nobody relays here.", {
        hint: "Start it with --role platform to let others do so.",
      });
    const state = {
      list: await sources(),
      now: collector.now(),
      origin: new URL(c.req.url).origin,
    };
    return page(c, <SourcesPage state={state} theme={themeOf(c)} />);
  });

  app.get("/ui/banner", async (c) => c.json({ banner: (await shellOf(collector, options)).banner }));

  return app;
}

export async function shellOf({ now }: Collector, { relays, sources }: RelayOptions): Promise<Shell> {
  const list = (await relays?.status()) ?? nowhere;
  return {
    hasSources: sources !== undefined,
    hasRelays: list.relays.length > 0,
    banner: relayBanner(list, now()),
  };
}

const themeOf = (c: Context) => parseTheme(getCookie(c, THEME_COOKIE));
