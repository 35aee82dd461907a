"""A committee: several networks that read several views of an image."""

import numpy as np
import pytest
from numpy.typing import NDArray

from cadlib.images.preprocess import InputSpec
from cadlib.images.turns import TURNS, turned
from cadlib.model.committee import Committee, averaged
from cadlib.model.engine import Seen
from cadlib.taxonomy import CODES

SPEC = InputSpec(32, "bicubic", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), symmetric=True)
CELLS = 4


class CornerNetwork:
    """Stands in for an Engine: it weighs the places of an image unequally, so its views differ."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self._weights = rng.normal(size=(8, CELLS, CELLS)).astype(np.float32)
        self.passes: list[int] = []

    def run(self, inputs: NDArray[np.float32]) -> Seen:
        self.passes.append(len(inputs))
        n, _, height, width = inputs.shape
        cells = inputs.mean(axis=1).reshape(n, CELLS, height // CELLS, CELLS, width // CELLS)
        brightness = cells.mean(axis=(2, 4))
        evidence = brightness[:, None] * self._weights
        logits = evidence.sum(axis=(2, 3))
        features = brightness.reshape(n, -1)
        return Seen(logits, features, evidence)


@pytest.fixture
def images() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (20, 32, 32, 3), dtype=np.uint8)


def members() -> list[CornerNetwork]:
    return [CornerNetwork(1), CornerNetwork(2), CornerNetwork(3)]


def test_one_network_and_one_view_are_the_network_itself(images):
    network = CornerNetwork(1)
    outputs = Committee([network]).run(images, SPEC)
    inputs = (images.transpose(0, 3, 1, 2) / np.float32(255) - np.float32(0.5)) / np.float32(0.5)
    seen = network.run(inputs.astype(np.float32))
    np.testing.assert_allclose(outputs.logits, seen.logits, atol=1e-6)
    np.testing.assert_allclose(outputs.features, seen.features, atol=1e-6)
    np.testing.assert_allclose(outputs.evidence, seen.evidence, atol=1e-6)
    assert np.array_equal(outputs.member_logits, outputs.logits[:, None])
    assert np.array_equal(outputs.view_logits, outputs.logits[:, None])


def test_the_same_networks_read_another_number_of_views(images):
    all_members = members()
    committee = Committee(all_members, views=8, average="probabilities")
    expected = Committee(all_members, views=1, average="probabilities").run(images, SPEC)
    found = committee.with_views(1).run(images, SPEC)
    assert np.array_equal(found.logits, expected.logits)
    assert not np.allclose(found.logits, committee.run(images, SPEC).logits, atol=1e-3)


@pytest.mark.parametrize("average", ["logits", "probabilities"])
@pytest.mark.parametrize("turn", TURNS)
def test_turning_an_image_changes_nothing(images, average, turn):
    committee = Committee(members(), views=8, average=average)
    upright = committee.run(images, SPEC)
    view = committee.run(np.ascontiguousarray(turned(images, turn)), SPEC)
    np.testing.assert_allclose(view.logits, upright.logits, atol=1e-5)
    np.testing.assert_allclose(view.member_logits, upright.member_logits, atol=1e-5)
    np.testing.assert_allclose(view.features, upright.features, atol=1e-5)


def test_one_view_changes_when_the_image_is_turned(images):
    committee = Committee(members(), views=1)
    upright = committee.run(images, SPEC)
    view = committee.run(np.ascontiguousarray(turned(images, TURNS[1])), SPEC)
    assert np.abs(view.logits - upright.logits).max() > 0.1


@pytest.mark.parametrize("views", [1, 8])
def test_the_evidence_turns_with_the_image_and_adds_up_to_the_logits(images, views):
    outputs = Committee(members(), views).run(images, SPEC)
    np.testing.assert_allclose(outputs.evidence.sum(axis=(2, 3)), outputs.logits, atol=1e-5)
    if views == 8:
        turn = TURNS[1]
        view = Committee(members(), views).run(np.ascontiguousarray(turned(images, turn)), SPEC)
        expected = np.rot90(outputs.evidence, turn.quarters, axes=(-2, -1))
        np.testing.assert_allclose(view.evidence, expected, atol=1e-5)


def test_the_outputs_are_averages_over_networks_and_views(images):
    networks = members()
    together = Committee(networks, views=8).run(images, SPEC)
    alone = [Committee([network], views=8).run(images, SPEC) for network in networks]
    member_logits = np.stack([outputs.logits for outputs in alone], axis=1)
    np.testing.assert_allclose(together.member_logits, member_logits, atol=1e-6)
    np.testing.assert_allclose(together.logits, member_logits.mean(axis=1), atol=1e-6)
    np.testing.assert_allclose(together.logits, together.view_logits.mean(axis=1), atol=1e-6)
    features = np.concatenate([outputs.features for outputs in alone], axis=1)
    np.testing.assert_allclose(together.features, features, atol=1e-6)


def test_an_average_of_probabilities_is_given_as_their_logarithms(images):
    outputs = Committee(members(), views=8, average="probabilities").run(images, SPEC)
    shares = np.exp(outputs.logits.astype(np.float64))
    np.testing.assert_allclose(shares.sum(axis=1), 1, atol=1e-6)
    member_shares = np.exp(outputs.member_logits.astype(np.float64))
    np.testing.assert_allclose(shares, member_shares.mean(axis=1), atol=1e-6)


def test_no_pass_has_more_than_64_views(images):
    network = CornerNetwork(1)
    outputs = Committee([network], views=8).run(images, SPEC)
    assert network.passes == [64, 64, 32]
    assert len(outputs.logits) == 20


@pytest.mark.parametrize("views", [0, 2, 9])
def test_another_number_of_views_is_refused(views):
    with pytest.raises(ValueError, match="1 or 8"):
        Committee(members(), views)


@pytest.mark.parametrize("average", ["logits", "probabilities"])
def test_logits_are_averaged_as_such_or_as_probabilities(average):
    view_logits = np.random.default_rng(0).normal(size=(5, 8, len(CODES))).astype(np.float32)
    mean_logits = averaged(view_logits, (1,), average)
    shares = np.exp(view_logits) / np.exp(view_logits).sum(axis=-1, keepdims=True)
    if average == "probabilities":
        np.testing.assert_allclose(np.exp(mean_logits), shares.mean(axis=1), atol=1e-6)
    else:
        np.testing.assert_allclose(mean_logits, view_logits.mean(axis=1), atol=1e-6)
