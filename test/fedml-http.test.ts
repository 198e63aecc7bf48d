import { afterEach, beforeEach, expect, test } from "bun:test";
import { createTestCollector, type TestCollector } from "./helpers/collector.ts";

const RUN = "1716563514434392064";
let test_: TestCollector;
let base: string;

beforeEach(async () => {
  test_ = createTestCollector({ fedml: "on" });
  await test_.fedml!.listen({ host: "127.0.0.1", port: 0 });
  base = `/fedml/${test_.fedml!.keys.secretOf({ run: RUN })}`;
});

afterEach(() => test_.close());

/** As the client asks: no token, and the Host that it was given. */
const post = (path: string, body: unknown, host = "127.0.0.1:7070") =>
  test_.request(path, { body, token: null, headers: { host } });

const counted = () => Object.fromEntries(test_.fedml!.counts.list().map(({ what, count }) => [what, count]));

test("a configuration names everything by the address that the client used, with keys of one run", async () => {
  const before = Date.now();
  const response = await post(
    `${base}/fedmlOpsServer/configs/fetch`,
    {
      config_name: ["s3_config", "ml_ops_config", "mqtt_config", "docker_config", "r2_config"],
      device_send_time: 17,
    },
    "localhost:7171",
  );
  expect(response.status).toBe(200);
  const { code, data } = (await response.json()) as any;
  expect(code).toBe("SUCCESS");
  expect(Object.keys(data).sort()).toEqual(["docker_config", "ml_ops_config", "mqtt_config", "s3_config"]);
  const { keys, port } = test_.fedml!;
  expect(data.mqtt_config).toEqual({
    BROKER_HOST: "localhost",
    BROKER_PORT: port,
    MQTT_USER: keys.mqttOf({ run: RUN }).user,
    MQTT_PWD: keys.mqttOf({ run: RUN }).password,
    MQTT_KEEPALIVE: 180,
  });
  expect(data.s3_config).toEqual({
    BUCKET_NAME: "run",
    CN_S3_AKI: keys.s3Of({ run: RUN }).accessKeyId,
    CN_S3_SAK: keys.s3Of({ run: RUN }).secretAccessKey,
    CN_S3_ENDPOINT: `http://localhost:7171${base}/s3`,
  });
  const { NTP_RESPONSE, ...urls } = data.ml_ops_config;
  expect(urls).toEqual({
    LOG_SERVER_URL: `http://localhost:7171${base}/fedmlLogsServer/logs/update`,
    EDGE_BINDING_URL: `http://localhost:7171${base}/fedmlOpsServer/edges/binding`,
  });
  expect(NTP_RESPONSE.deviceSendTime).toBe(17);
  expect(NTP_RESPONSE.serverRecvTime).toBeGreaterThanOrEqual(before);
  expect(NTP_RESPONSE.serverSendTime).toBeGreaterThanOrEqual(NTP_RESPONSE.serverRecvTime);
});

test("without names, and without the client's time, a configuration is whole", async () => {
  const { data } = (await (await post(`${base}/fedmlOpsServer/configs/fetch`, {})).json()) as any;
  expect(Object.keys(data)).toEqual(["mqtt_config", "s3_config", "ml_ops_config", "docker_config"]);
  expect(data.ml_ops_config.NTP_RESPONSE).toBeUndefined();
});

test("a wrong secret opens nothing, and is counted", async () => {
  for (const secret of [`${RUN}-${"0".repeat(32)}`, "open", "x", "..%2f..%2fapi"])
    expect((await post(`/fedml/${secret}/fedmlOpsServer/configs/fetch`, {})).status).toBe(401);
  expect(counted()).toEqual({ "wrong-secret": 4 });
});

test("the edge answers only to names of the collector and to no page of others", async () => {
  const path = `${base}/fedmlOpsServer/configs/fetch`;
  expect((await post(path, {}, "evil.example")).status).toBe(421);
  const page = { host: "127.0.0.1:7070", origin: "http://evil.example" };
  expect((await test_.request(path, { body: {}, token: null, headers: page })).status).toBe(403);
});

test("what the edge does not serve, and what is no JSON, is refused and counted", async () => {
  expect((await post(`${base}/fedmlOpsServer/api/v1/cli/getUser`, {})).status).toBe(404);
  expect((await test_.request(`${base}/fedmlOpsServer/configs/fetch`, { token: null })).status).toBe(404);
  expect((await post(`${base}/fedmlOpsServer/configs/fetch`, "{")).status).toBe(400);
  expect((await post(`${base}/fedmlOpsServer/configs/fetch`, "[".repeat(1_000_000))).status).toBe(400);
  expect((await post(`${base}/fedmlOpsServer/configs/fetch`, "[1]")).status).toBe(200);
  expect(counted()).toEqual({ malformed: 2, "unknown-address": 2 });
});

test("without a secret there is nothing, unless it was opened", async () => {
  for (const path of ["/fedmlOpsServer/configs/fetch", "/fedml/open/fedmlOpsServer/configs/fetch"])
    expect((await post(path, {})).status).toBe(401);
  const open = createTestCollector({ fedml: "open" });
  await open.fedml!.listen({ host: "127.0.0.1", port: 0 });
  for (const path of ["/fedmlOpsServer/configs/fetch", "/fedml/open/fedmlOpsServer/configs/fetch"]) {
    const { data } = await open.json(path, { body: {}, token: null, headers: { host: "127.0.0.1:7070" } });
    expect(data.s3_config.CN_S3_ENDPOINT).toBe("http://127.0.0.1:7070/fedml/open/s3");
    expect(data.mqtt_config.MQTT_USER).toBe("open");
  }
  await open.close();
});

test("where MQTT can't listen a client is told why, not to try again for ever", async () => {
  const other = createTestCollector({ fedml: "on" });
  const path = `/fedml/${other.fedml!.keys.secretOf({ run: RUN })}/fedmlOpsServer/configs/fetch`;
  const ask = async () => {
    const response = await other.request(path, {
      body: {},
      token: null,
      headers: { host: "127.0.0.1:7070" },
    });
    return [response.status, await response.text()];
  };
  expect(await ask()).toEqual([503, expect.stringContaining("just starting")]);
  // An address kept for documentation: no machine's.
  await other.fedml!.listen({ host: "203.0.113.1", port: 0 });
  expect(await ask()).toEqual([503, expect.stringContaining("MQTT can't listen")]);
  await other.close();
});

test("a rotated token ends the open keys, too: the same address hands out others at once", async () => {
  const open = createTestCollector({ fedml: "open" });
  await open.fedml!.listen({ host: "127.0.0.1", port: 0 });
  const path = "/fedmlOpsServer/configs/fetch";
  const fetchKeys = async () => {
    const { data } = await open.json(path, { body: {}, token: null, headers: { host: "127.0.0.1:7070" } });
    return [data.mqtt_config.MQTT_PWD, data.s3_config.CN_S3_SAK];
  };
  const before = await fetchKeys();
  expect(await fetchKeys()).toEqual(before);
  open.trust.rotate(`bnc_admin_${"f".repeat(64)}`);
  const { keys } = open.fedml!;
  const scope = { run: undefined };
  expect(await fetchKeys()).toEqual([keys.mqttOf(scope).password, keys.s3Of(scope).secretAccessKey]);
  expect(keys.mqttOf(scope).password).not.toBe(before[0]);
  expect(keys.scopeOfMqtt("open", before[0])).toBeUndefined();
  await open.close();
});
