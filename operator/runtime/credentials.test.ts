import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, it } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { KubeConfig } from "@kubernetes/client-node";
import { kubeConfigCredentials, podCredentials, RotatingCredentials } from "./credentials.ts";

describe("RotatingCredentials", () => {
  it("reads once for many requests, and again after their time or a refusal", async () => {
    let count = 0;
    const read = async () => ({ origin: `o${count++}`, headers: {}, tls: {} });
    const credentials = new RotatingCredentials(read, 30);

    const first = await Promise.all([credentials.current(), credentials.current()]);
    assert.deepEqual(
      first.map(({ origin }) => origin),
      ["o0", "o0"],
    );
    credentials.refused();
    assert.equal((await credentials.current()).origin, "o1");
    await delay(35);
    assert.equal((await credentials.current()).origin, "o2");
  });

  it("reads again at once after a failure", async () => {
    let count = 0;
    const credentials = new RotatingCredentials(async () => {
      if (count++ === 0) throw new Error("no such file");
      return { origin: "o", headers: {}, tls: {} };
    });

    await assert.rejects(credentials.current(), /no such file/);
    assert.equal((await credentials.current()).origin, "o");
  });
});

describe("podCredentials", () => {
  let folder: string;
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), "credentials-"));
    await writeFile(join(folder, "token"), "first\n");
    await writeFile(join(folder, "ca.crt"), "PEM 1");
  });
  afterEach(() => rm(folder, { recursive: true }));

  it("is absent outside of a pod", () => {
    assert.equal(podCredentials({}, folder), undefined);
  });

  it("reads the token and the CA that the kubelet mounts, also after they were replaced", async () => {
    const env = { KUBERNETES_SERVICE_HOST: "10.96.0.1", KUBERNETES_SERVICE_PORT: "6443" };
    const credentials = podCredentials(env, folder);
    assert.deepEqual(await credentials?.current(), {
      origin: "https://10.96.0.1:6443",
      headers: { Authorization: "Bearer first" },
      tls: { ca: "PEM 1" },
    });

    await writeFile(join(folder, "token"), "second");
    await writeFile(join(folder, "ca.crt"), "PEM 2");
    credentials?.refused();

    const connection = await credentials?.current();
    assert.equal(connection?.headers["Authorization"], "Bearer second");
    assert.equal(connection?.tls.ca, "PEM 2");
  });

  it("writes an IPv6 address as URLs do", async () => {
    const credentials = podCredentials({ KUBERNETES_SERVICE_HOST: "fd00::1" }, folder);
    assert.equal((await credentials?.current())?.origin, "https://[fd00::1]:443");
  });
});

describe("kubeConfigCredentials", () => {
  it("takes server, CA and token from the current context", async () => {
    const config = new KubeConfig();
    const caData = Buffer.from("PEM").toString("base64");
    config.loadFromClusterAndUser(
      { name: "c", server: "https://api:6443/", caData, skipTLSVerify: false },
      { name: "u", token: "t" },
    );

    assert.deepEqual(await kubeConfigCredentials(config).current(), {
      origin: "https://api:6443",
      headers: { Authorization: "Bearer t" },
      tls: { ca: "PEM" },
    });
  });

  it("says what to do where no cluster is named", () => {
    assert.throws(() => kubeConfigCredentials(new KubeConfig()), /set KUBECONFIG to a kubeconfig/);
  });
});
