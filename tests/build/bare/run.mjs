// Runs a model on files: run.mjs net.wasm net.json INPUT... OUTPUT..., each the bytes of one tensor.
import { readFileSync, writeFileSync } from "node:fs";

const [wasm, description, ...files] = process.argv.slice(2);
const about = JSON.parse(readFileSync(description, "utf8"));
const module = new WebAssembly.Module(readFileSync(wasm));
if (WebAssembly.Module.imports(module).length) throw new Error("it has imports");
const { exports } = new WebAssembly.Instance(module, {});
const { name, arena, alignment, functions } = about.library;
const view = new DataView(exports.memory.buffer);
let top = exports.__heap_base.value;
const place = (bytes) => {
  const at = Math.ceil(top / alignment) * alignment;
  top = at + bytes;
  return at;
};
const bytes = (side, i) => Number(view.getBigUint64(exports[`${name}_${side}`](0, i) + 24, true));
const inputs = about.inputs.map((_, i) => [place(bytes("input", i)), bytes("input", i)]);
const outputs = about.outputs.map((_, i) => [place(bytes("output", i)), bytes("output", i)]);
const room = place(arena);
const lacks = top - exports.memory.buffer.byteLength;
if (lacks > 0) exports.memory.grow(Math.ceil(lacks / 65536));
const memory = new Uint8Array(exports.memory.buffer);
inputs.forEach(([at], i) => memory.set(readFileSync(files[i]), at));
const pointers = [...inputs, ...outputs].map(([at]) => at);
const status = exports[functions[0]](...pointers, room);
if (status) process.exit(status);
outputs.forEach(([at, size], i) => writeFileSync(files[inputs.length + i], memory.slice(at, at + size)));
if (exports[functions[0]](...pointers.map(() => 0), room) !== 1) throw new Error("null is taken");
if (exports[functions[0]](...pointers, room + 8) !== 2) throw new Error("an arena at any address is taken");
