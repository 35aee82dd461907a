import csv
import io
import os
import subprocess
import sys
from pathlib import Path

import imagehash
import numpy as np
import pytest
from PIL import Image

from cadlib import taxonomy
from cadlib.images import synthetic

SMALL_PX = 96


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return synthetic.write_dataset(
        tmp_path_factory.mktemp("synthetic"), per_class=3, size_px=SMALL_PX
    )


def read_rows(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("code", taxonomy.CODES)
def test_every_class_is_drawn_as_a_lesion_on_lighter_skin(code):
    pixels = synthetic.render_lesion(code, seed=0, size_px=SMALL_PX).astype(float)
    third = SMALL_PX // 3
    centre = pixels[third : 2 * third, third : 2 * third].reshape(-1, 3)
    corners = np.concatenate([pixels[:10, :10], pixels[:10, -10:]]).reshape(-1, 3)
    assert corners.mean(axis=0).min() > 120
    assert np.abs(centre.mean(axis=0) - corners.mean(axis=0)).max() > 15
    assert centre.std(axis=0).max() > 4


def test_an_image_is_read_only_uint8_rgb_of_the_requested_size():
    pixels = synthetic.render_lesion("NV", seed=5, size_px=80)
    assert (pixels.shape, pixels.dtype, pixels.flags.writeable) == ((80, 80, 3), np.uint8, False)


def test_a_fresh_interpreter_draws_the_same_bits():
    script = (
        "import hashlib; from cadlib.images.synthetic import render_lesion; "
        "print(hashlib.sha256(render_lesion('BCC', 3, 96).tobytes()).hexdigest())"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", script], check=True, capture_output=True, text=True,
            cwd=Path(synthetic.__file__).parents[3], env={**os.environ, "PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2")
    }  # fmt: skip
    assert len(digests) == 1


def test_drawing_one_picture_does_not_change_the_next():
    first = synthetic.render_lesion("SCC", 1, SMALL_PX)
    synthetic.render_lesion("MEL", 9, 64)
    assert np.array_equal(first, synthetic.render_lesion("SCC", 1, SMALL_PX))


def test_another_seed_and_another_class_draw_another_picture():
    pictures = [
        synthetic.render_lesion("NV", 1, SMALL_PX),
        synthetic.render_lesion("NV", 2, SMALL_PX),
        synthetic.render_lesion("DF", 1, SMALL_PX),
    ]
    for i in range(3):
        assert np.abs(pictures[i].astype(float) - pictures[i - 1]).mean() > 3


@pytest.mark.parametrize("code", ["MEL", "VASC", "BKL"])
def test_a_lesion_keeps_its_form_at_another_size(code):
    large = Image.fromarray(synthetic.render_lesion(code, 4, 300)).reduce(5)
    small = Image.fromarray(synthetic.render_lesion(code, 4, 120)).reduce(2)
    assert np.abs(np.asarray(large, dtype=float) - np.asarray(small, dtype=float)).mean() < 3


def test_refuses_an_unknown_code_a_negative_seed_and_a_tiny_side():
    with pytest.raises(ValueError, match="MEL, NV"):
        synthetic.render_lesion("UNK", 0)
    with pytest.raises(ValueError, match="seed"):
        synthetic.render_lesion("NV", -1)
    with pytest.raises(ValueError, match="at least 16"):
        synthetic.render_lesion("NV", 0, 15)


def test_demo_lesions_show_every_class_and_are_marked_as_synthetic():
    lesions = synthetic.demo_lesions()
    assert 8 <= len(lesions) <= 12
    assert {lesion.code for lesion in lesions} == set(taxonomy.CODES)
    assert all(lesion.name.startswith(f"synthetic_{lesion.code}_") for lesion in lesions)
    assert len({lesion.name for lesion in lesions}) == len(lesions)


def test_the_png_of_a_demo_lesion_holds_exactly_its_pixels():
    lesion = synthetic.demo_lesions()[0]
    with Image.open(io.BytesIO(lesion.png())) as image:
        assert image.format == "PNG"
        assert np.array_equal(np.asarray(image), lesion.pixels)


def test_the_data_set_has_the_official_columns(folder):
    truth = read_rows(folder / "ISIC_2019_Training_GroundTruth.csv")
    patients = read_rows(folder / "ISIC_2019_Training_Metadata.csv")
    assert list(truth[0]) == ["image", "MEL", "NV", "BCC", "AK", "BKL", "DF", "VASC", "SCC", "UNK"]
    assert list(patients[0]) == ["image", "age_approx", "anatom_site_general", "lesion_id", "sex"]


def test_every_row_of_the_data_set_has_one_label_and_one_image(folder):
    truth = read_rows(folder / "ISIC_2019_Training_GroundTruth.csv")
    files = {path.stem for path in (folder / "ISIC_2019_Training_Input").glob("ISIC_9??????.jpg")}
    assert {row["image"] for row in truth} == files
    assert len(files) == 3 * len(taxonomy.CODES)
    for code in taxonomy.CODES:
        assert sum(float(row[code]) for row in truth) == 3
    assert all(sum(float(row[code]) for code in (*taxonomy.CODES, "UNK")) == 1 for row in truth)


def test_some_lesions_have_two_images_of_one_diagnosis_and_one_patient(folder):
    truth = {row["image"]: row for row in read_rows(folder / "ISIC_2019_Training_GroundTruth.csv")}
    lesions = {}
    for row in read_rows(folder / "ISIC_2019_Training_Metadata.csv"):
        if row["lesion_id"]:
            lesions.setdefault(row["lesion_id"], []).append(row)
    pairs = [rows for rows in lesions.values() if len(rows) == 2]
    assert len(pairs) == len(taxonomy.CODES)
    for first, second in pairs:
        labels = [
            {k: v for k, v in truth[row["image"]].items() if k != "image"}
            for row in (first, second)
        ]
        assert labels[0] == labels[1]
        assert all(
            first[key] == second[key] for key in ("age_approx", "sex", "anatom_site_general")
        )


def test_metadata_has_all_three_archives_and_gaps_as_the_official_table(folder):
    rows = read_rows(folder / "ISIC_2019_Training_Metadata.csv")
    assert {row["lesion_id"].split("_")[0] for row in rows} == {"HAM", "BCN", "MSK4", ""}
    for column in ("age_approx", "sex", "anatom_site_general"):
        assert 0 < sum(not row[column] for row in rows) < len(rows) / 2


def test_no_two_images_of_the_data_set_are_near_duplicates_by_hash(folder):
    hashes = []
    for path in sorted((folder / "ISIC_2019_Training_Input").iterdir()):
        with Image.open(path) as image:
            hashes.append(imagehash.phash(image))
    assert min(a - b for i, a in enumerate(hashes) for b in hashes[:i]) > 4


def test_the_same_seed_writes_the_same_files_and_another_seed_other_lesions(tmp_path):
    def write(name, seed):
        root = synthetic.write_dataset(tmp_path / name, per_class=1, seed=seed, size_px=48)
        return {path.name: path.read_bytes() for path in root.rglob("*") if path.is_file()}

    first = write("first", 0)
    same_seed = write("again", 0)
    other_seed = write("other", 1)
    assert first == same_seed
    assert first.keys() == other_seed.keys()
    assert all(first[name] != other_seed[name] for name in first if name.endswith(".jpg"))
