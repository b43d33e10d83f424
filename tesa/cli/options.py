"""Options that several verbs share, and how their values are read."""

import os
from argparse import ArgumentParser, ArgumentTypeError, Namespace, _ActionsContainer
from collections.abc import Callable, Collection
from contextlib import suppress
from math import isfinite
from typing import Any, cast

from tesa.errors import UsageError

EXTENSIONS = "TESA_EXTENSIONS"
"""The variable of the environment that names files as --extension does, with what PATH has between them."""

Shape = tuple[str, tuple[int, ...]]


def shape(text: str) -> Shape:
    """Read "name=1,3,64,64": the sizes of an input, or those of a dimension. The name itself may contain "=".

    >>> shape("image=1,3,64,64")
    ('image', (1, 3, 64, 64))
    """
    name, _, sizes = text.rpartition("=")
    try:
        dims = tuple(int(size) for size in sizes.lower().replace("x", ",").split(","))
    except ValueError:
        dims = ()
    if not name or not dims or min(dims) < 1:
        raise ArgumentTypeError(f"{text!r} is not NAME=SIZES with whole sizes above 0, as in image=1,3,64,64")
    return name, dims


def shapes_of(args: Namespace) -> dict[str, Any]:
    """The shapes of --shape by name, as sizes_of takes them: of a name that is given several times all of them.

    >>> shapes_of(Namespace(shape=[("image", (1, 3)), ("image", (8, 3)), ("tokens", (16, 64))]))
    {'image': [(1, 3), (8, 3)], 'tokens': (16, 64)}
    """
    given: dict[str, list[tuple[int, ...]]] = {}
    for name, sizes in args.shape:
        given.setdefault(name, []).append(sizes)
    return {name: rows[0] if len(rows) == 1 else rows for name, rows in given.items()}


def minutes(text: str) -> float:
    """Read a finite number of minutes above 0.

    >>> minutes("1.5")
    1.5
    """
    return _real(text, lambda value: value > 0, "number of minutes above 0")


def seconds(text: str) -> float:
    """Read a finite number of seconds above 0."""
    return _real(text, lambda value: value > 0, "number of seconds above 0")


def tolerance(text: str) -> float:
    """Read a finite number that is not negative."""
    return _real(text, lambda value: value >= 0, "finite number of 0 or more")


def _real(text: str, fits: Callable[[float], bool], what: str) -> float:
    with suppress(ValueError):
        if isfinite(value := float(text)) and fits(value):
            return value
    raise ArgumentTypeError(f"{text!r} is not a {what}")


def positive(text: str) -> int:
    """Read a whole number above 0.

    >>> positive("2")
    2
    """
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def natural(text: str) -> int:
    """Read a whole number that is not negative."""
    if not (text.isascii() and text.isdigit()):
        raise ArgumentTypeError(f"{text!r} is not a whole number of 0 or more")
    return int(text)


def size(text: str) -> int:
    """Read a number of bytes above 0, with K, M, G or T for multiples of 1024.

    >>> size("64G") == 64 << 30
    True
    """
    unit = "KMGT".find(text[-1:].upper()) + 1 if text else 0
    return positive(text[:-1] if unit else text) << 10 * unit


def add_max_tensor(parser: _ActionsContainer) -> None:
    """--max-tensor, for the verbs that read an ONNX file; tesa.cli.main holds to it."""
    text = "let a tensor of the model have up to so many bytes, as 16G (default: 2G): a small file can declare a giant"
    parser.add_argument("--max-tensor", type=size, metavar="SIZE", help=text)


def add_common(parser: ArgumentParser) -> None:
    """--json, -q and -v, which every verb has."""
    group = parser.add_argument_group("output")
    group.add_argument("--json", action="store_true", help="print one JSON document on standard output, nothing else")
    group.add_argument("-q", "--quiet", action="store_true", help="show no progress")
    group.add_argument("-v", "--verbose", action="count", default=0, help="tell more; -vv: with the stack of an error")


def add_model_inputs(parser: ArgumentParser) -> None:
    """--shape, --mask and what else the verbs have that read an ONNX file."""
    parser.add_argument(
        "--shape",
        type=shape,
        action="append",
        default=[],
        metavar="NAME=SIZES",
        help="shape of an input whose size the model leaves open, as in image=1,3,64,64, or the size of a dimension by "
        "its name in the file, as in batch=1; may be repeated. compile and tune take several: tokens=16,64,128",
    )
    parser.add_argument(
        "--mask", metavar="MASKS.npz", help="arrays by the names of weights, False or 0 where a weight is pruned"
    )
    flush = "take weights below 1.2e-38, as weight decay leaves them, for zeros"
    parser.add_argument("--flush-denormals", action="store_true", help=flush)
    add_max_tensor(parser)


def add_threads(parser: ArgumentParser, *, default: int | None) -> None:
    """--threads."""
    text = "threads that run the model" + ("" if default is None else f" (default: {default})")
    parser.add_argument("--threads", type=positive, default=default, metavar="N", help=text)


def add_extension(parser: ArgumentParser) -> None:
    """--extension, for the verbs that use what a user may register. They begin with use_extensions."""
    parser.add_argument(
        "--extension",
        action="append",
        default=[],
        metavar="FILE.py",
        help=f"import this file first, with policies, patterns or kernel families of your own ({EXTENSIONS} may name "
        "such files, too); may be repeated",
    )


def use_extensions(args: Namespace) -> None:
    """Import the files that the environment names, then those of --extension. Raises UsageError as load_extension."""
    told = [path for path in os.environ.get(EXTENSIONS, "").split(os.pathsep) if path]
    if told or args.extension:
        from tesa.extension import load_extension

        for path in told:
            load_extension(path, f" (of {EXTENSIONS})")
        for path in args.extension:
            load_extension(path)


def add_target(parser: _ActionsContainer, more: str = "see `tesa list targets`") -> None:
    """Add --target: what code is made for, by default this machine. more: what the help says at its end."""
    default = "" if "default:" in more else " (default: this machine)"
    forms = f"x86, x86:CPU, aarch64:CPU, wasm32 or TVM's own form{default}; "
    parser.add_argument("--target", metavar="TARGET", help=forms + more)


def add_tracker(parser: _ActionsContainer, what: str) -> None:
    """Add --rpc and --key: the devices of a tracker. what: is done on them."""
    parser.add_argument("--rpc", metavar="HOST:PORT", help=what)
    parser.add_argument("--key", metavar="KEY", help="the kind of devices, as they are registered at the tracker")


def add_kernels(parser: ArgumentParser) -> None:
    """The options of the verbs that find kernels for a model's layers; chosen() reads them."""
    add_target(parser)
    add_threads(parser, default=1)
    parser.add_argument("--log", metavar="DIR", help="folder of measured times: read first, then added to")
    add_tracker(parser, "measure on the devices of this TVM RPC tracker")
    parser.add_argument("--cluster", metavar="ADDRESS", help="compile kernels on the workers of this Dask scheduler")
    tls = "meet that cluster encrypted, with ca.pem, cert.pem and key.pem of this folder (TLS)"
    parser.add_argument("--cluster-tls", metavar="DIR", help=tls)
    jobs = "processes that compile kernels (default: all CPUs, fewer where memory is short)"
    parser.add_argument("--jobs", type=positive, metavar="N", help=jobs)
    parser.add_argument("--no-compact", action="store_true", help="leave dead and constant channels in place")
    real = "compute layers between codes of 8 bits with real numbers, to compare with"
    parser.add_argument("--no-integer", action="store_true", help=real)
    parser.add_argument("--no-propagation", action="store_true", help="use the zeros of the weights as they stand only")
    add_model_inputs(parser)
    add_extension(parser)


def words_of(args: Namespace, but: Collection[str] = ()) -> list[str]:
    """The options of add_kernels that a user gave, as words of a command line; but: names of those to leave out."""
    parser = ArgumentParser(add_help=False)
    add_kernels(parser)
    words = []
    for action in parser._actions:
        value = getattr(args, action.dest)
        if action.dest in but or value == action.default:
            continue
        if value is True:
            words.append(action.option_strings[0])
        for one in value if isinstance(value, list) else [] if value is True else [value]:
            text = f"{one[0]}={','.join(map(str, one[1]))}" if isinstance(one, tuple) else str(one)
            words += [action.option_strings[0], text]
    return words


def cluster_of(args: Namespace) -> str | None:
    """The address of the Dask scheduler, with the folder of certificates where one is named."""
    if args.cluster_tls is None:
        return cast(str | None, args.cluster)
    if args.cluster is None:
        raise UsageError("--cluster-tls goes with --cluster ADDRESS: it encrypts what travels to that Dask cluster")
    return f"{args.cluster}?certificates={args.cluster_tls}"


def chosen(args: Namespace) -> dict[str, Any]:
    """The options of add_kernels as arguments of tesa.compile and tesa.tune_model."""
    names = ("target", "threads", "log", "rpc", "key", "cluster", "jobs")
    return {
        **{name: getattr(args, name) for name in names},
        "cluster": cluster_of(args),
        "shapes": shapes_of(args),
        "masks": args.mask,
        "flush_denormals": args.flush_denormals,
        "propagation": not args.no_propagation,
        "compact": not args.no_compact,
        "integer": not args.no_integer,
    }
