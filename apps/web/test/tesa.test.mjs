// node --test test/     MODELS: a folder with small models that the test beside it in Python has compiled

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { pathToFileURL } from "node:url";
import { Worker } from "node:worker_threads";

import { hasRelaxedSimd, hasSimd, load, TesaError } from "../tesa.js";

const folder = process.env.MODELS;
const file = (name) => join(folder, `${name}.wasm`);
const expected = JSON.parse(await readFile(join(folder, "expected.json"), "utf8"));
const refuses = (call, code, message) =>
  assert.rejects(async () => call(), (error) => {
    assert.ok(error instanceof TesaError, String(error));
    assert.equal(error.code, code);
    assert.match(error.message, message);
    return true;
  });
const close = (got, wanted) => {
  assert.equal(got.length, wanted.length);
  wanted.forEach((number, i) => assert.ok(Math.abs(got[i] - number) <= 1e-4 * (1 + Math.abs(number)), `${i}: ${got[i]}, ${number}`));
};

test("a model says what goes in and comes out", async () => {
  const model = await load(file("mlp"));
  assert.deepEqual(model.inputs.map((port) => ({ ...port })), [{ name: "x", shape: [4, 6], dtype: "float32", elements: 24 }]);
  assert.deepEqual(model.outputs.map((port) => ({ ...port })), [{ name: "y", shape: [4, 3], dtype: "float32", elements: 12 }]);
  assert.equal(model.info.name, "mlp");
  assert.equal(model.info.target, "wasm32:simd128");
});

test("it computes what NumPy does, again and again, from every kind of source", async () => {
  const { x, y } = expected.mlp;
  const bytes = await readFile(file("mlp"));
  const first = await load(file("mlp"));
  const sources = [
    file("mlp"), pathToFileURL(file("mlp")), String(pathToFileURL(file("mlp"))), bytes, bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length),
    new Response(bytes), first.module, { simd128: bytes }, `data:application/wasm;base64,${bytes.toString("base64")}`,
  ]; // prettier-ignore
  for (const source of sources) {
    const model = await load(source);
    for (let call = 0; call < 3; ++call) close(model.run({ x: Float32Array.from(x) }).y, y);
  }
});

test("what a call gives stays, and what it takes is left as it is", async () => {
  const model = await load(file("mlp"));
  const x = Float32Array.from(expected.mlp.x);
  const { y } = model.run({ x });
  model.run({ x: new Float32Array(24) });
  close(y, expected.mlp.y);
  close(x, expected.mlp.x);
});

test("the shapes choose a size; a shape is given where the number of elements does not tell", async () => {
  const model = await load(file("sizes"));
  assert.deepEqual(model.sizes.map(({ inputs }) => inputs[0].shape), [[2, 6], [3, 4], [4, 3]]);
  const x = Float32Array.from({ length: 12 }, (_, i) => i);
  for (const { inputs } of model.sizes) {
    const shape = [...inputs[0].shape];
    close(model.run({ x: { data: x, shape } }).y, Array.from(x, (v) => v + 1));
  }
  await refuses(() => model.run({ x }), "shape", /fits several sizes/);
  await refuses(() => model.run({ x: { data: x, shape: [6, 2] } }), "shape", /shapes \[2, 6\]; \[3, 4\]; \[4, 3\]; got \[6, 2\]/);
});

test("integers are BigInt64Array, and an index outside of a table is refused", async () => {
  const model = await load(file("table"));
  const { ids, y } = expected.table;
  close(model.run({ ids: BigInt64Array.from(ids.map(BigInt)) }).y, y);
  await refuses(() => model.run({ ids: Int32Array.from(ids) }), "type", /expected a BigInt64Array \(int64\), got Int32Array/);
  await refuses(() => model.run({ ids: BigInt64Array.from([0n, 1n, 99n]) }), "run", /table/);
});

test("a wrong name, type or shape of an input is an error", async () => {
  const model = await load(file("mlp"));
  const x = new Float32Array(24);
  await refuses(() => model.run({}), "name", /input "x" is missing/);
  await refuses(() => model.run({ x, z: x }), "name", /no input "z"; it has x/);
  await refuses(() => model.run(x), "name", /an array for each input: x/);
  await refuses(() => model.run(null), "name", /an array for each input/);
  await refuses(() => model.run({ x: new Float64Array(24) }), "type", /expected a Float32Array \(float32\), got Float64Array/);
  await refuses(() => model.run({ x: Array(24).fill(0) }), "type", /got Array/);
  await refuses(() => model.run({ x: null }), "type", /got null/);
  await refuses(() => model.run({ x: new Float32Array(23) }), "shape", /expected 24 elements of shape \[4, 6\], got 23 elements/);
  await refuses(() => model.run({ x: { data: x, shape: [6, 4] } }), "shape", /got shape \[6, 4\]/);
  await refuses(() => model.run({ x: { data: x, shape: 24 } }), "shape", /a shape that is an array/);
  await refuses(() => model.run({ x: { data: x, shape: "4,6" } }), "shape", /an array of whole numbers/);
  await refuses(() => model.run({ x: { data: x, shape: ["4", "6"] } }), "shape", /an array of whole numbers/);
  close(model.run({ x: Float32Array.from(expected.mlp.x) }).y, expected.mlp.y); // and goes on
});

test("no single damaged byte goes through", async () => {
  const bytes = await readFile(file("mlp"));
  const checksum = 17; // the last section
  for (let place = 8; place < bytes.length - checksum; place += 7) {
    const damaged = Uint8Array.from(bytes);
    damaged[place] ^= 0x55;
    await refuses(() => load(damaged), "file", /damaged/);
  }
  const damaged = Uint8Array.from(bytes);
  damaged[bytes.length - 1] ^= 1;
  await refuses(() => load(damaged), "file", /its checksum is of another file/);
  await load(bytes.subarray(0, bytes.length - checksum)); // other tools leave it out
});

test("an engine that gives no memory, and a choice of nothing, are errors", async () => {
  const bytes = await readFile(file("mlp"));
  const { instantiate } = WebAssembly;
  WebAssembly.instantiate = async () => { throw new RangeError("Out of memory: Cannot allocate Wasm memory for new instance"); };
  try {
    await refuses(() => load(bytes), "memory", /more memory than this engine gives/);
  } finally {
    WebAssembly.instantiate = instantiate;
  }
  await refuses(() => load({}), "source", /expected a URL, bytes, .* simd128, relaxed/);
  await refuses(() => load({ simd: bytes }), "source", /expected a URL/);
});

test("a file that is missing, foreign or cut off is an error", async () => {
  const bytes = await readFile(file("mlp"));
  const damaged = Uint8Array.from(bytes).fill(255, 200, 300);
  await refuses(() => load(file("none")), "source", /none\.wasm: cannot be read \(ENOENT\)/);
  await refuses(() => load("http://127.0.0.1:9/m.wasm"), "source", /cannot be fetched/);
  await refuses(() => load(new Response("gone", { status: 404, statusText: "Not Found" })), "source", /404 Not Found/);
  await refuses(() => load(new Uint8Array(0)), "file", /it is empty/);
  await refuses(() => load(new TextEncoder().encode("<!doctype html>")), "file", /a page of HTML/);
  await refuses(() => load(new TextEncoder().encode("\x7fELF")), "file", /it is no WebAssembly/);
  await refuses(() => load(new Uint8Array([0, 97, 115, 109, 1, 0, 0, 0])), "file", /it lacks the functions of one/);
  for (const length of [5, 100, 1000, bytes.length - 1]) {
    await refuses(() => load(bytes.subarray(0, length)), "file", /is cut off or damaged/);
  }
  await refuses(() => load(damaged), "file", /is cut off or damaged/);
  await refuses(() => load(7), "source", /expected a URL, bytes/);
  await refuses(() => load(undefined), "source", /expected a URL, bytes/);
});

test("an engine without SIMD is told of", async () => {
  assert.equal(hasSimd(), true);
  const script = `
    WebAssembly.validate = () => false;
    const { load } = await import(${JSON.stringify(String(new URL("../tesa.js", import.meta.url)))});
    try { await load("m.wasm"); } catch (error) { console.log(error.code, error.message); }`;
  const { execFileSync } = await import("node:child_process");
  const said = execFileSync(process.execPath, ["--input-type=module", "-e", script], { encoding: "utf8" });
  assert.match(said, /^simd cannot run the model: WebAssembly of this browser has no SIMD/);
});

test("relaxed SIMD is taken where there is some", async () => {
  const model = await load({ simd128: file("mlp"), relaxed: file("mlp-relaxed") });
  assert.equal(model.info.target, hasRelaxedSimd() ? "wasm32:relaxed" : "wasm32:simd128");
  close(model.run({ x: Float32Array.from(expected.mlp.x) }).y, expected.mlp.y);
  if (!hasRelaxedSimd()) {
    await refuses(() => load({ relaxed: file("mlp-relaxed") }), "simd", /no relaxed SIMD/);
    await refuses(() => load(file("mlp-relaxed")), "file", /made for relaxed SIMD/);
  }
});

test("workers run it, and take a module that was compiled once", async () => {
  const { module } = await load(file("mlp"));
  const code = `
    const { parentPort, workerData } = require("node:worker_threads");
    import(workerData.tesa).then(async ({ load }) => {
      const model = await load(workerData.module);
      parentPort.postMessage(model.run({ x: Float32Array.from(workerData.x) }).y);
    });`;
  const workerData = { module, x: expected.mlp.x, tesa: String(new URL("../tesa.js", import.meta.url)) };
  const answers = [1, 2].map(() => new Promise((resolve, reject) => {
    const worker = new Worker(code, { eval: true, workerData });
    worker.on("message", resolve).on("error", reject);
  }));
  for (const y of await Promise.all(answers)) close(y, expected.mlp.y);
});
