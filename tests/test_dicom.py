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
from pydicom.sr._cid_dict import cid_concepts
from pydicom.sr._concepts_dict import concepts

from cadlib.errors import ImageRejected
from cadlib.images import MAX_PIXELS, MIN_SIDE_PX, is_dicom, read_image, read_size
from cadlib.images.dicom import frames
from cadlib.images.dicom.patient_facts import BODY_PARTS, SITE_CODES, facts_of
from cadlib.images.patient import COARSE_SITES, SITES, PatientFacts
from cadlib.images.synthetic import demo_lesions

DERMOSCOPIC = "1.2.840.10008.5.1.4.1.1.77.1.7"
SHIPPED = sorted((Path(pydicom.data.__file__).parent / "test_files").glob("*.dcm"))
SECRET = "SENTINEL"
OPENJPEG = {"encoding_plugin": "pylibjpeg", "generate_instance_uid": False}


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
    dataset.SOPClassUID = DERMOSCOPIC
    dataset.SOPInstanceUID = "1.2.3"
    dataset.Modality = "DMS"
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    return dataset


def dataset_of(
    pixels: NDArray[np.integer], photometric: str = "RGB", bits: int = 8, **elements: object
) -> Dataset:
    """Return a dataset with uncompressed pixels."""
    dataset = header(**elements)
    dataset.set_pixel_data(
        np.ascontiguousarray(pixels), photometric, bits, generate_instance_uid=False
    )
    return dataset


def file_of(dataset: Dataset) -> bytes:
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def as_syntax(dataset: Dataset, syntax: uid.UID) -> bytes:
    """Return a file of a dataset, which pydicom writes or packs in a transfer syntax."""
    if syntax == uid.RLELossless:
        dataset.compress(syntax, encoding_plugin="pydicom", generate_instance_uid=False)
    elif syntax == uid.JPEG2000Lossless:
        dataset.compress(syntax, **OPENJPEG)
    elif syntax == uid.JPEG2000:
        dataset.compress(syntax, j2k_cr=[8], **OPENJPEG)
    else:
        dataset.file_meta.TransferSyntaxUID = syntax
    return file_of(dataset)


def jpeg_packed(pixels: NDArray[np.uint8], photometric: str = "YBR_FULL_422") -> Dataset:
    """Return a dataset whose picture is a JPEG that Pillow wrote."""
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=95)
    dataset = dataset_of(pixels)
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
def test_reads_each_lossless_syntax_pixel_for_pixel(
    lesion: NDArray[np.uint8], syntax: uid.UID
) -> None:
    image = read_image(as_syntax(dataset_of(lesion), syntax))
    assert np.array_equal(image.pixels, lesion)
    assert (image.format, image.notes) == ("DICOM", ())


def test_reads_a_lossy_jpeg_2000_closely(lesion: NDArray[np.uint8]) -> None:
    pixels = read_image(as_syntax(dataset_of(lesion), uid.JPEG2000)).pixels
    assert np.abs(pixels.astype(int) - lesion).mean() < 4


def test_reads_a_jpeg_as_pillow_decodes_it(lesion: NDArray[np.uint8]) -> None:
    dataset = jpeg_packed(lesion)
    buffer = BytesIO()
    Image.fromarray(lesion).save(buffer, "JPEG", quality=95)
    assert (
        np.abs(
            read_image(file_of(dataset)).pixels.astype(int) - np.asarray(Image.open(buffer))
        ).max()
        <= 2
    )


PICTURES = {
    path.name: path
    for path in SHIPPED
    if path.name.startswith(("SC_", "examples_", "CT_", "MR_small", "693", "GDCMJ2K", "image_dfl"))
}
REFUSED = {
    "SC_rgb_jls_lossy_line.dcm": "JPEG-LS",
    "SC_rgb_jls_lossy_sample.dcm": "JPEG-LS",
    "MR_small_jpeg_ls_lossless.dcm": "JPEG-LS",
    "SC_rgb_rle_16bit_2frame.dcm": "contains 2 images",
    "SC_rgb_rle_2frame.dcm": "contains 2 images",
    "SC_rgb_rle_32bit.dcm": "32 bits",
    "SC_rgb_rle_32bit_2frame.dcm": "contains 2 images",
    "SC_rgb_small_odd.dcm": "3 × 3 px",
    "SC_rgb_small_odd_big_endian.dcm": "3 × 3 px",
    "SC_rgb_small_odd_jpeg.dcm": "3 × 3 px",
    "examples_ybr_color.dcm": "contains 30 images",
    "reportsi.dcm": "Basic Text SR Storage",
    "rtplan.dcm": "RT Plan Storage",
    "rtdose.dcm": "contains 15 images",
    "waveform_ecg.dcm": "12-lead ECG Waveform Storage",
    "JPGExtended.dcm": "16 bits",
    "no_meta.dcm": "unknown format",
}


@pytest.mark.parametrize("name", sorted(PICTURES.keys() - REFUSED.keys()))
def test_reads_the_pictures_that_pydicom_ships(name: str) -> None:
    image = read_image(PICTURES[name])
    assert image.format == "DICOM"
    assert (image.width_px, image.height_px) == read_size(PICTURES[name])


# No decoder that pydicom knows for lossless JPEG is installed: its picture is that of the file it was made of.
@pytest.mark.parametrize(
    "name", sorted(name for name in PICTURES.keys() - REFUSED.keys() if name.startswith("SC_"))
)
def test_colours_are_those_that_pydicom_gives(name: str) -> None:
    made_of = {"SC_rgb_jpeg_gdcm.dcm": "SC_rgb_rle.dcm"}.get(name, name)
    reference = dcmread(PICTURES[made_of]).pixel_array
    reference = reference >> 8 if reference.dtype == np.uint16 else reference
    assert np.array_equal(read_image(PICTURES[name]).pixels, reference)


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_refuses_what_is_no_single_picture_in_a_sentence(name: str) -> None:
    path = next(path for path in SHIPPED if path.name == name)
    with pytest.raises(ImageRejected, match=REFUSED[name]) as error:
        read_image(path)
    assert str(error.value).startswith(name)
    assert "Expected" in str(error.value)


# Grey, palette, depth, colour profile


@pytest.mark.parametrize(
    ("photometric", "expected"), [("MONOCHROME2", [0, 128, 255]), ("MONOCHROME1", [255, 127, 0])]
)
def test_grey_of_8_bits_is_taken_as_it_is(photometric: str, expected: list[int]) -> None:
    image = read_image(file_of(dataset_of(ramp([0, 128, 255], np.uint8), photometric)))
    assert image.pixels[0, [0, 30, 60], 0].tolist() == expected
    assert image.notes == ("The image is greyscale; it has no colour.",)


def ramp(values: list[int], dtype: type) -> NDArray[np.integer]:
    """Return three stripes, 30 px wide, 70 high."""
    return np.repeat(np.array(values, dtype)[None], 70, axis=0).repeat(30, axis=1)


def test_grey_goes_through_rescale_and_window() -> None:
    # In PS3.3 C.11.2.1.2 a window of centre 40, width 401 runs from -160 to 240.
    stored = ramp([1024 - 160, 1024 + 40, 1024 + 240], np.uint16)
    window = {"RescaleSlope": 1, "RescaleIntercept": -1024, "WindowCenter": 40, "WindowWidth": 401}
    image = read_image(file_of(dataset_of(stored, "MONOCHROME2", 12, **window)))
    assert np.abs(image.pixels[0, [0, 30, 60], 0].astype(int) - [0, 128, 255]).max() <= 1
    assert image.notes[0] == "The grey values were read through the window that the file names."


def test_signed_grey_runs_from_black_to_white() -> None:
    image = read_image(file_of(dataset_of(ramp([-32768, 0, 32767], np.int16), "MONOCHROME2", 16)))
    assert image.pixels[0, [0, 30, 60], 0].tolist() == [0, 128, 255]


def test_a_window_without_width_is_refused() -> None:
    with pytest.raises(ImageRejected, match="damaged"):
        read_image(
            file_of(
                dataset_of(
                    ramp([0, 9, 99], np.uint16), "MONOCHROME2", 12, WindowCenter=40, WindowWidth=0
                )
            )
        )


def test_a_palette_becomes_its_colours() -> None:
    lut = {}
    for colour, values in {"Red": [0, 200, 10], "Green": [0, 100, 20], "Blue": [0, 50, 30]}.items():
        lut[f"{colour}PaletteColorLookupTableDescriptor"] = [3, 0, 16]
        lut[f"{colour}PaletteColorLookupTableData"] = (np.array(values, "<u2") << 8).tobytes()
    image = read_image(file_of(dataset_of(ramp([0, 1, 2], np.uint8), "PALETTE COLOR", **lut)))
    assert image.pixels[0, [0, 30, 60]].tolist() == [[0, 0, 0], [200, 100, 50], [10, 20, 30]]


def test_colour_of_16_bits_is_reduced(lesion: NDArray[np.uint8]) -> None:
    image = read_image(file_of(dataset_of(lesion.astype(np.uint16) * 257, bits=16)))
    assert np.array_equal(image.pixels, lesion)
    assert image.notes == ("The image was reduced from 16 to 8 bits a channel.",)


def test_colours_by_plane_are_put_together(lesion: NDArray[np.uint8]) -> None:
    dataset = dataset_of(lesion)
    dataset.PlanarConfiguration = 1
    dataset.PixelData = lesion.transpose(2, 0, 1).tobytes()
    assert np.array_equal(read_image(file_of(dataset)).pixels, lesion)


def test_the_colour_profile_is_used(lesion: NDArray[np.uint8]) -> None:
    swapped = (
        ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes().replace(b"rXYZ", b"tmpX")
    )
    profile = swapped.replace(b"bXYZ", b"rXYZ").replace(b"tmpX", b"bXYZ")  # its red is blue
    image = read_image(file_of(dataset_of(lesion, ICCProfile=profile)))
    assert np.abs(image.pixels[..., ::-1].astype(int) - lesion).max() <= 2
    assert image.notes == ("The colours were converted to sRGB by the colour profile of the file.",)


@pytest.mark.parametrize(
    ("space", "moved", "note"),
    [
        ("SRGB", False, None), ("ADOBERGB", True, "converted to sRGB"), ("DISPLAYP3", True, "converted to sRGB"),
        ("ROMMRGB", False, "not supported here"),
    ],
)  # fmt: skip
def test_the_named_colour_space_is_used_or_noted(
    lesion: NDArray[np.uint8], space: str, moved: bool, note: str | None
) -> None:
    image = read_image(file_of(dataset_of(lesion, ColorSpace=space)))
    assert np.array_equal(image.pixels, lesion) != moved
    assert (image.notes == ()) if note is None else (note in image.notes[0])


@pytest.mark.parametrize(("modality", "n_notes"), [("DMS", 0), ("XC", 0), ("CT", 1), (SECRET, 1)])
def test_another_modality_is_noted(lesion: NDArray[np.uint8], modality: str, n_notes: int) -> None:
    notes = read_image(file_of(dataset_of(lesion, Modality=modality))).notes
    assert [("not a photograph of skin" in note) for note in notes] == [True] * n_notes


# Statements that contradict each other


def repacked(dataset: Dataset, frame: bytes, syntax: uid.UID, photometric: str) -> bytes:
    """Return a file whose pixel data are a codestream, independent of its former header."""
    dataset.PixelData = encapsulate([frame])
    dataset["PixelData"].VR = "OB"
    dataset.PhotometricInterpretation = photometric
    dataset.file_meta.TransferSyntaxUID = syntax
    return file_of(dataset)


def jpeg_of(pixels: NDArray[np.uint8], **options: object) -> bytes:
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=95, **options)
    return buffer.getvalue()


def without_marker(jpeg: bytes) -> bytes:
    """Return a JPEG without the segment of JFIF or Adobe, which states how its colours are stored."""
    assert jpeg[2:4] in (b"\xff\xe0", b"\xff\xee")
    return jpeg[:2] + jpeg[4 + int.from_bytes(jpeg[4:6], "big") :]


@pytest.mark.parametrize("subsampling", ["4:2:0", "4:2:2"])
def test_rgb_of_the_header_does_not_hide_that_a_jpeg_has_chroma(
    lesion: NDArray[np.uint8], subsampling: str
) -> None:
    frame = without_marker(jpeg_of(lesion, subsampling=subsampling))
    image = read_image(repacked(dataset_of(lesion), frame, uid.JPEGBaseline8Bit, "RGB"))
    assert np.abs(image.pixels.astype(int) - np.asarray(Image.open(BytesIO(frame)))).max() <= 2
    assert image.notes == (frames.OTHER_COLOURS,)


def test_rgb_of_the_header_does_not_hide_that_a_jpeg_is_jfif(lesion: NDArray[np.uint8]) -> None:
    frame = jpeg_of(lesion, subsampling="4:4:4")
    image = read_image(repacked(dataset_of(lesion), frame, uid.JPEGBaseline8Bit, "RGB"))
    assert np.abs(image.pixels.astype(int) - lesion).max() < 30
    assert image.notes == (frames.OTHER_COLOURS,)


def test_ybr_of_the_header_does_not_hide_that_a_jpeg_is_rgb(lesion: NDArray[np.uint8]) -> None:
    frame = jpeg_of(lesion, keep_rgb=True)
    image = read_image(repacked(dataset_of(lesion), frame, uid.JPEGBaseline8Bit, "YBR_FULL"))
    assert np.array_equal(image.pixels, np.asarray(Image.open(BytesIO(frame))))
    assert image.notes == (frames.OTHER_COLOURS,)


@pytest.mark.parametrize(("photometric", "keep_rgb"), [("RGB", True), ("YBR_FULL", False)])
def test_a_jpeg_without_markers_has_the_colours_of_the_header(
    lesion: NDArray[np.uint8], photometric: str, keep_rgb: bool
) -> None:
    jpeg = jpeg_of(lesion, subsampling="4:4:4", keep_rgb=keep_rgb)
    # Pillow names the components of RGB so; 1, 2 and 3 say nothing.
    bare = without_marker(jpeg)
    for at, (letter, number) in enumerate(zip(b"RGB", (1, 2, 3), strict=True)):
        frame_at = bare.index(b"\xff\xc0") + 10 + 3 * at
        scan_at = bare.index(b"\xff\xda") + 5 + 2 * at
        for place in (frame_at, scan_at):
            assert bare[place] in (letter, number)
            bare = bare[:place] + bytes([number]) + bare[place + 1 :]
    image = read_image(repacked(dataset_of(lesion), bare, uid.JPEGBaseline8Bit, photometric))
    assert np.abs(image.pixels.astype(int) - np.asarray(Image.open(BytesIO(jpeg)))).max() <= 2
    assert image.notes == ()


@pytest.mark.parametrize("photometric", ["RGB", "YBR_FULL", "YBR_RCT"])
@pytest.mark.parametrize("transform", [True, False])
def test_jpeg_2000_has_the_colours_of_its_codestream(
    lesion: NDArray[np.uint8], photometric: str, transform: bool
) -> None:
    stored = (
        np.asarray(Image.fromarray(lesion).convert("YCbCr"))
        if photometric == "YBR_FULL" and not transform
        else lesion
    )
    buffer = BytesIO()
    Image.fromarray(np.ascontiguousarray(stored)).save(
        buffer, "JPEG2000", no_jp2=True, mct=int(transform)
    )
    image = read_image(
        repacked(dataset_of(lesion), buffer.getvalue(), uid.JPEG2000Lossless, photometric)
    )
    assert np.abs(image.pixels.astype(int) - lesion).max() <= 3
    contradicts = (photometric, transform) in {("YBR_FULL", True), ("YBR_RCT", False)}
    assert image.notes == ((frames.OTHER_COLOURS,) if contradicts else ())


@pytest.mark.parametrize("pack", ["native", "rle"])
def test_native_pixels_of_full_length_are_no_half_chroma(
    lesion: NDArray[np.uint8], pack: str
) -> None:
    ybr = np.asarray(Image.fromarray(lesion).convert("YCbCr"))
    dataset = dataset_of(ybr)
    if pack == "rle":
        dataset.compress(uid.RLELossless, encoding_plugin="pydicom", generate_instance_uid=False)
    dataset.PhotometricInterpretation = "YBR_FULL_422"
    image = read_image(file_of(dataset))
    assert np.abs(image.pixels.astype(int) - lesion).max() <= 3
    assert image.notes == ((frames.FULL_CHROMA,) if pack == "native" else ())


@pytest.mark.parametrize("stated_bits", [8, 16])
def test_palette_entries_of_8_bits_in_words_of_16(stated_bits: int) -> None:
    lut = {}
    for colour, values in {"Red": [0, 200, 10], "Green": [0, 100, 20], "Blue": [0, 50, 30]}.items():
        lut[f"{colour}PaletteColorLookupTableDescriptor"] = [3, 0, stated_bits]
        lut[f"{colour}PaletteColorLookupTableData"] = np.array(values, "<u2").tobytes()
    image = read_image(file_of(dataset_of(ramp([0, 1, 2], np.uint8), "PALETTE COLOR", **lut)))
    assert image.pixels[0, [0, 30, 60]].tolist() == [[0, 0, 0], [200, 100, 50], [10, 20, 30]]
    assert image.notes == ((frames.SMALL_PALETTE,) if stated_bits == 16 else ())


def test_palette_entries_of_8_bits_are_packed_and_padded() -> None:
    lut = {}
    for colour, values in {"Red": [0, 200, 10], "Green": [0, 100, 20], "Blue": [0, 50, 30]}.items():
        lut[f"{colour}PaletteColorLookupTableDescriptor"] = [3, 1, 8]
        lut[f"{colour}PaletteColorLookupTableData"] = bytes([*values, 0])
    image = read_image(file_of(dataset_of(ramp([0, 2, 9], np.uint8), "PALETTE COLOR", **lut)))
    assert image.pixels[0, [0, 30, 60]].tolist() == [[0, 0, 0], [200, 100, 50], [10, 20, 30]]


def test_a_palette_shorter_than_it_states_is_refused() -> None:
    lut = {}
    for colour in ("Red", "Green", "Blue"):
        lut[f"{colour}PaletteColorLookupTableDescriptor"] = [30, 0, 8]
        lut[f"{colour}PaletteColorLookupTableData"] = bytes(20)
    with pytest.raises(ImageRejected, match="damaged"):
        read_image(file_of(dataset_of(ramp([0, 1, 2], np.uint8), "PALETTE COLOR", **lut)))


def test_a_packed_palette_is_not_supported() -> None:
    lut = {}
    for colour in ("Red", "Green", "Blue"):
        lut[f"{colour}PaletteColorLookupTableDescriptor"] = [3, 0, 16]
        lut[f"Segmented{colour}PaletteColorLookupTableData"] = bytes(10)
    with pytest.raises(ImageRejected, match="not supported here"):
        read_image(file_of(dataset_of(ramp([0, 1, 2], np.uint8), "PALETTE COLOR", **lut)))


@pytest.mark.parametrize("pack", ["native", "rle"])
def test_values_above_the_stated_depth_are_refused(pack: str) -> None:
    dataset = dataset_of(ramp([0, 100, 4000], np.uint16), "MONOCHROME2", 16)
    if pack == "rle":
        dataset.compress(uid.RLELossless, encoding_plugin="pydicom", generate_instance_uid=False)
    dataset.BitsStored = 8
    dataset.HighBit = 7
    with pytest.raises(ImageRejected, match="contradicts itself: its header states 8 bits"):
        read_image(file_of(dataset))


def test_bits_at_the_high_end_of_their_words_are_not_supported() -> None:
    dataset = dataset_of(ramp([0, 16, 4080], np.uint16), "MONOCHROME2", 12)
    dataset.HighBit = 15
    with pytest.raises(ImageRejected, match="not supported here"):
        read_image(file_of(dataset))


def test_a_depth_other_than_that_of_the_codestream_is_noted(lesion: NDArray[np.uint8]) -> None:
    buffer = BytesIO()
    Image.fromarray(lesion[..., 0]).save(buffer, "JPEG2000", no_jp2=True)
    dataset = dataset_of(lesion[..., 0].astype(np.uint16) << 4, "MONOCHROME2", 12)
    image = read_image(repacked(dataset, buffer.getvalue(), uid.JPEG2000Lossless, "MONOCHROME2"))
    assert np.array_equal(image.pixels[..., 0], lesion[..., 0])
    assert image.notes[0] == frames.OTHER_DEPTH


@pytest.mark.parametrize("syntax", [uid.JPEGBaseline8Bit, uid.JPEG2000Lossless])
def test_a_number_of_channels_other_than_the_codestreams_is_refused(
    lesion: NDArray[np.uint8], syntax: uid.UID
) -> None:
    buffer = BytesIO()
    kind = (
        {"format": "JPEG"}
        if syntax == uid.JPEGBaseline8Bit
        else {"format": "JPEG2000", "no_jp2": True}
    )
    Image.fromarray(lesion[..., 0]).save(buffer, **kind)
    with pytest.raises(ImageRejected, match="differ in the number of channels"):
        read_image(repacked(dataset_of(lesion), buffer.getvalue(), syntax, "RGB"))


@pytest.mark.parametrize("syntax", [uid.JPEGBaseline8Bit, uid.JPEG2000Lossless])
def test_a_codestream_of_another_kind_than_stated_is_refused(
    lesion: NDArray[np.uint8], syntax: uid.UID
) -> None:
    buffer = BytesIO()
    kind = (
        {"format": "JPEG2000", "no_jp2": True}
        if syntax == uid.JPEGBaseline8Bit
        else {"format": "JPEG"}
    )
    Image.fromarray(lesion).save(buffer, **kind)
    with pytest.raises(ImageRejected, match="contradicts itself"):
        read_image(repacked(dataset_of(lesion), buffer.getvalue(), syntax, "YBR_FULL"))


def test_zeros_behind_the_pixels_are_noted(lesion: NDArray[np.uint8]) -> None:
    dataset = dataset_of(lesion)
    dataset.PixelData += bytes(100)
    image = read_image(file_of(dataset))
    assert np.array_equal(image.pixels, lesion)
    assert image.notes == (frames.PADDED,)


def test_more_pixels_than_the_header_states_are_refused(lesion: NDArray[np.uint8]) -> None:
    dataset = dataset_of(lesion)
    dataset.Rows = 70
    with pytest.raises(ImageRejected, match="longer than its header states"):
        read_image(file_of(dataset))


def test_colours_without_an_arrangement_are_not_supported(lesion: NDArray[np.uint8]) -> None:
    dataset = dataset_of(lesion)
    del dataset.PlanarConfiguration
    with pytest.raises(ImageRejected, match="does not say how its channels are arranged"):
        read_image(file_of(dataset))


@pytest.mark.parametrize("bits", [12, 16])
def test_a_jpeg_of_more_than_8_bits_is_not_supported(lesion: NDArray[np.uint8], bits: int) -> None:
    frame = bytearray(jpeg_of(lesion[..., 0]))
    frame[frame.index(b"\xff\xc0") + 4] = bits
    dataset = dataset_of(lesion[..., 0], "MONOCHROME2")
    with pytest.raises(ImageRejected, match=f"{bits} bits a channel, which is not supported here"):
        read_image(repacked(dataset, bytes(frame), uid.JPEGExtended12Bit, "MONOCHROME2"))


def test_a_damaged_jpeg_frame_is_refused(lesion: NDArray[np.uint8]) -> None:
    frame = bytearray(jpeg_of(lesion))
    middle = len(frame) * 2 // 3
    frame[middle : middle + 200] = bytes(200)
    with pytest.raises(ImageRejected, match="incomplete or damaged"):
        read_image(repacked(dataset_of(lesion), bytes(frame), uid.JPEGBaseline8Bit, "YBR_FULL_422"))


def test_a_damaged_rle_segment_is_refused(lesion: NDArray[np.uint8]) -> None:
    intact = as_syntax(dataset_of(lesion), uid.RLELossless)
    frame_at = intact.index(np.array([3, 64], "<u4").tobytes()) + 64
    for value in (0, 40, 200):
        damaged = intact[:frame_at] + bytes([value]) + intact[frame_at + 1 :]
        if damaged != intact:
            with pytest.raises(ImageRejected, match="incomplete or damaged"):
                read_image(damaged)


# Age, sex and site


def code(value: str, scheme: str) -> Dataset:
    item = Dataset()
    item.CodeValue = value
    item.CodingSchemeDesignator = scheme
    item.CodeMeaning = SECRET
    return item


@pytest.mark.parametrize(
    ("elements", "facts"),
    [
        ({}, PatientFacts()),
        ({"PatientAge": "045Y", "PatientSex": "F"}, PatientFacts(45, "female")),
        ({"PatientAge": "018M", "PatientSex": "M"}, PatientFacts(1.5, "male")),
        ({"PatientAge": "000Y"}, PatientFacts(0)),
        ({"PatientAge": "999Y", "PatientSex": "O"}, PatientFacts()),
        ({"PatientBirthDate": "19800615", "StudyDate": "20250614"}, PatientFacts(44)),
        ({"PatientBirthDate": "19800615", "StudyDate": "20250615"}, PatientFacts(45)),
        ({"PatientBirthDate": "20800615", "StudyDate": "20250615"}, PatientFacts()),
        ({"PatientBirthDate": "19800615"}, PatientFacts()),
    ],
)
def test_age_and_sex_are_those_of_the_header(
    elements: dict[str, object], facts: PatientFacts, lesion: NDArray[np.uint8]
) -> None:
    assert read_image(file_of(dataset_of(lesion, **elements))).facts == facts


@pytest.mark.parametrize(
    ("region", "site"),
    [
        (code("66643007", "SCT"), "posterior torso"),
        (code("T-02450", "SRT"), "posterior torso"),
        (code("T-02450", "99SDM"), "posterior torso"),
        (code("22943007", "SCT"), "torso"),
        (code("54440003", "SCT"), "torso"),
        (code("66643007", "99LOCAL"), None),
        (code("76261009", "SCT"), None),  # axilla
    ],
)
def test_the_site_is_that_of_the_code(
    region: Dataset, site: str | None, lesion: NDArray[np.uint8]
) -> None:
    image = read_image(file_of(dataset_of(lesion, AnatomicRegionSequence=[region])))
    assert image.facts == PatientFacts(site=site)


@pytest.mark.parametrize(
    ("elements", "facts"),
    [
        ({"BodyPartExamined": "UPPER ARM"}, PatientFacts(site="upper extremity")),
        ({"BodyPartExamined": "SPLEEN"}, PatientFacts()),
        ({"BodyPartExamined": "TRUNK"}, PatientFacts(site="torso")),
        (
            {"AnatomicRegionSequence": [code("22943007", "SCT")], "BodyPartExamined": "BACK"},
            PatientFacts(site="posterior torso"),
        ),
        (
            {"AnatomicRegionSequence": [code("22943007", "SCT")], "BodyPartExamined": "FOOT"},
            PatientFacts(site="torso"),
        ),
        (
            {
                "AnatomicRegionSequence": [code("85562004", "SCT")],
                "PrimaryAnatomicStructureSequence": [code("70887009", "SCT")],
            },
            PatientFacts(site="palms/soles"),
        ),
    ],
)
def test_the_site_is_the_finest_of_the_header(
    elements: dict[str, object], facts: PatientFacts, lesion: NDArray[np.uint8]
) -> None:
    assert read_image(file_of(dataset_of(lesion, **elements))).facts == facts


def names_of(context: int) -> dict[tuple[str, str], str]:
    """Return (scheme, code) -> name of the codes of a context group of DICOM PS3.16."""
    return {
        (scheme, value): name
        for scheme, keywords in cid_concepts[context].items()
        for keyword in keywords
        for value, (name, groups) in concepts[scheme][keyword].items()
        if context in groups
    }


def sites_of_terms() -> dict[tuple[str, str], str]:
    """Return the site of each term (scheme, code) of the context groups that has one of ours."""
    site_of = {}
    for scheme, value in names_of(4029) | names_of(4031):
        if scheme in ("SCT", "DCM", "FMA"):
            site = facts_of(header(AnatomicRegionSequence=[code(value, scheme)])).site
            if site in SITE_CODES:
                site_of[scheme, value] = site
    return site_of


def test_every_site_of_dermatology_has_a_term_or_lies_in_more_than_one() -> None:
    site_of = sites_of_terms()
    assert set(SITE_CODES) | {"lateral torso"} == set(SITES)
    assert set(BODY_PARTS) == {*SITES, *COARSE_SITES} - {"lateral torso", "palms/soles"}
    words = " ".join(SITE_CODES.values()).split()
    assert sum(word.isdigit() for word in words) == len(site_of)
    assert {name for key, name in names_of(4029).items() if key not in site_of} == {
        "Skin", "Hair", "Tooth", "Cornea", "Iris", "Retina", "Sclera", "Eyelash", "Skin of upper trunk",
        "Skin of axilla", "Skin of inguinal region", "Groin skin crease", "Skin of perineum", "Skin of anus",
        "Skin of buttock", "Skin of gluteal fold",
    }  # fmt: skip


def test_every_term_of_a_palm_or_a_sole_has_that_site() -> None:
    names = names_of(4029) | names_of(4031)
    for key, site in sites_of_terms().items():
        if "palm of" in names[key] or "sole of" in names[key]:
            assert site == "palms/soles"


# Identity


@pytest.fixture(scope="module")
def named(lesion: NDArray[np.uint8]) -> bytes:
    """A file that names its patient wherever it can."""
    dataset = dataset_of(lesion, PatientAge="045Y")
    for keyword in (
        "PatientName",
        "PatientComments",
        "InstitutionName",
        "OperatorsName",
        "StudyDescription",
    ):
        setattr(dataset, keyword, SECRET)
    for keyword in (
        "PatientID",
        "AccessionNumber",
        "StudyID",
        "DeviceSerialNumber",
        "OtherPatientNames",
    ):
        setattr(dataset, keyword, SECRET)
    for keyword in ("Modality", "BodyPartExamined", "PatientSex", "BurnedInAnnotation"):
        setattr(dataset, keyword, SECRET)
    dataset.AnatomicRegionSequence = [code(SECRET, SECRET)]
    dataset.PatientBirthDate = "19770717"
    dataset.private_block(0x99, SECRET, create=True).add_new(1, "LO", SECRET)
    return file_of(dataset)


def test_nothing_of_the_patients_identity_is_left(named: bytes) -> None:
    assert named.count(SECRET.encode()) >= 15
    image = read_image(named)
    output = json.dumps([asdict(image.facts), image.notes, image.sha256, image.format])
    assert SECRET not in output
    assert "1977" not in output
    assert image.facts == PatientFacts(45)
    assert SECRET.encode() not in image.pixels.tobytes()


@pytest.mark.parametrize(
    "changed",
    [
        {"PhotometricInterpretation": SECRET}, {"SOPClassUID": SECRET}, {"NumberOfFrames": "7"}, {"BitsAllocated": 1},
        {"Rows": 9999}, {"SamplesPerPixel": 2},
    ],
    ids=str,
)  # fmt: skip
def test_a_refusal_does_not_name_the_patient(
    named: bytes, changed: dict[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    dataset = dcmread(BytesIO(named))
    for keyword, value in changed.items():
        setattr(dataset, keyword, value)
    if "SOPClassUID" in changed:
        del dataset.Rows
    data = file_of(dataset)
    caplog.clear()  # writing the file logs, too
    with pytest.raises(ImageRejected) as error:
        read_image(data)
    assert SECRET not in str(error.value) + caplog.text
    assert error.value.__cause__ is None


# Files that cannot be trusted


@pytest.mark.parametrize("pack", ["native", "rle", "jpeg", "jpeg2000"])
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_a_file_with_wrong_bytes_is_read_or_refused(
    lesion: NDArray[np.uint8], pack: str, data: st.DataObject
) -> None:
    intact = packed(lesion, pack)
    damaged = bytearray(
        intact[: data.draw(st.integers(132, len(intact)))] if data.draw(st.booleans()) else intact
    )
    end = data.draw(st.sampled_from([900, len(damaged)]))
    for at, value in data.draw(
        st.lists(st.tuples(st.integers(132, end), st.integers(0, 255)), max_size=12)
    ):
        if at < len(damaged):
            damaged[at] = value
    try:
        image = read_image(bytes(damaged))
    except ImageRejected:
        return
    assert (*image.file_px, 3) == (image.width_px, image.height_px, image.pixels.shape[2])


def packed(lesion: NDArray[np.uint8], pack: str) -> bytes:
    if pack == "jpeg":
        return file_of(jpeg_packed(lesion))
    syntaxes = {
        "native": uid.ExplicitVRLittleEndian,
        "rle": uid.RLELossless,
        "jpeg2000": uid.JPEG2000Lossless,
    }
    return as_syntax(dataset_of(lesion), syntaxes[pack])


@pytest.mark.parametrize("pack", ["native", "rle", "jpeg", "jpeg2000"])
def test_a_picture_cut_short_is_refused(lesion: NDArray[np.uint8], pack: str) -> None:
    with pytest.raises(ImageRejected, match="incomplete or damaged"):
        read_image(packed(lesion, pack)[:-400])


def test_a_damaged_element_beside_the_picture_is_refused(lesion: NDArray[np.uint8]) -> None:
    with pytest.raises(ImageRejected, match="damaged"):
        read_image(file_of(dataset_of(lesion)).replace(b"\x08\0\x60\0CS", b"\x08\0\x60\0C\xf9"))


@pytest.mark.parametrize("box", [b"ftyp", b"jp2h"])
def test_a_file_around_a_jpeg_2000_cannot_hold_the_reader_up(box: bytes) -> None:
    intact = PICTURES["GDCMJ2K_TextGBR.dcm"].read_bytes()
    at = intact.index(box)
    endless = intact[: at - 4] + bytes(4) + intact[at:]
    assert np.array_equal(read_image(endless).pixels, read_image(intact).pixels)


def test_a_picture_too_large_is_refused_by_its_header(lesion: NDArray[np.uint8]) -> None:
    dataset = dataset_of(lesion)
    dataset.Rows = dataset.Columns = 65535
    with pytest.raises(ImageRejected, match=f"at most {MAX_PIXELS // 10**6} megapixels"):
        read_image(file_of(dataset))


def test_a_picture_too_small_is_refused(lesion: NDArray[np.uint8]) -> None:
    with pytest.raises(ImageRejected, match=f"at least {MIN_SIDE_PX}"):
        read_image(file_of(dataset_of(lesion[:20])))


@pytest.mark.parametrize("pack", ["jpeg", "jpeg2000"])
def test_a_jpeg_larger_than_its_header_says_is_not_decoded(
    lesion: NDArray[np.uint8], pack: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frames, "get_decoder", None)
    dataset = dcmread(BytesIO(packed(lesion, pack)))
    dataset.Rows = 70
    with pytest.raises(ImageRejected, match="damaged"):
        read_image(file_of(dataset))


def test_names_a_dicom_file_without_preamble(lesion: NDArray[np.uint8]) -> None:
    with pytest.raises(ImageRejected, match="is a DICOM file without a preamble"):
        read_image(file_of(dataset_of(lesion))[132:])


def test_the_size_is_read_without_the_pixels(lesion: NDArray[np.uint8], tmp_path: Path) -> None:
    path = tmp_path / "IM000001"
    path.write_bytes(file_of(dataset_of(lesion))[:-20_000])
    assert is_dicom(path)
    assert read_size(path) == (100, 80)


def test_pydicom_is_loaded_by_a_dicom_file_alone() -> None:
    code = "import sys, cadlib.images, cadlib.assessment; sys.exit('pydicom' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
