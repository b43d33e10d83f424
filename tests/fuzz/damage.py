"""Mutants of files that are no models: JSON, lines of JSON, archives of arrays, and any bytes."""

from __future__ import annotations

import copy
import io
import json
import random
import struct
import warnings
import zipfile
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from tests.fuzz.mutate import bytes_mutant

NASTY: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2**31, -(2**31), 2**63, 10**30, 10**400, 0.5, -0.0, 1e-320, 1e308, float("nan"),
    float("inf"), "", "x", "../../../x", "/etc/passwd", "a\0b", "\x1b]0;t\x07", "\ud800", "\u202e", "9" * 40,
    "x" * 5000, [], {}, [[]], [{}], {"": None}, [1, 2, 3], {"v": 2}, ["x"] * 50, list(range(3000)),
)  # fmt: skip
"""Values that stand in the place of others."""

DEPTHS = (65, 1000, 50_000)


def json_mutant(rng: random.Random, text: bytes) -> bytes:
    """Some values of a JSON text replaced, dropped, doubled, renamed, or its bytes damaged."""
    if rng.random() < 0.2:
        return bytes_mutant(rng, text)
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):  # damaged before
        return bytes_mutant(rng, text)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        data = _changed(rng, data)
    made = json.dumps(data)
    if rng.random() < 0.1:
        depth, at = rng.choice(DEPTHS), made.rfind("null")
        nested = rng.choice(("[" * depth, '{"a":' * depth, "[" * depth + "]" * depth))
        made = made[:at] + nested + made[at + 4 :] if at >= 0 else nested
    return made.replace('"1e999"', "1e999").encode("utf-8", "replace")


def lines_mutant(rng: random.Random, text: bytes) -> bytes:
    """Some lines damaged, doubled, dropped, exchanged, cut or glued."""
    lines = text.splitlines(keepends=True)
    for _ in range(rng.choice((1, 1, 2, 3))):
        at = rng.randrange(len(lines))
        kind = rng.random()
        if kind < 0.6:
            lines[at] = json_mutant(rng, lines[at].strip() or b"{}").replace(b"\n", b" ") + b"\n"
        elif kind < 0.7:
            lines[at] = lines[at][: rng.randrange(len(lines[at]) + 1)] + b"\n"
        elif kind < 0.8:
            lines.insert(at, rng.choice(lines))
        elif kind < 0.9:
            lines[at] = bytes(rng.randrange(256) for _ in range(rng.randrange(200))).replace(b"\n", b"") + b"\n"
        else:
            lines[at] = b"[" * 50_000 + b"\n"
    return b"".join(lines)


def npz_mutant(rng: random.Random, data: bytes) -> bytes:
    """An archive of arrays that lies about itself, or one whose bytes are damaged."""
    if rng.random() < 0.35:
        return bytes_mutant(rng, data)
    stream = io.BytesIO()
    method = rng.choice((0, 8, 8, 12, 14))
    with zipfile.ZipFile(stream, "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of two arrays with one name
        for name in rng.sample(["x", "y", "x", "../../z", "a" * 300, "\u202e"], rng.randrange(1, 5)):
            info = zipfile.ZipInfo(f"{name}{rng.choice(('.npy', '.npy', '.npy', '', '.txt'))}")
            archive.writestr(info, _array(rng), method)
    made = bytearray(stream.getvalue())
    for at in _places(made, rng.choice((b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06"))):
        if rng.random() < 0.3:
            made[at + rng.randrange(4, 22)] = rng.choice((0, 1, 8, 9, 99, 127, 255))
    return bytes(made)


def cut_mutant(rng: random.Random, data: bytes) -> bytes:
    """A file that is cut short, anywhere."""
    return data[: rng.randrange(len(data))]


MUTATORS: dict[str, Callable[[random.Random, bytes], bytes]] = {
    "log": lines_mutant, "table": json_mutant, "manifest": json_mutant, "bundle": json_mutant, "npz": npz_mutant,
    "masks": npz_mutant, "cache": bytes_mutant, "wasm": bytes_mutant, "library": cut_mutant, "tracker": json_mutant,
    "device": json_mutant, "journal": lines_mutant,
}  # fmt: skip
"""By the name of a format: see formats.py."""


def mutants(seeds: dict[str, Sequence[bytes]], start: int, count: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """(name, name of the format, a newline and the file) of the mutants of a run: the formats take turns."""
    names = sorted(seeds)
    for number in range(start, start + count):
        rng, name = random.Random(f"{seed}:{number}"), names[number % len(names)]
        yield f"{name}-{seed}-{number}", name.encode() + b"\n" + MUTATORS[name](rng, rng.choice(seeds[name]))


def _changed(rng: random.Random, data: Any) -> Any:
    """Plain data with one place changed."""
    places = [(None, None), *_walk(data)]
    holder, key = rng.choice(places)
    if holder is None:
        return copy.deepcopy(rng.choice(NASTY)) if rng.random() < 0.1 else data
    kind = rng.random()
    if kind < 0.65:
        value = copy.deepcopy(rng.choice(NASTY))  # it may be changed itself
        holder[key] = "1e999" if isinstance(value, float) and value == float("inf") else value
    elif kind < 0.8:
        del holder[key]
    elif isinstance(holder, list):
        holder.insert(rng.randrange(len(holder) + 1), holder[key])
    else:
        holder[rng.choice((f"{key}2", "", "weight", "v"))] = holder[key]
    return data


def _walk(data: Any) -> Iterator[tuple[Any, Any]]:
    """(list or object, index or name) of every value in plain data."""
    for key, item in data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ():
        yield data, key
        yield from _walk(item)


def _array(rng: random.Random) -> bytes:
    """An .npy file whose header may say anything."""
    shape = rng.choice((
        "(2, 3)", "(6,)", "()", "(0,)", "(2, 4)", "(4, 3)", "(-1,)", "(1099511627776,)", "(4611686018427387904, 4)",
        "(True,)", "(2.0, 3)", "'x'", "None", "(2, 3", "(" * 4000, "[2, 3]", "(1," * 50,
    ))  # fmt: skip
    descr = rng.choice((
        "'<f4'", "'<f4'", "'<f4'", "'|b1'", "'<f8'", "'|O'", "'<U0'", "'|V0'", "'<U1000000000'", "'<M8[s]'", "'<c16'",
        "[('a', '<f4')]", "('<f4', (3,))", "'x'", "5", "'<f4', 'descr': '|O'", "'" + "<f4" * 3000 + "'",
    ))  # fmt: skip
    text = f"{{'descr': {descr}, 'fortran_order': {rng.choice(('False', 'True', '1', 'x'))}, 'shape': {shape}, }}\n"
    version = rng.choice((1, 1, 1, 2, 3, 4, 0))
    length = rng.choice((len(text), len(text), len(text), 0, 65535, 2**32 - 1))
    head = struct.pack("<H", length & 0xFFFF) if version == 1 else struct.pack("<I", length)
    content = np.arange(6, dtype=np.float32).tobytes() * rng.choice((1, 1, 1, 0, 100_000))
    return b"\x93NUMPY" + bytes([version, 0]) + head + text.encode() + content


def _places(data: bytes, mark: bytes) -> Iterator[int]:
    at = data.find(mark)
    while at >= 0:
        yield at
        at = data.find(mark, at + 1)
