"""Mutants of messages and of bytes: a field gets another value, is dropped, doubled, moved or taken from elsewhere."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any

from google.protobuf.message import Message

WHOLE = (
    0,
    1,
    -1,
    2,
    3,
    7,
    16,
    17,
    99,
    127,
    255,
    -128,
    65536,
    -65536,
    2**31 - 1,
    -(2**31),
    2**31,
    2**40,
    2**63 - 1,
    -(2**63),
)
REAL = (0.0, -0.0, 1.0, -1.0, 1e-45, 1e38, -1e38, float("inf"), float("-inf"), float("nan"), 0.5, 3.0, 1e12)
TEXT = (
    "",
    "x",
    "main",
    "?",
    "a" * 300,
    "../x",
    "y\0z",
    "ü\n",
    "ai.onnx",
    "com.microsoft",
    "NOTSET",
    "ij,jk->zz",
    "none",
    "-1",
)
LARGEST = 4096  # elements of a repeated number field that single ones of are changed


def mutant(seeds: Sequence[Message], number: int, seed: int = 0) -> bytes:
    """Mutant `number` of a run: always the same bytes for the same seeds."""
    rng = random.Random(f"{seed}:{number}")
    model = type(seeds[0])()
    model.CopyFrom(rng.choice(seeds))
    if rng.random() < 0.15:
        return bytes_mutant(rng, model.SerializeToString())
    for _ in range(rng.choice((1, 1, 1, 2, 3, 6))):
        change(rng, model, rng.choice(seeds))
    try:
        data = model.SerializeToString()
    except Exception:  # text that is no UTF-8 does not fit a field
        return bytes_mutant(rng, rng.choice(seeds).SerializeToString())
    return bytes_mutant(rng, data) if rng.random() < 0.05 else data


def bytes_mutant(rng: random.Random, data: bytes) -> bytes:
    """The bytes with some of them changed, cut, doubled or put in."""
    result = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        place = rng.randrange(len(result) + 1)
        length = rng.choice((1, 1, 2, 4, 8, 64))
        kind = rng.randrange(6)
        if kind == 0 and place < len(result):
            result[place] ^= 1 << rng.randrange(8)
        elif kind == 1 and place < len(result):
            result[place] = rng.choice((0, 1, 127, 128, 255))
        elif kind == 2:
            del result[place : place + length]
        elif kind == 3:
            result[place:place] = rng.randbytes(length)
        elif kind == 4:
            result[place:place] = result[place : place + length]
        elif rng.random() < 0.3:
            del result[place:]
    return bytes(result)


def change(rng: random.Random, message: Message, other: Message) -> None:
    """Change one field somewhere in a message. other: where a part may be taken from."""
    found = [m for m in _messages(message) if m.ListFields()]
    # a graph's parts are many, and its tensors have few fields: each kind of message has the same chance
    kinds = sorted({m.DESCRIPTOR.name for m in found})
    if not kinds:
        return
    kind = rng.choice(kinds)
    target = rng.choice([m for m in found if m.DESCRIPTOR.name == kind])
    field = rng.choice(list(target.DESCRIPTOR.fields) if rng.random() < 0.15 else [f for f, _ in target.ListFields()])
    if field.is_repeated:
        _change_list(rng, getattr(target, field.name), field, target, other)
    elif field.message_type is not None:
        if rng.random() < 0.4:
            target.ClearField(field.name)
        elif (taken := _taken(rng, other, field.message_type.name)) is not None:
            getattr(target, field.name).CopyFrom(taken)
    elif rng.random() < 0.15:
        target.ClearField(field.name)
    else:
        _set(target, field, _value(rng, field, getattr(target, field.name), other))


def _change_list(rng: random.Random, values: Any, field: Any, target: Message, other: Message) -> None:
    length, kind = len(values), rng.randrange(6)
    place = rng.randrange(length) if length else 0
    if kind == 0 and length:
        del values[place]
    elif kind == 1 and length:
        _insert(values, rng.randrange(length + 1), values[place], field)
    elif kind == 2 and length > 1:
        kept = [_copy(v) for v in values]
        rng.shuffle(kept)
        del values[:]
        values.extend(kept)
    elif field.message_type is not None:
        if (taken := _taken(rng, other if rng.random() < 0.7 else target, field.message_type.name)) is not None:
            if length and rng.random() < 0.5:
                values[place].CopyFrom(taken)
            else:
                values.append(taken)
    elif length and kind < 5 and length <= LARGEST:
        try:
            values[place] = _value(rng, field, values[place], other)
        except (ValueError, TypeError):
            return
    else:
        values.append(_value(rng, field, None, other))


def _insert(values: Any, place: int, value: Any, field: Any) -> None:
    kept = [_copy(v) for v in values]
    kept.insert(place, _copy(value))
    del values[:]
    values.extend(kept)


def _copy(value: Any) -> Any:
    if not isinstance(value, Message):
        return value
    new = type(value)()
    new.CopyFrom(value)
    return new


def _value(rng: random.Random, field: Any, old: Any, other: Message) -> Any:
    """Another value for a field that is no message."""
    if field.enum_type is not None:
        return rng.choice([*(v.number for v in field.enum_type.values), rng.choice(WHOLE[:13])])
    if field.cpp_type in (field.CPPTYPE_FLOAT, field.CPPTYPE_DOUBLE):
        return rng.choice(REAL)
    if field.type == field.TYPE_BYTES:
        raw = bytes(old or b"")
        return rng.choice((b"", raw[: len(raw) // 2], raw + b"\0", raw * 2, bytes_mutant(rng, raw), b"\xff" * len(raw),
                           rng.choice(TEXT).encode()))  # fmt: skip
    if field.cpp_type == field.CPPTYPE_STRING:
        found = [(f.name, v) for m in _messages(other) for f, v in m.ListFields()]
        texts = [v for name, v in found if name == field.name and isinstance(v, str)]
        names = [n for name, v in found if name in ("input", "output") for n in v if isinstance(n, str)]
        return rng.choice([rng.choice(TEXT), rng.choice(texts or TEXT), rng.choice(names or TEXT)])
    near = [] if old is None else [old + 1, old - 1, -old, old * 2, old * 1000]
    low, high = _range(field)
    return min(max(rng.choice([rng.choice(WHOLE), rng.choice(near or WHOLE)]), low), high)


def _range(field: Any) -> tuple[int, int]:
    bits = 31 if field.cpp_type in (field.CPPTYPE_INT32, field.CPPTYPE_UINT32) else 63
    signed = field.cpp_type in (field.CPPTYPE_INT32, field.CPPTYPE_INT64)
    return (-(1 << bits), (1 << bits) - 1) if signed else (0, (2 << bits) - 1)


def _set(target: Message, field: Any, value: Any) -> None:
    try:
        setattr(target, field.name, value)
    except (ValueError, TypeError):
        target.ClearField(field.name)


def _taken(rng: random.Random, other: Message, kind: str) -> Any:
    """A message of a kind out of another one, None if there is none."""
    found = [m for m in _messages(other) if m.DESCRIPTOR.name == kind]
    return _copy(rng.choice(found)) if found else None


def _messages(message: Message) -> Iterator[Message]:
    """The message and all messages in it."""
    yield message
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        for inner in value if field.is_repeated else [value]:
            yield from _messages(inner)
