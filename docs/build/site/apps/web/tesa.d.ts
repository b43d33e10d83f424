/** Element types of inputs and outputs. */
export type DType =
  | "bool" | "int8" | "uint8" | "int16" | "uint16" | "int32" | "uint32" | "int64" | "uint64"
  | "float16" | "bfloat16" | "float32" | "float64";

/**
 * The array that holds the elements of a type: Float32Array for float32, BigInt64Array for int64, Uint8Array for bool.
 * float16 is a Float16Array where the engine has one, else, like bfloat16 everywhere, the bits in a Uint16Array.
 */
export type Elements =
  | Float32Array | Float64Array | Int8Array | Uint8Array | Int16Array | Uint16Array | Int32Array | Uint32Array
  | BigInt64Array | BigUint64Array;

/** An input or output of a model. */
export interface Port {
  readonly name: string;
  readonly shape: readonly number[];
  readonly dtype: DType;
  /** The product of the shape. */
  readonly elements: number;
}

/** One size of a model. */
export interface Size {
  readonly inputs: readonly Port[];
  readonly outputs: readonly Port[];
}

export interface Info {
  readonly name: string;
  /** What it was compiled for, as in "wasm32:simd128". */
  readonly target: string;
  /** The tesa that compiled it. */
  readonly version: string;
  readonly digest: string;
  /** Bytes of memory that it holds. */
  readonly memory: number;
}

/** An input: its elements in the order of rows, or these and a shape, which chooses one of several sizes. */
export type Feed = Elements | { data: Elements; shape: readonly number[] };

export type Source = string | URL | ArrayBuffer | ArrayBufferView | Response | WebAssembly.Module;

/**
 * What went wrong. code:
 * - "simd": the engine cannot run the model
 * - "source": it cannot be fetched or read
 * - "file": it is no model, cut off, or damaged
 * - "memory": the engine does not give the memory that it needs
 * - "name", "type", "shape": an input of run
 * - "run": the model refused a call, as for an index outside of a table
 */
export class TesaError extends Error {
  readonly code: "simd" | "source" | "file" | "memory" | "name" | "type" | "shape" | "run";
}

/** A model in this thread. A call blocks the thread; for several at once, load the module in several workers. */
export class Model {
  private constructor();
  /** The module, which `load` takes too, and which a worker may be sent. */
  readonly module: WebAssembly.Module;
  /** Inputs, in order. Of a model of several sizes, those of the first. */
  readonly inputs: readonly Port[];
  readonly outputs: readonly Port[];
  readonly sizes: readonly Size[];
  readonly info: Info;
  /** Run the model. Returns an array for each output by its name; it stays as it is. */
  run(feeds: Readonly<Record<string, Feed>>): Record<string, Elements>;
}

/**
 * Load a model that `tesa compile --target wasm32` has written: from where it is (a URL, or a path in Node.js), its
 * bytes, a Response of it, or a WebAssembly.Module. Of { simd128, relaxed } the second one is taken where the engine
 * has relaxed SIMD.
 */
export function load(source: Source | { simd128?: Source; relaxed?: Source }): Promise<Model>;

/** Whether this engine has WebAssembly with SIMD, without which no model runs. */
export function hasSimd(): boolean;

/** Whether it has relaxed SIMD, for which `--target wasm32:relaxed` compiles. */
export function hasRelaxedSimd(): boolean;
