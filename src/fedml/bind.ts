import { createHash } from "node:crypto";
import { hostname } from "node:os";
import { answer, readCall, type FedmlCall, type FedmlHandler } from "./request.ts";
import { textOf } from "./run-list.ts";

/**
 * edges/binding: a device asks for its number. It is one that follows from the device's own id, so nothing is kept of what else it
 * tells: its address, and the API key.
 */
export const bindEdge: FedmlHandler = async (call: FedmlCall) => {
  const { deviceid } = await readCall(call);
  return answer({
    id: edgeIdOf(textOf(deviceid)),
    userName: hostname(),
    url: new URL(call.base).origin,
    general_edge_id: null,
  });
};

/** Positive, and small enough for every reader. */
export const edgeIdOf = (device: string): number =>
  (createHash("sha256").update(device).digest().readUInt32BE(0) >>> 1) + 1;
