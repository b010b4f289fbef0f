"""All that a plug-in author imports: data, contracts, errors, statistics, seeds and readers of text files."""

from bench.data.kinds import KINDS, Kind
from bench.data.schema import SCALAR_KINDS, AnyArray, Attribute, BoolArray, FloatArray, IntArray, Schema
from bench.data.source import Fetched, File, Source
from bench.data.statistics import (
    ObservedStatistics,
    design_matrix,
    design_slices,
    fill_hidden,
    observed_statistics,
    original_scalars,
    standardised_scalars,
)
from bench.data.table import Table, Values
from bench.data.view import Batch, Incomplete, TensorView
from bench.errors import BenchError, Stopped
from bench.files.text import (
    Columns,
    Rows,
    in_units_of,
    mean_over_steps,
    read_numbers,
    read_rows,
    translated,
    typed_frame,
)
from bench.plugins.contracts import Budget, Context, Dataset, Mechanism, Method, StackedMethod
from bench.seeds import generator, seed_of

__all__ = [
    "KINDS",
    "SCALAR_KINDS",
    "AnyArray",
    "Attribute",
    "Batch",
    "BenchError",
    "BoolArray",
    "Budget",
    "Columns",
    "Context",
    "Dataset",
    "Fetched",
    "File",
    "FloatArray",
    "Incomplete",
    "IntArray",
    "Kind",
    "Mechanism",
    "Method",
    "ObservedStatistics",
    "Rows",
    "Schema",
    "Source",
    "StackedMethod",
    "Stopped",
    "Table",
    "TensorView",
    "Values",
    "design_matrix",
    "design_slices",
    "fill_hidden",
    "generator",
    "in_units_of",
    "mean_over_steps",
    "observed_statistics",
    "original_scalars",
    "standardised_scalars",
    "read_numbers",
    "read_rows",
    "seed_of",
    "translated",
    "typed_frame",
]
