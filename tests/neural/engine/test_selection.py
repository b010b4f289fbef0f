"""Where held-out entries tell little: the last epoch is kept, and a likelihood of the mask leaves them out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from bench.api import Budget, Context, Incomplete
from bench.neural.rows import Rows
from tests.neural_views import BASELINES, dependent_table, split_views
from tests.truth import folds_behind, rows_behind, table_behind

SHORT = Budget(steps=6, batch=21, evaluations=2, draws=7, target_draws=2, validation_draws=3)


def partly_ignorable(view: Incomplete) -> Incomplete:
    """Return a validation view of two replicas, of which the second has a mechanism that looks at what it hides."""
    flags = np.array([True, False])
    return Incomplete(table_behind(view), rows_behind(view), view.observed, folds_behind(view), flags)


@pytest.mark.parametrize("name", ["not_miwae", "vsae", "vae"])
def test_a_model_of_why_values_are_missing_keeps_its_last_state_where_held_out_entries_tell_little(
    load_plugin: Callable[..., Any], name: str
) -> None:
    train, validation, _ = split_views(dependent_table(90, numbers=3), replicas=2)
    fitted = load_plugin(BASELINES / f"{name}.py")(None, Context(SHORT))
    fitted.fit_many(train, partly_ignorable(validation), [0, 1])
    facts, last = fitted.diagnostics(), fitted.history.validation_epochs[-1]
    expected = ["held-out error", "last epoch" if name == "not_miwae" else "held-out error"]
    assert [own["chosen_by"] for own in facts] == expected
    if name == "not_miwae":
        assert facts[1]["best_epoch"] == last and facts[1]["best_validation_error"] == facts[1]["last_validation_error"]
    folds = folds_behind(validation)
    assert folds is not None and facts[0]["validation_entries"] == int((folds[0] >= 0).sum())


@pytest.mark.parametrize("name", ["vsae", "not_miwae"])
def test_a_likelihood_of_the_mask_leaves_out_what_is_held_out(load_plugin: Callable[..., Any], name: str) -> None:
    """Seen or missing, the mask of a held-out entry is a factor of 1: weights are those with its term taken off."""
    train, validation, _ = split_views(dependent_table(60, numbers=2, levels=(3,)))
    fitted = load_plugin(BASELINES / f"{name}.py")(None, Context(SHORT))
    fitted.fit_many(train, validation, [0])
    fold = validation.folds[0]
    index = torch.arange(len(validation))[None]
    shown = fitted.encoder.encode(fold.shown.tensors("cpu").batch(index))
    held_out = fold.held_out.tensors("cpu").batch(index).observed[..., fitted.encoder.layout.order]
    assert held_out.any() and not (held_out & shown.observed).any()
    everything = torch.ones_like(held_out)

    def weights(held_out: torch.Tensor | None) -> torch.Tensor:
        noise = fitted._noise("weights", [0])
        x = Rows(shown, held_out=held_out)
        log_weight: torch.Tensor = fitted.model.propose(fitted.model.given(x, noise), 4, noise)[0]
        return log_weight

    with torch.no_grad():
        usual, without, nothing = weights(None), weights(held_out), weights(everything)
        touched = held_out.any(-1)[:, None].expand_as(usual)
        # A probability below 1 was left out wherever an entry is held out, and nothing elsewhere.
        assert (without[touched] > usual[touched]).all() and torch.allclose(without[~touched], usual[~touched])
        assert (nothing >= without - 1e-5).all()
