import { z } from "zod";
import { CollectorError } from "../../error.ts";
import { checkAddress, createResolver } from "../address.ts";
import { printable, type Http } from "../http.ts";

/** Where the platform's other parts are, by its own word, and the keys to them. Never shown: it has passwords in it. */
export interface FedmlConfig {
  broker: { host: string; port: number; user: string; password: string; keepalive: number };
  storage: StorageConfig;
  /** Where lines are posted to. */
  logs: string;
}

export interface StorageConfig {
  /** With the bucket. */
  url: string;
  region: string;
  accessKeyId: string;
  secretAccessKey: string;
}

export interface Configs {
  /** As it was told a while ago at most. */
  get(signal: AbortSignal): Promise<FedmlConfig>;
  /** Something there did not work: it is asked for anew. */
  forget(): void;
}

const PATH = "/fedmlOpsServer/configs/fetch";
/** So long it is believed. */
const KEPT_MS = 10 * 60_000;
/** boto3's, where an endpoint says none. */
const REGION = "us-east-1";

const text = z.string().min(1).max(2000);
const Answer = z.object({
  code: z.literal("SUCCESS"),
  data: z.object({
    mqtt_config: z.object({
      BROKER_HOST: text.regex(/^[A-Za-z0-9.:_-]+$/),
      BROKER_PORT: z.coerce.number().int().min(1).max(65_535),
      MQTT_USER: z.string().max(2000),
      MQTT_PWD: z.string().max(2000),
      MQTT_KEEPALIVE: z.coerce.number().min(1).max(65_535).default(180),
    }),
    s3_config: z.object({
      BUCKET_NAME: text.regex(/^[A-Za-z0-9][A-Za-z0-9._-]*$/),
      CN_S3_AKI: text,
      CN_S3_SAK: text,
      CN_S3_ENDPOINT: z.string().max(2000).nullish(),
      CN_REGION_NAME: z
        .string()
        .regex(/^[a-z0-9-]{0,64}$/)
        .nullish(),
    }),
    ml_ops_config: z.object({ LOG_SERVER_URL: text }),
  }),
});

export interface ConfigsOptions {
  http: Http;
  /** The destination's own address: what it names is no less safe. */
  url: string;
  now: () => number;
  monotonic: () => number;
}

export function createConfigs({ http, url, now, monotonic }: ConfigsOptions): Configs {
  const insecureHttp = url.startsWith("http:");
  let kept: { config: Promise<FedmlConfig>; at: number } | undefined;

  async function fetchConfig(signal: AbortSignal): Promise<FedmlConfig> {
    const { json } = await http.postJson(
      PATH,
      { config_name: ["mqtt_config", "s3_config", "ml_ops_config"], device_send_time: Math.floor(now()) },
      signal,
    );
    const parsed = Answer.safeParse(json);
    if (!parsed.success) throw unusable(json, parsed.error);
    const { mqtt_config: mqtt, s3_config: s3, ml_ops_config: ops } = parsed.data.data;
    await checkBroker(mqtt.BROKER_HOST);
    return {
      broker: {
        host: mqtt.BROKER_HOST,
        port: mqtt.BROKER_PORT,
        user: mqtt.MQTT_USER,
        password: mqtt.MQTT_PWD,
        keepalive: Math.floor(mqtt.MQTT_KEEPALIVE),
      },
      storage: {
        url: storageUrl(s3),
        region: s3.CN_REGION_NAME || REGION,
        accessKeyId: s3.CN_S3_AKI,
        secretAccessKey: s3.CN_S3_SAK,
      },
      logs: placeOf(ops.LOG_SERVER_URL),
    };
  }

  /** No less safe than the destination's own address. */
  function placeOf(address: string): string {
    try {
      return checkAddress(address, { insecureHttp });
    } catch (cause) {
      const where = URL.canParse(address) ? new URL(address).host : "something that is no address";
      throw new CollectorError(
        "unreachable",
        `The platform sends to ${printable(where, 200)}, where nothing may go.`,
        {
          hint: "Is it without TLS, though the platform itself has it? Where the network is trusted, add it as fedml+http:// with --insecure-http.",
          cause,
        },
      );
    }
  }

  function storageUrl(s3: z.infer<typeof Answer>["data"]["s3_config"]): string {
    const { BUCKET_NAME: bucket, CN_S3_ENDPOINT: endpoint, CN_REGION_NAME: region } = s3;
    if (endpoint) return `${placeOf(endpoint)}/${bucket}`;
    return `https://s3.${region || REGION}.amazonaws.com/${bucket}`;
  }

  return {
    get(signal) {
      if (kept && monotonic() - kept.at < KEPT_MS) return kept.config;
      const config = fetchConfig(signal);
      kept = { config, at: monotonic() };
      config.catch(() => (kept = undefined));
      return config;
    },
    forget() {
      kept = undefined;
    },
  };
}

/** A broker is reached by a socket of its own, and an address of this machine's link is no platform's. */
const checkBroker = (host: string): Promise<void> =>
  createResolver(`http://${host.includes(":") ? `[${host}]` : host}`)();

function unusable(json: unknown, error: z.ZodError): CollectorError {
  const { code, message } = (json ?? {}) as { code?: unknown; message?: unknown };
  const said =
    typeof code === "string" && code !== "SUCCESS"
      ? `It says ${printable(code, 100)}${typeof message === "string" ? `: ${printable(message, 300)}` : ""}.`
      : `${error.issues[0]?.path.join(".") ?? "All of it"} is not what it should be.`;
  return new CollectorError("unreachable", `The platform told no configuration that can be used. ${said}`, {
    hint: "Is it the address of a FedML platform? All data waits here until it tells one.",
  });
}
