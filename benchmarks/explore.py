"""Explorations of the digits network: against uniform sparsity, annealing alone, multiply-adds; with and without tesa.

    python -m benchmarks.digits_networks --seeds 0 -o work/digits
    python -m benchmarks.explore --model work/digits/0_dense.onnx -o work/explored

The network is dense, for 32x32 pixels; 256 training images (--images) are evaluated on, accuracy is of the 360 held-out
ones. Times are those of the cost table of znver5, but for those that are said to be measured. Sections: `uniform` (time
at equal error, of the 1x1 convolutions), `everything` (of all layers), `mobilenet` (MobileNet-v1 with random weights),
`search` (the programme with a short search behind it against annealing alone with twice the evaluations), `metric` and
`uneven` (latency or multiply-adds, SparTA's figure 18), `aware` (channels with or without propagation, its figure 19),
`evaluator` (seconds of an evaluation by the dense engine and by compiled sparse models, its figure 20), `measured`
(what was explored and its uniform rival, timed in turn on this machine). Each evaluation is kept in
OUTPUT/journal.jsonl, so that a run that was stopped goes on from there.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from tesa.compiler import compile_model
from tesa.compress.samples import Samples
from tesa.errors import UsageError
from tesa.explore.choices import DENSE, Choice, parsed
from tesa.explore.evaluate import Evaluator, subject_of
from tesa.explore.goals import for_error, for_time
from tesa.explore.journal import Journal
from tesa.explore.latency import Latencies, Predictor
from tesa.explore.result import Point
from tesa.explore.search import Search
from tesa.explore.variants import Variants
from tesa.runtime import load, random_feeds
from tesa.runtime.bench import interleave
from tesa.targets.target import parse_target

TARGET = "x86:znver5"
"""The machine whose cost table ships."""

SHARES = (0.7, 0.5)
"""Budgets, as shares of the dense time."""

LEVELS = (
    *("0.3", "0.5", "0.6", "0.7", "0.8", "0.9", "0.95"),
    *(f"{share}:block=16x1" for share in (0.15, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)),
)

HALVINGS = 5
"""Steps in which a time is found for an error."""

EVALUATIONS = 32
WORST = 0.6
"""The error of a level for all layers above which nothing is left to compare with."""


class Bench:
    """A network ready to be explored."""

    def __init__(
        self, model: Path | Any, data: Any, journal: Path | None, levels: Any = LEVELS, names: Any = None,
        repair: bool = True,
    ) -> None:  # fmt: skip
        proto = onnx.load(model) if isinstance(model, str | Path) else model
        self.samples = Samples.of(proto, data)
        self.variants = Variants(proto, self.samples, repair=repair)
        shapes = {"n": 1} if any(d.dim_param for d in proto.graph.input[0].type.tensor_type.shape.dim) else None
        self.shapes = shapes
        self.predictor = Predictor(parse_target(TARGET), 1, None, shapes)
        self.choices = parsed(levels, [32])
        self.names = list(self.variants.layers) if names is None else names(self.variants)
        self.latencies = Latencies(self.variants, self.names, self.choices, self.predictor)
        subject = subject_of(self.variants, self.samples, None, "onnxruntime")
        self.journal = Journal(journal, subject)
        self.errors: Any = None

    def search(self, **options: Any) -> Search:
        """A fresh search with the sensitivities that were measured once."""
        judge = Evaluator(self.variants, self.samples, None, self.journal)
        found = Search(judge, self.latencies, **options)
        if self.errors is None:
            found.sensitivities()
            self.errors = found.errors
        found.errors = self.errors
        return found


def pointwise(variants: Variants) -> list[str]:
    """The layers that pruners of MobileNets take: the 1x1 convolutions."""
    return [name for name in variants.layers if "pointwise" in name]


def texts(config: Any) -> dict[str, str]:
    """A configuration as plain data."""
    return {name: str(choice) for name, choice in config.items()}


def uniform(
    bench: Bench, accuracy: Callable[[Any], float] | None, evaluations: int = EVALUATIONS
) -> list[dict[str, Any]]:  # fmt: skip
    """For each uniform level: the least time at which exploring makes no more error."""
    rows, search = [], bench.search()
    for choice in bench.choices:
        if choice == DENSE:
            continue
        config = {name: choice if choice in bench.latencies.ms[name] else DENSE for name in bench.names}
        rival = search.point(config, "uniform")
        if rival.error > WORST:
            continue
        best = for_error(search, partial(_no_worse, rival), "both", evaluations, lambda _: None)
        if best.by != "dense":
            row = {
                "uniform": str(choice), "uniform ms": rival.ms, "error": rival.error, "explored ms": best.ms,
                "explored error": best.error, "faster": rival.ms / best.ms, "uniform config": texts(config),
                "explored config": texts(best.config),
            }  # fmt: skip
            if accuracy is not None:
                row |= {"uniform accuracy": accuracy(config), "explored accuracy": accuracy(best.config)}
            rows.append(row)
            print({key: value for key, value in rows[-1].items() if "config" not in key}, flush=True)
    return rows


def _no_worse(rival: Point, point: Point) -> bool:
    return point.error <= rival.error


def searches(bench: Bench, accuracy: Callable[[Any], float], evaluations: int = 12) -> list[dict[str, Any]]:
    """At each budget the error of the programme, with so many evaluations of annealing, and of twice as many alone.

    The programme's own evaluations, of single layers, are counted beside: one table serves all budgets.
    """
    rows = []
    for share in SHARES:
        first = bench.search()
        budget = share * bench.latencies.dense_ms
        start, _ = first.programmed(budget)
        alone = first.point(start, "programme")
        found: list[Point] = []
        for_time(first, budget, "both", evaluations, found.append)
        both = found[-1]
        rivals = []
        for seed in (0,):
            second = bench.search(seed=seed)
            begin = second.uniform(budget) or second.fastest()
            rivals.append(second.point(second.annealed(begin, budget, 2 * evaluations), "annealing"))
        rows.append(
            {
                "share": share, "programme": alone.error, "with annealing": both.error, "evaluations": evaluations,
                "annealing alone": [p.error for p in rivals], "its evaluations": 2 * evaluations,
                "single": sum(len(row) - 1 for row in bench.errors.values()), "accuracy": accuracy(both.config),
                "accuracy of annealing alone": [accuracy(p.config) for p in rivals],
            }
        )  # fmt: skip
        print(rows[-1], flush=True)
    return rows


def metrics(bench: Bench) -> list[dict[str, Any]]:
    """At each budget of time the error by latency and by multiply-adds; and the time that each needs for that error."""
    by_time, by_work = bench.search(), bench.search(by="flops")
    rows = []
    for share in (0.85, *SHARES):
        budget = share * bench.latencies.dense_ms
        try:
            mine = by_time.point(by_time.programmed(budget)[0], "latency")
            other = by_work.point(by_work.programmed(budget)[0], "flops")
        except UsageError as error:
            print(share, error)
            continue
        low, high = by_work.least_ms(), bench.latencies.dense_ms
        for _ in range(HALVINGS):  # the time for which the programme of multiply-adds comes to the same error
            middle = (low + high) / 2
            error = by_work.point(by_work.programmed(middle)[0], "flops").error
            low, high = (low, middle) if error <= mine.error else (middle, high)
        rows.append({"share": share, "by latency": mine.error, "by flops": other.error, "ms": mine.ms,
                     "ms by flops at that error": high, "ratio": high / mine.ms})  # fmt: skip
        print(rows[-1], flush=True)
    return rows


def uneven(seed: int = 0) -> Any:
    """A network with layers below break-even: depthwise filters, 1x1 convolutions over many pixels and over few, a
    large product with one column. Weights are random, three tenths of them large."""
    rng = np.random.default_rng(seed)
    nodes, tensors, x = [], [], "image"
    shapes = [
        ("early", (64, 16, 1, 1)),
        ("filters", (64, 1, 3, 3)),
        ("middle", (128, 64, 1, 1)),
        ("wide", (128, 128, 1, 1)),
        ("late", (256, 128, 1, 1)),
    ]
    for name, shape in shapes:
        weight = rng.normal(size=shape) * np.where(rng.random(shape) < 0.3, 1.5, 0.3) / np.sqrt(np.prod(shape[1:]))
        tensors.append(numpy_helper.from_array(weight.astype(np.float32), f"{name}.weight"))
        options = {"group": shape[0], "pads": [1] * 4} if shape[1] == 1 else {}
        nodes += [helper.make_node("Conv", [x, f"{name}.weight"], [f"{name}.out"], name, **options),
                  helper.make_node("Relu", [f"{name}.out"], [f"{name}.relu"], f"{name}.relu")]  # fmt: skip
        x = f"{name}.relu"
        if name == "wide":
            nodes.append(helper.make_node("MaxPool", [x], ["pooled"], "pool", kernel_shape=[8, 8], strides=[8, 8]))
            x = "pooled"
    nodes += [helper.make_node("Flatten", [x], ["flat"], "flat")]
    for name, shape in (("large", (1024, 1024)), ("last", (10, 1024))):
        weight = rng.normal(size=shape) * np.where(rng.random(shape) < 0.3, 1.5, 0.3) / np.sqrt(shape[1])
        tensors.append(numpy_helper.from_array(weight.astype(np.float32), f"{name}.weight"))
        nodes.append(helper.make_node("Gemm", ["flat", f"{name}.weight"], [name], name, transB=1))
        if name == "large":
            nodes.append(helper.make_node("Relu", [name], ["flat2"], "large.relu"))
            nodes[-2].output[0] = "large.out"
            nodes[-1].input[0] = "large.out"
    nodes[-1].input[0] = "flat2"
    ports = [helper.make_tensor_value_info(n, 1, s) for n, s in (("image", [1, 16, 16, 16]), ("last", [1, 10]))]
    graph = helper.make_graph(nodes, "uneven", ports[:1], ports[1:], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def mobilenet(journal: Path) -> Bench:
    """MobileNet-v1 at 224 pixels with random weights, its 1x1 convolutions, by masks alone."""
    from benchmarks.zoo import mobilenet_v1

    images = np.random.default_rng(2).normal(size=(4, 3, 224, 224)).astype(np.float32)
    return Bench(mobilenet_v1(batch_norm=False), {"image": images}, journal, names=pointwise, repair=False)


def channels(model: Any, data: Any, journal: Any) -> list[dict[str, Any]]:
    """Channels for half and 0.7 of the time, aware of propagation and not: the time as compiled, and how many go."""
    levels = [f"{share / 100:g}:channel" for share in range(5, 65, 5)]
    bench, rows = Bench(model, data, journal, levels, pointwise), []
    for share in (0.7, 0.5):
        for aware in (True, False):
            search = bench.search(aware=aware)
            try:
                config, _ = search.programmed(share * bench.latencies.dense_ms)
            except UsageError as error:
                print(error)
                continue
            ms = bench.predictor.model(bench.variants.assembled(config))
            pruned = float(np.mean([choice.sparsity for choice in config.values()]))
            point = search.point(config, "programme")
            rows.append({"share": share, "aware": aware, "as compiled": ms / bench.latencies.dense_ms,
                         "channels pruned": pruned, "error": point.error})  # fmt: skip
            print(rows[-1], flush=True)
    return rows


def evaluators(bench: Bench) -> dict[str, Any]:
    """Seconds of one evaluation of a configuration at 70 %: by the dense engine, and compiled for its zeros first."""
    config = {name: Choice.parse("0.7") for name in bench.names}
    found: dict[str, Any] = {}
    model = bench.variants.whole(config)
    for engine in ("onnxruntime", "compiled"):
        judge = Evaluator(bench.variants, bench.samples, None, Journal(None, "x"), engine, bench.shapes)
        if engine == "compiled":
            feeds = [{k: v[i : i + 1] for k, v in feed.items()} for feed in bench.samples.feeds for i in
                     range(len(next(iter(feed.values()))))]  # fmt: skip
            judge.samples = Samples(tuple(feeds), {}, bench.samples.count, "the data")
        start = time.perf_counter()
        judge._run(model)
        found[engine] = time.perf_counter() - start
    print(found, flush=True)
    return found


def accuracy_of(bench: Bench, test: Mapping[str, Any]) -> Callable[[Any], float]:
    """The share of held-out images that a configuration gets right."""
    samples = Samples.of(bench.variants.work.proto, {"image": test["image"]})

    def accuracy(config: Any) -> float:
        outputs = samples.run(bench.variants.whole(config))["logits"]
        return round(float((outputs.argmax(1) == test["labels"]).mean()), 4)

    return accuracy


def measured(bench: Bench, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Both models of each row of `uniform`, compiled, and timed in turn in this process: least milliseconds."""
    found = []
    for row in rows:
        calls = {}
        with TemporaryDirectory() as folder:
            for name in ("uniform", "explored"):
                config = {layer: Choice.parse(text) for layer, text in row[f"{name} config"].items()}
                path = Path(folder) / f"{name}.so"
                compile_model(bench.variants.whole(config), output=path, shapes=bench.shapes, measure=False)
                model = load(path)
                prepared = model.prepare(random_feeds(model.inputs))
                calls[name] = partial(model.execute, prepared)
            times = {each.name: each.min_ms for each in interleave(calls, 40)}
        found.append({"uniform": row["uniform"], **times, "faster": times["uniform"] / times["explored"]})
        print(found[-1], flush=True)
    return found


def main() -> None:
    """Run the sections that are asked for, print their rows, and write them to OUTPUT/explore.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="the dense digits network")
    parser.add_argument("-o", "--output", type=Path, required=True, help="a folder for the journal and the results")
    parser.add_argument("--images", type=int, default=256, help="that configurations are evaluated on")
    parser.add_argument("sections", nargs="*", default=[], help="all by default")
    options = parser.parse_args()
    from benchmarks.digits_networks import images
    from benchmarks.train_digits import split_data

    train, test8, _, labels = split_data()
    data, test = {"image": images(train)[: options.images]}, {"image": images(test8), "labels": labels}
    options.output.mkdir(parents=True, exist_ok=True)
    journal, results = options.output / "journal.jsonl", {}
    path = options.output / "explore.json"
    if path.exists():
        results = json.loads(path.read_text())
    bench = Bench(options.model, data, journal, names=pointwise)
    accuracy = accuracy_of(bench, test)
    rng = np.random.default_rng(1)
    noise = {"image": rng.normal(size=(64, 16, 16, 16)).astype(np.float32)}
    sections: dict[str, Callable[[], Any]] = {
        "uniform": lambda: uniform(bench, accuracy),
        "everything": lambda: uniform(Bench(options.model, data, journal), accuracy),
        "mobilenet": lambda: uniform(mobilenet(journal), None), "search": lambda: searches(bench, accuracy),
        "metric": lambda: metrics(bench), "uneven": lambda: metrics(Bench(uneven(), noise, journal)),
        "aware": lambda: channels(options.model, data, journal), "evaluator": lambda: evaluators(bench),
        "measured": lambda: measured(bench, results["uniform"]),
    }  # fmt: skip
    for name in options.sections or sections:
        print(f"== {name}", flush=True)
        results[name] = sections[name]()
        path.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
