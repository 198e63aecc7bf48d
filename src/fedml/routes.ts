import { CollectorError } from "../error.ts";
import type { FedmlCall, FedmlHandler } from "./request.ts";

export interface FedmlRoutes {
  /** POST, by exact path. */
  post: Record<string, FedmlHandler>;
  /** Whatever lies below /s3, by any method. */
  storage?: FedmlHandler | undefined;
}

const OPS = "/fedmlOpsServer";
const CLI = `${OPS}/api/v1`;

/** What the unmodified client and its CLI ask for. */
export const PATHS = {
  configs: `${OPS}/configs/fetch`,
  logs: "/fedmlLogsServer/logs/update",
  binding: `${OPS}/edges/binding`,
  createProject: `${OPS}/projects/createSim`,
  createRun: `${OPS}/runs/createSim`,
  heartBeat: `${CLI}/cli/heartBeat`,
  runList: `${CLI}/platform/queryJobList`,
  runLogs: `${CLI}/log/getLogsFromCli`,
  runStop: `${CLI}/application/stopApplicationFromCli`,
} as const;

export const isAtRoot = (path: string): boolean =>
  path.startsWith(`${OPS}/`) || path.startsWith("/fedmlLogsServer/");

export function dispatch({ post, storage }: FedmlRoutes): FedmlHandler {
  const handlerByPath = new Map(Object.entries(post));
  return (call: FedmlCall) => {
    const handler =
      call.path.startsWith("/s3/") && storage
        ? storage
        : call.request.method === "POST"
          ? handlerByPath.get(call.path)
          : undefined;
    if (!handler)
      throw new CollectorError("not-found", "The FedML edge has nothing at this address.", {
        hint: "It takes what the tracking of FedML's client and `fedml run` ask for; see docs/fedml.md.",
        details: { fedml: "unknown-address" },
      });
    return handler(call);
  };
}
