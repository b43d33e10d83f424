"""tesa inspect: what a model is made of, and where its zeros are."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from tesa.cli.options import add_extension, add_model_inputs, shapes_of, use_extensions
from tesa.cli.verb import Outcome, Verb
from tesa.errors import UsageError


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument("model", metavar="model.onnx|model.so", help="the model to look at, or a compiled one")
    parser.add_argument("--plot", metavar="OUT.png", help="draw the weight masks (.png, .svg or .pdf)")
    add_model_inputs(parser)
    add_extension(parser)


def _run(args: Namespace) -> Outcome:
    use_extensions(args)
    if Path(args.model).suffix != ".onnx" and Path(args.model).with_suffix(".json").is_file():
        return _compiled(args)
    from tesa.report.plots import check_plot_path, plot_masks

    if args.plot is not None:
        check_plot_path(args.plot)
    from tesa.analyze.inspection import inspect_model
    from tesa.frontend.sizes import sizes_of
    from tesa.report.inspection import inspection_view
    from tesa.report.plain import plain

    sizes = sizes_of(args.model, shapes_of(args))
    options = {"masks": args.mask, "flush_denormals": args.flush_denormals}
    found = [inspect_model(args.model, shapes=size.shapes, **options) for size in sizes]
    if args.plot is not None:
        plot_masks(found[0].weights, args.plot, f"{found[0].source}: the weights of its layers")
    if len(found) == 1:
        return Outcome(plain(found[0].to_json()), lambda: inspection_view(found[0], args.plot))
    rows = [{"size": str(size), **plain(item.to_json())} for size, item in zip(sizes, found, strict=True)]
    views = (view for item in found for view in inspection_view(item, args.plot))
    return Outcome({"sizes": rows}, lambda: views)


def _compiled(args: Namespace) -> Outcome:
    """The bytes of the kernels of a compiled model."""
    for option in ("mask", "shape", "plot", "flush_denormals"):
        if getattr(args, option):
            raise UsageError(f"--{option.replace('_', '-')} goes with a model.onnx; {args.model} is a compiled model")
    from tesa.cli.explain import read_plans
    from tesa.report.bytes import bytes_json, bytes_view

    plans, path = read_plans(Path(args.model)), Path(args.model)
    library = path.stat().st_size if path.suffix != ".json" and path.is_file() else None
    return Outcome(bytes_json(plans, library), lambda: bytes_view(plans, library))


VERB = Verb(
    name="inspect",
    help="show a model's layers: shapes, sparsity, pattern, bits, bytes",
    examples=(
        ("tesa inspect model.onnx", "a table of the layers"),
        ("tesa inspect model.so", "the bytes of each kernel of a compiled model: code, values, indices"),
        ("tesa inspect model.onnx --plot masks.png", "and every weight as a picture: black is what is left"),
        ("tesa inspect model.onnx --shape image=1,3,224,224 --mask masks.npz", "with sizes set and masks applied"),
    ),
    arguments=_arguments,
    run=_run,
)
