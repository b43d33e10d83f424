"""Counts the shipped records that are of the code of today: `python -m benchmarks.shipped_log [--every N]`.

The weights of tuning_logs/znver5.jsonl are made again (the model that ships, MobileNet-v1 and BERT-base of
benchmarks.zoo, MiniLM of benchmarks.minilm_to_onnx), each record's kernel is emitted, and its digest compared with that
in the record. Nothing is built or measured: any machine can do it. Ends with 1 if a record is not of today's code.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import onnx

from benchmarks import zoo
from benchmarks.minilm_to_onnx import main as export_minilm
from benchmarks.prune import fine, masked
from tesa.layers.layer import Layer
from tesa.layers.network import to_network
from tesa.models import digits_path
from tesa.records.emitted import EmittedByFamilies
from tesa.records.locations import shipped
from tesa.records.log import Log, Task
from tesa.records.record import Record
from tesa.targets.target import parse_target


def layers() -> Iterator[Layer]:
    """The layers of the models that were measured, some of them more than once."""
    for threads in (1, 2):
        yield from to_network(digits_path(), threads=threads).layers
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        for model, sparsity in ((zoo.mobilenet_v1(), 0.7), (zoo.mobilenet_v1(), 0.9), (zoo.bert_base(), 0.9)):
            onnx.save(masked(model, fine(model, sparsity)), path)
            yield from to_network(path).layers
        export_minilm(["-o", str(path), "--sparsity", "0.8"])
        yield from to_network(path).layers


def main() -> int:
    """Print how many records of each family are of today's code, of other code, of a weight that nobody knows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--every", type=int, default=1, help="look at one record in so many only")
    options = parser.parse_args()
    log = Log.load(shipped())
    waiting: dict[str, list[Record]] = {}
    for number, entry in enumerate(log.entries()):
        if number % options.every == 0:
            waiting.setdefault(entry.key, []).append(entry.record)
    counts: Counter[tuple[str, str]] = Counter()
    for layer in layers():
        for record in waiting.pop(Task.of(layer.problem, layer.weight).key, ()):
            target = parse_target(record.target)
            emitted = EmittedByFamilies(layer.problem, layer.weight, target, layer.digest)
            same = record.code == emitted(record.family, record.config)
            counts[record.family, "of today's code" if same else "of other code"] += 1
    counts.update((record.family, "of an unknown weight") for records in waiting.values() for record in records)
    for (family, what), count in sorted(counts.items()):
        print(f"{family:12} {what:22} {count:6}")
    return int(any(what != "of today's code" for _, what in counts))


if __name__ == "__main__":
    sys.exit(main())
