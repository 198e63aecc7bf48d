import { heartbeatRoutes } from "./api/heartbeat.ts";
import { healthRoutes } from "./api/health.ts";
import { guard, secure } from "./api/guard.ts";
import { logRoutes } from "./api/logs.ts";
import { metricRoutes } from "./api/metrics.ts";
import { toResponse } from "./api/error.ts";
import { createRoutes, type App } from "./api/route.ts";
import { runRoutes } from "./api/runs.ts";
import { signInRoutes, tokenRoutes } from "./api/sign-in.ts";
import type { Trust } from "./api/auth.ts";
import type { Collector } from "./collector.ts";
import { CollectorError } from "./error.ts";
import { VERSION } from "./version.ts";

export interface AppOptions {
  trust: Trust;
  /** Hears of every error that no verb foresaw. */
  onUnforeseen: (error: unknown) => void;
}

/** The whole HTTP surface, on one page. Never listens. */
export function createApp(collector: Collector, { trust, onUnforeseen }: AppOptions): App {
  const edge = { collector, trust };
  const app = createRoutes();
  app.use(guard(trust, onUnforeseen));
  app.onError((error) => secure(toResponse(error, onUnforeseen)));
  app.notFound(() => {
    throw new CollectorError("not-found", "There is nothing here.", { hint: "See /api/v1/openapi.json." });
  });

  app.route("/", healthRoutes());
  app.route("/", signInRoutes(edge));

  app.route("/api/v1", runRoutes(edge));
  app.route("/api/v1", heartbeatRoutes(edge));
  app.route("/api/v1", metricRoutes(edge));
  app.route("/api/v1", logRoutes(edge));
  app.route("/api/v1", tokenRoutes(edge));

  app.doc31("/api/v1/openapi.json", {
    openapi: "3.1.0",
    info: { title: "binnacle", version: VERSION },
  });
  return app;
}
