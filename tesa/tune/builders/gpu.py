"""Builds candidates for a GPU: each becomes a library that runs it, as what measures it takes it."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from tesa.build.cache import Cache
from tesa.build.digest import code_digest
from tesa.build.footprint import Footprint
from tesa.build.gpu.images import build_images
from tesa.build.gpu.kernel_program import program_of
from tesa.build.gpu.library import write_library
from tesa.build.gpu.product import GpuProduct
from tesa.build.objects import BuildError, symbol_of
from tesa.build.product import Product
from tesa.measure.failure import Failure, FailureKind
from tesa.measure.gpu.process import NAME, PACKED
from tesa.measure.interfaces import BuildRequest
from tesa.measure.reference import Inputs
from tesa.schedules.gpus import GpuCode
from tesa.schedules.registry import find
from tesa.schedules.types import Problem
from tesa.targets.target import Target
from tesa.tune.builders.work import storage_failure


class GpuBuilder:
    """A Builder (tesa.measure.interfaces) in this process. jobs: assemblers at once, by default one for each CPU."""

    def __init__(self, jobs: int | None = None, cache: Cache | None = None) -> None:
        self._jobs, self._cache = jobs, Cache() if cache is None else cache

    def build(self, requests: Sequence[BuildRequest], folder: Path) -> Iterator[tuple[int, Product | Failure]]:
        """Yield (index of the request, its library or why there is none) in their order."""
        for index, request in enumerate(requests):
            yield index, self._one(request, folder / f"candidate{index}.so")
        self._cache.trim()

    def close(self) -> None:
        """Do nothing: no process lasts."""

    def _one(self, request: BuildRequest, path: Path) -> Product | Failure:
        problem, weight, target = request.problem, request.weight, request.target
        symbol = symbol_of(problem, weight, target, request.family, request.config)
        digest = ""
        try:
            code: GpuCode = find(request.family, target.kind).emit(
                problem, weight, target.machine, request.config, symbol
            )
            digest = code_digest(code, symbol)
            made = build_images(symbol, code, target, self._cache, self._jobs)
            return library_of(problem, made, target, path, digest)
        except (BuildError, ValueError) as error:
            return storage_failure(str(error)) or Failure(FailureKind.BUILD, str(error), digest)


def library_of(problem: Problem, made: GpuProduct, target: Target, path: Path, digest: str = "") -> Product:
    """A kernel in a library of its own, with the numbers of Inputs.random(problem) as its bias and scale."""
    inputs = Inputs.random(problem)
    write_library(program_of(problem, made, inputs.bias, inputs.scale), path, target, NAME, PACKED)
    values = sum(array.nbytes for array in made.constants)
    return Product(made.symbol, (path,), made.constants, code=digest, footprint=Footprint(made.code_bytes, values))
