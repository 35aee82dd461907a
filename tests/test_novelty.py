import cv2
import numpy as np
import pytest
import torch
from msgspec import structs
from PIL import Image, ImageDraw
from pytorch_ood.detector import KNN

from cadlib.data.dataset import open_dataset
from cadlib.data.stratified_sample import stratified_sample
from cadlib.errors import ModelInvalid
from cadlib.evaluation.evaluate import evaluate
from cadlib.evaluation.features import SplitFeatures
from cadlib.images.synthetic import demo_lesions
from cadlib.metrics.conditions_schema import (
    FarDetection,
    KindDetection,
    LimitDetection,
    NoveltyProof,
    UnknownCount,
    UnknownCounts,
)
from cadlib.model import metrics_file
from cadlib.model.card import render
from cadlib.model.model import Model
from cadlib.model.novelty import Looks, Novelty, NoveltyDetector, appearance
from cadlib.model.record import NOVELTY_FILE, find_model, read_record
from cadlib.model.split import part_of_split
from cadlib.taxonomy import CODES
from cadlib.training import novelty_detector

SIDE_PX = 200


def page() -> np.ndarray:
    sheet = Image.new("RGB", (SIDE_PX, SIDE_PX), "white")
    for y in range(8, SIDE_PX, 14):
        ImageDraw.Draw(sheet).text((6, y), "once upon a midnight dreary while I", "black")
    return np.asarray(sheet)


def far_pictures() -> dict[str, np.ndarray]:
    """Return pictures, (S, S, 3) uint8, that show no skin."""
    rng = np.random.default_rng(0)
    axis = np.arange(SIDE_PX)
    checks = (axis[:, None] // 20 + axis // 20) % 2
    grey = rng.integers(0, 256, (SIDE_PX, SIDE_PX, 1), np.uint8)
    return {
        "noise": rng.integers(0, 256, (SIDE_PX, SIDE_PX, 3), np.uint8),
        "grey noise": np.repeat(grey, 3, axis=2),
        "smooth grey noise": cv2.GaussianBlur(np.repeat(grey, 3, axis=2), (0, 0), 6),
        "one colour": np.full((SIDE_PX, SIDE_PX, 3), (40, 90, 200), np.uint8),
        "black": np.zeros((SIDE_PX, SIDE_PX, 3), np.uint8),
        "checks": np.where(checks[..., None], (250, 250, 250), (200, 20, 20)).astype(np.uint8),
        "rainbow": np.stack(np.broadcast_arrays(axis[:, None], axis, 199 - axis), axis=2).astype(
            np.uint8
        ),
        "page": page(),
    }


@pytest.fixture
def measurements():
    """Return measurements of 300 training and 200 validation pictures, and of 5 that are far."""
    rng = np.random.default_rng(0)
    scale = rng.uniform(0.1, 10, appearance.N_MEASUREMENTS)
    shape = {"train": 300, "validation": 200, "far": 5}
    standard = {name: rng.normal(0, 1, (n, appearance.N_MEASUREMENTS)) for name, n in shape.items()}
    standard["far"] += 6
    return {name: (values * scale).astype(np.float32) for name, values in standard.items()}


@pytest.mark.parametrize("kind", far_pictures())
def test_an_image_without_skin_is_unknown(model, kind):
    novelty = model.predict(Image.fromarray(far_pictures()[kind])).novelty
    assert not novelty.known
    assert novelty.unknown_share > 0.5
    assert "does not look like the dermoscopic images" in novelty.sentence


def test_a_drawn_lesion_is_nearer_than_any_image_without_skin(model):
    lesions = model.predict_batch([Image.fromarray(lesion.pixels) for lesion in demo_lesions()])
    far = model.predict_batch([Image.fromarray(pixels) for pixels in far_pictures().values()])
    assert max(prediction.novelty.score for prediction in lesions) < min(
        prediction.novelty.score for prediction in far
    )


def test_photographs_from_a_dermatoscope_are_known(model, data_dir):
    paths = sorted((data_dir / "uploads").glob("*.jpg"))
    assert len(paths) == 16
    assert all(prediction.novelty.known for prediction in model.predict_batch(paths))


def test_nearly_all_test_images_of_every_archive_are_known(model, isic2019_dataset):
    sample = stratified_sample(
        part_of_split(find_model("isic2019"), model.record, isic2019_dataset, "test"), 150
    )
    predictions = model.predict_batch(sample.table["path"])
    is_known = np.array([prediction.novelty.known for prediction in predictions])
    assert is_known.mean() > 0.95
    for archive in sample.table["archive"].dropna().unique():
        assert is_known[(sample.table["archive"] == archive).to_numpy(bool)].mean() > 0.85


def test_the_distance_is_that_of_the_nearest_neighbour_of_pytorch_ood(measurements):
    """Theirs scales a picture to length 1 first; ours scales each measurement, and keeps it in eight bits."""
    detector = Looks.learn(measurements["train"])
    standardised = (measurements["validation"] - detector.mean) / detector.scale / 12
    theirs = KNN(None, k=1)
    theirs._prepare = lambda z: z  # type: ignore[method-assign]
    train = torch.from_numpy(detector.stored.astype(np.float32) / 12)
    theirs.fit_features(train, torch.zeros(len(train), dtype=torch.long))
    expected = theirs.predict_features(torch.from_numpy(standardised)).numpy()
    assert detector.distances(measurements["validation"]) == pytest.approx(expected, rel=1e-3)


def test_eight_bits_change_no_distance_by_more_than_a_hundredth(measurements):
    train = measurements["train"].astype(np.float64)
    validation = measurements["validation"].astype(np.float64)
    scale = train.std(axis=0)
    exact = np.sqrt((((validation[:, None] - train) / scale) ** 2).sum(axis=2)).min(axis=1)
    assert Looks.learn(measurements["train"]).distances(
        measurements["validation"]
    ) == pytest.approx(exact, rel=0.01)


def test_stored_features_give_the_same_distances(measurements):
    detector = Looks.learn(measurements["train"])
    unpacked = Looks.unpack(detector.pack())
    assert np.array_equal(
        unpacked.distances(measurements["far"]), detector.distances(measurements["far"])
    )


@pytest.mark.parametrize(
    "spoil", [lambda data: data[:50], lambda _: b"", lambda data: data.replace(b"mean", b"gone")]
)
def test_refuses_an_invalid_file(measurements, spoil):
    with pytest.raises(ModelInvalid, match="cannot be read"):
        Looks.unpack(spoil(Looks.learn(measurements["train"]).pack()))


def test_refuses_looks_of_other_measurements(measurements):
    with pytest.raises(ModelInvalid, match="values for each image"):
        Looks.unpack(Looks.learn(measurements["train"][:, 1:]).pack())


def test_a_changed_file_of_looks_is_refused(model_folder):
    path = model_folder / NOVELTY_FILE
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(ModelInvalid, match=NOVELTY_FILE):
        Model.load(model_folder)


def test_the_looks_take_little_room():
    assert (find_model("isic2019") / NOVELTY_FILE).stat().st_size < 1_500_000


@pytest.mark.parametrize("score", [0.0, 0.3, 0.999, 1.0, 1.001, 2.0, 1e6])
def test_unk_is_a_share_that_rises_with_the_score_and_is_one_half_at_the_limit(score):
    novelty = Novelty(score)
    assert 0 <= novelty.unknown_share <= 1
    assert novelty.known == (novelty.unknown_share <= 0.5) == (novelty.sentence == "")
    assert (
        Novelty(score + 0.1).unknown_share > novelty.unknown_share or novelty.unknown_share > 0.999
    )


def test_a_typical_picture_has_an_unk_below_any_diagnosis_that_could_lead():
    assert Novelty(0.5).unknown_share < 1 / len(CODES) / 10


def test_a_picture_means_the_same_at_every_size_a_model_reads():
    lesion = Image.fromarray(demo_lesions()[0].pixels)
    sizes = [
        np.asarray(lesion.resize((side, side), Image.Resampling.LANCZOS))
        for side in (128, 176, 224)
    ]
    small, middle, large = [appearance.measure(pixels[None])[0] for pixels in sizes]
    noise = appearance.measure(far_pictures()["noise"][None])[0]
    assert np.abs(small - large).max() < 0.1 * np.abs(large - noise).max()
    assert np.abs(middle - large).max() < 0.1 * np.abs(large - noise).max()


def test_a_flat_picture_has_finite_measurements():
    measurements = appearance.measure(np.zeros((2, 64, 64, 3), np.uint8))
    assert measurements.shape == (2, appearance.N_MEASUREMENTS)
    assert np.isfinite(measurements).all()


def test_evaluate_fills_unk_and_leaves_every_figure_as_it_was(
    undetecting_folder, synthetic_dataset
):
    dataset = stratified_sample(open_dataset(synthetic_dataset, verify=False), 32)
    with_it = evaluate(Model.load("isic2019"), dataset)
    without = evaluate(Model.load(undetecting_folder), dataset)
    assert (with_it.predictions["UNK"] > 0).all()
    assert (without.predictions["UNK"] == 0).all()
    assert with_it.predictions.drop(columns="UNK").equals(without.predictions.drop(columns="UNK"))
    metrics_with_it = structs.replace(with_it.metrics, model=None)
    metrics_without = structs.replace(without.metrics, model=None)
    assert metrics_with_it == metrics_without


@pytest.fixture
def split_features(measurements, synthetic_dataset) -> SplitFeatures:
    """Return the measurements of 96 images in three splits; two test images are far from all others."""
    table = open_dataset(synthetic_dataset, verify=False).table
    parts = np.array(["train", "train", "validation", "test"] * (len(table) // 4))
    looks = np.concatenate([measurements["train"], measurements["validation"]])[: len(table)]
    looks[np.flatnonzero(parts == "test")[:2]] += 1000
    empty = np.zeros((len(table), 1), np.float32)
    return SplitFeatures(table.assign(split=parts), empty, empty, empty, looks, 0)


def test_fitting_counts_unknown_test_images_by_diagnosis(model, split_features):
    parts = split_features.table["split"]
    fitted = novelty_detector.fit(model, split_features, "test")
    facts = fitted.fields["novelty"]
    metrics = fitted.metrics["novelty"]
    assert facts.images == (parts == "train").sum()
    assert facts.validation_images == (parts == "validation").sum()
    assert metrics.split == "test"
    assert metrics.unknown["all"].n == (parts == "test").sum()
    by_diagnosis = [metrics.unknown[code] for code in CODES]
    assert sum(count.unknown for count in by_diagnosis) == metrics.unknown["all"].unknown >= 2


def test_a_fitted_detector_knows_the_stated_share_of_validation_images(model, split_features):
    fitted = novelty_detector.fit(model, split_features, "test")
    facts = fitted.fields["novelty"]
    looks = Looks.unpack(fitted.files[NOVELTY_FILE])
    is_validation = split_features.table["split"] == "validation"
    is_known = looks.distances(split_features.looks[is_validation]) <= facts.limit
    assert is_known.mean() == pytest.approx(novelty_detector.KNOWN_SHARE, abs=1 / is_known.sum())
    detector = NoveltyDetector(fitted.files[NOVELTY_FILE], facts)
    black = appearance.measure(np.zeros((3, 64, 64, 3), np.uint8))
    assert [novelty.known for novelty in detector.of(black)] == [False] * 3


def test_the_card_shows_the_share_called_unknown_or_a_missing_detector():
    folder = find_model("isic2019")
    record = read_record(folder)
    shipped = metrics_file.read(folder)
    assert "no novelty detector. Add one: `python -m cadlib index" in render(
        structs.replace(record, novelty=None), shipped
    )
    counts = UnknownCounts(split="test", unknown={"all": UnknownCount(n=400, unknown=9)})
    card = render(record, structs.replace(shipped, novelty=counts, novelty_proof=None))
    assert "| all | 400 | 9 | 2.2 % |" in card
    assert "was not measured. Measure it: `python benchmarks/novelty.py" in card


def test_the_card_shows_no_proof_of_another_fit():
    folder = find_model("isic2019")
    record = read_record(folder)
    figures = metrics_file.read(folder)
    proof = NoveltyProof(
        sha256=record.novelty.sha256,
        corners=0.25,
        damaged={},
        far=FarDetection(
            methods={},
            proof=LimitDetection(n=321, auroc=0.987, fpr=0.02, known_share=0.1),
            kinds={"face": KindDetection(n=8, sources=1, auroc=0.9, fpr=0.5, known_share=0.125)},
        ),
    )
    row = "| face | 1 | 8 | 0.900 | 50.0 % | 87.5 % |"
    assert row in render(record, structs.replace(figures, novelty_proof=proof))
    proof_of_another_fit = structs.replace(proof, sha256="0" * 64)
    assert row not in render(record, structs.replace(figures, novelty_proof=proof_of_another_fit))
