// Compiled models in JavaScript: an ES module for browsers, their workers and Node.js. No dependencies.
//
//   import { load } from "./tesa.js";
//
//   const model = await load("model.wasm");
//   const { logits } = model.run({ image: new Float32Array(64 * 64) });
//
// What cannot be done is a TesaError whose message says what was expected. The types are in tesa.d.ts.

export class TesaError extends Error {
  /** @param {string} code @param {string} message */
  constructor(code, message, options) {
    super(message, options);
    this.name = "TesaError";
    this.code = code;
  }
}

// A function of one instruction each: i8x16.splat, and f32x4.relaxed_madd. An engine that lacks it refuses the module.
const SIMD = [0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 8, 1, 6, 0, 65, 0, 253, 15, 11];
const RELAXED = [
  0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 19, 1, 17, 0,
  65, 0, 253, 17, 65, 0, 253, 17, 65, 0, 253, 17, 253, 133, 2, 11,
]; // prettier-ignore

const known = new Map();
function can(bytes) {
  if (typeof WebAssembly !== "object") return false;
  if (!known.has(bytes)) known.set(bytes, WebAssembly.validate(new Uint8Array(bytes)));
  return known.get(bytes);
}

/** Whether this engine has WebAssembly with SIMD, without which no model runs. */
export const hasSimd = () => can(SIMD);
/** Whether it has relaxed SIMD, for which `--target wasm32:relaxed` compiles. */
export const hasRelaxedSimd = () => can(RELAXED);

// The element types by their number in a model, each with the array of its elements.
const Half = globalThis.Float16Array ?? Uint16Array; // without Float16Array, the bits
const TYPES = [
  null,
  ["bool", Uint8Array], ["int8", Int8Array], ["uint8", Uint8Array], ["int16", Int16Array], ["uint16", Uint16Array],
  ["int32", Int32Array], ["uint32", Uint32Array], ["int64", BigInt64Array], ["uint64", BigUint64Array],
  ["float16", Half], ["bfloat16", Uint16Array], ["float32", Float32Array], ["float64", Float64Array],
]; // prettier-ignore

const FUNCTIONS = ["call", "arena_bytes", "sizes", "inputs", "outputs", "input", "output", "error", "target", "version", "digest"];
const TENSOR_BYTES = 32; // struct tesa_tensor: data 0, name 4, shape 8, rank 12, type 16, bytes 24
const ALIGNMENT = 64;
const PAGE = 65536;

/**
 * Load a model that `tesa compile --target wasm32` has written.
 *
 * source: where the .wasm is (a URL, or a path in Node.js), its bytes, a Response of it, or a WebAssembly.Module. Or
 * { simd128, relaxed }, two of these: the second one is taken where the engine has relaxed SIMD.
 */
export async function load(source) {
  if (!hasSimd()) {
    const what = typeof WebAssembly === "object" ? "WebAssembly of this browser has no SIMD" : "there is no WebAssembly";
    throw new TesaError("simd", `cannot run the model: ${what}; it needs Chrome 91, Firefox 89, Safari 16.4, Node.js 16.4 or newer`);
  }
  const chosen = choose(source);
  const module = chosen instanceof WebAssembly.Module ? chosen : await compiled(chosen);
  if (WebAssembly.Module.imports(module).length > 0) throw foreign("it asks for imports");
  return opened(module, await instance(module));
}

async function instance(module) {
  try {
    return await WebAssembly.instantiate(module, {});
  } catch (cause) {
    if (cause instanceof RangeError) throw new TesaError("memory", "the model needs more memory than this engine gives", { cause });
    throw new TesaError("file", `the module: is damaged (${cause.message}); copy or compile it again`, { cause });
  }
}

function opened(module, { exports }) {
  try {
    return new Model(module, exports);
  } catch (cause) {
    if (cause instanceof TesaError && cause.code !== "run") throw cause;
    throw new TesaError("file", `the module: is damaged (${cause.message}); copy or compile it again`, { cause });
  }
}

function choose(source) {
  const isPlain = source !== null && typeof source === "object" && Object.getPrototypeOf(source) === Object.prototype;
  if (!isPlain) return source;
  const { simd128, relaxed } = source;
  if (simd128 === undefined && relaxed === undefined) return undefined;
  const chosen = hasRelaxedSimd() ? (relaxed ?? simd128) : simd128;
  if (chosen === undefined) {
    throw new TesaError("simd", "cannot run the model: this engine has no relaxed SIMD, and there is no module for simd128");
  }
  return chosen;
}

const foreign = (why, name = "the module") =>
  new TesaError("file", `${name}: is no model of tesa (${why}); compile one: tesa compile model.onnx -o model.wasm --target wasm32`);

async function compiled(source) {
  const { bytes, name } = await read(source);
  const magic = [0, 97, 115, 109];
  if (magic.some((byte, index) => bytes[index] !== byte)) {
    const got = bytes.length === 0 ? "it is empty" : bytes[0] === 60 ? "it is a page of HTML: is the address right?" : "it is no WebAssembly";
    throw foreign(got, name);
  }
  let module;
  try {
    module = await WebAssembly.compile(bytes);
  } catch (cause) {
    const hint = hasRelaxedSimd() ? "" : ", or made for relaxed SIMD, which this engine lacks";
    throw new TesaError("file", `${name}: is cut off or damaged${hint}; copy or compile it again`, { cause });
  }
  if (changed(bytes)) throw new TesaError("file", `${name}: is damaged (its checksum is of another file); copy or compile it again`);
  return module;
}

// Whether a module is not what the checksum in its last section says. One without, as other tools leave it, may be it.
function changed(bytes) {
  const at = bytes.length - SUM.length - 4;
  if (at < 0 || SUM.some((byte, index) => bytes[at + index] !== byte)) return false;
  const view = new DataView(bytes.buffer, bytes.byteOffset + at + SUM.length, 4);
  return crc32(bytes.subarray(0, at)) !== view.getUint32(0, true);
}

const SUM = [0, 15, 10, ...Array.from("tesa.crc32", (letter) => letter.charCodeAt(0))];

function crc32(bytes) {
  const table = Uint32Array.from({ length: 256 }, (_, number) => {
    for (let bit = 0; bit < 8; bit++) number = number & 1 ? (number >>> 1) ^ 0xedb88320 : number >>> 1;
    return number;
  });
  let sum = -1;
  for (let i = 0; i < bytes.length; i++) sum = (sum >>> 8) ^ table[(sum ^ bytes[i]) & 255];
  return ~sum >>> 0;
}

// The bytes of a source, and what to call it in an error.
async function read(source) {
  if (source instanceof ArrayBuffer) return { bytes: new Uint8Array(source), name: "the model" };
  if (ArrayBuffer.isView(source)) {
    return { bytes: new Uint8Array(source.buffer, source.byteOffset, source.byteLength), name: "the model" };
  }
  if (typeof Response === "function" && source instanceof Response) return body(source, source.url || "the model");
  if (typeof source === "string" || source instanceof URL) return fetched(source);
  throw new TesaError("source", "load: expected a URL, bytes, a Response, a WebAssembly.Module, or { simd128, relaxed } of these");
}

async function fetched(source) {
  const name = String(source);
  const isUrl = /^[a-z][a-z0-9+.-]+:/i.test(name);
  const isNode = typeof process === "object" && process.versions?.node !== undefined;
  if (isNode && (!isUrl || name.startsWith("file:"))) {
    const { readFile } = await import("node:fs/promises");
    try {
      return { bytes: new Uint8Array(await readFile(isUrl ? new URL(name) : name)), name };
    } catch (cause) {
      throw new TesaError("source", `${name}: cannot be read (${cause.code ?? cause.message})`, { cause });
    }
  }
  let response;
  try {
    response = await fetch(source);
  } catch (cause) {
    throw new TesaError("source", `${name}: cannot be fetched (${cause.message})`, { cause });
  }
  return body(response, name);
}

async function body(response, name) {
  if (!response.ok) throw new TesaError("source", `${name}: cannot be fetched (${response.status} ${response.statusText})`.trim());
  try {
    return { bytes: new Uint8Array(await response.arrayBuffer()), name };
  } catch (cause) {
    throw new TesaError("source", `${name}: the transfer broke off (${cause.message})`, { cause });
  }
}

const shown = (shape) => `[${shape.join(", ")}]`;
const aligned = (bytes) => Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;

/** A model in this thread. A call blocks the thread; for several at once, load the module in several workers. */
export class Model {
  #exports;
  #name;
  #sizes;
  #arena;
  #places; // of the tables of tensors, and of the memory of each tensor

  /** @private See load. */
  constructor(module, exports) {
    const name = Object.keys(exports).find((key) => key.endsWith("_arena_bytes"))?.slice(0, -"_arena_bytes".length);
    const lacks = FUNCTIONS.filter((key) => typeof exports[`${name}_${key}`] !== "function");
    if (name === undefined || lacks.length > 0 || !(exports.memory instanceof WebAssembly.Memory) || !exports.__heap_base) {
      throw foreign("it lacks the functions of one");
    }
    this.module = module;
    this.#exports = exports;
    this.#name = name;
    this.#sizes = Array.from({ length: this.#call("sizes") }, (_, size) => ({
      inputs: this.#ports("input", size),
      outputs: this.#ports("output", size),
    }));
    this.#reserve();
    Object.freeze(this);
  }

  /** Inputs, in order: name, shape and type of each. Of a model of several sizes, those of the first. */
  get inputs() {
    return this.#sizes[0].inputs;
  }
  /** Outputs, in order. */
  get outputs() {
    return this.#sizes[0].outputs;
  }
  /** Inputs and outputs of every size that the model takes. */
  get sizes() {
    return this.#sizes;
  }
  /** What the model is called, what it was compiled for, and by which tesa. */
  get info() {
    const text = (key) => this.#text(this.#call(key));
    return { name: this.#name, target: text("target"), version: text("version"), digest: text("digest"), memory: this.#exports.memory.buffer.byteLength };
  }

  /**
   * Run the model. feeds: an array for each input by its name, in the order of rows; or { data, shape }, where the
   * number of elements does not tell which size of the model is meant. Returns an array for each output by its name.
   */
  run(feeds) {
    const given = this.#given(feeds);
    const size = this.#fitting(given);
    const { inputs, outputs } = this.#sizes[size];
    const { tables, memory, arena } = this.#places;
    const buffer = this.#exports.memory.buffer;
    const places = memory[size];
    this.#describe(inputs, "input", size, tables, places);
    this.#describe(outputs, "output", size, tables + inputs.length * TENSOR_BYTES, places.slice(inputs.length));
    inputs.forEach((port, i) => new (arrayOf(port.dtype))(buffer, places[i], port.elements).set(given[i].data));
    const status = this.#call(
      "call", tables, inputs.length, tables + inputs.length * TENSOR_BYTES, outputs.length, arena, this.#arena, 0, 0,
    ); // prettier-ignore
    if (status !== 0) throw new TesaError("run", `the model cannot run: ${this.#text(this.#call("error", status))}`);
    return Object.fromEntries(
      outputs.map((port, i) => [
        port.name,
        new (arrayOf(port.dtype))(buffer, places[inputs.length + i], port.elements).slice(),
      ]),
    );
  }

  #call(key, ...words) {
    try {
      return this.#exports[`${this.#name}_${key}`](...words);
    } catch (cause) {
      throw new TesaError("run", `the model cannot run: ${cause.message}; the file may be damaged`, { cause });
    }
  }

  #text(place) {
    const bytes = new Uint8Array(this.#exports.memory.buffer, place);
    return new TextDecoder().decode(bytes.subarray(0, bytes.indexOf(0)));
  }

  #ports(side, size) {
    const count = this.#call(`${side}s`);
    return Object.freeze(
      Array.from({ length: count }, (_, index) => {
        const place = this.#call(side, size, index);
        const view = new DataView(this.#exports.memory.buffer, place, TENSOR_BYTES);
        const type = TYPES[view.getInt32(16, true)];
        if (!type) throw foreign("it is of another version");
        const shape = Array.from(
          new BigInt64Array(this.#exports.memory.buffer.slice(view.getUint32(8, true), view.getUint32(8, true) + 8 * view.getInt32(12, true))),
          Number,
        );
        const elements = shape.reduce((product, n) => product * n, 1);
        return Object.freeze({ name: this.#text(view.getUint32(4, true)), shape: Object.freeze(shape), dtype: type[0], elements });
      }),
    );
  }

  // Memory behind the module's own: the arena, then tables of tensors, then room for the tensors of each size.
  #reserve() {
    const { memory, __heap_base } = this.#exports;
    this.#arena = this.#call("arena_bytes");
    const arena = aligned(Number(__heap_base.value));
    const tables = arena + aligned(this.#arena);
    const ports = this.inputs.length + this.outputs.length;
    const start = tables + aligned(ports * TENSOR_BYTES);
    let end = start;
    const places = this.#sizes.map(({ inputs, outputs }) => {
      let place = start;
      const each = [...inputs, ...outputs].map((port) => {
        const here = place;
        place += aligned(port.elements * arrayOf(port.dtype).BYTES_PER_ELEMENT);
        return here;
      });
      end = Math.max(end, place);
      return each;
    });
    const pages = Math.ceil((end - memory.buffer.byteLength) / PAGE);
    try {
      if (pages > 0) memory.grow(pages);
    } catch (cause) {
      throw new TesaError("memory", `the model needs ${(end / 2 ** 20).toFixed(1)} MiB of memory, which this engine does not give`, { cause });
    }
    this.#places = { arena, tables, memory: places };
  }

  // Write the table of the tensors of a side: the model's own description, with the address of the memory.
  #describe(ports, side, size, table, places) {
    const buffer = this.#exports.memory.buffer;
    ports.forEach((_, index) => {
      const own = this.#call(side, size, index);
      new Uint8Array(buffer).copyWithin(table + index * TENSOR_BYTES, own, own + TENSOR_BYTES);
      new DataView(buffer).setUint32(table + index * TENSOR_BYTES, places[index], true);
    });
  }

  #given(feeds) {
    const names = this.inputs.map((port) => port.name);
    if (feeds === null || typeof feeds !== "object" || ArrayBuffer.isView(feeds)) {
      throw new TesaError("name", `run: expected an object with an array for each input: ${names.join(", ")}`);
    }
    for (const name of Object.keys(feeds)) {
      if (!names.includes(name)) throw new TesaError("name", `run: the model has no input "${name}"; it has ${names.join(", ")}`);
    }
    return this.inputs.map((port) => {
      const feed = feeds[port.name];
      if (feed === undefined) throw new TesaError("name", `run: input "${port.name}" is missing; the model takes ${names.join(", ")}`);
      const { data, shape } = ArrayBuffer.isView(feed) ? { data: feed } : (feed?.data !== undefined ? feed : { data: feed });
      const wanted = arrayOf(port.dtype);
      if (!(data instanceof wanted)) {
        const got = data === null ? "null" : (data?.constructor?.name ?? typeof data);
        throw new TesaError("type", `input "${port.name}": expected a ${wanted.name} (${port.dtype}), got ${got}`);
      }
      if (shape !== undefined && !(Array.isArray(shape) && shape.every(Number.isInteger))) {
        throw new TesaError("shape", `input "${port.name}": expected a shape that is an array of whole numbers, as ${shown(port.shape)}`);
      }
      return { data, shape: shape ?? null };
    });
  }

  #fitting(given) {
    const fits = (size) => this.#sizes[size].inputs.every((port, i) => fitsPort(port, given[i]));
    const found = this.#sizes.map((_, size) => size).filter(fits);
    if (found.length === 1) return found[0];
    if (found.length > 1) {
      throw new TesaError("shape", "run: the number of elements fits several sizes of the model; give { data, shape }");
    }
    if (this.#sizes.length > 1) {
      const all = this.#sizes.map(({ inputs }) => inputs.map((port) => shown(port.shape)).join(" ")).join("; ");
      const got = given.map(({ data, shape }) => (shape ? shown(shape) : `${data.length} elements`)).join(", ");
      throw new TesaError("shape", `run: the model was compiled for inputs of the shapes ${all}; got ${got}`);
    }
    const at = this.inputs.findIndex((port, i) => !fitsPort(port, given[i]));
    const { data, shape } = given[at];
    const port = this.inputs[at];
    const got = shape && shown(shape) !== shown(port.shape) ? `shape ${shown(shape)}` : `${data.length} elements`;
    throw new TesaError("shape", `input "${port.name}": expected ${port.elements} elements of shape ${shown(port.shape)}, got ${got}`);
  }
}

const fitsPort = (port, { data, shape }) =>
  data.length === port.elements && (shape === null || shown(shape) === shown(port.shape));

const arrays = Object.fromEntries(TYPES.slice(1));
const arrayOf = (dtype) => arrays[dtype];
