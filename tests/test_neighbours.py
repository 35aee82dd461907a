import io
import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from cadlib.assessment import assess
from cadlib.errors import ModelInvalid
from cadlib.evaluation.features import SplitFeatures
from cadlib.images import read_image
from cadlib.images.preprocess import to_pixels
from cadlib.images.synthetic import demo_lesions
from cadlib.model.model import Model
from cadlib.model.neighbours import NeighbourIndex, fingerprints
from cadlib.model.neighbours.index import SAME_BITS, Neighbours, compact
from cadlib.model.record import NEIGHBOURS_FILE, read_record
from cadlib.taxonomy import CODES
from cadlib.training.similar_case_index import build, measure
from tests.model_folders import change_record

N = 400
DIFFER = "Most differ from the model's top diagnosis, Melanoma."


def part_of(n: int, seed: int, spread: float = 0.5) -> SplitFeatures:
    """Return n images, two a lesion, whose features gather around a point for each diagnosis."""
    centres = np.random.default_rng(0).uniform(0, 1, (8, 96))
    rng = np.random.default_rng(seed)
    labels = np.repeat(rng.integers(0, 8, n // 2), 2)
    features = np.abs(centres[labels] + spread * rng.normal(size=(n, 96))).astype(np.float32)
    prints = rng.integers(0, 256, (n, 32)).astype(np.uint8)
    nothing = np.zeros((n, 8), np.float32)
    return SplitFeatures(training_table(labels), features, nothing, prints, nothing, 0)


def training_table(labels: np.ndarray) -> pd.DataFrame:
    """Return a table of training images, two a lesion, a third of them of no archive."""
    numbers = range(len(labels))
    archives = (None, "HAM10000", "BCN20000")
    columns = {
        "image": [f"ISIC_{number:07}" + "_downsampled" * (number % 7 == 0) for number in numbers],
        "diagnosis": [CODES[label] for label in labels],
        "archive": pd.array([archives[number % 3] for number in numbers], dtype="str"),
        "lesion_id": pd.array([None] * len(labels), dtype="str"),
        "lesion_group": [str(number // 2) for number in numbers],
    }
    return pd.DataFrame(columns).assign(width_px=600, height_px=450, split="train")


@pytest.fixture(scope="module")
def train():
    return part_of(N, 1)


@pytest.fixture(scope="module")
def index(train):
    return build(train)


def other_print():
    return np.random.default_rng(99).integers(0, 256, 32).astype(np.uint8)


def plain_ranking(index: NeighbourIndex, features: np.ndarray) -> list[int]:
    """Return the rows by their cosine with the vectors of the index, the highest first."""
    query = (features @ index.basis).astype(np.float64)
    vectors = index.vectors.astype(np.float64)
    return np.argsort(-(vectors @ query) / np.linalg.norm(vectors, axis=1), kind="stable").tolist()


def test_similarities_are_the_cosines_of_the_features(train, index):
    query = part_of(2, 5).features[0]
    plain = train.features @ query / np.linalg.norm(train.features, axis=1) / np.linalg.norm(query)
    basis, vectors = compact(train.features, 96)
    uncompressed = replace(index, basis=basis, vectors=vectors)
    np.testing.assert_allclose(uncompressed.similarities(query), plain, atol=0.01)


def test_blocks_give_the_same_similarities_as_one_product(train, index, monkeypatch):
    from cadlib.model.neighbours import index as module

    in_one_product = index.similarities(train.features[3])
    monkeypatch.setattr(module, "_BLOCK", 37)
    np.testing.assert_allclose(index.similarities(train.features[3]), in_one_product, atol=1e-6)


@given(st.integers(10, 500))
def test_the_cases_are_the_nearest_of_each_lesion(seed):
    index = build(part_of(N, 1))
    query = part_of(2, seed).features[0]
    expected = []
    lesions = set()
    for row in plain_ranking(index, query):
        if index.lesions[row] not in lesions and len(expected) < 5:
            expected.append(index.images[row].decode())
            lesions.add(index.lesions[row])
    result = index.search(query, other_print(), "MEL")
    assert [case.image for case in result.cases] == expected
    assert result.itself is None


def test_one_large_lesion_does_not_crowd_out_the_others(train):
    group = np.where(np.arange(N) < N - 8, "0", train.table["lesion_group"])
    index = build(replace(train, table=train.table.assign(lesion_group=group)))
    result = index.search(train.features[0], other_print(), "MEL")
    # The large lesion, and the four lesions of the last eight images.
    assert len(result.cases) == 5


def test_a_case_has_the_values_of_the_table(train, index):
    result = index.search(train.features[10], other_print(), "MEL")
    table = train.table.set_index("image")
    for case in result.cases:
        row = table.loc[case.image]
        assert case.diagnosis == row["diagnosis"]
        assert case.archive == ("" if pd.isna(row["archive"]) else row["archive"])
        assert -1 <= case.similarity <= 1
    similarities = [case.similarity for case in result.cases]
    assert similarities == sorted(similarities, reverse=True)


def test_a_training_image_is_known_again_and_its_lesion_is_no_case_of_its_own(train, index):
    result = index.search(train.features[10], train.fingerprints[10], "MEL")
    assert result.itself.image == train.table["image"][10]
    assert result.itself.similarity == pytest.approx(1, abs=0.02)
    assert not {case.image for case in result.cases} & set(train.table["image"][10:12])


def test_the_same_bits_of_another_picture_are_no_training_image(train, index):
    far = plain_ranking(index, train.features[10])[-1]
    unlike = index.search(-train.features[far], train.fingerprints[far], "MEL")
    assert unlike.itself is None


@pytest.mark.parametrize(("bits", "is_known"), [(SAME_BITS, True), (SAME_BITS + 1, False)])
def test_the_limit_on_differing_bits(train, index, bits, is_known):
    changed = np.unpackbits(train.fingerprints[10])
    changed[:bits] ^= 1
    result = index.search(train.features[10], np.packbits(changed), "MEL")
    assert (result.itself is not None) is is_known


@pytest.mark.parametrize(
    ("codes", "first", "sentence"),
    [
        (
            ["MEL", "NV", "MEL", "MEL", "MEL"],
            "MEL",
            "4 of 5 Melanoma, 1 Melanocytic nevus. 4 of 5 have the model's top diagnosis.",
        ),
        (
            ["MEL", "NV", "MEL", "BKL", "MEL"],
            "MEL",
            "3 of 5 Melanoma, 1 Melanocytic nevus, 1 Benign keratosis. 3 of 5 have the model's top diagnosis.",
        ),
        (
            ["NV", "NV", "NV", "NV", "MEL"],
            "MEL",
            f"4 of 5 Melanocytic nevus, 1 Melanoma. {DIFFER}",
        ),
        (
            ["NV", "BKL", "MEL", "MEL", "NV"],
            "MEL",
            f"2 of 5 Melanocytic nevus, 2 Melanoma, 1 Benign keratosis. {DIFFER}",
        ),
    ],
)
def test_counts_the_cases_and_those_with_the_top_diagnosis(index, codes, first, sentence):
    result = index.search(np.ones(96, np.float32), other_print(), first)
    cases = tuple(
        replace(case, diagnosis=code) for case, code in zip(result.cases, codes, strict=True)
    )
    result = replace(result, cases=cases)
    assert result.sentence == sentence
    assert result.agreeing == codes.count(first)
    assert result.to_json()["disagree"] == (DIFFER in sentence)
    assert " agree" not in result.sentence
    assert json.loads(json.dumps(result.to_json()))["cases"][0]["diagnosis"] == codes[0]


def test_the_index_is_read_back_and_written_identically(train, index):
    data = index.to_bytes()
    assert build(train).to_bytes() == data
    read_back = NeighbourIndex.from_bytes(data)
    for name in (
        "basis",
        "vectors",
        "fingerprints",
        "images",
        "diagnoses",
        "lesions",
        "archives",
        "archive_names",
    ):
        np.testing.assert_array_equal(getattr(read_back, name), getattr(index, name))
    assert read_back.to_bytes() == data


def test_the_index_is_compact(index):
    assert (len(index.to_bytes()) - index.basis.nbytes) / N < 150


@pytest.mark.parametrize("data", [b"", b"no safetensors file at all"])
def test_refuses_a_file_that_is_not_an_index(data):
    with pytest.raises(ModelInvalid, match="python -m cadlib index"):
        NeighbourIndex.from_bytes(data)


def test_refuses_an_incomplete_index(index):
    from safetensors.numpy import load, save

    arrays = load(index.to_bytes())
    del arrays["lesions"]
    with pytest.raises(ModelInvalid, match="lesions"):
        NeighbourIndex.from_bytes(save(arrays))


def codes_of_cases(index, queries, probabilities) -> list[list[str]]:
    """Return the diagnoses of the similar cases of each query."""
    codes = []
    for row, top in enumerate(probabilities.argmax(axis=1)):
        result = index.search(queries.features[row], queries.fingerprints[row], CODES[top])
        codes.append([case.diagnosis for case in result.cases])
    return codes


def test_the_accuracy_by_agreeing_cases_is_the_one_counted_by_hand(index):
    queries = part_of(60, 7, spread=1.0)
    probabilities = np.eye(8)[np.random.default_rng(3).integers(0, 8, 60)]
    metrics = measure(index, queries, probabilities)
    right = dict.fromkeys(map(str, range(6)), 0)
    for row, codes in enumerate(codes_of_cases(index, queries, probabilities)):
        top = CODES[probabilities[row].argmax()]
        right[str(codes.count(top))] += top == CODES[queries.labels[row]]
    assert sum(metrics.n_agreeing.values()) == 60
    for count, n in metrics.n_agreeing.items():
        expected = pytest.approx(right[count] / n) if n else None
        assert metrics.right_when_agreeing[count] == expected


def test_precision_and_votes_are_those_counted_by_hand(index):
    queries = part_of(60, 7, spread=1.0)
    probabilities = np.eye(8)[np.random.default_rng(3).integers(0, 8, 60)]
    metrics = measure(index, queries, probabilities)
    shares = []
    votes = []
    for row, codes in enumerate(codes_of_cases(index, queries, probabilities)):
        truth = CODES[queries.labels[row]]
        shares.append(codes.count(truth) / 5)
        vote = max(codes, key=lambda code: (codes.count(code), -codes.index(code)))
        votes.append(vote == truth)
    assert metrics.precision == pytest.approx(np.mean(shares))
    assert metrics.vote_accuracy == pytest.approx(np.mean(votes))


def test_the_measures_state_the_accuracy_of_the_model_and_an_interval(index):
    queries = part_of(60, 7, spread=1.0)
    probabilities = np.eye(8)[np.random.default_rng(3).integers(0, 8, 60)]
    metrics = measure(index, queries, probabilities)
    correct = probabilities.argmax(axis=1) == queries.labels
    assert metrics.model_accuracy == pytest.approx(correct.mean())
    assert (metrics.n, metrics.n_lesions) == (60, 30)
    low, high = metrics.intervals.precision
    assert low < metrics.precision < high
    assert metrics.taken_for_training == 0


def test_features_that_separate_diagnoses_find_the_true_one(index):
    queries = part_of(60, 7, spread=0.2)
    assert measure(index, queries, np.eye(8)[queries.labels]).precision > 0.9


def test_a_fingerprint_survives_resaving_and_distinguishes_lesions():
    lesions = [read_image(lesion.png()) for lesion in demo_lesions()[:4]]
    pictures = [Image.fromarray(lesion.pixels) for lesion in lesions]
    squares = np.stack([np.asarray(picture.resize((176, 176))) for picture in pictures])
    prints = fingerprints(squares)
    changed = []
    for picture in pictures:
        file = io.BytesIO()
        picture.resize((300, 300)).point(lambda value: min(255, round(1.1 * value))).save(
            file, "JPEG", quality=70
        )
        changed.append(np.asarray(Image.open(file).resize((176, 176))))
    bits = np.bitwise_count(prints[:, None] ^ fingerprints(np.stack(changed))).sum(axis=2)
    assert bits.diagonal().max() <= SAME_BITS
    assert bits[~np.eye(4, dtype=bool)].min() > 4 * SAME_BITS


def test_a_model_without_an_index_has_no_similar_cases(model_folder):
    change_record(model_folder, {"neighbours": None})
    model = Model.load(model_folder)
    assert model.neighbours is None
    assessment = assess(model, demo_lesions()[0].png())
    assert assessment.neighbours is None
    assert assessment.to_json()["neighbours"] is None


def test_a_changed_index_is_refused(model_folder):
    with (model_folder / NEIGHBOURS_FILE).open("ab") as file:
        file.write(b"0")
    with pytest.raises(ModelInvalid, match=NEIGHBOURS_FILE):
        Model.load(model_folder)


def test_the_shipped_index_holds_every_training_image(model):
    facts = model.record.neighbours
    assert (
        len(model.neighbours) == facts.images == facts.of == model.record.training.images["train"]
    )
    assert (
        len(np.unique(model.neighbours.lesions))
        == facts.lesions
        == model.record.training.lesions["train"]
    )


def test_an_assessment_lists_the_cases(model):
    assessment = assess(model, demo_lesions()[0].png())
    listed = json.loads(json.dumps(assessment.to_json()))["neighbours"]
    assert listed["first"] == assessment.to_json()["diagnosis"]
    assert len(listed["cases"]) == 5
    assert listed["itself"] is None


def test_training_images_are_known_again_as_their_cameras_made_them(model, data_dir):
    files = sorted((data_dir / "uploads").glob("*.jpg"))
    if not files:
        pytest.skip(f"no pictures in {data_dir / 'uploads'}")
    trained_on = {image.decode().removesuffix("_downsampled") for image in model.neighbours.images}
    for file in files:
        itself = assess(model, file).neighbours.itself
        assert (itself and itself.image.removesuffix("_downsampled")) == (
            file.stem if file.stem in trained_on else None
        )


def test_images_the_model_was_not_trained_on_are_taken_for_none(model, isic2019_dataset):
    from cadlib.model.record import find_model
    from cadlib.model.split import part_of_split

    folder = find_model("isic2019")
    table = part_of_split(folder, read_record(folder), isic2019_dataset, "validation").table[::25]
    pixels = np.stack([to_pixels(read_image(path), model.record.input) for path in table["path"]])
    outputs = model.see(pixels)
    for features, fingerprint in zip(outputs.features, fingerprints(pixels), strict=True):
        assert model.neighbours.search(features, fingerprint, "NV").itself is None


def test_an_empty_list_of_cases_has_a_sentence():
    assert Neighbours("MEL", (), None).sentence == "No similar case of another lesion."
