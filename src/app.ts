import { archiveRoutes } from "./api/archive.ts";
import { artifactFileRoutes } from "./api/artifact-files.ts";
import { artifactRoutes } from "./api/artifacts.ts";
import { backupRoutes } from "./api/backup.ts";
import { blobRoutes } from "./api/blobs.ts";
import { deviceRoutes } from "./api/devices.ts";
import { doctorRoutes } from "./api/doctor.ts";
import { documentRoutes } from "./api/document.ts";
import { heartbeatRoutes } from "./api/heartbeat.ts";
import { healthRoutes } from "./api/health.ts";
import { fedmlRoutes } from "./api/fedml.ts";
import { guard, secure } from "./api/guard.ts";
import { liveRoutes } from "./api/live.ts";
import { logRoutes } from "./api/logs.ts";
import { metricRoutes, takeRecords } from "./api/metrics.ts";
import { toResponse } from "./api/error.ts";
import { overlayRoutes } from "./api/overlay.ts";
import { pythonRoutes } from "./api/python.ts";
import { receivingRoutes } from "./api/relay.ts";
import { relayRoutes } from "./api/relays.ts";
import { createRoutes, type App, type Connection } from "./api/route.ts";
import { runRoutes } from "./api/runs.ts";
import { shutdownRoutes } from "./api/shutdown.ts";
import { sourceRoutes } from "./api/sources.ts";
import { signInRoutes, tokenRoutes } from "./api/sign-in.ts";
import { spanRoutes } from "./api/spans.ts";
import { unserved } from "./api/unserved.ts";
import type { Trust } from "./api/auth.ts";
import type { Collector } from "./collector.ts";
import { exportRoutes, type Sampled } from "./export/prometheus.ts";
import type { FedmlEdge } from "./fedml/edge.ts";
import type { Relays } from "./relay/relay.ts";
import { RELAY_PATH } from "./relay/contract.ts";
import { listSources } from "./source/list.ts";
import { verifySourceToken } from "./source/tokens.ts";
import { presentProblem } from "./ui/present.tsx";
import { uiRoutes } from "./ui/routes.tsx";

export interface AppOptions {
  trust: Trust;
  /** Hears of every error that no verb foresaw. */
  onUnforeseen: (error: unknown) => void;
  /** Aborted when the server is about to stop: streams end. */
  ending?: AbortSignal;
  /** Somebody who may has asked for the end of the collector. */
  onShutdown?: () => void;
  /** The command line that runs this program again; without it the database is not looked through. */
  command?: string[];
  /** What reads this machine; without it /metrics has nothing of the hardware. */
  sampler?: Sampled | undefined;
  /** Where what is recorded goes on to; absent: nowhere. */
  relays?: Relays | undefined;
  /** Others may relay here. */
  platform?: boolean;
  /** What FedML's unmodified client takes for its platform. */
  fedml?: FedmlEdge | undefined;
}

/** The whole HTTP surface, on one page. Never listens. */
export function createApp(collector: Collector, options: AppOptions): App {
  const {
    trust,
    onUnforeseen,
    ending = new AbortController().signal,
    onShutdown = () => {},
    command,
    platform = false,
    fedml,
  } = options;
  const edge = { collector, trust, ending, onShutdown, command, onUnforeseen, relays: options.relays };
  const app = createRoutes();
  const refuse = async (error: unknown, request: Request) => {
    const response = toResponse(error, onUnforeseen);
    return secure(URL.canParse(request.url) ? await presentProblem(request, response) : response);
  };
  app.use(guard(trust, refuse));
  app.onError((error, c) => refuse(error, c.req.raw));
  app.notFound((c) => {
    throw unserved(app, c.req.method, c.req.path);
  });

  app.route("/", healthRoutes(collector));
  app.route("/", signInRoutes(edge));
  app.route("/", pythonRoutes());

  app.route("/api/v1", runRoutes(edge));
  app.route("/api/v1", heartbeatRoutes(edge));
  app.route("/api/v1", metricRoutes(edge));
  app.route("/api/v1", overlayRoutes(edge));
  app.route("/api/v1", logRoutes(edge));
  app.route("/api/v1", spanRoutes(edge));
  app.route("/api/v1", liveRoutes(edge));
  app.route("/api/v1", deviceRoutes(edge));
  app.route("/api/v1", blobRoutes(edge));
  app.route("/api/v1", artifactRoutes(edge));
  app.route("/api/v1", artifactFileRoutes(edge));
  app.route("/api/v1", archiveRoutes(edge));
  app.route("/api/v1", backupRoutes(edge));
  app.route("/api/v1", relayRoutes(edge));
  app.route("/api/v1", doctorRoutes(edge, fedml?.faults));
  app.route("/api/v1", tokenRoutes(edge));
  app.route("/api/v1", shutdownRoutes(edge));
  app.route("/api/v1", fedmlRoutes(fedml?.env));

  if (platform) {
    trust.acceptSources((token) => verifySourceToken(collector, token));
    app.route(RELAY_PATH, receivingRoutes(edge));
    app.route("/api/v1", sourceRoutes(edge));
  }

  app.route("/", exportRoutes(collector, options.sampler, options.relays));
  app.route(
    "/",
    uiRoutes(collector, {
      relays: options.relays,
      sources: platform ? () => listSources(collector) : undefined,
    }),
  );

  app.route("/", documentRoutes(app));

  const routed = app.fetch;
  app.fetch = (request, connection, context) => {
    const { keepOpen } = (connection ?? {}) as Connection;
    const answered = fedml?.fetch(request, { admit: trust.admitSite, keepOpen });
    if (answered) return answered.then(secure, (error: unknown) => refuse(error, request));
    const run = request.method === "POST" ? recordsOf(request.url) : undefined;
    return run === undefined ? routed(request, connection, context) : takePast(request, run);
  };

  /** The same guard, handler and headers; a third of the time. */
  async function takePast(request: Request, run: string): Promise<Response> {
    try {
      trust.admit(request);
      return secure(await takeRecords(collector, run, request));
    } catch (error) {
      return refuse(error, request);
    }
  }

  return app;
}

/** The run whose records are posted to this address; undefined for any other address. */
const recordsOf = (url: string): string | undefined =>
  /^https?:\/\/[^/]+\/api\/v1\/runs\/([A-Za-z0-9][\w.-]{0,127})\/records$/.exec(url)?.[1];
