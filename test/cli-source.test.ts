import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { randomBytes } from "node:crypto";
import { spanOf } from "../src/cli/source-add.ts";
import { startServer, type TestServer } from "./helpers/cli.ts";

let platform: TestServer;
beforeAll(async () => {
  platform = await startServer({ args: ["--role", "platform"] });
});
afterAll(() => platform.close());

const ID = randomBytes(16).toString("hex");

/** A greeting, as a source makes it. */
const greet = (token: string): Promise<Response> =>
  fetch(`${platform.url}/relay/v1/sources/${ID}/cursor`, {
    method: "POST",
    headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
    body: JSON.stringify({
      epoch: 1,
      nonce: "a".repeat(32),
      turn: Date.now(),
      openings: [],
      last: 5,
      path: [ID],
      host: "node\u001b[31m-1",
      version: "1.2.3",
      sent_at: Date.now(),
    }),
  });

describe("binnacle source", () => {
  test("says what to do where nobody relays yet", async () => {
    const { stdout, code } = await platform.cli("source", "list");
    expect(code).toBe(0);
    expect(stdout).toContain("binnacle source add NAME");
  });

  test("add prints a token this once, and nothing else", async () => {
    const { stdout, code } = await platform.cli("source", "add", "lab");
    expect(code).toBe(0);
    expect(stdout).toMatch(/^bnc_source_[0-9a-f]{64}\n$/);
    expect((await greet(stdout.trim())).status).toBe(200);
    const list = await platform.cli("source", "list");
    expect(list.stdout).not.toContain(stdout.trim());
    expect(list.stdout).toMatch(/^lab +node-1 +1\.2\.3 +\S+ \S+ +0 +0 +0 +5$/m);
    expect(list.stdout).not.toContain("\u001b[31m");
  });

  test("list --json has sources and tokens", async () => {
    const { sources, tokens } = await platform.json("source", "list", "--json");
    expect(sources).toMatchObject([{ id: ID, label: "lab", behind: 5, acked: 0, through: [] }]);
    expect(tokens).toMatchObject([{ name: "lab", expires: null, revoked: null }]);
    expect(tokens[0].used).not.toBeNull();
  });

  test("add --expires makes one that ends", async () => {
    const added = await platform.json("source", "add", "short", "--expires", "30d", "--json");
    const days = (Date.parse(added.expires) - Date.now()) / 86_400_000;
    expect(days).toBeGreaterThan(29.9);
    expect(days).toBeLessThan(30.1);
    for (const text of ["30", "d", "-1d", "0d", "1y", "1e3d"]) expect(() => spanOf(text)).toThrow(/30d/);
    const bad = await platform.cli("source", "add", "short", "--expires", "soon");
    expect(bad.code).toBe(2);
    expect(bad.stderr).toContain("30d");
  });

  test("a second token takes the place of the first without a gap", async () => {
    const first = (await platform.cli("source", "add", "turn")).stdout.trim();
    const second = (await platform.cli("source", "add", "turn")).stdout.trim();
    expect(first).not.toBe(second);
    const { stdout } = await platform.cli("source", "revoke", "turn", "--others");
    expect(stdout).toBe("1 token of turn ended.\n");
    expect((await greet(first)).status).toBe(401);
    // The id belongs to lab's token: this one is good, and not for it.
    expect((await greet(second)).status).toBe(403);
  });

  test("revoke ends all of a name, at once", async () => {
    const token = (await platform.cli("source", "add", "gone")).stdout.trim();
    const { code, stdout } = await platform.cli("source", "revoke", "gone");
    expect({ code, stdout }).toEqual({ code: 0, stdout: "1 token of gone ended.\n" });
    expect((await greet(token)).status).toBe(401);
    expect((await platform.cli("source", "list")).stdout).toMatch(/^gone .*revoked /m);
    const again = await platform.cli("source", "revoke", "gone");
    expect(again.code).toBe(5);
    const nobody = await platform.cli("source", "revoke", "nobody");
    expect(nobody.code).toBe(3);
    expect(nobody.stderr).toContain("binnacle source list");
  });

  test("wants a name that can be one", async () => {
    for (const args of [["add"], ["revoke"], ["add", "a b"], ["add", "../x"]]) {
      const { code, stderr } = await platform.cli("source", ...args);
      expect(code).toBe(2);
      expect(stderr).not.toBe("");
    }
  });

  test("says of a collector that is no platform how to make it one", async () => {
    const plain = await startServer();
    for (const args of [["list"], ["add", "lab"], ["revoke", "lab"]]) {
      const { code, stderr } = await plain.cli("source", ...args);
      expect(code).toBe(5);
      expect(stderr).toContain("start --role platform");
    }
    await plain.close();
  });
});
