"""The model of `tesa bench` and `tesa verify`: a compiled one, or an ONNX file that is compiled for this purpose; it
runs in this process, on a device of a tracker, in Node.js or in an emulator."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tesa.base.scratch import Scratch
from tesa.cli.options import add_max_tensor, add_target, add_tracker, shape, shapes_of
from tesa.errors import UsageError

if TYPE_CHECKING:
    from tesa.runtime import Model
    from tesa.targets.target import Target

ONNX = ".onnx"


def add_place(parser: ArgumentParser) -> None:
    """The options that say where a model runs, and those that an ONNX file is compiled with; opened() reads them."""
    place = parser.add_argument_group("where it runs, and how an ONNX file is compiled for that")
    add_target(place, "for a compiled model, the one it was compiled for")
    add_tracker(place, "run the model on a device of this TVM RPC tracker")
    place.add_argument("--log", metavar="DIR", help="folder of measured times, for an ONNX file: read and added to")
    measure = "of an ONNX file, choose by estimate what the log does not know"
    place.add_argument("--no-measure", action="store_true", help=measure)
    sizes = "of an ONNX file, the size of an input or of a dimension that it leaves open, as compile has it"
    place.add_argument("--shape", type=shape, action="append", default=[], metavar="NAME=SIZES", help=sizes)
    add_max_tensor(place)


@contextmanager
def opened(args: Namespace, *, threads: int | None = None, mask: str | None = None, times: bool) -> Iterator[Model]:
    """The model that the options name, ready to run; what it needs is given back after the block.

    mask: masks to compile an ONNX file with. times: it is going to be timed, for which an emulator is no place.

    Raises UsageError where nothing can run code for the target, or where it is not the one the model was compiled for.
    """
    with Scratch() as folder:
        path = Path(args.model)
        target = _target(args)
        emulated = _emulated(args, target or _compiled_for(path), times)
        if path.suffix == ONNX:
            path = _compiled(args, target, Path(folder), threads, mask, emulated)
        with _loaded(args, path, target, threads, emulated) as model:
            yield model


def _target(args: Namespace) -> Target | None:
    """The target that was named; None where none was, and the model is compiled already or this machine's."""
    if args.target is None:
        return None
    from tesa.targets.target import parse_target

    return parse_target(args.target)


def _compiled_for(path: Path) -> Target | None:
    """The target of a compiled model that needs no runtime; None of another one, which says itself where it runs."""
    from tesa.errors import ModelError
    from tesa.runtime.manifest import read_manifest
    from tesa.targets.target import parse_target

    if path.suffix == ONNX or not path.is_file():
        return None
    try:
        manifest = read_manifest(path.with_suffix(".json"))
        return parse_target(manifest.plan.target) if manifest.library.get("format") == "o" else None
    except (ModelError, UsageError):
        return None


def _emulated(args: Namespace, target: Target | None, times: bool) -> bool:
    """True where an emulator has to run the code. UsageError where nothing can, or a tracker is half named."""
    from tesa.measure.runners import lacking, tracker_address
    from tesa.targets.target import parse_target

    if args.rpc is not None or args.key is not None:
        tracker_address(args.rpc, args.key, target or parse_target(None), measures=False)
        return False
    if target is None or not lacking(target):
        return False
    if times:
        tracker_address(None, None, target)  # says what could time it
    from tesa.measure.emulated.emulator import lacking_emulator

    if target.portable or (lacks := lacking_emulator(target)):
        why = lacking(target) if target.portable else f"{lacking(target)}, and {lacks}"
        raise UsageError(f"{why}; or give the tracker of devices that can with --rpc HOST:PORT --key KEY")
    return True


def _compiled(
    args: Namespace, target: Target | None, folder: Path, threads: int | None, mask: str | None, emulated: bool
) -> Path:
    """The library that an ONNX file becomes; without TVM's runtime where an emulator runs it."""
    from tesa.base.progress import shown
    from tesa.build.bare.formats import FORMATS, chosen_format
    from tesa.compiler import compile_model
    from tesa.targets.target import parse_target

    where = target or parse_target(None)
    form = FORMATS["o"] if emulated else chosen_format(None, Path(), where)
    path = folder / f"{Path(args.model).stem or 'model'}{form.suffix}"
    with shown(sys.stderr, quiet=args.quiet or args.json) as progress:
        compile_model(
            args.model, output=path, target=args.target, threads=threads or 1, log=args.log, rpc=args.rpc,
            key=args.key, measure=not args.no_measure, shapes=shapes_of(args), masks=mask, format=form.name,
            progress=progress,
        )  # fmt: skip
    return path


@contextmanager
def _loaded(args: Namespace, path: Path, target: Target | None, threads: int | None, emulated: bool) -> Iterator[Model]:
    from tesa import runtime
    from tesa.runtime.remote import RemoteModel

    model = runtime.load(path, threads=threads, rpc=args.rpc, key=args.key, emulated=emulated)
    try:
        if target is not None and target.name != model.plan.target:
            raise UsageError(f"{path}: was compiled for {model.plan.target}, not for {target.name}; leave --target out")
        yield model
    finally:
        if isinstance(model, RemoteModel):
            model.close()


def source_of(args: Namespace, named: Any) -> Any:
    """The ONNX file that a model is held against: the one that was named, else the model itself where it is one."""
    return args.model if named is None and Path(args.model).suffix == ONNX else named
