import type { EventEmitter } from "node:events";
import { createServer, type AddressInfo, type Server, type Socket } from "node:net";
import {
  Aedes,
  type AedesPublishPacket,
  type AuthenticateError,
  type Client,
  type ConnectPacket,
  type PublishPacket,
} from "aedes";
import type { Collector } from "../collector.ts";
import { CollectorError } from "../error.ts";
import { Gate, type GateEnd, type GateShare } from "./broker-gate.ts";
import { createIngest } from "./broker-ingest.ts";
import { createPackets } from "./broker-packets.ts";
import { BrokerStore } from "./broker-store.ts";
import type { FedmlCount, FedmlCounts } from "./counts.ts";
import { createLeaves } from "./leave.ts";
import { createSessions } from "./broker-sessions.ts";
import type { FedmlKeys } from "./keys.ts";
import type { FedmlTopic } from "./topic.ts";
import type { FedmlWriter } from "./writer.ts";

export interface BrokerOptions {
  collector: Collector;
  keys: FedmlKeys;
  counts: FedmlCounts;
  writer: FedmlWriter;
  host: string;
  /** Taken if it is free, else any. */
  port: number;
  onDiagnostic: (text: string) => void;
  topics: readonly FedmlTopic[];
  /** For tests: how many connections there may be. */
  limits?: Partial<BrokerLimits>;
}

export interface Broker {
  port: number;
  close(): Promise<void>;
}

export interface BrokerLimits {
  connections: number;
  /** With the keys of one run. */
  ofScope: number;
  /** That have not shown a password yet; beyond these the oldest is dropped. */
  halfOpen: number;
  /** ms within which CONNECT must be there. */
  connectWithin: number;
  /** ms between looks whether the keys of connections are still good. */
  verifyEvery?: number;
  /** ms that a run whose clients all left waits for them. */
  backWithin?: number;
}

const LIMITS: BrokerLimits = { connections: 4000, ofScope: 1000, halfOpen: 256, connectWithin: 10_000 };
/** QoS 2 messages of one client between PUBREC and PUBREL. */
const MAX_INFLIGHT = 10_000;
const MAX_SUBSCRIPTIONS = 200;
const COUNT_BY_END: Record<GateEnd, FedmlCount> = {
  "too-large": "too-large",
  "broken-off": "broken-off",
  slow: "refused",
  malformed: "malformed",
};
/** aedes' words for who says nothing, and for what goes beyond its limits. */
const SILENCE = /^keep alive timeout$|^connect did not arrive in time$/;
const LIMIT = /^maxInflightInbound exceeded|^Client queue limit reached$|^topic has too many levels$/;
const BAD_PASSWORD = 4;
const UNAVAILABLE = 3;

/**
 * The MQTT broker that FedML's clients talk to. A message is taken when its PUBLISH comes, and answered when it is durable; what
 * aedes does then only concerns subscribers, who hear of their own run alone.
 */
export async function createBroker(options: BrokerOptions): Promise<Broker> {
  const { keys, counts, host, port, topics, onDiagnostic, collector } = options;
  const limits = { ...LIMITS, ...options.limits };
  const ingest = createIngest({ topics, counts, now: collector.now, onDiagnostic });
  const packets = createPackets();
  const fresh = new WeakSet<object>();
  const gates = new Set<Gate>();
  const halfOpen = new Set<Gate>();
  const leaves = createLeaves(collector, {
    backWithin: limits.backWithin,
    onError: (error) => onDiagnostic(`FedML, a client that left: ${String(error)}`),
  });
  const sessions = createSessions({
    keys,
    mostOfScope: limits.ofScope,
    verifyEvery: limits.verifyEvery,
    onJoined: (run) => leaves.joined(run),
    onLeft: (run) => leaves.left(run),
  });
  const share: GateShare = { bytes: 0 };

  const aedes = await Aedes.createBroker({
    persistence: new BrokerStore(packets, fresh),
    connectTimeout: limits.connectWithin,
    maxInflightInbound: MAX_INFLIGHT,
    // Ours are longer: they begin with the run.
    maxClientsIdLength: 1000,
    // The gate holds back what comes before.
    queueLimit: 0xffff,
    preConnect,
    authenticate,
    authorizePublish,
    authorizeSubscribe(client, subscription, done) {
      const { subscriptions } = client as unknown as { subscriptions: object };
      const isTooMany = Object.keys(subscriptions).length >= MAX_SUBSCRIPTIONS;
      if (isTooMany) counts.add("refused");
      done(null, isTooMany || subscription.topic.startsWith("$") ? null : subscription);
    },
    authorizeForward,
  });

  function preConnect(
    client: Client,
    packet: ConnectPacket,
    done: (error: Error | null, ok: boolean) => void,
  ): void {
    const password = packet.password?.toString() ?? "";
    const name = sessions.begin(client, packet.username ?? "", password, packet.clientId);
    if (name !== undefined) packet.clientId = name;
    // Nothing is kept for who is not there.
    packet.clean = true;
    done(null, true);
  }

  function authenticate(
    client: Client,
    _user: string | undefined,
    _password: Buffer | undefined,
    done: (error: AuthenticateError | null, ok: boolean | null) => void,
  ): void {
    if (!sessions.scopeOf(client)) {
      counts.add("wrong-password");
      return done(refusal("The user or the password is none of ours.", BAD_PASSWORD), null);
    }
    if (!sessions.enter(client)) {
      if (!client.conn.destroyed) counts.add("refused");
      return done(refusal("Too many connections of this run.", UNAVAILABLE), null);
    }
    done(null, true);
  }

  /** Of a PUBLISH that just came, and of wills. */
  function authorizePublish(
    client: Client | null,
    packet: PublishPacket,
    done: (error?: Error | null) => void,
  ): void {
    const scope = client && sessions.scopeOf(client);
    if (!client || !scope) return done(new Error("Nobody's message."));
    // Newer clients ask for it with every message.
    if (packet.retain) {
      counts.add("retained");
      packet.retain = false;
    }
    const take = () => ingest(packet, scope, sessions.ownName(client.id));
    if (packet.qos !== 2 || packet.messageId === undefined) {
      take().then(() => done(null), done);
      return;
    }
    const { isNew, done: taken } = packets.once(client.id, packet, take);
    if (isNew) fresh.add(packet);
    else counts.add("replayed");
    taken.then(() => done(null), done);
  }

  function authorizeForward(client: Client, packet: AedesPublishPacket): AedesPublishPacket | null {
    const from = (packet as { clientId?: string }).clientId;
    const to = sessions.scopeOf(client);
    return from !== undefined && to && sessions.isOf(to, from) ? packet : null;
  }

  aedes.on("clientReady", (client) => {
    const gate = client.conn as Gate;
    halfOpen.delete(gate);
    gate.open();
  });
  aedes.on("clientError", (_client, error) => noteEnd(error));
  aedes.on("connectionError", (_client, error) => noteEnd(error));
  // Of its store, which is ours and has no errors: nobody would hear of one.
  (aedes as EventEmitter).on("error", (error) => onDiagnostic(`FedML's broker: ${String(error)}`));

  /** Why aedes ended a connection, where that is not counted yet. */
  function noteEnd(error: Error): void {
    // Of a client that left while its message was stored, and of refusals.
    if (error.message === "connection closed" || "errorCode" in error) return;
    if (error instanceof CollectorError || LIMIT.test(error.message)) counts.add("refused");
    else counts.add(SILENCE.test(error.message) ? "broken-off" : "malformed");
  }

  function accept(socket: Socket): void {
    if (gates.size >= limits.connections) {
      counts.add("refused");
      socket.destroy();
      return;
    }
    if (halfOpen.size >= limits.halfOpen) {
      counts.add("broken-off");
      halfOpen.values().next().value!.destroy();
    }
    socket.setNoDelay(true);
    // Whose machine went away is found out though it asked for no keep alive.
    socket.setKeepAlive(true, 60_000);
    const gate = new Gate(socket, share, (why) => counts.add(COUNT_BY_END[why]));
    gates.add(gate);
    halfOpen.add(gate);
    gate.once("close", () => {
      gates.delete(gate);
      halfOpen.delete(gate);
    });
    aedes.handle(gate);
  }

  const server = createServer({ allowHalfOpen: true }, accept);
  const bound = await listen(server, host, port).catch(() => listen(server, host, 0));
  server.on("error", (error) => onDiagnostic(`FedML's broker: ${error.message}`));

  return {
    port: bound,
    async close() {
      // That they go is our doing.
      leaves.close();
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      await new Promise<void>((resolve) => aedes.close(() => resolve()));
      sessions.close();
      for (const gate of gates) gate.destroy();
      leaves.close();
      await ingest.settled();
      await closed;
    },
  };
}

const refusal = (message: string, returnCode: number): AuthenticateError =>
  Object.assign(new Error(message), { returnCode });

function listen(server: Server, host: string, port: number): Promise<number> {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen({ host, port, exclusive: true }, () => {
      server.removeListener("error", reject);
      resolve((server.address() as AddressInfo).port);
    });
  });
}
