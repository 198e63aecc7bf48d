import { isEqual, type Tokens } from "../token.ts";

/** Whose keys these are: one run's, or with no run the open ones of `--fedml open`. */
export interface FedmlScope {
  run: string | undefined;
}

export interface MqttKeys {
  user: string;
  password: string;
}

export interface S3Keys {
  accessKeyId: string;
  secretAccessKey: string;
}

/** All that FedML's clients are handed to prove whose they are. Derived from the admin's token: nothing is stored, and a rotation ends them all. */
export interface FedmlKeys {
  /** A piece of a path, to stand behind /fedml/. */
  secretOf(scope: FedmlScope): string;
  scopeOf(secret: string): FedmlScope | undefined;
  mqttOf(scope: FedmlScope): MqttKeys;
  scopeOfMqtt(user: string, password: string): FedmlScope | undefined;
  s3Of(scope: FedmlScope): S3Keys;
  /** The secret that must have signed what comes with this key's id. */
  s3SecretOf(accessKeyId: string): { scope: FedmlScope; secretAccessKey: string } | undefined;
}

/** The open scope's place in a path, MQTT user and S3 key id. No run's: theirs have a prefix or a digest. */
export const OPEN = "open";
const RUN_USER = "run:";
/** No slash, no colon: it stands in the credential of a signature, and in a header. */
const RUN_KEY = "run.";
const RUN = /^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/;

export interface KeysOptions {
  /** There are open keys, too: whoever reaches the port may use them. */
  open?: boolean;
}

export function createKeys(tokens: () => Tokens, { open = false }: KeysOptions = {}): FedmlKeys {
  const sign = (text: string) => tokens().sign(`fedml ${text}`);
  const digestOf = (what: "path" | "mqtt" | "s3", run: string) => sign(`${what} ${run}`).slice(0, 32);
  const openScope = (): FedmlScope | undefined => (open ? { run: undefined } : undefined);

  const secretOf = ({ run }: FedmlScope) => (run === undefined ? OPEN : `${run}-${digestOf("path", run)}`);

  const mqttOf = ({ run }: FedmlScope): MqttKeys =>
    run === undefined
      ? { user: OPEN, password: sign("open mqtt") }
      : { user: `${RUN_USER}${run}`, password: sign(`mqtt ${run}`) };

  const s3Of = ({ run }: FedmlScope): S3Keys =>
    run === undefined
      ? { accessKeyId: OPEN, secretAccessKey: sign("open s3") }
      : { accessKeyId: `${RUN_KEY}${run}`, secretAccessKey: sign(`s3 ${run}`) };

  function scopeOfName(name: string, prefix: string): FedmlScope | undefined {
    if (name === OPEN) return openScope();
    const run = name.startsWith(prefix) ? name.slice(prefix.length) : "";
    return RUN.test(run) ? { run } : undefined;
  }

  return {
    secretOf,
    scopeOf(secret) {
      if (secret === OPEN) return openScope();
      const run = secret.slice(0, Math.max(0, secret.lastIndexOf("-")));
      return RUN.test(run) && isEqual(secret, secretOf({ run })) ? { run } : undefined;
    },
    mqttOf,
    scopeOfMqtt(user, password) {
      const scope = scopeOfName(user, RUN_USER);
      return scope && isEqual(password, mqttOf(scope).password) ? scope : undefined;
    },
    s3Of,
    s3SecretOf(accessKeyId) {
      const scope = scopeOfName(accessKeyId, RUN_KEY);
      return scope && { scope, secretAccessKey: s3Of(scope).secretAccessKey };
    },
  };
}
