"""The README of a bundle: what is in it, and the few lines of code that use it."""

from typing import Any

from tesa.bundle.model import BARE, KERNEL, VM, WASM, Compiled

_VM = """\
## C++

    #include "tesa.hpp"

    tesa::Model model("{file}");
{cpp}

    g++ -std=c++17 app.cc -o app -isystem include -Llib -Wl,-rpath,'$ORIGIN/lib' \\
      -Wl,--no-as-needed -ltvm_runtime -ltvm_ffi -ldl -pthread

Ship the program with `{file}` and the folder `lib`: the two libraries need nothing but the system's C and C++ library.

## Python

    pip install -r python/requirements.txt

    from tesa_model import Model            # python/tesa_model.py, a file to copy

    model = Model("{file}")     # finds lib/libtvm_runtime.so beside it
    outputs = model({{{feeds}}})

## Threads and memory

One model serves any number of threads, in both languages. Inputs are in the order of rows; a bare `DLTensor` has to lie
at a multiple of 64 bytes, what `tesa::view` and NumPy give may lie anywhere.
"""

_KERNEL = """\
## Use

One function, `{call}`.

    tvm_ffi.load_module("./{file}")["entry"](...)          # in Python, on NumPy arrays

In C++: `tvm::ffi::Module::LoadFromFile("{file}")->GetFunction("entry")`, called with tensors. It needs
`lib/libtvm_ffi.so` alone. Made for several threads, it uses those of `lib/libtvm_runtime.so` where that is loaded.
"""

_ADDRESSED = """\
## Use

One function, `{call}`.
"""

_BARE = """\
## C and C++

    #include "{header}"

{c}

{link}

[{header}]({header}) has the rest: the other functions, checks of shapes and types (`{name}_call`), threads of the
application (`{name}_run_parallel`), and what the answers mean (`{name}_error`). The arena is memory of the caller, of
{arena} bytes at a multiple of 64; each thread that runs at the same time has one of its own. Nothing is allocated, and
there is no state.
"""

_WASM = """\
## JavaScript

    import {{ load }} from "./tesa.js";

    const model = await load("{file}");                  // in Node.js a path, in a browser a URL
    const {{ {outputs} }} = model.run({{ {js} }});

`tesa.js` is an ES module for browsers, their workers and Node.js, with types in `tesa.d.ts`. The protocol beneath is
that of [{header}]({header}): its functions are exported, with `memory`, free from `__heap_base` on.
"""

_TYPES = {
    "float32": "float", "float64": "double", "int64": "int64_t", "int32": "int32_t", "int16": "int16_t",
    "int8": "int8_t", "uint64": "uint64_t", "uint32": "uint32_t", "uint16": "uint16_t", "uint8": "uint8_t",
    "bool": "bool",
}  # fmt: skip
_ARRAYS = {
    "float32": "Float32Array", "float64": "Float64Array", "int64": "BigInt64Array", "uint64": "BigUint64Array",
    "int32": "Int32Array", "uint32": "Uint32Array", "int16": "Int16Array", "uint16": "Uint16Array",
    "int8": "Int8Array", "bfloat16": "Uint16Array", "float16": "(globalThis.Float16Array ?? Uint16Array)",
}  # fmt: skip
"""As tesa.js has them: a type that is not here is bytes."""

_IN_C = {**_TYPES, "bool": "uint8_t"}
"""As the header of a model has them: a type that is not here is 16 bits."""


def readme(compiled: Compiled, rows: list[tuple[str, str]]) -> str:
    """The text. rows: each file of the bundle but the licences, and what it is for."""
    made = {VM: _vm, KERNEL: _kernel, BARE: _bare, WASM: _wasm}[compiled.kind](compiled)
    table = "\n".join(f"| `{name}` | {what} |" for name, what in rows)
    return f"# {compiled.path.name}\n\n{_ports(compiled)}\n\n| file | |\n|---|---|\n{table}\n\n{made}"


def _ports(compiled: Compiled) -> str:
    what = "A kernel" if compiled.kind == KERNEL else "A neural network"
    target = compiled.description.get("target") or compiled.sizes[0].get("plan", {}).get("target", "")
    lines = [f"{what}, compiled by tesa{f' for {target}' if target else ''}."]
    for size in compiled.sizes:
        sides = [", ".join(_port(port) for port in size[side]) for side in ("inputs", "outputs")]
        lines.append(f"- {sides[0]} -> {sides[1]}")
    return "\n".join([lines[0], "", *lines[1:]])


def _port(port: dict[str, Any]) -> str:
    return f"`{port['name']}` {port['dtype']} [{', '.join(map(str, port['shape']))}]"


def _elements(port: dict[str, Any]) -> str:
    return " * ".join(map(str, port["shape"])) or "1"


def _vm(compiled: Compiled) -> str:
    inputs = compiled.sizes[0]["inputs"]
    declared = [
        f"    std::vector<{_TYPES.get(p['dtype'], 'float')}> x{i}({_elements(p)});" for i, p in enumerate(inputs)
    ]
    views = ", ".join(f"tesa::view(x{i}.data(), {{{', '.join(map(str, p['shape']))}}})" for i, p in enumerate(inputs))
    cpp = "\n".join([*declared, f"    std::vector<tesa::Tensor> outputs = model({{{views}}});"])
    feeds = ", ".join(f'"{port["name"]}": x{i}' for i, port in enumerate(inputs))
    return _VM.format(file=compiled.path.name, cpp=cpp, feeds=feeds)


def _kernel(compiled: Compiled) -> str:
    text = _KERNEL if compiled.path.suffix == ".so" else _ADDRESSED
    return text.format(file=compiled.path.name, call=compiled.description["call"])


def _bare(compiled: Compiled) -> str:
    library = compiled.description["library"]
    size, name, big = compiled.sizes[0], library["name"], library["name"].upper()
    ports = [*size["inputs"], *size["outputs"]]
    declared = [f"    static {_IN_C.get(p['dtype'], 'uint16_t')} t{i}[{_elements(p)}];" for i, p in enumerate(ports)]
    call = ", ".join([*(f"t{i}" for i in range(len(ports))), "arena"])
    code = [*declared, f"    void *arena = aligned_alloc({big}_ARENA_ALIGNMENT, {big}_ARENA_BYTES);",
            f"    int status = {library['functions'][0]}({call});",
            f"    if (status != 0) puts({name}_error(status));"]  # fmt: skip
    file = compiled.path.name
    link = {
        ".o": f"    cc app.c {file} -o app",
        ".c": f"    cc -O2 -c {file} && cc app.c {compiled.path.stem}.o -o app",
    }.get(compiled.path.suffix, f"    cc app.c ./{file} -o app -Wl,-rpath,'$ORIGIN'")
    header = compiled.path.with_suffix(".h").name
    return _BARE.format(header=header, c="\n".join(code), link=link, name=name, arena=library["arena"])


def _wasm(compiled: Compiled) -> str:
    size = compiled.sizes[0]
    feeds = [f"{_key(p['name'])}: new {_ARRAYS.get(p['dtype'], 'Uint8Array')}({_elements(p)})" for p in size["inputs"]]
    outputs = ", ".join(_key(port["name"]) if port["name"].isidentifier() else f'"{port["name"]}": y{i}'
                        for i, port in enumerate(size["outputs"]))  # fmt: skip
    header = compiled.path.with_suffix(".h").name
    return _WASM.format(file=compiled.path.name, js=", ".join(feeds), outputs=outputs, header=header)


def _key(name: str) -> str:
    return name if name.isidentifier() else f'"{name}"'
