import { readFileSync } from "node:fs";
import { requestJson } from "../client/typescript/http.ts";
import { CollectorError } from "../error.ts";
import { FEDML_PREFIX } from "../relay/fedml/address.ts";
import type { Relay } from "../relay/schema.ts";
import { oneLine } from "./cells.ts";
import { connectionFlags, defineCommand, jsonFlag } from "./command.ts";
import { connect } from "./connect.ts";
import { UsageError } from "./error.ts";
import { printJson, printText } from "./output.ts";
import { notesOf, settledRelay, stateOf } from "./relay-state.ts";
import { tokenOfEnvironment } from "./relay-token.ts";

export const command = defineCommand({
  name: "relay add",
  usage: "NAME URL",
  maxPositionals: 2,
  summary: "Send everything to a platform, too, or what they take to OpenTelemetry or FedML.",
  description:
    "What is kept here already goes first. Again with the same address it takes a new token. The token is that which\n" +
    "`binnacle source add NAME` prints on the platform: from --token-file, else from\n" +
    "$BINNACLE_RELAY_TOKEN_NAME (NAME in capitals, '_' for other characters), else from $BINNACLE_RELAY_TOKEN.\n" +
    "An address such as otlp+https://host:4318 is that of an OpenTelemetry backend: it gets metrics, output and readings\n" +
    "of the hardware at least once, by default what comes from now on. fedml+https://open.fedml.ai is that of a platform\n" +
    "of FedML's protocol: the same, with models and artifacts. It takes no token; MQTT there is without TLS, and what is\n" +
    "put into its storage can be read by everybody who has its address.\n" +
    "It stays added where the first attempt fails, and is tried again; the exit code then is 4 where nothing answers as it\n" +
    "should, 5 where a person is needed, as for a token that is refused.",
  flags: {
    "token-file": { type: "string", value: "FILE", help: "file with the token; -: standard input" },
    from: {
      type: "string",
      value: "WHEN",
      help: "now: leave out what is here already; history: begin with it",
    },
    "ca-file": { type: "string", value: "FILE", help: "trust these certificates, PEM, and no others" },
    "insecure-http": { type: "boolean", help: "beyond loopback without TLS" },
    ...jsonFlag,
    ...connectionFlags,
  },
  examples: [
    [
      "relay add main https://platform.example.org:7070 --token-file token",
      "send everything there, from the first run on",
    ],
    ["relay add main https://platform.example.org:7070 --from now", "only what comes from now on"],
    [
      "relay add grafana otlp+https://otel.example.org:4318 --token-file token",
      "metrics and logs to OpenTelemetry",
    ],
    ["relay add tensoropera fedml+https://open.fedml.ai", "runs to TensorOpera's platform"],
  ],
  async run({ values, positionals: [name, url] }) {
    if (name === undefined || url === undefined)
      throw new UsageError("Give a name and the platform's address.", "relay add");
    if (values.from !== undefined && values.from !== "now" && values.from !== "history")
      throw new UsageError(`--from wants now or history, not '${values.from}'.`, "relay add");
    const connection = connect(values);
    const ca = values["ca-file"];
    await requestJson<Relay>(connection, "/api/v1/relays", {
      body: {
        name,
        url,
        from: values.from,
        token: tokenOf(name, url, values["token-file"]),
        ca: ca === undefined ? undefined : readText(ca, "--ca-file"),
        insecure_http: values["insecure-http"],
      },
    });
    const relay = await settledRelay(connection, name);
    if (values.json) await printJson(relay);
    else {
      const lines = [`${name} is ${stateOf(relay)}: ${relay.url}`, ...notesOf(relay)];
      await printText(`${lines.join("\n")}\n`);
    }
    throwFailed(relay);
    return 0;
  },
});

/** A script is to know, too. */
function throwFailed({ name, state, error }: Relay): void {
  if (error === null) return;
  const said = `The last attempt to reach ${name} failed: ${oneLine(error.message)}`;
  if (state === "waiting")
    throw new CollectorError("unreachable", said, {
      hint: `It stays added and is tried again: see \`binnacle relay status\`.`,
    });
  throw new CollectorError(state === "in-use" ? "source-in-use" : "forbidden", said, {
    hint: `It stays added: once that is mended, add it again, or \`binnacle relay retry ${name}\`.`,
  });
}

function tokenOf(name: string, url: string, file: string | undefined): string | undefined {
  const isFedml = url.toLowerCase().startsWith(FEDML_PREFIX);
  if (isFedml && file !== undefined)
    throw new UsageError("A platform of FedML's protocol takes no token.", "relay add");
  if (isFedml) return undefined;
  if (file === undefined) return tokenOfEnvironment(name);
  const token = readText(file === "-" ? 0 : file, "--token-file").trim();
  if (token === "")
    throw new CollectorError("invalid", "There is no token in what --token-file names.", {
      hint: "Write into it what `binnacle source add NAME` prints on the platform.",
    });
  return token;
}

function readText(file: string | number, flag: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch (cause) {
    const { code = "" } = cause as NodeJS.ErrnoException;
    throw new CollectorError(
      code === "ENOENT" ? "not-found" : "invalid",
      `What ${flag} names can't be read${code === "" ? "" : ` (${code})`}.`,
      { hint: "Name a file that you may read.", cause },
    );
  }
}
