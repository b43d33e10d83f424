"""Kernels and networks on a GPU beside cuBLAS, cuSPARSE, cuSPARSELt, Triton and torch, in one run.

python -m benchmarks.gpu prepare --folder out/gpu         anywhere: builds everything, says what it could not
python -m benchmarks.gpu run --folder out/gpu -x gpu.json  on a machine with a GPU: some minutes, safe to run again
"""
