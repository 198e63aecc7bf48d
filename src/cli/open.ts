import { spawn } from "node:child_process";
import { requestJson } from "../client/typescript/http.ts";
import { connectionFlags, defineCommand, jsonFlag } from "./command.ts";
import { connect } from "./connect.ts";
import { print, printJson } from "./output.ts";

export const command = defineCommand({
  name: "open",
  summary: "Print a link that signs you in to the dashboard, and open it where there is a browser.",
  description: "The link works once, within 10 minutes.",
  flags: {
    print: { type: "boolean", help: "only print the link" },
    ...jsonFlag,
    ...connectionFlags,
  },
  examples: [
    ["open", "open the dashboard"],
    ["open --print", "print a link to open elsewhere, say through ssh -L 7070:localhost:7070"],
  ],
  async run({ values }) {
    const connection = connect(values);
    const { url } = await requestJson<{ url: string }>(connection, "/api/v1/sign-in-codes", {
      method: "POST",
      body: {},
    });
    const link = new URL(url, connection.url).href;
    if (values.json) {
      await printJson({ url: link });
      return 0;
    }
    await print(`${link}\n`);
    if (!values.print && hasBrowser()) openBrowser(link);
    return 0;
  },
});

/** Not where the output is read by a program, nor on a server without a screen. */
const hasBrowser = () =>
  process.stdout.isTTY &&
  (process.platform === "darwin" || Boolean(process.env["DISPLAY"] || process.env["WAYLAND_DISPLAY"]));

function openBrowser(link: string): void {
  const opener = process.platform === "darwin" ? "open" : "xdg-open";
  const child = spawn(opener, [link], { stdio: "ignore", detached: true });
  // No opener there: the link is on the screen.
  child.on("error", () => {});
  child.unref();
}
