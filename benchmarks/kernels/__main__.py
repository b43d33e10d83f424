"""tesa's kernels beside every peer that is installed, interleaved in one run, after all results were checked.

    python -m benchmarks.kernels [--quick] [--groups abcd] [--threads 1] [--json FILE] [--plot FILE] [--read FILE]

Every time starts and ends with plain row-major arrays. A wrong result stops the benchmark. The groups: a one large
matrix, b MobileNet's 1x1 convolutions, c 3x3 convolutions of ResNet-50, d BERT, e blocks and 2:4, f few columns, g
depthwise, h int8, i int8 from codes to codes. Peers that are not installed are listed: pip install torch onnxruntime
openvino mkl scipy.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path


def _groups(text: str) -> str:
    """Letters of groups, or an error that says what there is."""
    if not text or set(text) - set("abcdefghi"):
        raise argparse.ArgumentTypeError(f"{text!r}: the groups are the letters a to i")
    return text


def main() -> int:
    """Run the benchmark; 1 if a result is wrong."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks.kernels", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--groups", default="abcdefghi", type=_groups, help="letters of the groups to run")
    parser.add_argument("--quick", action="store_true", help="one case in five of each group")
    parser.add_argument("--match", default="", help="only cases whose name contains this")
    parser.add_argument("--threads", type=int, default=1, help="of tesa and of the peers")
    parser.add_argument("--seed", type=int, help="of weights and values; another one in each run by default")
    parser.add_argument("--rounds", type=int, default=15, help="interleaved rounds")
    parser.add_argument("--json", type=Path, help="append a line for each case to this file")
    parser.add_argument("--plot", type=Path, help="draw the speed-up over dense against sparsity")
    parser.add_argument("--isa", help="the most that OpenVINO and PyTorch may use: AVX512_CORE_VNNI keeps them off AMX")
    parser.add_argument("--read", type=Path, help="measure nothing: sum up and draw what an earlier --json has")
    options = parser.parse_args()
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "TVM_NUM_THREADS"):
        os.environ[name] = str(options.threads)  # before any of the libraries is loaded
    os.environ["KMP_BLOCKTIME"] = "1"
    if options.isa:
        os.environ["ONEDNN_MAX_CPU_ISA"] = options.isa
    if options.threads == 1:
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})

    from benchmarks.kernels.cases import cases
    from benchmarks.kernels.report import print_row, print_summary, write_plot
    from benchmarks.kernels.run import WrongResultError, run, start

    if options.read:
        kept = [json.loads(line) for line in options.read.read_text(encoding="utf-8").splitlines()]
        print_summary(kept)
        if options.plot:
            write_plot(kept, options.plot)
        return 0
    chosen = [case for case in cases(options.groups, options.quick) if options.match in case.name]
    if not chosen:
        parser.error(f"no case of the groups {options.groups} has {options.match!r} in its name")
    session = start(options.threads, options.rounds, options.seed)
    rows = []
    for case in chosen:
        try:
            row = run(case, session)
        except WrongResultError as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
        rows.append(row)
        print_row(row)
        if options.json:
            with options.json.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(row) + "\n")
    print_summary(rows, session.missing)
    if options.plot:
        write_plot(rows, options.plot)
    return 0


if __name__ == "__main__":
    sys.exit(main())
