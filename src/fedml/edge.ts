import { announcedObject, catchUp } from "../artifact/announce.ts";
import { createObjects } from "../blob/objects.ts";
import type { Collector } from "../collector.ts";
import { isLoopbackHost, type Config } from "../config.ts";
import { closeUsesElsewhere } from "../device/use.ts";
import { CollectorError } from "../error.ts";
import type { Tokens } from "../token.ts";
import { artifactTopics, type ObjectContext } from "./artifacts.ts";
import { bindEdge } from "./bind.ts";
import { createBroker, type Broker } from "./broker.ts";
import { configFetch } from "./config-fetch.ts";
import { countOf, createCounts, FEDML_COUNTS, type FedmlCounts } from "./counts.ts";
import { createKeys, OPEN, type FedmlKeys, type FedmlScope } from "./keys.ts";
import { edgeStatusTopics } from "./edge-status.ts";
import { hardwareTopics } from "./hardware.ts";
import { endpointTopics } from "./endpoint.ts";
import { fedmlEnv } from "./env.ts";
import { eventTopics } from "./events.ts";
import { llmTopics } from "./llm.ts";
import { logUpload } from "./log-upload.ts";
import { metricTopics } from "./metrics.ts";
import { modelTopics } from "./models.ts";
import type { FedmlCall } from "./request.ts";
import { heartBeat, runList } from "./run-list.ts";
import { runLogs } from "./run-logs.ts";
import { runStop } from "./run-stop.ts";
import { createProject, createSimulation } from "./simulation.ts";
import { dispatch, isAtRoot, PATHS } from "./routes.ts";
import { roundTopics } from "./rounds.ts";
import { statusTopics } from "./status.ts";
import { storageHandler } from "./storage.ts";
import type { FedmlTopic } from "./topic.ts";
import { watchUnannounced } from "./unannounced.ts";
import { createWriter } from "./writer.ts";

/** What stands in for TensorOpera's platform, to FedML's unmodified client: HTTP, MQTT and a storage. */
export interface FedmlEdge {
  readonly keys: FedmlKeys;
  readonly counts: FedmlCounts;
  /** What went wrong since the start, in words. */
  faults(): { text: string; count: number }[];
  /** The MQTT broker's port; undefined until it listens. */
  readonly port: number | undefined;
  /** Anybody on this machine may write, without a secret. */
  readonly isOpen: boolean;
  /** The answer, if the address is one of this edge. Rejects with what is to be answered; it is counted already. */
  fetch(request: Request, around: Around): Promise<Response> | undefined;
  /** What lets a client that reaches the collector at this origin write to this run. */
  env(run: string, origin: string): Record<string, string>;
  /** Starts the broker: at this port, or any that is free. `secure`: the collector answers by TLS alone. */
  listen(options: { host: string; port: number; secure?: boolean }): Promise<void>;
  close(): Promise<void>;
}

/** What the server knows and decides of a request. */
export interface Around {
  /** Throws unless the request comes from where it should. */
  admit(request: Request): void;
  keepOpen: ((request: Request) => void) | undefined;
}

export interface FedmlEdgeOptions {
  collector: Collector;
  /** Those of now: a rotation ends what was handed out. */
  tokens: () => Tokens;
  mode: Config["fedml"];
  onDiagnostic: (text: string) => void;
}

/** Undefined where nobody wants it. */
export function createFedmlEdge({
  collector,
  tokens,
  mode,
  onDiagnostic,
}: FedmlEdgeOptions): FedmlEdge | undefined {
  if (mode === "off") return undefined;
  const open = mode === "open";
  const keys = createKeys(tokens, { open });
  const counts = createCounts(collector.now);
  const writer = createWriter(collector);
  const context = { collector, writer, counts, keys, objects: createObjects(collector) };
  let broker: Broker | undefined;
  let unwatch = () => {};
  let fault: string | undefined;
  const logs = logUpload(context);
  const handle = dispatch({
    post: {
      [PATHS.configs]: configFetch(keys, brokerPort),
      [PATHS.logs]: logs.handler,
      [PATHS.binding]: bindEdge,
      [PATHS.createProject]: createProject,
      [PATHS.createRun]: createSimulation(collector),
      [PATHS.heartBeat]: heartBeat(tokens, counts),
      [PATHS.runList]: runList(collector, tokens),
      [PATHS.runLogs]: runLogs(collector, tokens),
      [PATHS.runStop]: runStop(collector, tokens),
    },
    storage: storageHandler({
      ...context,
      onObject: (place) => announcedObject(collector, context.objects, place),
    }),
  });

  function brokerPort(): number {
    if (broker) return broker.port;
    if (fault === undefined)
      throw new CollectorError("busy", "The collector is just starting.", { hint: "Try again." });
    throw new CollectorError("busy", fault, { hint: "Start the collector again when that is mended." });
  }

  async function answer(request: Request, place: Place, around: Around): Promise<Response> {
    try {
      around.admit(request);
      return await handle(callOf(request, place, around));
    } catch (error) {
      const what = countOf(error);
      if (what) counts.add(what);
      throw error;
    }
  }

  function callOf(
    request: Request,
    { secret, path, isSecure, host }: Place,
    { keepOpen }: Around,
  ): FedmlCall {
    const scope: FedmlScope | undefined = keys.scopeOf(secret);
    if (!scope)
      throw new CollectorError("unauthorized", "The secret in this address is none of this collector's.", {
        hint: "Ask for the variables again: eval $(binnacle fedml env -rid RUN); they end when the token is rotated.",
        details: { fedml: "wrong-secret" },
      });
    return {
      request,
      scope,
      path,
      base: `${isSecure ? "https" : "http"}://${request.headers.get("host") ?? host}/fedml/${secret}`,
      received: collector.now(),
      keepOpen: () => keepOpen?.(request),
    };
  }

  return {
    keys,
    counts,
    faults: () => counts.list().map(({ what, count }) => ({ text: FEDML_COUNTS[what], count })),
    get port() {
      return broker?.port;
    },
    isOpen: open,
    env: (run, origin) => fedmlEnv(run, keys.secretOf({ run }), origin),
    fetch(request, around) {
      const place = placeOf(request.url, open);
      return place && answer(request, place, around);
    },
    async listen({ host, port, secure = false }) {
      await catchUp(collector, context.objects);
      await closeUsesElsewhere(collector);
      unwatch = watchUnannounced(collector, context.objects, (error) =>
        onDiagnostic(`FedML's uploads can't be looked through: ${(error as Error).message}.`),
      );
      const isLocal = isLoopbackHost(host);
      if (secure && !isLocal)
        onDiagnostic(
          "FedML's clients speak MQTT without TLS only: those of other machines are not served (--fedml off: none are).",
        );
      try {
        broker = await createBroker({
          collector,
          keys,
          counts,
          writer,
          host: secure && !isLocal ? "127.0.0.1" : host.replace(/^\[|\]$/g, ""),
          port: port > 65_535 ? 0 : port,
          onDiagnostic,
          topics: [...topicsOf(context), ...logs.topics],
        });
      } catch (error) {
        // All else works on.
        fault = `FedML's clients are not served: MQTT can't listen, ${(error as Error).message}.`;
        onDiagnostic(fault);
      }
    },
    async close() {
      unwatch();
      await broker?.close();
    },
  };
}

/** Everything that may come by MQTT. */
const topicsOf = (context: ObjectContext): FedmlTopic[] => [
  ...metricTopics(context),
  ...llmTopics(context),
  ...endpointTopics(context),
  ...statusTopics(context),
  ...eventTopics(context),
  ...roundTopics(context),
  ...edgeStatusTopics(context),
  ...artifactTopics(context),
  ...modelTopics(context),
  ...hardwareTopics(context),
];

interface Place {
  secret: string;
  path: string;
  isSecure: boolean;
  host: string;
}

/** The address as it came: a URL object would decode and tidy the names of objects. */
function placeOf(url: string, open: boolean): Place | undefined {
  const match = /^(https?):\/\/([^/?#]+)(\/fedml[^?#]*)/.exec(url);
  if (!match) return undefined;
  const [, scheme, host = "", whole = ""] = match;
  const isSecure = scheme === "https";
  if (open && isAtRoot(whole)) return { secret: OPEN, path: whole, isSecure, host };
  const below = /^\/fedml\/([^/]+)(\/.*)$/.exec(whole);
  return below ? { secret: below[1]!, path: below[2]!, isSecure, host } : undefined;
}
