import io
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cadlib.data.dataset import open_dataset
from cadlib.data.swapped_channels import SAMPLE, check_channel_order, warning
from cadlib.images.synthetic import demo_lesions


@pytest.fixture(scope="module")
def lesions() -> list[np.ndarray]:
    return [
        np.asarray(Image.open(io.BytesIO(demo.png())).convert("RGB")) for demo in demo_lesions()
    ]


def folder_of(folder: Path, lesions: list[np.ndarray], swapped: int, right: int) -> pd.DataFrame:
    """Write images, the first `swapped` of them as OpenCV does with RGB pixels, and return their table."""
    folder.mkdir(exist_ok=True)
    for number in range(swapped + right):
        pixels = lesions[number % len(lesions)]
        path = str(folder / f"{number:03}.png")
        if number < swapped:
            cv2.imwrite(path, pixels)
        else:
            Image.fromarray(pixels).save(path)
    paths = sorted(folder.glob("*.png"))
    return pd.DataFrame(
        {"image": [path.stem for path in paths], "path": [str(path) for path in paths]}
    )


@pytest.mark.parametrize(
    ("swapped", "right", "warns"), [(4, 0, True), (3, 1, True), (2, 2, False), (0, 4, False)]
)
def test_warns_of_a_folder_where_most_images_look_swapped(tmp_path, lesions, swapped, right, warns):
    order = check_channel_order(folder_of(tmp_path, lesions, swapped, right))
    assert order.checked == swapped + right
    assert order.swapped == tuple(f"{number:03}" for number in range(swapped))
    assert bool(order.warning) is warns


def test_no_image_gives_no_warning():
    assert warning(0, 0) == ""
    assert check_channel_order(pd.DataFrame({"image": [], "path": []})).warning == ""


def test_a_sample_is_spread_over_a_large_folder(tmp_path, lesions):
    table = folder_of(tmp_path, lesions, swapped=1, right=1)
    large_table = pd.concat([table.iloc[:1]] * 70 + [table.iloc[1:]] * 30, ignore_index=True)
    order = check_channel_order(large_table)
    assert order.checked == SAMPLE
    assert len(order.swapped) / SAMPLE == pytest.approx(0.7, abs=0.03)


def test_a_file_that_cannot_be_read_is_not_counted(tmp_path, lesions):
    table = folder_of(tmp_path, lesions, swapped=2, right=0)
    Path(table["path"][0]).write_bytes(b"no image")
    order = check_channel_order(table)
    assert (order.checked, order.swapped) == (1, ("001",))


def test_a_data_set_with_swapped_channels_has_a_mismatch(tmp_path, lesions):
    folder_of(tmp_path, lesions, swapped=3, right=0)
    (tmp_path / "labels.csv").write_text("image,diagnosis\n000,NV\n001,NV\n002,MEL\n")
    report = open_dataset(tmp_path, verify=False).report
    assert report.count("images with red and blue swapped") == 3
    assert report.channel_order.warning.startswith(
        "Red and blue look swapped in 3 of 3 images checked."
    )


def test_a_data_set_in_order_has_no_mismatch(tmp_path, lesions):
    folder_of(tmp_path, lesions, swapped=0, right=3)
    (tmp_path / "labels.csv").write_text("image,diagnosis\n000,NV\n001,NV\n002,MEL\n")
    assert open_dataset(tmp_path, verify=False).report.mismatches == ()
