import { createHash } from "node:crypto";
import type { Client } from "aedes";
import type { FedmlKeys, FedmlScope } from "./keys.ts";

const MAX_CLIENT_ID = 200;
/** No run's id holds it. */
const SEPARATOR = "|";
/** A rotation of the token ends what was handed out, connections too, within this. */
const VERIFY_EVERY = 5000;

interface Session {
  scope: FedmlScope;
  user: string;
  password: string;
}

export interface SessionsOptions {
  keys: FedmlKeys;
  /** Connections with the keys of one run. */
  mostOfScope: number;
  verifyEvery?: number | undefined;
  /** A run has its first connection, or lost its last. */
  onJoined: (run: string) => void;
  onLeft: (run: string) => void;
}

/** Whose connections these are, and how many there are of each run. */
export interface Sessions {
  /** The name that a client has among those of all runs; undefined where its password is none of ours. */
  begin(client: Client, user: string, password: string, id: string): string | undefined;
  /** Counts it until it is closed; false where its run has enough of them, or it is closed already. */
  enter(client: Client): boolean;
  scopeOf(client: Client): FedmlScope | undefined;
  /** Whether a message of the client with this name is for subscribers with these keys. */
  isOf(scope: FedmlScope, name: string): boolean;
  /** The name that a client gave itself. */
  ownName(name: string): string;
  close(): void;
}

export function createSessions({
  keys,
  mostOfScope,
  verifyEvery = VERIFY_EVERY,
  onJoined,
  onLeft,
}: SessionsOptions): Sessions {
  const sessions = new WeakMap<Client, Session>();
  const clientsByScope = new Map<string, Set<Client>>();
  const timer = setInterval(verify, verifyEvery);
  timer.unref();

  function verify(): void {
    for (const clients of clientsByScope.values())
      for (const client of clients) {
        const { user, password } = sessions.get(client)!;
        if (!keys.scopeOfMqtt(user, password)) client.close();
      }
  }

  return {
    begin(client, user, password, id) {
      const scope = keys.scopeOfMqtt(user, password);
      if (!scope) return undefined;
      sessions.set(client, { scope, user, password });
      // A client of another run that takes the same name must not end this one's connection.
      return nameOf(scope) + SEPARATOR + shorten(id || `anonymous-${crypto.randomUUID()}`);
    },
    enter(client) {
      // It would never be heard that it closes.
      if (client.conn.destroyed) return false;
      const { scope } = sessions.get(client)!;
      const name = nameOf(scope);
      const clients = clientsByScope.get(name) ?? new Set();
      if (clients.size >= mostOfScope) return false;
      if (clients.size === 0 && scope.run !== undefined) onJoined(scope.run);
      clientsByScope.set(name, clients.add(client));
      client.conn.once("close", () => {
        clients.delete(client);
        if (clients.size > 0 || clientsByScope.get(name) !== clients) return;
        clientsByScope.delete(name);
        if (scope.run !== undefined) onLeft(scope.run);
      });
      return true;
    },
    scopeOf: (client) => sessions.get(client)?.scope,
    isOf: (scope, name) => name.startsWith(nameOf(scope) + SEPARATOR),
    ownName: (name) => name.slice(name.indexOf(SEPARATOR) + 1),
    close: () => clearInterval(timer),
  };
}

const nameOf = ({ run }: FedmlScope) => run ?? "";

const shorten = (id: string) =>
  id.length <= MAX_CLIENT_ID
    ? id
    : `${id.slice(0, MAX_CLIENT_ID - 41)}-${createHash("sha1").update(id).digest("hex")}`;
