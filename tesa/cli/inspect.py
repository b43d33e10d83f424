"""tesa inspect: what a model is made of, and where its zeros are."""

from argparse import ArgumentParser, Namespace

from tesa.cli.options import add_extension, add_model_inputs, use_extensions
from tesa.cli.verb import Outcome, Verb


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument("model", metavar="model.onnx", help="the model to look at")
    parser.add_argument("--plot", metavar="OUT.png", help="draw the weight masks (.png, .svg or .pdf)")
    add_model_inputs(parser)
    add_extension(parser)


def _run(args: Namespace) -> Outcome:
    use_extensions(args)
    from tesa.report.plots import check_plot_path, plot_masks

    if args.plot is not None:
        check_plot_path(args.plot)
    from tesa.analyze.inspection import inspect_model
    from tesa.report.inspection import inspection_view
    from tesa.report.plain import plain

    shapes, flush = dict(args.shape), args.flush_denormals
    inspection = inspect_model(args.model, shapes=shapes, masks=args.mask, flush_denormals=flush)
    if args.plot is not None:
        plot_masks(inspection.weights, args.plot)
    return Outcome(plain(inspection.to_json()), lambda: inspection_view(inspection, args.plot))


VERB = Verb(
    name="inspect",
    help="show a model's layers: shapes, sparsity, pattern, bits, bytes",
    examples=(
        ("tesa inspect model.onnx", "a table of the layers"),
        ("tesa inspect model.onnx --plot masks.png", "and every weight as a picture: black is what is left"),
        ("tesa inspect model.onnx --shape image=1,3,224,224 --mask masks.npz", "with sizes set and masks applied"),
    ),
    arguments=_arguments,
    run=_run,
)
