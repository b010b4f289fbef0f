"""All that a plug-in author imports: the nouns of the data, the contracts, and the errors."""

from bench.data.kinds import KINDS, Kind
from bench.data.schema import SCALAR_KINDS, AnyArray, Attribute, BoolArray, FloatArray, IntArray, Schema
from bench.data.source import Fetched, File, Source
from bench.data.table import Table, Values
from bench.data.view import Batch, Incomplete, TensorView
from bench.errors import BenchError, Stopped
from bench.plugins.contracts import Budget, Context, Dataset, Mechanism, Method, StackedMethod

__all__ = [
    "KINDS",
    "SCALAR_KINDS",
    "AnyArray",
    "SCALAR_KINDS",
    "AnyArray",
    "Attribute",
    "Batch",
    "BenchError",
    "BoolArray",
    "Budget",
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
    "Schema",
    "Source",
    "StackedMethod",
    "Stopped",
    "Table",
    "TensorView",
    "Values",
]
