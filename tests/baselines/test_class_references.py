"""The floor and the ceiling of the multi-modal tables: class means by brute force, and what the classifier sees."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from bench.api import AnyArray, Attribute, BoolArray, Budget, Context, Incomplete, Schema, Table, Values
from bench.conformance.method import METHOD_CHECKS, hidden_values_change_nothing
from bench.conformance.require import difference
from bench.conformance.tables import example_of
from bench.conformance.trial import Trial
from bench.data.statistics import fill_hidden, observed_statistics
from bench.neural.engine.bank import reset_parameters
from bench.neural.engine.encoder import Encoder
from bench.neural.engine.noise import replica_generators
from bench.neural.rows import Layout, Rows
from tests.neural_views import dependent_table, loss_of, split_views, trained
from tests.truth import rows_behind

BASELINES = Path(__file__).resolve().parents[2] / "baselines"


@pytest.fixture
def class_mean(load_plugin: Callable[..., type[Any]]) -> type[Any]:
    return load_plugin(BASELINES / "class_mean.py")


@pytest.fixture
def classifier(load_plugin: Callable[..., type[Any]]) -> type[Any]:
    return load_plugin(BASELINES / "classifier.py")


def everything(table: Table, observed: BoolArray) -> Incomplete:
    """Return all rows of a table under a mask [n, M]."""
    return Incomplete(table, np.arange(len(table))[None], observed[None])


# The class mean


def labelled_table(rows: int = 90) -> Table:
    """Return an image, a number, a label of four levels (the last never occurs), features, another category."""
    rng = np.random.default_rng(3)
    label = rng.integers(0, 3, rows)
    schema = Schema(
        (
            Attribute("image", "image", shape=(2, 2)),
            Attribute("number", "numeric"),
            Attribute("label", "categorical", levels=tuple("abcd")),
            Attribute("features", "features", shape=(3,)),
            Attribute("other", "categorical", levels=("u", "v")),
        )
    )
    blocks: dict[str, AnyArray] = {
        "image": rng.integers(0, 100, (rows, 4)).astype(np.uint8) + (50 * label[:, None]).astype(np.uint8),
        "features": (label[:, None] + rng.normal(size=(rows, 3))).astype(np.float32),
    }
    scalars = np.stack([10.0 * label + rng.normal(size=rows), label, rng.random(rows) < 0.7], axis=1)
    return Table(schema, scalars.astype(np.float64), blocks, np.ones((rows, 5), dtype=bool))


def test_class_means_are_those_of_the_rows_that_show_both(
    class_mean: type[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.data.view.BLOCK_ROWS", 7)
    table = labelled_table()
    observed = np.random.default_rng(4).random((len(table), 5)) < 0.6
    view = everything(table, observed)
    method = class_mean()
    method.fit(view, view, 0)
    values = method.impute(view, 1)
    label, pixels = table.scalars[:, 1].astype(int), table.blocks["image"] / 255
    checked = set()
    for row in range(len(table)):
        known = observed[row, 2]
        for index, truth, found in (
            (0, pixels, values.blocks["image"]),
            (1, table.scalars[:, :1], values.scalars[:, :1]),
            (3, table.blocks["features"], values.blocks["features"]),
        ):
            if observed[row, index]:
                expected = truth[row]
            else:
                same = observed[:, index] & (observed[:, 2] & (label == label[row]) if known else True)
                expected = truth[same].mean(axis=0)
                checked.add((index, bool(known)))
            np.testing.assert_allclose(found[row], expected, rtol=1e-6)
        for column, index in ((1, 2), (2, 4)):
            counts = np.bincount(table.scalars[observed[:, index], column].astype(int))
            fill = table.scalars[row, column] if observed[row, index] else counts.argmax()
            assert values.scalars[row, column] == fill
    assert len(checked) == 6


def test_a_class_without_training_rows_gets_the_mean_of_all(class_mean: type[Any]) -> None:
    table = labelled_table()
    observed = np.ones((len(table), 5), dtype=bool)
    method = class_mean()
    method.fit(everything(table, observed), everything(table, observed), 0)
    unseen = Table(table.schema, table.scalars.copy(), table.blocks, table.present)
    unseen.scalars[:, 1] = 3.0
    hidden = observed.copy()
    hidden[:, [0, 1]] = False
    values = method.impute(everything(unseen, hidden), 1)
    np.testing.assert_allclose(values.blocks["image"][5], (table.blocks["image"] / 255).mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(values.scalars[:, 0], table.scalars[:, 0].mean())


@pytest.mark.parametrize("name", ["numbers", "features", "images", "image and label", "numbers and categories"])
def test_the_class_mean_keeps_the_contract_and_is_the_floor_without_a_label(class_mean: type[Any], name: str) -> None:
    trial = Trial(class_mean, "inductive", example_of(name))
    for check in METHOD_CHECKS:
        try:
            check(trial)
        except Exception as error:
            assert type(error).__name__ == "NotApplicable", (check.__name__, error)
    if not len(trial.data.schema.of_kind("categorical")):
        train = trial.example.replica(0).train_view("inductive")
        floor = fill_hidden(trial.data.values(), trial.data.observed[0], observed_statistics(train))
        assert difference(trial.data.schema, trial.values, floor) == ""


# The classifier


def module_of(method: type[Any]) -> ModuleType:
    """Return the module a plug-in was loaded as."""
    return sys.modules[method.__module__]


def untrained(classifier: type[Any], view: Incomplete, seeds: Sequence[int] = (5,)) -> tuple[Any, Encoder]:
    """Return a network with drawn parameters and the encoder of a view."""
    layout = Layout(view.schema)
    encoder = Encoder(view, layout, "standard", "cpu")
    network = module_of(classifier).PredictionNetwork(
        layout, len(seeds), classifier.parameter_sets["default"], encoder.floor
    )
    reset_parameters(network, replica_generators("initialisation", seeds))
    return network, encoder


def losses_of(network: Any, encoder: Encoder, view: Incomplete) -> Tensor:
    """Return the loss of all rows of a view as one batch."""
    batch = encoder.encode(view.tensors("cpu").batch(torch.arange(len(view))[None]))
    return loss_of(network, batch, {})


def test_only_rows_that_show_an_attribute_and_another_are_trained_on(classifier: type[Any]) -> None:
    table = dependent_table(64, levels=(3,), images=1)
    observed = np.ones((64, 2), dtype=bool)
    observed[:16, 0] = False
    observed[16:32, 1] = False
    observed[32:40] = False
    network, encoder = untrained(classifier, everything(table, observed))
    loss = losses_of(network, encoder, everything(table, observed))
    lonely = Table(table.schema, table.scalars.copy(), dict(table.blocks), table.present)
    lonely.scalars[:16] = 1.0
    pixels = table.blocks["image0"].copy()
    pixels[16:32] = 255 - pixels[16:32]
    lonely.blocks["image0"] = pixels  # type: ignore[index]
    assert torch.equal(loss, losses_of(network, encoder, everything(lonely, observed)))
    # A loss that averages over them alone is that of the 24 rows with both.
    both = Incomplete(table, np.arange(40, 64)[None], observed[40:][None])
    network, _ = untrained(classifier, everything(table, observed))
    np.testing.assert_allclose(loss.item(), losses_of(network, encoder, both).item(), rtol=1e-5)


def test_no_attribute_is_predicted_from_itself(classifier: type[Any]) -> None:
    table = dependent_table(12, levels=(3, 4), images=2)
    observed = np.ones((12, 4), dtype=bool)
    network, encoder = untrained(classifier, everything(table, observed))
    batch = encoder.encode(everything(table, observed).tensors("cpu").batch(torch.arange(12)[None]))
    for which in range(2):
        batch.blocks[0].requires_grad_(True)
        prediction = network.predict(Rows(batch))
        (gradient,) = torch.autograd.grad(prediction.blocks[0][..., which, :].sum(), batch.blocks[0])
        assert (gradient[..., which, :] == 0).all()
        assert (gradient[..., 1 - which, :] != 0).any()


def test_the_loss_is_the_cross_entropy_and_the_squared_error(classifier: type[Any]) -> None:
    table = dependent_table(32, levels=(3,), images=1)
    view = everything(table, np.ones((32, 2), dtype=bool))
    network, encoder = untrained(classifier, view)
    batch = encoder.encode(view.tensors("cpu").batch(torch.arange(32)[None]))
    loss = loss_of(network, batch, {}).item()
    prediction = network.predict(Rows(batch))
    codes = torch.as_tensor(table.scalars[:, 0]).long()
    entropy = torch.nn.functional.cross_entropy(prediction.categorical[0, :, :, 0], codes)
    squared = ((prediction.blocks[0] - batch.blocks[0]) ** 2).mean()
    assert loss == pytest.approx((entropy + squared).item(), rel=1e-5)


def test_it_learns_the_label_and_the_mean_image_and_falls_to_the_floor(
    classifier: type[Any], class_mean: type[Any]
) -> None:
    """A label that follows from the image is found, and an image is the mean of its class: the least squared error."""
    rng = np.random.default_rng(8)
    rows = 900
    label = rng.choice(3, rows, p=[0.5, 0.3, 0.2])
    prototypes = np.array([[200, 40, 40, 40], [40, 200, 40, 40], [40, 40, 200, 200]])
    pixels = np.clip(prototypes[label] + rng.normal(0, 25, (rows, 4)), 0, 255).astype(np.uint8)
    schema = Schema((Attribute("image", "image", shape=(2, 2)), Attribute("label", "categorical", levels=tuple("abc"))))
    table = Table(schema, label[:, None].astype(np.float64), {"image": pixels}, np.ones((rows, 2), dtype=bool))
    views = split_views(table, ratio=0.4)
    budget = Budget(steps=200, batch=128, learning_rate=3e-3, evaluations=5)
    _, (values,) = trained(classifier, views, [1], budget)
    mean = class_mean(None, Context(budget))
    mean.fit(views[0], views[1], 0)
    means: Values = mean.impute(views[2], 1)
    observed, truth = views[2].observed[0], table.take(rows_behind(views[2])[0])
    label_only, image_only, nothing = (
        (observed == shown).all(axis=1) for shown in ([False, True], [True, False], [False, False])
    )
    assert min(label_only.sum(), image_only.sum(), nothing.sum()) > 15
    assert (values.scalars[image_only] == truth.scalars[image_only]).mean() > 0.97
    error, best = (
        np.square(found.blocks["image"][label_only] - truth.blocks["image"][label_only] / 255).mean()
        for found in (values, means)
    )
    assert error == pytest.approx(best, rel=0.05)
    np.testing.assert_allclose(values.blocks["image"][nothing], means.blocks["image"][nothing], rtol=1e-6)
    assert (values.scalars[nothing] == means.scalars[nothing]).all()


def test_the_classifier_sees_nothing_hidden(classifier: type[Any]) -> None:
    for name in ("image and label", "features"):
        hidden_values_change_nothing(Trial(classifier, "inductive", example_of(name)))
