"""The hash of a plug-in's code: what it does, whatever is said about it."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator

_DOCUMENTED = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def code_hash(source: bytes) -> str:
    """Return the SHA-256 of a source's syntax tree without docstrings, comments and positions.

    It is the same under every version of Python that reads the source. A source that cannot be read, or is nested too
    deeply, is hashed as it is.
    """
    try:
        text = "".join(_written(ast.parse(source)))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return hashlib.sha256(source).hexdigest()
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


def _written(node: object) -> Iterator[str]:
    """Yield a syntax tree as text, without what is empty: newer versions of Python have fields that older ones lack."""
    if isinstance(node, ast.AST):
        yield f"{type(node).__name__}("
        for name, value in ast.iter_fields(node):
            if value in (None, []) or name in ("ctx", "kind", "type_comment", "type_ignores"):
                continue
            if name == "body" and isinstance(node, _DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
                value = value[1:]
            yield f"{name}="
            yield from _written(value)
        yield ")"
    elif isinstance(node, list):
        for item in node:
            yield from _written(item)
            yield ","
    else:
        yield repr(node)
