"""The map of images: like beside like, the same each time, made once."""

import subprocess
import sys

import numpy as np
import pytest

from cadlib.errors import DatasetInvalid
from cadlib.evaluation import embedding_map
from cadlib.evaluation.embedding_map import FEWEST, parts, project, tsne

GROUPS = 4


def features_of(n: int, seed: int = 1) -> np.ndarray:
    """Return n images of four kinds in turn, each kind around a point of its own."""
    centres = 4 * np.random.default_rng(0).normal(size=(GROUPS, 96))
    noise = np.random.default_rng(seed).normal(size=(n, 96))
    return (centres[np.arange(n) % GROUPS] + noise).astype(np.float32)


def nearest(places: np.ndarray) -> np.ndarray:
    """Return the row of the point next to each point."""
    apart = np.linalg.norm(places[:, None] - places[None], axis=2)
    np.fill_diagonal(apart, np.inf)
    return apart.argmin(axis=1)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CADLIB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "maps"


def test_like_lies_beside_like():
    places = project(features_of(120))
    assert (places.shape, places.dtype) == ((120, 2), np.float32)
    assert (nearest(places) % GROUPS == np.arange(120) % GROUPS).all()


def test_the_same_features_and_seed_give_the_same_map_and_others_do_not():
    features = features_of(60)
    first = tsne(features, 0)
    np.testing.assert_array_equal(first, tsne(features, 0))
    assert not np.array_equal(first, tsne(features, 1))


def test_another_process_gives_the_same_map(cache):
    code = "import sys; sys.path.insert(0, 'tests'); from test_embedding_map import features_of; "
    code += "from cadlib.evaluation.embedding_map "
    code += "import tsne; sys.stdout.buffer.write(tsne(features_of(60), 0).tobytes())"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout
    assert output == tsne(features_of(60), 0).tobytes()


def test_a_map_is_made_once_and_found_again(cache, monkeypatch):
    first = project(features_of(40))
    monkeypatch.setattr(embedding_map, "tsne", None)  # A call fails from here on.
    np.testing.assert_array_equal(project(features_of(40)), first)
    assert [path.suffix for path in cache.iterdir()] == [".npy"]


@pytest.mark.parametrize("change", ["a feature", "the seed", "the method", "the shape"])
def test_another_map_is_made_of(cache, monkeypatch, change):
    features = features_of(40)
    seed = 0
    project(features)
    match change:
        case "a feature":
            features[3, 5] += 1e-3
        case "the seed":
            seed = 1
        case "the method":
            monkeypatch.setattr(embedding_map, "METHOD", "another")
        case "the shape":
            features = features.reshape(80, 48)
    project(features, seed)
    assert len(list(cache.iterdir())) == 2


def test_images_beyond_the_fitted_ones_are_placed_among_them(monkeypatch):
    monkeypatch.setattr(embedding_map, "FITTED_AT_MOST", 80)
    monkeypatch.setattr(embedding_map, "_PLACED_AT_ONCE", 30)
    places = project(features_of(200))
    assert np.isfinite(places).all()
    assert (nearest(places) % GROUPS == np.arange(200) % GROUPS).all()


def test_progress_ends_with_the_last_step():
    steps = []
    tsne(features_of(30), 0, lambda _, done, of: steps.append((done, of)))
    assert steps[-1] == (500, 500)
    assert steps == sorted(steps)


def test_the_fewest_images_make_a_map_and_one_less_is_refused():
    assert np.isfinite(project(features_of(FEWEST))).all()
    with pytest.raises(DatasetInvalid, match=f"at least {FEWEST} images for a map but got 9"):
        project(features_of(FEWEST - 1))


def test_images_that_are_all_the_same_make_no_map():
    with pytest.raises(DatasetInvalid, match="images that differ"):
        project(np.ones((20, 8), np.float32))


def test_images_that_are_there_twice_have_a_place():
    features = features_of(60)
    assert np.isfinite(project(np.concatenate([features, features[:30]]))).all()


@pytest.mark.parametrize(
    "features", [np.ones((20, 8)), np.ones(20, np.float32), np.full((20, 8), np.nan, np.float32)]
)
def test_rejects_what_are_no_features(features):
    with pytest.raises(ValueError, match="finite float32 but got"):
        project(features)


def test_parts_are_regions_the_largest_first():
    places = np.repeat([[0, 0], [10, 0], [0, 10]], [5, 20, 10], axis=0).astype(np.float32)
    places += np.random.default_rng(0).uniform(-1, 1, places.shape).astype(np.float32)
    np.testing.assert_array_equal(parts(places, 3), np.repeat([2, 0, 1], [5, 20, 10]))


def test_there_are_no_more_parts_than_places():
    np.testing.assert_array_equal(parts(np.zeros((12, 2), np.float32), 24), np.zeros(12))
