import {
  afterAll,
  afterEach,
  beforeAll,
  beforeEach,
  describe,
  expect,
  setDefaultTimeout,
  test,
} from "bun:test";
import { createHash, randomBytes } from "node:crypto";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  findPythons,
  python,
  runPython,
  startServer,
  type PythonOptions,
  type TestServer,
} from "./helpers/python.ts";

// Many processes, perhaps on a busy machine.
setDefaultTimeout(60_000);

let server: TestServer;
beforeAll(async () => {
  server = await startServer();
});
afterAll(() => server.remove());

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "binnacle-python-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

/** Writes files and returns the folder. */
function files(contents: Record<string, string | Uint8Array>): string {
  for (const [path, content] of Object.entries(contents)) {
    mkdirSync(join(folder, path, ".."), { recursive: true });
    writeFileSync(join(folder, path), content);
  }
  return folder;
}

const inSpool = () => (existsSync(join(folder, "spool")) ? readdirSync(join(folder, "spool")) : []);

const run = (script: string, options: PythonOptions = {}) =>
  python(`import binnacle, fedml, os\nos.chdir(${JSON.stringify(folder)})\n${script}`, {
    ...options,
    env: { ...server.env, BINNACLE_SPOOL: join(folder, "spool"), ...options.env },
  });

const digestOf = (bytes: string | Uint8Array) => createHash("sha256").update(bytes).digest("hex");

// eslint-disable-next-line typescript/no-explicit-any -- a test asserts the shape itself
async function find(kind: string, name: string): Promise<any> {
  const { artifacts } = await server.get(`/api/v1/artifacts?kind=${kind}&name=${encodeURIComponent(name)}`);
  return artifacts[0];
}

async function pathsOf(kind: string, name: string, version = "latest"): Promise<Record<string, string>> {
  const { id } = await find(kind, name);
  const page = await server.get(`/api/v1/artifacts/${id}/versions/${version}/files?limit=10000`);
  return Object.fromEntries(
    page.files.map(({ path, sha256 }: { path: string; sha256: string }) => [path, sha256]),
  );
}

describe.each(findPythons())("on Python $version", ({ version, path: interpreter }) => {
  test("a file, a folder, several paths, and what is said about them", async () => {
    const big = randomBytes(9 * 1024 * 1024);
    files({
      "ckpt/weights.bin": big,
      "ckpt/.hidden": "h",
      "ckpt/deep/er/empty": "",
      "notes.txt": `of ${version}`,
    });
    const id = (
      await run(
        `
run = binnacle.init()
one = binnacle.log_model("file ${version}", "notes.txt", aliases="best", metadata={"accuracy": 0.9, "nan": float("nan")}, description="first")
two = run.log_model("folder ${version}", "ckpt")
three = binnacle.log_artifact("several ${version}", ["ckpt", "notes.txt"], type="dataset")
report = binnacle.Artifact("made ${version}", type="log")
report.add_file("notes.txt", "texts/notes.txt"); report.add_dir("ckpt/deep")
report.metadata["of"] = "it"
four = binnacle.log_artifact(report, metadata={"more": [1]})
assert [each.wait(60) for each in (one, two, three, four)] == ["v1"] * 4
print(run.id)
`,
        { python: interpreter },
      )
    ).trim();
    const text = digestOf(`of ${version}`);
    expect(await pathsOf("model", `file ${version}`)).toEqual({ "notes.txt": text });
    expect(await pathsOf("model", `folder ${version}`)).toEqual({
      ".hidden": digestOf("h"),
      "deep/er/empty": digestOf(""),
      "weights.bin": digestOf(big),
    });
    expect(Object.keys(await pathsOf("artifact", `several ${version}`)).sort()).toEqual([
      "ckpt/.hidden",
      "ckpt/deep/er/empty",
      "ckpt/weights.bin",
      "notes.txt",
    ]);
    expect(await pathsOf("artifact", `made ${version}`)).toEqual({
      "deep/er/empty": digestOf(""),
      "texts/notes.txt": text,
    });
    expect((await find("model", `file ${version}`)).latest).toMatchObject({
      type: "model",
      version: "v1",
      aliases: ["latest", "best"],
      description: "first",
      metadata: { accuracy: 0.9, nan: "NaN" },
      produced_by: [id],
    });
    expect((await find("artifact", `made ${version}`)).latest).toMatchObject({
      type: "log",
      metadata: { of: "it", more: [1] },
    });
    expect(inSpool()).toEqual([]);
  });

  test("the documentation's calls of fedml", async () => {
    files({ "cv-model.bin": `weights ${version}`, "requirements.txt": "none", "config/a/b.yaml": "c: 1" });
    await run(
      `
from fedml import mlops
fedml.log_model("cv-model ${version}", "./cv-model.bin")
for kind in ("GENERAL", "MODEL", "DATASET", "SOURCE", "LOG"):
    name = getattr(fedml, "ARTIFACT_TYPE_NAME_" + kind)
    assert getattr(mlops, "ARTIFACT_TYPE_NAME_" + kind) == name
    artifact = fedml.Artifact(name="file ${version} " + kind, type=name)
    assert artifact.artifact_type == getattr(mlops, "ARTIFACT_TYPE_" + kind)
    artifact.add_file("./requirements.txt"); artifact.add_dir("./config"); artifact.set_ext_info({"kind": kind})
    assert fedml.log_artifact(artifact, version="dev", edge_id=7) is None
assert mlops.log_artifact is fedml.log_artifact and mlops.Artifact is fedml.Artifact and mlops.log_model is fedml.log_model
`,
      { python: interpreter, env: { BINNACLE_RUN_ID: `fedml-${version}` } },
    );
    expect(await pathsOf("artifact", `file ${version} SOURCE`)).toEqual({
      "config/a/b.yaml": digestOf("c: 1"),
      "requirements.txt": digestOf("none"),
    });
    const { outputs } = await server.get(`/api/v1/runs/fedml-${version}/artifacts`);
    expect(
      outputs.map(({ kind, type, metadata }: Record<string, unknown>) => [kind, type, metadata]),
    ).toEqual([
      ["model", "model", {}],
      ["artifact", "general", { kind: "GENERAL" }],
      ["artifact", "model", { kind: "MODEL" }],
      ["artifact", "dataset", { kind: "DATASET" }],
      ["artifact", "source code", { kind: "SOURCE" }],
      ["artifact", "log", { kind: "LOG" }],
    ]);
    expect(outputs[1].origin).toEqual({ environment: "dev", edge: "7" });
    expect(Object.keys(outputs[0].origin)).toEqual(["edge"]);
  });

  test("use_artifact brings it back, and notes the use", async () => {
    const big = randomBytes(3 * 1024 * 1024);
    files({ "in/a": "A", "in/b/c.bin": big, "in/empty": "" });
    const out = await run(
      `
binnacle.init(run_id="maker-${version}")
binnacle.log_artifact("used ${version}", "in", aliases=["最佳"]).wait(60)
binnacle.init(run_id="user-${version}")
first = binnacle.use_artifact("used ${version}", "最佳")
os.unlink(first + "/a")
open(first + "/b/c.bin", "r+b").write(b"damaged")
assert binnacle.use_artifact("used ${version}", to=first) == first
print(first)
`,
      { python: interpreter },
    );
    const target = out.trim();
    expect(target).toBe(join(folder, "artifacts", `used ${version}-v1`));
    expect(readFileSync(join(target, "a"), "utf8")).toBe("A");
    expect(readFileSync(join(target, "b/c.bin")).equals(big)).toBe(true);
    expect((readdirSync(target, { recursive: true }) as string[]).sort()).toEqual([
      "a",
      "b",
      "b/c.bin",
      "empty",
    ]);
    const { inputs } = await server.get(`/api/v1/runs/user-${version}/artifacts`);
    expect(inputs).toMatchObject([{ name: `used ${version}`, version: "v1" }]);
  });
});

test("what cannot be logged is said on its line", async () => {
  files({ file: "x", "dir/y": "y" });
  symlinkSync("file", join(folder, "link"));
  const out = await run(
    `
os.mkfifo("fifo")
import socket
socket.socket(socket.AF_UNIX).bind("socket")
artifact = binnacle.Artifact("a")
theirs = fedml.Artifact("a")
def says(text, call, *arguments, **named):
    try: call(*arguments, **named)
    except (OSError, ValueError, TypeError, RuntimeError) as error: assert text in str(error), (text, error)
    else: raise SystemExit("no error: " + text)
for call in (lambda path: binnacle.log_model("m", path), lambda path: binnacle.log_artifact("m", path),
             lambda path: fedml.log_model("m", path), artifact.add_file, theirs.add_file):
    says("absent", call, "absent"); says("symbolic link", call, "link"); says("FIFO", call, "fifo"); says("socket", call, "socket")
    says("device", call, "/dev/null")
for call in (artifact.add_dir, theirs.add_dir): says("absent", call, "absent"); says("no folder", call, "file")
for call in (artifact.add_file, theirs.add_file): says("a folder", call, "dir")
for name in ("", "..", "a/b", "a\\\\b", "a\\0b", "\\u202eb", "n" * 251, " a", "\\ud800"): says("name", binnacle.log_model, name, "file")
for alias in ("latest", "v3", "", "a b", "-a", "a" * 101): says("alias", binnacle.log_model, "m", "file", aliases=[alias])
for place in ("../x", "/x", "a//b", "a\\nb", "a\\\\b", "n" * 256): says("name", artifact.add_file, "file", place)
says("metadata", binnacle.log_model, "m", "file", metadata=[1])
says("no files", binnacle.log_artifact, binnacle.Artifact("a"))
says("no path", binnacle.log_artifact, "a", [])
says("paths", binnacle.log_artifact, "a")
says("type", fedml.Artifact, "a", "weights")
says("fedml.Artifact", fedml.log_artifact, "a")
says("no files", fedml.log_artifact, theirs)
theirs.add_file("file"); theirs.artifact_name = ""
says("name", fedml.log_artifact, theirs)
says("ext_info", theirs.set_ext_info, [1])
print("done")
`,
  );
  expect(out).toBe("done\n");
});

test("what is found inside a folder is refused by name, and nothing of it is logged", async () => {
  files({ "a/x": "x", "b/x": "x", "c/x": "x" });
  symlinkSync("/etc/passwd", join(folder, "a/link"));
  const { code, err } = await runPython(
    `
import binnacle, os
os.chdir(${JSON.stringify(folder)})
os.mkfifo("b/fifo")
os.mkdir("empty")
open(b"c/\\xff", "w")
for name in ("a", "b", "c", "empty"):
    try: binnacle.log_artifact("inside " + name, name).wait(20)
    except binnacle.ArtifactError: pass
    else: raise SystemExit("no error")
`,
    { env: { ...server.env, BINNACLE_SPOOL: join(folder, "spool") } },
  );
  expect(code).toBe(0);
  expect(err).toContain(`'${folder}/a/link' is a symbolic link`);
  expect(err).toContain(`'${folder}/b/fifo' is a FIFO`);
  expect(err).toMatch(/c\/\\udcff.* UTF-8/);
  expect(err).toContain("there are no files in");
  for (const name of ["a", "b", "c", "empty"])
    expect(await find("artifact", `inside ${name}`)).toBeUndefined();
  expect(inSpool()).toEqual([]);
});

test("same-named artifacts of two runs are two versions; the same files again are the same version", async () => {
  files({ file: "one" });
  const out = await run(`
def log(): return binnacle.log_artifact("shared", "file").wait(30)
binnacle.init(run_id="shared-1"); versions = [log()]
open("file", "w").write("two")
binnacle.init(run_id="shared-2"); versions += [log(), log()]
print(*versions)
`);
  expect(out).toBe("v1 v2 v2\n");
  const { id } = await find("artifact", "shared");
  const { versions } = await server.get(`/api/v1/artifacts/${id}/versions`);
  expect(versions.map(({ produced_by }: { produced_by: string[] }) => produced_by)).toEqual([
    ["shared-2"],
    ["shared-1"],
  ]);
});

test("fedml logs into the run that is named, and waits where asked", async () => {
  files({ file: "x" });
  await run(
    `
fedml.init()
artifact = fedml.Artifact("elsewhere"); artifact.add_file("file")
fedml.log_artifact(artifact, run_id="other-run", async_upload=False)
`,
    { env: { BINNACLE_RUN_ID: "this-run" } },
  );
  expect((await find("artifact", "elsewhere")).latest.produced_by).toEqual(["other-run"]);
});

test("a file that changes between the call and its sending is sent as it is then; one that goes on changing is not", async () => {
  files({ once: "before", ever: "x" });
  const { err, code } = await runPython(
    `
import binnacle, os, threading, time
os.chdir(${JSON.stringify(folder)})
run = binnacle.init()
from binnacle import _files
once = _files.read_small
def change(file):  # Between the two looks at it.
    fstat = os.fstat
    def other(fd):
        _files.os.fstat = fstat
        found = fstat(fd)
        with open("once", "w") as out: out.write("after, and longer")
        return found
    if file.place == "once":
        _files.read_small = once
        _files.os.fstat = other
    return once(file)
_files.read_small = change
assert binnacle.log_artifact("changes once", "once").wait(30) == "v1"
end = []
def write():
    with open("ever", "a") as out:
        while not end: out.write("x" * 100_000); out.flush(); time.sleep(0.002)
writer = threading.Thread(target=write); writer.start()
time.sleep(0.1)
while os.path.getsize("ever") < 10_000_000: time.sleep(0.01)
try: binnacle.log_artifact("changes ever", "ever").wait(30)
except binnacle.ArtifactError as error: assert "changed while it was read" in str(error), error
else: raise SystemExit("no error")
finally: end.append(1); writer.join()
os.unlink("once")
gone = binnacle.log_artifact("is gone", "ever"); os.unlink("ever")
try: gone.wait(30)
except binnacle.ArtifactError as error: print(error)
`,
    { env: { ...server.env, BINNACLE_SPOOL: join(folder, "spool") } },
  );
  expect({ code, err }).toMatchObject({ code: 0 });
  expect(await pathsOf("artifact", "changes once")).toEqual({ once: digestOf("after, and longer") });
  expect(await find("artifact", "changes ever")).toBeUndefined();
  expect(inSpool()).toEqual([]);
});

test("children that are forked log as the same run, and leave their parent's uploads alone", async () => {
  files({ big: randomBytes(20 * 1024 * 1024), small: "s" });
  const id = (
    await run(`
run = binnacle.init()
upload = binnacle.log_model("of the parent", "big")
children = []
for n in range(3):
    pid = os.fork()
    if pid == 0:
        if n: binnacle.log_artifact("of child %d" % n, "small").wait(30)
        try: upload.wait(30)
        except binnacle.ArtifactError as error: assert "parent" in str(error)
        else: os._exit(3)
        binnacle.finish(); os._exit(0)
    children.append(pid)
assert [os.waitpid(pid, 0)[1] for pid in children] == [0, 0, 0]
assert upload.wait(30) == "v1"
print(run.id)
`)
  ).trim();
  for (const [kind, name] of [
    ["model", "of the parent"],
    ["artifact", "of child 1"],
    ["artifact", "of child 2"],
  ] as const)
    expect((await find(kind, name)).latest.produced_by).toEqual([id]);
  expect(inSpool()).toEqual([]);
});

test("a download writes nothing outside its folder, and refuses what is damaged", async () => {
  files({ "in/sub/a": "A", outside: "untouched" });
  const out = await run(`
binnacle.log_artifact("safe", "in").wait(30)
os.mkdir("elsewhere")
os.makedirs("target"); os.symlink("../elsewhere", "target/sub")
try: binnacle.use_artifact("safe", to="target")
except binnacle.ArtifactError as error: print("is no folder" in str(error), os.listdir("elsewhere"))
os.unlink("target/sub"); os.mkdir("target/sub"); os.symlink("../../outside", "target/sub/a")
try: binnacle.use_artifact("safe", to="target")
except binnacle.ArtifactError as error: print("is no file" in str(error), open("outside").read())
from binnacle import _download
_download._files = lambda *_: iter([{"path": "../outside", "size": 1, "sha256": "0" * 64}])
try: binnacle.use_artifact("safe", to="target")
except ValueError as error: print(open("outside").read())
try: binnacle.use_artifact("absent")
except binnacle.ArtifactError as error: print("absent" in str(error))
`);
  expect(out).toBe("True []\nTrue untouched\nuntouched\nTrue\n");
});

test("small files come many in an answer; where it breaks off the rest is asked for, and what is damaged is refused", async () => {
  for (let n = 0; n < 400; n++) files({ [`in/d${n % 9}/${n}`]: n % 50 === 0 ? "same" : `content of ${n}` });
  const out = await run(`
from binnacle import _collector
binnacle.log_artifact("many", "in").wait(30)
real, asked = _collector.Collector.open, []
class Answer:
    status = 200
    def __init__(self, response, reads, turn): self.response, self.left, self.turn = response, reads, turn
    def read(self, size):
        self.left -= 1
        if self.left == 0: raise ConnectionResetError("cut off")
        return self.turn(self.response.read(size))
def open_(self, path, headers, body=None):
    response = real(self, path, headers, body)
    asked.append(path.rsplit("/", 1)[1])
    return Answer(response, 200, bytes) if len(asked) < 3 else response
_collector.Collector.open = open_
got = binnacle.use_artifact("many", to="got")
print(asked, sum(len(names) for _, _, names in os.walk("got")))
_collector.Collector.open = lambda *ask: Answer(real(*ask), 0, lambda data: data.replace(b"content of 7", b"content of 8"))
try: binnacle.use_artifact("many", to="other")
except binnacle.ArtifactError as error: print("damaged" in str(error), [name for _, _, names in os.walk("other") for name in names if name.startswith("7")])
`);
  expect(out).toBe("['pack', 'pack', 'pack'] 400\nTrue []\n");
  for (let n = 0; n < 400; n++)
    expect(readFileSync(join(folder, `got/d${n % 9}/${n}`), "utf8")).toBe(
      n % 50 === 0 ? "same" : `content of ${n}`,
    );
});

test("the processes of a training that fetch the same version at once get it, whole", async () => {
  const big = randomBytes(8 * 1024 * 1024);
  files({ "in/big": big, "in/small": "s" });
  const out = await run(`
binnacle.log_artifact("for all", "in").wait(30)
binnacle.finish()
children = []
for n in range(4):
    pid = os.fork()
    if pid == 0:
        try: code = 0 if binnacle.init(run_id="rank%d" % n).use_artifact("for all", to="got") else 1
        except BaseException as error: print(repr(error), flush=True); code = 2
        binnacle.finish(); os._exit(code)
    children.append(pid)
print([os.waitpid(pid, 0)[1] for pid in children], sorted(os.listdir("got")))
`);
  expect(out).toBe("[0, 0, 0, 0] ['big', 'small']\n");
  expect(readFileSync(join(folder, "got/big")).equals(big)).toBe(true);
});
