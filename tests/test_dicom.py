import json
import subprocess
import sys
from dataclasses import asdict
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom.data
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageCms
from pydicom import Dataset, dcmread, uid
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels import pixel_array
from pydicom.sr._cid_dict import cid_concepts
from pydicom.sr._concepts_dict import concepts

from cadlib.errors import ImageRejected
from cadlib.images import MAX_PIXELS, MIN_SIDE_PX, dicom, is_dicom, read_image, read_size
from cadlib.images.dicom_facts import BODY_PARTS, SITE_CODES, facts_of
from cadlib.patient import SITES, PatientFacts
from cadlib.synthetic import demo_lesions

DERMOSCOPIC = "1.2.840.10008.5.1.4.1.1.77.1.7"
SHIPPED = sorted((Path(pydicom.data.__file__).parent / "test_files").glob("*.dcm"))
SECRET = "SENTINEL"
OPENJPEG = {"encoding_plugin": "pylibjpeg"}


@pytest.fixture(scope="module")
def lesion() -> NDArray[np.uint8]:
    """A drawn lesion of 100 × 80 pixels; shared, so read-only."""
    pixels = np.asarray(Image.fromarray(demo_lesions()[0].pixels).resize((100, 80)))
    pixels.flags.writeable = False
    return pixels


def header(**elements: object) -> Dataset:
    """Return a dermoscopic picture's dataset without pixels."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    dataset.SOPClassUID, dataset.SOPInstanceUID, dataset.Modality = DERMOSCOPIC, "1.2.3", "DMS"
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    return dataset


def drawn(pixels: NDArray[np.integer], photometric: str = "RGB", bits: int = 8, **elements: object) -> Dataset:
    """Return a dataset with uncompressed pixels."""
    dataset = header(**elements)
    dataset.set_pixel_data(np.ascontiguousarray(pixels), photometric, bits)
    return dataset


def written(dataset: Dataset) -> bytes:
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def as_syntax(dataset: Dataset, syntax: uid.UID) -> bytes:
    """Return a file of a dataset, which pydicom writes or packs in a transfer syntax."""
    if syntax == uid.RLELossless:
        dataset.compress(syntax, encoding_plugin="pydicom")
    elif syntax == uid.JPEG2000Lossless:
        dataset.compress(syntax, **OPENJPEG)
    elif syntax == uid.JPEG2000:
        dataset.compress(syntax, j2k_cr=[8], **OPENJPEG)
    else:
        dataset.file_meta.TransferSyntaxUID = syntax
    return written(dataset)


def jpeg_packed(pixels: NDArray[np.uint8], photometric: str = "YBR_FULL_422") -> Dataset:
    """Return a dataset whose picture is a JPEG that Pillow wrote."""
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=95)
    dataset = drawn(pixels)
    dataset.PixelData = encapsulate([buffer.getvalue()])
    dataset["PixelData"].VR = "OB"
    dataset.PhotometricInterpretation = photometric
    dataset.file_meta.TransferSyntaxUID = uid.JPEGBaseline8Bit
    return dataset


# What is read


@pytest.mark.parametrize(
    "syntax",
    [
        uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian, uid.DeflatedExplicitVRLittleEndian, uid.RLELossless,
        uid.JPEG2000Lossless,
    ],
    ids=lambda syntax: syntax.name,
)  # fmt: skip
def test_reads_each_lossless_syntax_pixel_for_pixel(lesion: NDArray[np.uint8], syntax: uid.UID) -> None:
    image = read_image(as_syntax(drawn(lesion), syntax))
    assert np.array_equal(image.pixels, lesion)
    assert (image.format, image.notes) == ("DICOM", ())


def test_reads_a_lossy_jpeg_2000_closely(lesion: NDArray[np.uint8]) -> None:
    pixels = read_image(as_syntax(drawn(lesion), uid.JPEG2000)).pixels
    assert np.abs(pixels.astype(int) - lesion).mean() < 4


def test_reads_a_jpeg_as_pillow_decodes_it(lesion: NDArray[np.uint8]) -> None:
    dataset = jpeg_packed(lesion)
    buffer = BytesIO()
    Image.fromarray(lesion).save(buffer, "JPEG", quality=95)
    assert np.abs(read_image(written(dataset)).pixels.astype(int) - np.asarray(Image.open(buffer))).max() <= 2


PICTURES = {
    path.name: path for path in SHIPPED
    if path.name.startswith(("SC_rgb", "SC_jpeg", "SC_ybr", "examples_", "CT_", "MR_small", "693", "GDCMJ2K", "image_dfl"))
}  # fmt: skip
REFUSED = {
    "SC_rgb_jls_lossy_line.dcm": "JPEG-LS",
    "SC_rgb_jls_lossy_sample.dcm": "JPEG-LS",
    "MR_small_jpeg_ls_lossless.dcm": "JPEG-LS",
    "SC_rgb_rle_16bit_2frame.dcm": "holds 2 pictures",
    "SC_rgb_rle_2frame.dcm": "holds 2 pictures",
    "SC_rgb_rle_32bit.dcm": "32 bits",
    "SC_rgb_rle_32bit_2frame.dcm": "holds 2 pictures",
    "SC_rgb_small_odd.dcm": "3 × 3 pixels",
    "SC_rgb_small_odd_big_endian.dcm": "3 × 3 pixels",
    "SC_rgb_small_odd_jpeg.dcm": "3 × 3 pixels",
    "SC_rgb_jpeg_dcmd.dcm": "incomplete or damaged",  # a JPEG that the header calls uncompressed
    "examples_ybr_color.dcm": "holds 30 pictures",
    "reportsi.dcm": "Basic Text SR Storage",
    "rtplan.dcm": "RT Plan Storage",
    "rtdose.dcm": "holds 15 pictures",
    "waveform_ecg.dcm": "12-lead ECG Waveform Storage",
    "JPGExtended.dcm": "16 bits",
    "no_meta.dcm": "not known here",
}


@pytest.mark.parametrize("name", sorted(PICTURES.keys() - REFUSED.keys()))
def test_reads_the_pictures_that_pydicom_ships(name: str) -> None:
    image = read_image(PICTURES[name])
    assert image.format == "DICOM"
    assert (image.width_px, image.height_px) == read_size(PICTURES[name])


@pytest.mark.parametrize("name", [name for name in sorted(PICTURES.keys() - REFUSED.keys()) if name.startswith("SC_")])
def test_colours_are_those_that_pydicom_gives(name: str) -> None:
    reference = pixel_array(PICTURES[name], **({} if "gdcm.dcm" not in name or "lossy" in name else {}))\
        if name != "SC_rgb_jpeg_gdcm.dcm" else None
    if reference is None:
        pytest.skip("no other decoder of lossless JPEG is installed")
    reference = reference >> 8 if reference.dtype == np.uint16 else reference
    assert np.array_equal(read_image(PICTURES[name]).pixels, reference)


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_refuses_what_is_no_single_picture_in_a_sentence(name: str) -> None:
    path = next(path for path in SHIPPED if path.name == name)
    with pytest.raises(ImageRejected, match=REFUSED[name]) as told:
        read_image(path)
    assert str(told.value).startswith(name)
    assert "Expected" in str(told.value)
