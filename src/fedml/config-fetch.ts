import type { FedmlKeys } from "./keys.ts";
import { answerText, readCall, type FedmlCall, type FedmlHandler } from "./request.ts";

/** Any will do: the path before it says whose it is. */
export const BUCKET = "run";
/** s; the client sends a ping so often. */
const KEEPALIVE = 180;

/**
 * Where a client finds everything else, with the keys to it. Clients ask once for each `fedml.log`, and wait for the answer: what
 * is the same for all calls of a scope is written once.
 */
export function configFetch(keys: FedmlKeys, brokerPort: () => number): FedmlHandler {
  const partsByCall = new Map<string, Record<string, string>>();

  function partsOf({ scope, base }: FedmlCall): Record<string, string> {
    // A run's secret stands in its address, and ends with the token; the open address stays while its keys do not.
    const id = scope.run === undefined ? `${base} ${keys.mqttOf(scope).password}` : base;
    let parts = partsByCall.get(id);
    if (!parts) {
      const port = brokerPort();
      const mqtt = keys.mqttOf(scope);
      const s3 = keys.s3Of(scope);
      parts = {
        mqtt_config: JSON.stringify({
          BROKER_HOST: new URL(base).hostname.replace(/^\[|\]$/g, ""),
          BROKER_PORT: port,
          MQTT_USER: mqtt.user,
          MQTT_PWD: mqtt.password,
          MQTT_KEEPALIVE: KEEPALIVE,
        }),
        s3_config: JSON.stringify({
          BUCKET_NAME: BUCKET,
          CN_S3_AKI: s3.accessKeyId,
          CN_S3_SAK: s3.secretAccessKey,
          CN_S3_ENDPOINT: `${base}/s3`,
        }),
        ml_ops_config: JSON.stringify({
          LOG_SERVER_URL: `${base}/fedmlLogsServer/logs/update`,
          EDGE_BINDING_URL: `${base}/fedmlOpsServer/edges/binding`,
        }),
        docker_config: "{}",
      };
      if (partsByCall.size >= MAX_REMEMBERED) partsByCall.clear();
      partsByCall.set(id, parts);
    }
    return parts;
  }

  return async (call) => {
    const { config_name: names, device_send_time: sent } = await readCall(call);
    const parts = partsOf(call);
    const asked = Array.isArray(names) ? [...new Set(names)] : Object.keys(parts);
    const data = asked.flatMap((name) => {
      const part = typeof name === "string" && Object.hasOwn(parts, name) ? parts[name]! : undefined;
      if (part === undefined) return [];
      return name === "ml_ops_config" && typeof sent === "number" && Number.isFinite(sent)
        ? `"${name}":${part.slice(0, -1)},"NTP_RESPONSE":${ntpOf(sent, call.received)}}`
        : `"${name}":${part}`;
    });
    return answerText(`{${data.join(",")}}`);
  };
}

/** Addresses whose answer is remembered. */
const MAX_REMEMBERED = 1000;

/** By this the client moves its clock to ours. */
const ntpOf = (sent: number, received: number) =>
  `{"deviceSendTime":${sent},"serverRecvTime":${received},"serverSendTime":${received}}`;
