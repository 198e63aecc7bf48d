import { announce } from "../artifact/announce.ts";
import { nameOf, originOf, whereIs, type ObjectContext } from "./artifacts.ts";
import { readLabel } from "./events.ts";
import { readPayload, type Payload } from "./payload.ts";
import { placeRun } from "./place.ts";
import type { FedmlTopic } from "./topic.ts";

interface Role {
  topic: string;
  /** Of the field with the address. */
  address: string;
  name(round: string, edge: string): string;
}

const ROLES: Record<string, Role> = {
  global: {
    topic: "fl_server/mlops/global_aggregated_model",
    address: "global_aggregated_model_s3_address",
    name: (round) => `global-model${round}`,
  },
  client: {
    topic: "fl_server/mlops/client_model",
    address: "client_model_s3_address",
    name: (round, edge) => `client-model${edge}${round}`,
  },
  net: {
    topic: "fl_server/mlops/training_model_net",
    address: "training_model_net_s3_address",
    name: () => "model-net",
  },
};

/** Models of a federated run: named by whose they are and by round, since they have no names of their own. */
export const modelTopics = (context: ObjectContext): FedmlTopic[] =>
  Object.entries(ROLES).map(([role, { topic, address, name }]) => ({
    filter: topic,
    async receive({ scope, payload }) {
      const fields = readPayload(payload);
      const run = await placeRun(context.collector, scope, fields["run_id"]);
      const round = readLabel(fields["round_idx"], 100);
      const edge = readLabel(fields["edge_id"], 100);
      await announce(context.collector, context.objects, {
        run,
        about: {
          kind: "model",
          name: nameOf(
            name(round === undefined ? "" : `-round-${round}`, edge === undefined ? "" : `-edge-${edge}`),
          ),
          type: "model",
          metadata: { role, ...roundOf(fields) },
          aliases: [],
          origin: originOf(fields),
        },
        at: whereIs(context, scope, fields[address]),
      });
    },
  }));

const roundOf = ({ round_idx: round }: Payload): { round?: number } =>
  typeof round === "number" && Number.isFinite(round) ? { round } : {};
