/** Who may speak to the API server, each by a bearer token: no certificate has to be made. */
import { generateKeyPairSync, randomBytes } from "node:crypto";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { controlPlaneAddress } from "./sealed-network.ts";

const users = {
  admin: { name: "admin", group: "system:masters" },
  "controller-manager": { name: "system:kube-controller-manager", group: "" },
  scheduler: { name: "system:kube-scheduler", group: "" },
} as const;

export type Identity = keyof typeof users;

export interface Identities {
  readonly tokenFile: string;
  readonly adminToken: string;
  /** Pair that signs and checks the tokens of ServiceAccounts. */
  readonly signingKeyFile: string;
  readonly publicKeyFile: string;
  /** A kubeconfig of that user for programs inside the sealed network. */
  readonly kubeconfigs: Readonly<Record<Identity, string>>;
}

/** Makes tokens and keys anew and writes them to the folder, for its owner's eyes only. */
export function makeIdentities(folder: string, caFile: string): Identities {
  const write = (name: string, text: string): string => {
    writeFileSync(join(folder, name), text, { mode: 0o600 });
    return join(folder, name);
  };
  const server = `https://${controlPlaneAddress}`;
  const names = Object.keys(users) as Identity[];
  const tokens = new Map(names.map((name) => [name, randomBytes(16).toString("hex")]));
  const tokenOf = (name: Identity): string => tokens.get(name) ?? "";
  const lines = names.map((name) => {
    const user = users[name];
    return `${tokenOf(name)},${user.name},${user.name},"${user.group}"\n`;
  });
  const { privateKey, publicKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
  const configOf = (name: Identity): string =>
    write(`${name}.kubeconfig`, kubeconfig({ server, caFile, token: tokenOf(name) }));
  return {
    tokenFile: write("tokens.csv", lines.join("")),
    adminToken: tokenOf("admin"),
    signingKeyFile: write("sa.key", privateKey.export({ type: "pkcs1", format: "pem" }).toString()),
    publicKeyFile: write("sa.pub", publicKey.export({ type: "spki", format: "pem" }).toString()),
    kubeconfigs: {
      admin: configOf("admin"),
      "controller-manager": configOf("controller-manager"),
      scheduler: configOf("scheduler"),
    },
  };
}

export interface Access {
  readonly server: string;
  readonly caFile: string;
  readonly token: string;
}

/** A kubeconfig with one cluster, one user and one context, all named `quire`. JSON is YAML. */
export function kubeconfig({ server, caFile, token }: Access): string {
  return JSON.stringify({
    apiVersion: "v1",
    kind: "Config",
    "current-context": "quire",
    clusters: [{ name: "quire", cluster: { server, "certificate-authority": caFile } }],
    users: [{ name: "quire", user: { token } }],
    contexts: [{ name: "quire", context: { cluster: "quire", user: "quire" } }],
  });
}
