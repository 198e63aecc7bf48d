import { z } from "zod";
import { CollectorError } from "../error.ts";
import { findDevice } from "../device/find.ts";
import { getDevice, listDevices } from "../device/list.ts";
import { listRunDevices } from "../device/run-devices.ts";
import { Device, ListDevices, RunDevice } from "../device/schema.ts";
import { listEvents } from "../sample/event.ts";
import { querySamples } from "../sample/query.ts";
import { DeviceEventPage, QueryEvents, QuerySamples, SamplePage } from "../sample/schema.ts";
import { createDeviceHub } from "./device-channel.ts";
import {
  createRoutes,
  json,
  readQuery,
  readRunId,
  route,
  RunParams,
  type App,
  type AppContext,
  type Edge,
} from "./route.ts";
import { streamEvents, streamHead } from "./stream.ts";

const tags = ["devices"];
const MAX_READERS = 200;
/** Of what is live only the newest is worth having: a reader that is further behind skips what comes. */
const MAX_BEHIND = 256 * 1024;

const DeviceName = z.string().min(1).max(255);
/** Its id, the beginning of it, or its host name. */
const DeviceParams = z.object({ id: DeviceName });
const DeviceList = z.object({ devices: z.array(Device) });
const RunDeviceList = z.object({ run: z.string(), devices: z.array(RunDevice) });
const WatchDevices = z.object({
  /** Its id, the beginning of it, or its host name; absent: all. */
  device: DeviceName.optional(),
});

export function deviceRoutes({ collector, ending, onUnforeseen }: Edge): App {
  const app = createRoutes();
  const hub = createDeviceHub(collector, onUnforeseen);

  route(
    app,
    {
      method: "get",
      path: "/devices",
      summary: "The machines that were ever seen, with their newest values",
      tags,
      query: ListDevices,
      responses: { 200: json(DeviceList, "The collector's own machine first") },
    },
    async (c) => c.json({ devices: await listDevices(collector, readQuery(c, ListDevices)) }),
  );

  // Before /devices/{id}, which would take it for a name.
  route(
    app,
    {
      method: "get",
      path: "/devices/live",
      summary: "Devices as they are: ready, device, samples (once a second), event. Who is slow hears less",
      tags,
      query: WatchDevices,
      responses: { 200: { description: "Events", content: { "text/event-stream": { schema: z.string() } } } },
    },
    async (c) => {
      const { device } = readQuery(c, WatchDevices);
      const id = device === undefined ? undefined : (await findDevice(collector, device)).id;
      const head = streamHead(c);
      if (head) return head;
      if (hub.readers >= MAX_READERS)
        throw new CollectorError("busy", `${MAX_READERS} readers are connected already.`, {
          hint: "Close some dashboards.",
        });
      const present = await hub.present(id);
      return streamEvents(c, {
        ending,
        pingEvery: 10_000,
        maxBehind: MAX_BEHIND,
        open: (stream) => hub.watch(id, present, stream),
      });
    },
  );

  route(
    app,
    {
      method: "get",
      path: "/devices/{id}",
      summary: "One machine, by its id, the beginning of it, or its host name",
      tags,
      params: DeviceParams,
      responses: { 200: json(Device, "The machine") },
    },
    async (c) => c.json(await getDevice(collector, nameIn(c))),
  );

  route(
    app,
    {
      method: "get",
      path: "/devices/{id}/samples",
      summary: "Readings of a machine, its GPUs and runs over a time, in buckets for charts",
      tags,
      params: DeviceParams,
      query: QuerySamples,
      responses: { 200: json(SamplePage, "A line for each reading; subjects without samples have none") },
    },
    async (c) => {
      const { id } = await findDevice(collector, nameIn(c));
      return c.json(await querySamples(collector, id, readQuery(c, QuerySamples)));
    },
  );

  route(
    app,
    {
      method: "get",
      path: "/devices/{id}/events",
      summary: "What happened to a machine and its GPUs, and what was out of order when the time began",
      tags,
      params: DeviceParams,
      query: QueryEvents,
      responses: { 200: json(DeviceEventPage, "Events, ascending") },
    },
    async (c) => {
      const { id } = await findDevice(collector, nameIn(c));
      return c.json(await listEvents(collector, id, readQuery(c, QueryEvents)));
    },
  );

  route(
    app,
    {
      method: "get",
      path: "/runs/{id}/devices",
      summary: "The machines a run lived on, when, and what it used there",
      tags,
      params: RunParams,
      responses: { 200: json(RunDeviceList, "Empty where nothing was recorded") },
    },
    async (c) => {
      const run = readRunId(c);
      return c.json({ run, devices: await listRunDevices(collector, run) });
    },
  );

  return app;
}

/** The router has matched it, so it is there. */
const nameIn = (c: AppContext) => c.req.param("id")!;
