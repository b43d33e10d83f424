// Runs modules of WebAssembly for tesa: one request in JSON a line on standard input, one answer a line on standard
// output. Numbers travel in files. A module has a number, which its loader gives it.
//   {do: "load", id, wasm, symbol, place: [{file, bytes, skew, guard}]}   -> {}
//   {do: "call", id}                                                      -> {status}
//   {do: "ask", id, symbol, args}                                         -> {value, text}
//   {do: "write", id, index, file}, {do: "read", id, index, file}         -> {}
//   {do: "time", id, calls, other}                                        -> {mean, median, least}, in milliseconds
//   {do: "exports", id}                                                   -> {names}
//   {do: "drop", id}, {do: "about"}
// symbol: the function that is called, "" for none. place: its arguments, all pointers: bytes of zeros, or of ones where
// there is a guard, then filled from the file; skew: bytes behind a multiple of 64; guard: bytes in front of and behind
// it, which "read" gives too. "ask" calls another function; text is what is at the address that it answers, up to a
// byte of 0.
// A failure is {error, kind}: "load" where the module cannot be used, "trap" where it traps, "call" for anything else.
import fs from 'node:fs';
import process from 'node:process';
import readline from 'node:readline';

const modules = new Map();
let other = new Float64Array(0);
let sink = 0;

class Loaded {
  constructor({ wasm, symbol, place }) {
    let instance;
    try {
      instance = new WebAssembly.Instance(new WebAssembly.Module(fs.readFileSync(wasm)), {});
    } catch (error) {
      throw Object.assign(error, { tesa: 'load' });
    }
    this.exports = instance.exports;
    this.memory = this.exports.memory;
    this.run = symbol ? this.exports[symbol] : undefined;
    if (symbol && typeof this.run !== 'function') throw Object.assign(Error(`no function ${symbol}`), { tesa: 'load' });
    let top = up(this.exports.__heap_base.value, 64);
    this.places = place.map(({ bytes, skew = 0, guard = 0 }) => {
      const start = top + up(guard, 64) + skew;
      top = up(start + bytes + guard, 64);
      return { start, bytes, guard };
    });
    this.top = top;
    const missing = top - this.memory.buffer.byteLength;
    if (missing > 0) this.memory.grow(Math.ceil(missing / 65536));
    for (const { start, bytes, guard } of this.places) {
      if (guard) new Uint8Array(this.memory.buffer, start - guard, bytes + 2 * guard).fill(255);
    }
    place.forEach(({ file }, index) => file && this.write(index, file));
    this.pointers = this.places.map(({ start }) => start);
  }

  write(index, file) {
    const { start, bytes } = this.places[index];
    const content = fs.readFileSync(file);
    if (content.length !== bytes) throw Error(`argument ${index} has ${bytes} bytes, and ${file} ${content.length}`);
    new Uint8Array(this.memory.buffer, start, bytes).set(content);
  }

  read(index, file) {
    const { start, bytes, guard } = this.places[index];
    fs.writeFileSync(file, new Uint8Array(this.memory.buffer, start - guard, bytes + 2 * guard));
  }

  call() {
    if (this.exports.tesa_top) new Uint32Array(this.memory.buffer, this.exports.tesa_top.value, 1)[0] = this.top;
    return this.run(...this.pointers);
  }

  ask(symbol, args) {
    const value = this.exports[symbol](...args);
    const from = new Uint8Array(this.memory.buffer, value >>> 0 < this.memory.buffer.byteLength ? value : 0);
    return { value, text: new TextDecoder().decode(from.subarray(0, Math.max(from.indexOf(0), 0))) };
  }

  // Between two calls the caches are filled with something else and the first argument is read again: so it is in a
  // network, where the weights were last used an inference ago and X was written just now.
  time(calls, bytes) {
    if (other.byteLength < bytes) other = new Float64Array(bytes / 8).fill(1);
    const { start, bytes: size } = this.places[0];
    const { run, pointers } = this;
    const ms = [];
    for (let i = 0; i < calls; i++) {
      if (bytes) {
        touch(other, bytes / 8);
        touch(new Uint32Array(this.memory.buffer, start, size >> 2), size >> 2);
      }
      const before = performance.now();
      run(...pointers);
      ms.push(performance.now() - before);
    }
    const mean = ms.reduce((sum, one) => sum + one, 0) / calls;
    ms.sort((a, b) => a - b);
    return { mean, median: (ms[(calls - 1) >> 1] + ms[calls >> 1]) / 2, least: ms[0] };
  }
}

function up(value, multiple) {
  return Math.ceil(value / multiple) * multiple;
}

function touch(array, count) {
  let sum = 0;
  for (let i = 0; i < count; i += 8) sum += array[i];
  sink += sum;
}

const verbs = {
  load: request => (modules.set(request.id, new Loaded(request)), {}),
  call: ({ id }) => ({ status: modules.get(id).call() }),
  ask: ({ id, symbol, args }) => modules.get(id).ask(symbol, args),
  exports: ({ id }) => ({ names: Object.keys(modules.get(id).exports) }),
  write: ({ id, index, file }) => (modules.get(id).write(index, file), {}),
  read: ({ id, index, file }) => (modules.get(id).read(index, file), {}),
  time: ({ id, calls, other: bytes }) => modules.get(id).time(calls, bytes),
  drop: ({ id }) => (modules.delete(id), {}),
  about: () => ({ node: process.versions.node, v8: process.versions.v8 }),
};

for await (const line of readline.createInterface({ input: process.stdin })) {
  let answer;
  try {
    const request = JSON.parse(line);
    answer = verbs[request.do](request);
  } catch (error) {
    const kind = error.tesa ?? (error instanceof WebAssembly.RuntimeError || error instanceof RangeError ? 'trap' : 'call');
    answer = { error: `${error.name}: ${error.message}`, kind };
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
