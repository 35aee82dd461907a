import pytest

from cadlib.data.subsets import Subset
from cadlib.errors import DatasetInvalid
from cadlib.evaluation.evaluate import data_facts
from cadlib.evaluation.image_selection import ALL, Part
from cadlib.metrics.summary_schema import SubsetFacts
from cadlib.model.record import read_record


@pytest.fixture
def half(drawn_dataset):
    """Return the first half of the drawn lesions: of each four two to train on, then validation, then test."""
    return Subset(
        "half", "drawn", tuple(drawn_dataset.table["image"][:16]), "the first four diagnoses"
    )


@pytest.fixture
def record(drawn_model_folder):
    return read_record(drawn_model_folder)


def test_a_part_is_the_common_images_of_split_and_subset(
    drawn_model_folder, record, drawn_dataset, half
):
    images = drawn_dataset.table["image"].tolist()
    expected = {
        ALL: images,
        Part("test"): images[3::4],
        Part("train"): [image for row, image in enumerate(images) if row % 4 < 2],
        Part(subset=half): images[:16],
        Part("test", half): images[3:16:4],
    }
    for part, expected_images in expected.items():
        assert (
            part.of(drawn_model_folder, record, drawn_dataset).table["image"].tolist()
            == expected_images
        )


def test_describes_the_selection_and_its_part_in_training(
    drawn_model_folder, record, drawn_dataset, half
):
    def description(part):
        return part.named, *part.role(
            drawn_model_folder, record, part.of(drawn_model_folder, record, drawn_dataset)
        )

    without = "These images were not used for training, calibration or thresholds."
    assert description(Part("test")) == ("the test split", without, False)
    assert description(Part("test", half)) == (
        "the subset “half” within the test split",
        without,
        False,
    )
    for part in (Part("train"), Part("train", half)):
        assert description(part)[1:] == (
            "The model was trained on these images, so these results are too optimistic.",
            True,
        )
    name, role, flattered = description(Part(subset=half))
    assert (name, flattered) == ("the subset “half”", True)
    assert role.startswith("8 of these images were used for training and 4 for choosing the model")
    assert description(ALL)[0] == "all images"


def test_metrics_json_names_split_and_subset(half, drawn_dataset):
    assert ALL.subset_facts is None
    assert Part("test", half).subset_facts == SubsetFacts(name="half", sha256=half.sha256)
    facts = data_facts(drawn_dataset, 4, Part("test", half))
    assert (facts.split, facts.subset.name, facts.images) == ("test", "half", 4)


def test_a_split_and_a_subset_that_share_no_image_are_both_named(
    drawn_model_folder, record, drawn_dataset
):
    trained = Subset(
        "learnt", "drawn", tuple(drawn_dataset.table["image"][::4]), "the first of each diagnosis"
    )
    with pytest.raises(
        DatasetInvalid,
        match=r"test split of isic2019 in the subset learnt but none of its 8 .* choose",
    ):
        Part("test", trained).of(drawn_model_folder, record, drawn_dataset)


def test_data_outside_the_split_is_reported(drawn_dataset, model):
    from cadlib.model.record import find_model

    with pytest.raises(DatasetInvalid, match="give the data set it was trained on"):
        Part("test").of(find_model("isic2019"), model.record, drawn_dataset)
