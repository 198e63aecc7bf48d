import { randomUUID } from "node:crypto";
import type { MqttClient } from "mqtt";
import { CollectorError } from "../../error.ts";
import { RefusedOne } from "../foreign.ts";
import { Refusal } from "../ports.ts";
import type { Configs, FedmlConfig } from "./configs.ts";
import type { Message } from "./message.ts";

/** `of`: the place of its entry among those of the publication. */
type Sent = Message & { of: number };

/** Messages of some entries, in their order, and how far they have come. */
export interface Publication {
  /** The same ones each time. */
  messages: () => Iterable<Sent>;
  /** So many were acknowledged. */
  done: number;
  /** Times that the broker has ended the connection on the very next one. */
  strikes: number;
}

export const publicationOf = (messages: Publication["messages"]): Publication => ({
  messages,
  done: 0,
  strikes: 0,
});

export interface Publisher {
  /** Resolves when the broker has let us in. */
  open(signal: AbortSignal): Promise<void>;
  /** Resolves when all of them are acknowledged for good (PUBCOMP). */
  publish(publication: Publication, signal: AbortSignal): Promise<void>;
  close(): void;
}

/** Under way at once: messages, and characters of them. */
const WINDOW = 100;
const WINDOW_TEXT = 4 * 1024 * 1024;
/** Who acknowledges nothing for so long is not there. */
const SILENT_MS = 30_000;
const CONNECT_MS = 15_000;
/** MQTT's own bound. */
const MAX_MESSAGE = 268_435_455 - 1024;
/** MQTT has no word for a message that a broker will not have: it hangs up. So often, on a connection that was well before. */
const MAX_STRIKES = 5;

interface PublisherOptions {
  configs: Configs;
  timeoutMs?: number | undefined;
}

interface Connection {
  client: MqttClient;
  of: FedmlConfig["broker"];
  /** Called when it ends. Not a promise: that would keep all that ever waited for it. */
  onEnd: Set<(error: Error) => void>;
}

export function createPublisher({ configs, timeoutMs = SILENT_MS }: PublisherOptions): Publisher {
  let connection: Connection | undefined;
  let turn: Promise<unknown> = Promise.resolve();

  /** One after another: how the connection ends is about one publication alone. */
  function inTurn<T>(work: () => Promise<T>): Promise<T> {
    const mine = turn.then(work);
    turn = mine.catch(() => {});
    return mine;
  }

  async function connect(broker: FedmlConfig["broker"], signal: AbortSignal) {
    // Three hundred kilobytes that most collectors never need.
    const { connect } = await import("mqtt");
    const { host, port } = broker;
    const client = connect({
      protocol: "mqtt",
      host,
      port,
      username: broker.user,
      password: broker.password,
      keepalive: broker.keepalive,
      clientId: `FedML_MLOps_Metrics_binnacle_0_${randomUUID()}_ID`,
      protocolVersion: 4,
      clean: true,
      // Whoever needs it connects again, with what the platform says then.
      reconnectPeriod: 0,
      connectTimeout: CONNECT_MS,
    });
    const made: Connection = { client, of: broker, onEnd: new Set() };
    let why: Error | undefined;
    const end = () => {
      if (connection === made) connection = undefined;
      for (const tell of made.onEnd) tell(lost(host, port, why));
      made.onEnd.clear();
    };
    client.on("error", (error) => {
      why ??= error;
      end();
    });
    client.on("close", end);
    try {
      await until(made, signal, (done) => void client.once("connect", () => done()));
      return made;
    } catch (error) {
      client.end(true);
      throw error;
    }
  }

  function drop(of: Connection | undefined): void {
    of?.client.end(true);
    if (connection === of) connection = undefined;
  }

  async function connected(signal: AbortSignal): Promise<Connection> {
    try {
      const { broker } = await configs.get(signal);
      if (connection && !isSame(connection.of, broker)) drop(connection);
      return (connection ??= await connect(broker, signal));
    } catch (error) {
      // It may have moved, or have another password.
      configs.forget();
      throw error;
    }
  }

  async function publish(publication: Publication, signal: AbortSignal): Promise<void> {
    const to = await connected(signal);
    // Alone, and on a connection that answers: what happens then is about this message.
    const isProbe = publication.strikes > 1;
    const before = publication.done;
    let isSent = false;
    try {
      if (isProbe) await ping(to, signal);
      isSent = true;
      await sendAll(to, publication, isProbe ? 1 : WINDOW, signal);
    } catch (error) {
      drop(to);
      configs.forget();
      signal.throwIfAborted();
      if (isSent) strike(publication, before);
      throw error;
    }
  }

  function strike(publication: Publication, before: number): void {
    publication.strikes = publication.done === before ? publication.strikes + 1 : 1;
    if (publication.strikes < MAX_STRIKES) return;
    const { of } = nth(publication, publication.done);
    const hasTaken = publication.done > 0;
    const why = "The broker ends the connection whenever it gets this message.";
    throw new RefusedOne(of, new Refusal(400, "refused", why), { hasTaken });
  }

  const ping = (to: Connection, signal: AbortSignal): Promise<void> =>
    until(to, signal, (done) => {
      const { client } = to;
      const timer = setTimeout(() => done(silence(client)), timeoutMs);
      const answered = ({ cmd }: { cmd: string }) => cmd === "pingresp" && done();
      client.on("packetreceive", answered);
      client.sendPing();
      return () => {
        clearTimeout(timer);
        client.off("packetreceive", answered);
      };
    });

  function sendAll(
    to: Connection,
    publication: Publication,
    window: number,
    signal: AbortSignal,
  ): Promise<void> {
    const { client } = to;
    const messages = publication.messages()[Symbol.iterator]();
    for (let skipped = 0; skipped < publication.done; skipped++) messages.next();
    return until(to, signal, (done) => {
      const acknowledged = new Set<number>();
      let next = publication.done;
      let isDone = false;
      let texts = 0;
      let timer = watch();
      fill();
      return () => {
        isDone = true;
        clearTimeout(timer);
      };

      function watch() {
        return setTimeout(() => done(silence(client)), timeoutMs);
      }

      function fill(): void {
        while (!isDone && next - publication.done < window && (texts === 0 || texts < WINDOW_TEXT)) {
          const { value, done: isLast } = messages.next() as IteratorResult<Sent, undefined>;
          if (isLast) break;
          const at = next++;
          const { topic, payload, of } = value;
          if (payload.length * 3 > MAX_MESSAGE && Buffer.byteLength(payload) > MAX_MESSAGE)
            return done(
              new RefusedOne(of, new Refusal(400, "too-large", "It is more than an MQTT message can be.")),
            );
          texts += payload.length;
          client.publish(topic, payload, { qos: 2 }, (error) => {
            if (isDone) return;
            if (error) return done(lost(to.of.host, to.of.port, error));
            texts -= payload.length;
            acknowledge(at);
          });
        }
        if (!isDone && next === publication.done) done();
      }

      function acknowledge(at: number): void {
        acknowledged.add(at);
        while (acknowledged.delete(publication.done)) publication.done++;
        clearTimeout(timer);
        timer = watch();
        fill();
      }
    });
  }

  return {
    async open(signal) {
      await inTurn(() => connected(signal));
    },
    publish: (publication, signal) => inTurn(() => publish(publication, signal)),
    close: () => drop(connection),
  };
}

function nth({ messages }: Publication, at: number): Sent {
  let index = 0;
  for (const message of messages()) if (index++ === at) return message;
  throw new Error(`There is no message ${at}.`);
}

const isSame = (a: FedmlConfig["broker"], b: FedmlConfig["broker"]) =>
  a.host === b.host && a.port === b.port && a.user === b.user && a.password === b.password;

function lost(host: string, port: number, why: Error | undefined): Error {
  if (why instanceof CollectorError) return why;
  const code = (why as { code?: unknown } | undefined)?.code;
  if (code === 4 || code === 5)
    return new CollectorError(
      "unreachable",
      `The broker at ${host}:${port} does not take the password that the platform told.`,
      {
        hint: "It is asked for anew. If it stays so, ask who runs the platform.",
      },
    );
  const said = typeof code === "string" ? ` (${code})` : "";
  return new CollectorError(
    "unreachable",
    `The connection to the broker at ${host}:${port} broke off${said}.`,
    {
      hint: "Is MQTT let through from here? All data waits here until it is.",
    },
  );
}

const silence = ({ options: { host, port } }: MqttClient) =>
  new CollectorError("unreachable", `The broker at ${host}:${port} acknowledges nothing.`, {
    hint: "All data waits here until it does.",
  });

/** Until the work says that it is done, the connection ends or the signal comes; `begin` returns what is to be put away then. */
function until(
  { onEnd }: Connection,
  signal: AbortSignal,
  begin: (done: (error?: Error) => void) => void | (() => void),
): Promise<void> {
  return new Promise((resolve, reject) => {
    let isDone = false;
    let putAway: void | (() => void);
    const finish = (error?: Error) => {
      if (isDone) return;
      isDone = true;
      onEnd.delete(finish);
      signal.removeEventListener("abort", abort);
      putAway?.();
      if (error) reject(error);
      else resolve();
    };
    const abort = () => finish(new Error("The delivery has ended."));
    onEnd.add(finish);
    signal.addEventListener("abort", abort, { once: true });
    if (signal.aborted) return abort();
    putAway = begin(finish);
    // It may have been over at once.
    if (isDone) putAway?.();
  });
}
