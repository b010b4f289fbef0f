"""The words a plug-in's literal attributes may use; free of imports, so that listing plug-ins stays instant."""

from __future__ import annotations

from typing import Literal, get_args

Kind = Literal["numeric", "categorical", "image", "features"]
KINDS: tuple[Kind, ...] = get_args(Kind)

Protocol = Literal["inductive", "transductive"]
PROTOCOLS: tuple[Protocol, ...] = get_args(Protocol)
