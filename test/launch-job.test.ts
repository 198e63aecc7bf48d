import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { mkdirSync, mkdtempSync, realpathSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { readJob } from "../src/launch/job.ts";
import { startServer, type TestServer } from "./helpers/cli.ts";
import { launchOn, startLaunch } from "./helpers/launch.ts";

setDefaultTimeout(60_000);

let server: TestServer;
let folder: string;

beforeAll(async () => {
  server = await startServer();
  folder = realpathSync(mkdtempSync(join(tmpdir(), "binnacle-job-")));
});

afterAll(async () => {
  await server.close();
  rmSync(folder, { recursive: true, force: true });
});

let count = 0;

function write(text: string): string {
  const path = join(folder, `job-${count++}.yaml`);
  writeFileSync(path, text);
  return path;
}

const launchJob = (text: string) => launchOn(server, [write(text)]);

describe("running a job file", () => {
  test("runs the job in its workspace, its parameters are the run's config", async () => {
    mkdirSync(join(folder, "digits/deep"), { recursive: true });
    writeFileSync(join(folder, "digits/hello.txt"), "from the workspace\n");
    const { code, run, lines, stderr } = await launchJob(`
job_name: my job
workspace: digits
fedml_env:
  project_name: vision
bootstrap: |
  echo bootstrapped
  cd deep
job: |
  pwd
  cat ../hello.txt
  echo lr $FEDML_ENV_TRAINING_PARAMS_LEARNING_RATE
  echo "$FEDML_CURRENT_RUN_ID"
training_params:
  learning_rate: 0.1
  epochs: 3
data_args: {name: mnist, seed: 12345678901234567890}
computing:
  minimum_num_gpus: 1
  maximum_cost_per_hour: $3000
`);
    expect(code).toBe(0);
    expect(run).toMatchObject({
      name: "my job",
      project: "vision",
      status: "FINISHED",
      config: {
        training_params: { learning_rate: 0.1, epochs: 3 },
        data_args: { name: "mnist", seed: "12345678901234567890" },
      },
    });
    expect(lines.map((line) => line.text)).toEqual([
      "bootstrapped",
      join(folder, "digits/deep"),
      "from the workspace",
      "lr 0.1",
      run.id,
    ]);
    expect(stderr.split("\n").filter((line) => line.includes("computing"))).toHaveLength(1);
  });

  test("the first command that fails ends it", async () => {
    const { code, run, lines } = await launchJob("job: |\n  echo one\n  (exit 7)\n  echo two\n");
    expect(code).toBe(7);
    expect(run).toMatchObject({ status: "FAILED", reason: "exit code 7" });
    expect(lines.map((line) => line.text)).toEqual(["one"]);
  });

  test("a bootstrap that fails keeps the job from running", async () => {
    const { code, lines } = await launchJob("bootstrap: |\n  echo setup\n  false\njob: echo never\n");
    expect(code).toBe(1);
    expect(lines.map((line) => line.text)).toEqual(["setup"]);
  });

  test("flags beat the file", async () => {
    const path = write("job: 'true'\njob_name: in file\nfedml_env: {project_name: in file}\n");
    const { run } = await launchOn(server, ["-n", "by flag", "-p", "by flag", path]);
    expect(run).toMatchObject({ name: "by flag", project: "by flag" });
  });

  test("without a workspace it runs in an empty folder", async () => {
    const { lines } = await launchJob("job: ls -A | wc -l\n");
    expect(lines.map((line) => line.text.trim())).toEqual(["0"]);
  });
});

describe("reading a job file", () => {
  test("the two-platform form", () => {
    const job = readJob(
      write("job: {run_on_posix: echo a, run_on_windows: dir}\nbootstrap: {run_on_posix: echo b}\n"),
    );
    expect(job.script).toBe("echo b\necho a");
    expect(job.ignored).toEqual(["job.run_on_windows"]);
  });

  test("every scalar has a variable", () => {
    const { env } = readJob(
      write(`job: x
training_params:
  lr: 1e-3
  momentum: 0.90
  fast: true
  slow: no
  none:
  big: 123456789012345678901
  text: |
    one
    two
  layers: [16, {units: 8}]
  odd-key.x: 1
base: &base {a: 1, b: 2}
derived: {<<: *base, b: 3}
`),
    );
    expect(env).toEqual({
      FEDML_ENV_JOB: "x",
      FEDML_ENV_TRAINING_PARAMS_LR: "1e-3",
      FEDML_ENV_TRAINING_PARAMS_MOMENTUM: "0.90",
      FEDML_ENV_TRAINING_PARAMS_FAST: "True",
      FEDML_ENV_TRAINING_PARAMS_SLOW: "no",
      FEDML_ENV_TRAINING_PARAMS_NONE: "",
      FEDML_ENV_TRAINING_PARAMS_BIG: "123456789012345678901",
      FEDML_ENV_TRAINING_PARAMS_TEXT: "one;two",
      FEDML_ENV_TRAINING_PARAMS_LAYERS_0: "16",
      FEDML_ENV_TRAINING_PARAMS_LAYERS_1_UNITS: "8",
      FEDML_ENV_TRAINING_PARAMS_ODD_KEY_X: "1",
      FEDML_ENV_BASE_A: "1",
      FEDML_ENV_BASE_B: "2",
      FEDML_ENV_DERIVED_A: "1",
      FEDML_ENV_DERIVED_B: "3",
    });
  });

  test("variables of the file are put into the text, others are left to the shell", () => {
    const { script } = readJob(
      write(
        "job: echo $FEDML_ENV_P_A ${FEDML_ENV_P_A}x $FEDML_ENV_P_AB $HOME $FEDML_ENV_P\np: {a: 1, ab: 2}\n",
      ),
    );
    expect(script).toBe("echo 1 1x 2 $HOME $FEDML_ENV_P");
  });

  test("keys that are not honoured are named, parameters are not", () => {
    const { ignored, config, project } = readJob(
      write(`job: x
job_type: train
containerize: false
docker: {image: x}
expert_mode: {executable_file: x}
fedml_env: {project_name: p, other: 1}
project_name: q
environment_variables: {DATA: /data}
my_params: {a: 1}
`),
    );
    expect(ignored).toEqual([
      "job_type",
      "containerize",
      "docker",
      "expert_mode",
      "project_name",
      "environment_variables",
      "fedml_env.other",
    ]);
    expect(project).toBe("p");
    expect(config).toEqual({
      project_name: "q",
      environment_variables: { DATA: "/data" },
      my_params: { a: 1 },
    });
  });

  test("numbers that JSON cannot hold are text in the config", () => {
    const { config } = readJob(
      write("job: x\np: {a: .nan, b: -.inf, c: 9007199254740993, d: 9007199254740991}\n"),
    );
    expect(config).toEqual({
      p: { a: "NaN", b: "-Infinity", c: "9007199254740993", d: 9_007_199_254_740_991 },
    });
  });

  const broken: [name: string, text: string, says: RegExp][] = [
    ["no YAML", "job: [", /flow/i],
    ["no map", "- a\n- b\n", /map/],
    ["empty", "", /map/],
    ["without a job", "workspace: .\n", /job/],
    ["with an empty job", "job: '  '\n", /job/],
    ["with a job that is a number", "job: 3\n", /job/],
    ["with a job for Windows alone", "job: {run_on_windows: dir}\n", /job/],
    ["with a workspace that is not there", "job: x\nworkspace: nowhere\n", /workspace.*nowhere/],
    ["with a key twice", "job: x\njob: y\n", /unique/i],
    ["with an alias to nothing", "job: *x\n", /alias/i],
    ["with a name on two lines", 'job: x\njob_name: "a\\nb"\n', /job_name/],
    [
      "that fills the memory by aliases",
      `job: x\na: &a [1,1,1,1,1,1,1,1,1]\n${[..."bcdefghij"].map((key, index) => `${key}: &${key} [${Array(9).fill(`*${"abcdefghij"[index]}`).join(",")}]`).join("\n")}\n`,
      /alias/i,
    ],
  ];
  for (const [name, text, says] of broken)
    test(`${name}: exit code 2, and one line that says what is wrong`, async () => {
      const path = write(text);
      const { code, stderr } = await startLaunch([path], { dataDir: server.dataDir }).ended;
      expect(code).toBe(2);
      expect(stderr.trimEnd().split("\n")).toHaveLength(1);
      expect(stderr).toMatch(says);
      expect(stderr).toContain(path);
    });

  test("without its workspace: the hint is about the workspace", () => {
    expect(() => readJob(write("job: x\nworkspace: nowhere\n"))).toThrow(
      expect.objectContaining({ hint: "A workspace is looked for beside the job file." }),
    );
  });

  test("one that is not there: exit code 2", async () => {
    const { code, stderr } = await startLaunch(["nothing.yaml"], { dataDir: server.dataDir }).ended;
    expect(code).toBe(2);
    expect(stderr).toContain("nothing.yaml does not exist");
  });
});
