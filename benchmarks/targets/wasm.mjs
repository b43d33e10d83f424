// Times modules of tesa and what npm has to compare with, in one process and in turns: the least of all calls.
// The time is the CPU's, which is that of the clock on a machine with nothing else to do: all have one thread.
//   node wasm.mjs JOB.json    {seconds, cases: [{name, wasm, symbol, place}], peers: FOLDER or "", layers: [[m, k, n]],
//                              onnx: {"m k n": FILE}}, place as in tesa/measure/node/harness.mjs
// Prints {name: milliseconds} in JSON. The peers are packages in FOLDER/node_modules.
import fs from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import process from 'node:process';

const job = JSON.parse(fs.readFileSync(process.argv[2]));
const calls = [];

for (const { name, wasm, symbol, place } of job.cases) {
  const { exports } = new WebAssembly.Instance(new WebAssembly.Module(fs.readFileSync(wasm)), {});
  let top = Math.ceil(exports.__heap_base.value / 64) * 64;
  const pointers = place.map(({ bytes }) => {
    const start = top;
    top = Math.ceil((top + bytes) / 64) * 64;
    return start;
  });
  const missing = top - exports.memory.buffer.byteLength;
  if (missing > 0) exports.memory.grow(Math.ceil(missing / 65536));
  place.forEach(({ file }, i) => file && new Uint8Array(exports.memory.buffer).set(fs.readFileSync(file), pointers[i]));
  const run = exports[symbol];
  if (exports.tesa_top) new Uint32Array(exports.memory.buffer, exports.tesa_top.value, 1)[0] = top;
  calls.push({ name, call: () => run(...pointers) });
}

if (job.peers) {
  const require = createRequire(path.join(path.resolve(job.peers), 'x.js'));
  const tf = require('@tensorflow/tfjs-core');
  const backend = require('@tensorflow/tfjs-backend-wasm');
  backend.setWasmPaths(`${path.dirname(require.resolve('@tensorflow/tfjs-backend-wasm'))}/`);
  backend.setThreadsCount(1);
  await tf.setBackend('wasm');
  const ort = require('onnxruntime-web');
  ort.env.wasm.numThreads = 1;
  ort.env.logLevel = 'error';
  for (const [m, k, n] of job.layers) {
    const side = Math.round(Math.sqrt(n));
    const x = Float32Array.from({ length: k * n }, (_, i) => Math.sin(i));
    const w = Float32Array.from({ length: m * k }, (_, i) => Math.cos(i));
    const image = tf.tensor4d(x, [1, side, side, k]);
    const filter = tf.tensor4d(w, [1, 1, k, m]);
    const bias = tf.zeros([m]);
    const conv = () => tf.fused.conv2d({ x: image, filter, strides: 1, pad: 'valid', bias, activation: 'relu' }).dispose();
    const [left, right] = [tf.tensor2d(w, [m, k]), tf.tensor2d(x, [k, n])];
    calls.push({ name: `tfjs conv2d ${m}x${k}x${n}`, call: conv });
    calls.push({ name: `tfjs matMul ${m}x${k}x${n}`, call: () => tf.matMul(left, right).dispose() });
    const session = await ort.InferenceSession.create(fs.readFileSync(job.onnx[`${m} ${k} ${n}`]), {
      executionProviders: ['wasm'],
    });
    const given = { x: new ort.Tensor('float32', x, [1, k, side, side]) };
    calls.push({ name: `onnxruntime-web ${m}x${k}x${n}`, call: () => session.run(given), later: true });
  }
}

for (const one of calls) {
  one.least = Infinity;
  for (let i = 0; i < 10; i++) await one.call();
}
const end = performance.now() + job.seconds * 1000;
while (performance.now() < end) {
  for (const one of calls) {
    for (let i = 0; i < 3; i++) {
      const before = process.cpuUsage();
      if (one.later) await one.call();
      else one.call();
      const { user, system } = process.cpuUsage(before);
      one.least = Math.min(one.least, (user + system) / 1000);
    }
  }
}
console.log(JSON.stringify(Object.fromEntries(calls.map(({ name, least }) => [name, least]))));
process.exit(0);
