import { PassThrough } from "node:stream";
import type { Client } from "aedes";
import { expect, test } from "bun:test";
import { createSessions } from "../src/fedml/broker-sessions.ts";
import { createKeys } from "../src/fedml/keys.ts";
import { createTokens } from "../src/token.ts";

test("a connection that ended before it was judged holds no place", async () => {
  const tokens = createTokens(`bnc_admin_${"a".repeat(64)}`);
  const keys = createKeys(() => tokens);
  const heard: string[] = [];
  const sessions = createSessions({
    keys,
    mostOfScope: 1,
    onJoined: (run) => heard.push(`joined ${run}`),
    onLeft: (run) => heard.push(`left ${run}`),
  });
  const { user, password } = keys.mqttOf({ run: "1" });
  const begin = () => {
    const client = { conn: new PassThrough() } as unknown as Client;
    sessions.begin(client, user, password, "c");
    return client;
  };
  const gone = begin();
  const closed = new Promise((resolve) => gone.conn.once("close", resolve));
  gone.conn.destroy();
  await closed;
  expect(sessions.enter(gone)).toBe(false);
  const there = begin();
  expect(sessions.enter(there)).toBe(true);
  expect(sessions.enter(begin())).toBe(false);
  const left = new Promise((resolve) => there.conn.once("close", resolve));
  there.conn.destroy();
  await left;
  expect(heard).toEqual(["joined 1", "left 1"]);
  sessions.close();
});
