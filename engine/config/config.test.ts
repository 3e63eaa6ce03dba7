import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { EngineError } from "../errors.ts";
import { describeSettings, readConfig, settings } from "./config.ts";
import { flagName } from "./flags.ts";

describe("readConfig", () => {
  it("takes defaults for everything but the model", () => {
    const config = readConfig({ QUIRE_MODEL: "/models/a" }, []);

    assert.equal(config.model, "/models/a");
    assert.equal(config.port, 8000);
    assert.equal(config.enablePrefixCaching, true);
    assert.deepEqual(config.servedModelName, []);
  });

  it("prefers a flag to its variable", () => {
    const config = readConfig({ QUIRE_MODEL: "a", QUIRE_PORT: "1" }, ["--port", "2"]);

    assert.equal(config.port, 2);
  });

  it("takes the model as a bare argument", () => {
    assert.equal(readConfig({}, ["hf://a/b", "--port=0"]).model, "hf://a/b");
  });

  it("treats an empty variable as unset", () => {
    assert.equal(readConfig({ QUIRE_MODEL: "a", QUIRE_PORT: "" }, []).port, 8000);
  });

  it("reads switches in all their forms", () => {
    const read = (...argv: string[]) => readConfig({}, ["m", ...argv]).enablePrefixCaching;

    assert.equal(read("--enable-prefix-caching"), true);
    assert.equal(read("--no-enable-prefix-caching"), false);
    assert.equal(read("--enable-prefix-caching=false"), false);
    assert.equal(
      readConfig({ QUIRE_ENABLE_PREFIX_CACHING: "0" }, ["m"]).enablePrefixCaching,
      false,
    );
  });

  it("joins repeated and comma-separated names", () => {
    const argv = ["m", "--served-model-name", "a, b", "--served-model-name=c"];

    assert.deepEqual(readConfig({}, argv).servedModelName, ["a", "b", "c"]);
  });

  it("reads bytes as numbers and as quantities", () => {
    const read = (raw: string) => readConfig({ QUIRE_MEMORY_BYTES: raw }, ["m"]).memoryBytes;

    assert.equal(read("1048576"), 1048576);
    assert.equal(read("512Mi"), 512 * 1024 ** 2);
    assert.equal(read("1.5GiB"), 1.5 * 1024 ** 3);
    assert.equal(read("2G"), 2e9);
  });

  it("names every mistake at once", () => {
    const env = { QUIRE_PORT: "70000", QUIRE_DTYPE: "int4", QUIRE_MAX_NUM_SEQS: "1e3" };
    const argv = [
      "--blocksize",
      "--block-size",
      "48",
      "--memory-bytes=lots",
      "--no-port",
      "--host",
      "--threads",
    ];

    assert.throws(
      () => readConfig(env, argv),
      (error: unknown) => {
        assert.ok(error instanceof EngineError);
        assert.equal(error.code, "CONFIG_INVALID");
        for (const part of [
          "QUIRE_PORT=70000 must be a whole number from 0 to 65535",
          "QUIRE_DTYPE=int4 must be one of auto, float32, bfloat16",
          "QUIRE_MAX_NUM_SEQS=1e3 must be",
          "--blocksize is not a flag",
          "--block-size=48 must be one of 16, 32, 64",
          "--memory-bytes=lots must be",
          "--no-port is not a flag",
          "--host needs a value",
          "QUIRE_MODEL (or --model) is not set",
        ]) {
          assert.ok(error.message.includes(part), `${part} is not in: ${error.message}`);
        }
        return true;
      },
    );
  });

  it("refuses a flag given twice and one without a value", () => {
    assert.throws(
      () => readConfig({}, ["m", "--port", "1", "--port", "2"]),
      /--port is given twice/,
    );
    assert.throws(() => readConfig({}, ["m", "other"]), /a second model, other, is given twice/);
    assert.throws(() => readConfig({}, ["m", "--port"]), /--port needs a value/);
  });

  it("takes secrets from the environment alone", () => {
    assert.equal(readConfig({ HF_TOKEN: "t" }, ["m"]).hubToken, "t");
    assert.throws(() => readConfig({}, ["m", "--hub-token=t"]), /--hub-token is not a flag/);
  });
});

describe("settings", () => {
  it("has one variable for each key, defaults within its limits, and an entry in the help", () => {
    const variables = Object.values(settings).map((setting) => setting.env);
    const help = describeSettings();

    assert.equal(new Set(variables).size, variables.length);
    for (const [key, setting] of Object.entries(settings)) {
      if (String(setting.default) !== "") {
        assert.deepEqual(setting.parse(String(setting.default)), setting.default, key);
      }
      assert.ok(help.includes(setting.env), key);
      if (setting.flag !== "none") assert.ok(help.includes(`--${flagName(key)} `), key);
    }
  });
});
