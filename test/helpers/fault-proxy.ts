import { connect, createServer, type AddressInfo, type Socket } from "node:net";

/** Numbers in [0, 1) that a seed gives again. */
export type Random = () => number;

/** mulberry32. */
export function createRandom(seed: number): Random {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

export type Fault =
  /** Connected, and nothing passes any more. */
  | "blackhole"
  | "corrupt"
  /** Requests pass, answers don't. */
  | "half-open"
  | "reset"
  /** A few bytes at a time. */
  | "slow";

const FAULTS: Fault[] = ["blackhole", "corrupt", "half-open", "reset", "reset", "slow"];

/** Stands between two processes on the level of TCP, and each of its connections meets a fault of its own. */
export interface FaultProxy {
  url: string;
  /** How often each fault happened. */
  readonly met: Record<Fault, number>;
  /** While it is false everything passes; what is under way ends. */
  foul: boolean;
  calm(): void;
  close(): void;
}

export interface FaultProxyOptions {
  /** The port to pass on to; undefined: nobody answers. */
  target: () => number | undefined;
  random: Random;
  /** How long a connection that says nothing any more stays, ms. */
  silence?: () => number;
}

export async function createFaultProxy({
  target,
  random,
  silence = () => 50 + random() * 500,
}: FaultProxyOptions): Promise<FaultProxy> {
  const met: Record<Fault, number> = { blackhole: 0, corrupt: 0, "half-open": 0, reset: 0, slow: 0 };
  const open = new Set<() => void>();

  const server = createServer({ allowHalfOpen: true, noDelay: true }, (client) => {
    const port = target();
    client.on("error", () => {});
    if (port === undefined) return void client.resetAndDestroy();
    const upstream = connect({ port, host: "127.0.0.1", allowHalfOpen: true, noDelay: true });
    const fault = proxy.foul ? FAULTS[Math.floor(random() * FAULTS.length)] : undefined;
    // From a few bytes, which is within a head, to more than most connections ever see.
    const after = Math.floor(2 ** (3 + random() * 11));
    const down = random() < 0.4;
    const timers = new Set<ReturnType<typeof setTimeout>>();
    const end = () => {
      open.delete(end);
      for (const timer of timers) clearTimeout(timer);
      client.resetAndDestroy();
      upstream.resetAndDestroy();
    };
    open.add(end);
    client.on("close", () => (upstream.destroyed ? end() : undefined));
    upstream.on("close", () => (client.destroyed ? end() : undefined));
    upstream.on("error", end);
    client.on("error", end);
    let isSilent = false;
    const strike = () => {
      met[fault!]++;
      if (fault === "reset") return end();
      isSilent = fault !== "slow" && fault !== "corrupt";
      if (isSilent) timers.add(setTimeout(end, silence()));
    };
    pass(client, upstream, fault === "half-open" || down ? undefined : fault);
    pass(upstream, client, fault === "half-open" || down ? fault : undefined);

    function pass(from: Socket, to: Socket, meets: Fault | undefined): void {
      let seen = 0;
      let struck = false;
      from.on("data", (data: Buffer) => {
        const at = after - seen;
        seen += data.length;
        if (meets === undefined || (struck && meets === "corrupt")) return forward(from, to, data);
        if (!struck && at >= data.length) return forward(from, to, data);
        if (!struck) {
          struck = true;
          if (meets === "corrupt") data[at] = data[at]! ^ (1 + Math.floor(random() * 255));
          else if (at > 0) forward(from, to, data.subarray(0, at));
          strike();
          if (meets === "corrupt") return forward(from, to, data);
          if (meets !== "slow") return;
          data = data.subarray(at);
        }
        if (meets === "slow") trickle(from, to, data);
      });
      from.on("end", () => {
        if (!isSilent) to.end();
      });
    }

    function forward(from: Socket, to: Socket, data: Buffer): void {
      if (isSilent || to.destroyed || to.write(data)) return;
      from.pause();
      to.once("drain", () => from.resume());
    }

    function trickle(from: Socket, to: Socket, data: Buffer): void {
      from.pause();
      const bytes = Math.max(64, Math.ceil(data.length / 8));
      const next = (at: number) => {
        if (to.destroyed) return;
        to.write(data.subarray(at, at + bytes));
        if (at + bytes >= data.length) return void from.resume();
        const timer = setTimeout(() => {
          timers.delete(timer);
          next(at + bytes);
        }, 5);
        timers.add(timer);
      };
      next(0);
    }
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));

  const proxy: FaultProxy = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    met,
    foul: false,
    calm() {
      proxy.foul = false;
      for (const end of open) end();
    },
    close() {
      server.close();
      for (const end of open) end();
    },
  };
  return proxy;
}
