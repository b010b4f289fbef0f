"""From a job's data to what its method imputed: the problem is posed, the method fitted and asked, once each.

This is all that a result's numbers come from.
"""

from __future__ import annotations

import errno
import gc
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bench.errors import BenchError, Stopped, clean_text, message_of, one_line
from bench.experiment.cell import Job
from bench.experiment.result import Cause
from bench.plugins.contracts import Budget, Context
from bench.plugins.registry import PluginInfo, load
from bench.run.machine import Machine, keep_freed_memory, use_precision, use_threads

if TYPE_CHECKING:
    from bench.data.schema import IntArray
    from bench.data.table import Table, Values
    from bench.data.view import Incomplete
    from bench.files.fetch import LoadedTable
    from bench.problem.build import Problem
    from bench.problem.draws import Drawn

#: What torch says, in an error of no class of its own, when memory cannot be had.
_NO_MEMORY = ("CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "can't allocate memory", "not enough memory")


@dataclass(frozen=True, eq=False)
class Fitted:
    """A method after its job: the instance, its problem, and per replica what it imputed and the diagnostics.

    ``fitted_on`` is the view it learned from, ``data`` the one whose ``results`` it gave; ``failures`` says by replica
    why one gave nothing.
    """

    method: PluginInfo
    instance: Any
    problem: Problem
    fitted_on: Incomplete
    data: Incomplete
    results: Sequence[Any]
    diagnostics: list[dict[str, Any]]
    failures: dict[int, str]
    #: Whether the method was asked and could answer.
    given: bool = True

    def completed(self, replica: int) -> tuple[Values, tuple[str, ...]]:
        """Return the complete test rows of a replica, and what to warn of.

        They are made again each time, so that a stack is held once, as its method gave it. Raises BenchError if they
        are no values for the rows.
        """
        from bench.problem.complete import complete

        given = _as_values(self.results[replica], self.method, self.data)
        values, told = complete(_with_observed(given, self.data, replica), self.data, self.fitted_on, replica)
        if self.data is not self.problem.test:
            values = _rows_of(values, self.problem.splits[replica].test)
        return values, tuple(told)


def content_or_problem(dataset: PluginInfo, include_target: bool) -> dict[str, Any]:
    """Return ``{"content": hash}`` of a data set as loaded, or ``{"problem": line}``, whatever its plug-in raises.

    With a problem it says whether the data are ``unavailable``, or the plug-in ``broken``.
    """
    from bench.files.fetch import DatasetFailed, DataUnavailable, content_of

    try:
        plugin = load(dataset)
    except BenchError as error:
        return {"problem": str(error), "broken": True}
    try:
        return {"content": content_of(plugin(), include_target).content_hash}
    except DataUnavailable as error:
        return {"problem": f"data not obtained: {error}", "unavailable": True}
    except BenchError as error:
        return {"problem": clean_text(error), **({"broken": True} if isinstance(error, DatasetFailed) else {})}
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a plug-in may raise anything
        return {
            "problem": f"data set '{dataset.name}' cannot be loaded: {one_line(error, dataset.path)}",
            "broken": True,
        }


def load_for(job: Job, machine: Machine) -> LoadedTable:
    """Load a job's method, ready this process for it, and return its data set as loaded.

    Raises BenchError if the data set is no longer the one the cells name.
    """
    from bench.files.fetch import load_table

    first = job.cells[0]
    load(job.plugins.method)
    use_threads(machine.threads)
    use_precision(first.precision)
    keep_freed_memory()
    loaded = load_table(load(job.plugins.dataset)(), first.include_target)
    if loaded.table.content_hash != first.content:
        raise BenchError(f"data set '{first.dataset}' has changed since this run began; start the run again")
    return loaded


def fit_from_checkpoint(job: Job, table: Table, machine: Machine, problem: Problem | None = None) -> Fitted:
    """As ``fit_and_impute``; a checkpoint that it fails with is discarded, and the training starts over."""
    path = _context_of(job, machine).checkpoint
    if path is None or not path.exists():
        return fit_and_impute(job, table, machine, problem)
    try:
        return fit_and_impute(job, table, machine, problem)
    except Stopped:
        raise
    except Exception as error:
        if out_of_memory(error):
            raise
        reason = reason_of(error, job)
    path.unlink(missing_ok=True)
    print(f"warning: {job.label}: its checkpoint cannot be used ({reason}); it starts over")
    return fit_and_impute(job, table, machine, problem)


def _context_of(job: Job, machine: Machine) -> Context:
    """Return the context of a job's method; the name of its checkpoint has the source in it.

    An edited method does not continue what the old one began.
    """
    return machine.context(Budget(**job.cells[0].budget), f"{job.key}-{job.plugins.method.source_hash[:12]}.pt")


def fit_and_impute(job: Job, table: Table, machine: Machine, problem: Problem | None = None) -> Fitted:
    """Fit a job's method and impute the test rows.

    ``problem`` is the job's own (``problem_of``), built here if it is not given.
    """
    from bench.problem.complete import ask

    first, method = job.cells[0], job.plugins.method
    problem = problem or problem_of(job, table)
    instance = load(method)(first.parameters, _context_of(job, machine))
    transductive = first.protocol == "transductive"
    train, data = (problem.everything,) * 2 if transductive else (problem.train, problem.test)
    machine.stop()
    seeds = [cell.seed for cell in job.cells]
    answer = ask(instance, train, problem.validation, data, seeds, first.budget["draws"])
    diagnostics = (list(instance.diagnostics()) if answer.given else []) or [{} for _ in job.cells]
    if len(diagnostics) != len(job.cells):
        raise BenchError(f"method '{method.name}' gave {len(diagnostics)} diagnostics for {len(job.cells)} replicas")
    failures = dict(instance.failures()) if answer.given and method.stackable else {}
    return Fitted(method, instance, problem, train, data, answer.imputed, diagnostics, failures, answer.given)


def drawn_by(fitted: Fitted, job: Job) -> Sequence[Drawn]:
    """Return what the draws of a fitted method score, one per replica; nothing of a method that draws none.

    Whatever the method raises is the reason why they are not scored: its imputation stands. Raises Stopped.
    """
    from bench.problem.draws import Drawn, draws_samples, scored_draws

    count = Budget(**job.cells[0].budget).scored_draws
    nothing = [Drawn({}) for _ in job.cells]
    if not fitted.given or not count or not draws_samples(type(fitted.instance)):
        return nothing
    try:
        return scored_draws(fitted.instance, fitted.problem, fitted.fitted_on, count)
    except Stopped:
        raise
    except Exception as error:  # a plug-in may raise anything
        reason = reason_of(error, job)
    free_memory()
    return [Drawn({}, reason) for _ in nothing]


def problem_of(job: Job, table: Table) -> Problem:
    """Return what a job's method works on, one replica per cell."""
    from bench.problem.build import build_problem

    mechanisms = [load(job.plugins.mechanisms[cell.mechanism])() for cell in job.cells]
    return build_problem(table, [cell.scenario for cell in job.cells], mechanisms)


def _as_values(result: Any, method: PluginInfo, data: Incomplete) -> Values:
    """Return what a method imputed as Values; raises BenchError unless it is that or a DataFrame."""
    import pandas as pd

    from bench.data.table import Values

    if isinstance(result, Values):
        return result
    if not isinstance(result, pd.DataFrame):
        raise BenchError(
            f"method '{method.name}' returned {type(result).__name__} from impute, not a DataFrame or bench.api.Values"
        )
    return Values.from_frame(result, data.schema, len(data))


def _with_observed(values: Values, data: Incomplete, replica: int) -> Values:
    """Return imputed values with the observed entries put back: only hidden ones are ever scored."""
    import numpy as np

    from bench.data.table import Values

    shown = data.values(replica)
    if values.scalars.shape != shown.scalars.shape:
        raise BenchError(f"imputed values have shape {values.scalars.shape}, the data {shown.scalars.shape}")
    scalars = np.where(np.isnan(shown.scalars), values.scalars, shown.scalars)
    blocks = {
        name: np.where(np.isnan(shown.blocks[name]), block, shown.blocks[name]) for name, block in values.blocks.items()
    }
    return Values(scalars, blocks)


def _rows_of(values: Values, rows: IntArray) -> Values:
    from bench.data.table import Values

    return Values(values.scalars[rows], {name: block[rows] for name, block in values.blocks.items()})


# What went wrong


def reason_of(error: BaseException, job: Job) -> str:
    """Return one line on an error, with the line of a file from outside the suite that it came from."""
    return one_line(error, *(info.path for info in job.plugins.all if info.origin != "suite"))


def cause_of(error: BaseException) -> Cause:
    """Return whether an error would come again wherever the job runs, or is one of memory or disk."""
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EMFILE)
    return "environment" if full or out_of_memory(error) else "method"


def out_of_memory(error: BaseException | None) -> bool:
    """Return whether an error, or what led to it, says that memory could not be had, of the machine or of a device."""
    seen: set[int] = set()
    torch = sys.modules.get("torch")
    while error is not None and id(error) not in seen:
        if isinstance(error, MemoryError) or (torch is not None and isinstance(error, torch.cuda.OutOfMemoryError)):
            return True
        if isinstance(error, RuntimeError) and any(text in message_of(error) for text in _NO_MEMORY):
            return True
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return False


def free_memory() -> None:
    """Let go of what a failed training held."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
