/**
 * Records what the real client sends into ../fedml-exchanges, one file a version: `node test/fedml-client/record.mjs`. It stands in for
 * the platform and answers just enough that the client goes on. What names this machine, a run or a key becomes a word in braces.
 */
import { spawn, spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import http from "node:http";
import net from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { clientEnvironment, pythonOf, versions } from "./install.mjs";

const here = fileURLToPath(new URL(".", import.meta.url));
const RUN = "123456789012345";
const PREFIX = "/fedml/recorded";

const listening = (server) =>
  new Promise((resolve) => server.listen(0, "127.0.0.1", () => resolve(server.address().port)));

/** Requests and packets go to `note` in the order they come. */
async function platform(note) {
  let addresses;
  const web = http.createServer((request, response) => {
    const chunks = [];
    request.on("data", (chunk) => chunks.push(chunk));
    request.on("end", () => {
      const body = Buffer.concat(chunks);
      const headers = {};
      for (let at = 0; at < request.rawHeaders.length; at += 2)
        headers[request.rawHeaders[at]] = request.rawHeaders[at + 1];
      note({
        request: `${request.method} ${request.url}`,
        headers,
        ...(request.url.startsWith(`${PREFIX}/s3`) && request.method === "PUT"
          ? { bytes: body.length }
          : { body: body.toString() }),
      });
      answer(request, response, addresses);
    });
  });
  web.on("checkContinue", (request, response) => {
    response.writeContinue();
    web.emit("request", request, response);
  });
  const broker = net.createServer((socket) => speakMqtt(socket, note));
  addresses = { web: await listening(web), broker: await listening(broker) };
  return { ...addresses, close: () => [web.close(), broker.close(), web.closeAllConnections()] };
}

function answer({ method, url }, response, { web, broker }) {
  const base = `http://127.0.0.1:${web}${PREFIX}`;
  const { pathname, searchParams } = new URL(url, base);
  const json = (data) => {
    response.setHeader("content-type", "application/json");
    response.end(JSON.stringify({ code: "SUCCESS", message: "", data }));
  };
  const xml = (text) => {
    response.setHeader("content-type", "application/xml");
    response.end(`<?xml version="1.0" encoding="UTF-8"?>${text}`);
  };
  const devices = [{ id: "1", name: "one", log_url: "" }];
  const pages = { total_num: 1, totalSize: 1, total_pages: 1, totalPages: 1, current_page: 1, pageNum: 1 };
  const jobList = [{ id: RUN, name: "one", status: "RUNNING", createTime: "2026-11-23T10:00:00Z", cost: 0 }];
  if (pathname.endsWith("/configs/fetch"))
    return json({
      mqtt_config: {
        BROKER_HOST: "127.0.0.1",
        BROKER_PORT: broker,
        MQTT_USER: "{user}",
        MQTT_PWD: "{password}",
        MQTT_KEEPALIVE: 180,
      },
      s3_config: {
        BUCKET_NAME: "run",
        CN_S3_AKI: "{access}",
        CN_S3_SAK: "{secret}",
        CN_S3_ENDPOINT: `${base}/s3`,
      },
      ml_ops_config: {
        LOG_SERVER_URL: `${base}/fedmlLogsServer/logs/update`,
        EDGE_BINDING_URL: `${base}/fedmlOpsServer/edges/binding`,
      },
      docker_config: {},
    });
  if (pathname.endsWith("/heartBeat")) return json(true);
  if (pathname.endsWith("/queryJobList")) return json({ jobList });
  if (pathname.endsWith("/getLogsFromCli"))
    return json({ ...pages, logs: ["a"], logList: ["a"], log_full_url: "", devices });
  if (searchParams.has("uploads"))
    return xml(
      `<InitiateMultipartUploadResult><UploadId>{upload}</UploadId></InitiateMultipartUploadResult>`,
    );
  if (method === "POST" && searchParams.has("uploadId"))
    return xml(`<CompleteMultipartUploadResult><ETag>"e"</ETag></CompleteMultipartUploadResult>`);
  if (method === "PUT") response.setHeader("ETag", `"{etag}"`);
  if (method !== "PUT") return json({});
  response.end();
}

/** The little of MQTT 3.1.1 that the client needs to go on. */
function speakMqtt(socket, note) {
  let rest = Buffer.alloc(0);
  let client = "";
  const text = (bytes, at) => bytes.subarray(at + 2, at + 2 + bytes.readUInt16BE(at)).toString();
  const packet = (head, bytes) => {
    const type = head >> 4;
    if (type === 1) {
      const start = 2 + bytes.readUInt16BE(0);
      client = text(bytes, start + 4);
      note({
        connect: client,
        level: bytes[start],
        flags: bytes[start + 1],
        keepalive: bytes.readUInt16BE(start + 2),
      });
      socket.write(Buffer.from([0x20, 2, 0, 0]));
    } else if (type === 3) {
      const topic = text(bytes, 0);
      const at = 2 + bytes.readUInt16BE(0);
      note({ publish: topic, flags: head & 15, payload: bytes.subarray(at + 2).toString(), client });
      socket.write(Buffer.from([0x50, 2, bytes[at], bytes[at + 1]]));
    } else if (type === 6) socket.write(Buffer.from([0x70, 2, bytes[0], bytes[1]]));
    else if (type === 8) socket.write(Buffer.from([0x90, 3, bytes[0], bytes[1], 2]));
    else if (type === 12) socket.write(Buffer.from([0xd0, 0]));
    else if (type === 14) note({ disconnect: client });
  };
  socket.on("error", () => {});
  socket.on("data", (chunk) => {
    rest = Buffer.concat([rest, chunk]);
    for (;;) {
      let length = 0;
      let at = 1;
      for (; at < rest.length; at++) {
        length += (rest[at] & 127) << (7 * (at - 1));
        if (rest[at] < 128) break;
      }
      if (at >= rest.length || rest.length < at + 1 + length) return;
      packet(rest[0], rest.subarray(at + 1, at + 1 + length));
      rest = rest.subarray(at + 1 + length);
    }
  });
}

async function record(folder, version, name, script, args) {
  const noted = [];
  const home = mkdtempSync(join(tmpdir(), "fedml-record-"));
  const { web, close } = await platform((entry) => noted.push(entry));
  const env = {
    ...clientEnvironment(folder, version, home),
    FEDML_ENV_VERSION: "local",
    FEDML_ENV_LOCAL_ON_PREMISE_PLATFORM_HOST: `127.0.0.1:${web}${PREFIX}`,
    FEDML_ENV_LOCAL_ON_PREMISE_PLATFORM_PORT: "80",
    FEDML_CURRENT_RUN_ID: RUN,
    FEDML_CURRENT_EDGE_ID: "1",
    FEDML_CURRENT_VERSION: "local",
    FEDML_USING_MLOPS: "true",
  };
  const child = spawn(pythonOf(folder), [join(here, script), ...args], {
    cwd: home,
    env,
    stdio: ["ignore", "ignore", "inherit"],
  });
  await new Promise((resolve) => child.on("exit", resolve));
  close();
  rmSync(home, { recursive: true, force: true });
  const neutral = JSON.stringify(noted, undefined, 1)
    .replaceAll(`127.0.0.1:${web}`, "{host}")
    .replaceAll(PREFIX, "{prefix}")
    .replaceAll(home, "/home/you")
    .replaceAll(here.slice(0, -1), "/home/you")
    .replaceAll(RUN, "{run}")
    .replaceAll("%7Bupload%7D", "{upload}")
    .replaceAll(/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/g, "00000000-0000-0000-0000-000000000000")
    .replaceAll(/os\/[^ "]+ md\/arch[^ "]+/g, "os/linux")
    .replaceAll(/Signature=[0-9a-f]{64}/g, "Signature={signature}");
  return { name, exchanges: JSON.parse(neutral) };
}

const installed = spawnSync(process.execPath, [join(here, "install.mjs")], { encoding: "utf8" });
const folder = installed.stdout.trim();
if (folder === "") throw new Error(installed.stderr);
const out = join(here, "../fedml-exchanges");
mkdirSync(out, { recursive: true });
const commands = ["list", `status -rid ${RUN}`, `logs -rid ${RUN}`, `stop -rid ${RUN}`];
for (const version of versions) {
  const recordings = [
    await record(folder, version, "example", "example.py", []),
    await record(folder, version, "artifacts", "artifacts.py", ["recorded", "9000000"]),
    await record(folder, version, "federated", "federated.py", [RUN]),
    await record(folder, version, "logs", "logs.py", [RUN, "3"]),
    await record(
      folder,
      version,
      "commands",
      "cli.py",
      commands.map((words) => `run ${words} -v local -k {token}`),
    ),
  ];
  writeFileSync(
    join(out, `${version}.json`),
    `${JSON.stringify({ client: `fedml ${version}`, recordings }, undefined, 1)}\n`,
  );
}
