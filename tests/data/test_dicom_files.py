"""Reading of DICOM files, compared with values computed by hand."""

import io
import warnings

import numpy as np
import pydicom
import pytest
from pydicom.encaps import encapsulate
from pydicom.uid import JPEGLosslessSV1, RLELossless

from cim_lightning.data.array_files import read_array
from cim_lightning.errors import BadImageError
from tests.lookalikes import dicom_bytes

STORED = np.array([[0, 1000, 2048], [3000, 4000, 4095]], np.uint16)


def values(*args, **elements) -> tuple[np.ndarray, float]:
    pixels, white = read_array(dicom_bytes(*args, **elements), ".dcm")
    assert pixels.shape[2] == 1
    return pixels[..., 0], white


@pytest.mark.user_input("pixels", "DICOM of 12 bits", "4095 is white")
def test_bits_stored_decides_about_white():
    for bits, white in ((12, 4095), (16, 65535)):
        pixels, scale = values(STORED, bits=bits)
        np.testing.assert_array_equal(pixels, STORED)
        assert scale == white


@pytest.mark.user_input(
    "pixels",
    "DICOM whose low values are bright (MONOCHROME1)",
    "inverted",
    source="https://github.com/Project-MONAI/monai-deploy-app-sdk/issues/282",
)
def test_monochrome1_is_inverted():
    pixels, white = values(STORED, PhotometricInterpretation="MONOCHROME1")
    np.testing.assert_array_equal(pixels, 4095 - STORED)
    assert white == 4095


@pytest.mark.parametrize(
    ("stored", "bits", "elements"),
    [
        pytest.param(
            np.int16([[-2000, -1024, 0, 3071, 5000]]),
            16,
            {"RescaleIntercept": 0},
            marks=pytest.mark.user_input(
                "pixels", "CT images of scanners with other offsets", "the same Hounsfield units, from -1024"
            ),
            id="signed",
        ),
        pytest.param(np.uint16([[0, 0, 1024, 4095, 6024]]), 16, {"RescaleIntercept": -1024}, id="unsigned"),
        pytest.param(
            np.uint16([[0, 0, 512, 2047.5 // 1, 3012]]),
            12,
            {"RescaleIntercept": -1024, "RescaleSlope": 2},
            id="slope",
        ),
    ],
)
def test_computed_tomography_has_hounsfield_units(stored, bits, elements):
    elements = {"Modality": "CT", "RescaleSlope": 1} | elements
    pixels, white = values(stored, bits, **elements)
    np.testing.assert_allclose(pixels, [[0, 0, 1024, 4095, 4095]], atol=1)
    assert white == 4095


def test_a_rescaling_of_other_modalities_cancels_out():
    pixels, white = values(STORED, Modality="MR", RescaleSlope=0.25, RescaleIntercept=7)
    np.testing.assert_array_equal(pixels, STORED)
    assert white == 4095


@pytest.mark.user_input(
    "pixels",
    "DICOM with a negative rescale slope",
    "inverted",
    source="https://github.com/OHIF/Viewers/issues/127",
)
def test_a_negative_slope_inverts():
    elements = {"Modality": "CR", "RescaleSlope": -10, "RescaleIntercept": 3000}
    np.testing.assert_array_equal(values(STORED, **elements)[0], 4095 - STORED)
    twice = values(STORED, PhotometricInterpretation="MONOCHROME1", **elements)[0]
    np.testing.assert_array_equal(twice, STORED)


@pytest.mark.user_input("pixels", "DICOM of signed values", "the lowest value of the type is black")
def test_signed_values_are_shifted():
    pixels, white = values(np.int16([[-2048, 0, 2047]]))
    np.testing.assert_array_equal(pixels, [[0, 2048, 4095]])
    assert white == 4095


def test_a_table_is_applied():
    table = pydicom.Dataset()
    table.LUTDescriptor, table.LUTData = [3, 0, 8], np.uint16([10, 200, 30]).tobytes()
    dataset = {"ModalityLUTSequence": [table]}
    pixels, white = values(np.uint8([[0, 1, 2]]), 8, **dataset)
    np.testing.assert_array_equal(pixels, [[10, 200, 30]])
    assert white == 255


@pytest.mark.parametrize("limit", [{}, {"PixelPaddingRangeLimit": 4000}])
def test_padding_is_black(limit):
    elements = {"PhotometricInterpretation": "MONOCHROME1", "PixelPaddingValue": 4095}
    pixels, _ = values(STORED, **elements, **limit)
    np.testing.assert_array_equal(pixels, [[4095, 3095, 2047], [1095, 0 if limit else 95, 0]])


@pytest.mark.user_input("pixels", "DICOM of many frames", "the first frame is read")
def test_the_first_frame_is_read():
    frames = np.stack([STORED, STORED[::-1]])
    np.testing.assert_array_equal(values(frames, NumberOfFrames=2)[0], STORED)


@pytest.mark.user_input("pixels", "color DICOM, such as dermoscopy", "RGB")
def test_color():
    rgb = np.arange(18, dtype=np.uint8).reshape(2, 3, 3)
    pixels, white = read_array(dicom_bytes(rgb, 8, PhotometricInterpretation="RGB"), "")
    np.testing.assert_array_equal(pixels, rgb)
    assert white == 255


def test_a_palette_becomes_color():
    palette = np.uint16([7, 8, 9, 10]).tobytes()
    names = ("Red", "Green", "Blue")
    elements = {f"{name}PaletteColorLookupTableData": palette for name in names}
    elements |= {f"{name}PaletteColorLookupTableDescriptor": [4, 0, 16] for name in names}
    data = dicom_bytes(np.uint8([[2, 0]]), 8, PhotometricInterpretation="PALETTE COLOR", **elements)
    pixels, white = read_array(data, "")
    np.testing.assert_array_equal(pixels, [[[9, 9, 9], [7, 7, 7]]])
    assert white == 65535


def encoded(syntax: str, frame: bytes) -> bytes:
    dataset = pydicom.dcmread(io.BytesIO(dicom_bytes(STORED)))
    dataset.PixelData = encapsulate([frame])
    dataset.file_meta.TransferSyntaxUID = syntax
    file = io.BytesIO()
    dataset.save_as(file)
    return file.getvalue()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        pytest.param(
            encoded(JPEGLosslessSV1, b"1234"),
            r"no installed package decodes its compression, JPEG Lossless.*\(pip install pylibjpeg",
            marks=pytest.mark.user_input(
                "pixels", "DICOM in lossless JPEG without a decoder", "one line with what to install"
            ),
        ),
        pytest.param(
            dicom_bytes(STORED, PixelData=None),
            "has no pixels, such as a report",
            marks=pytest.mark.user_input(
                "file", "DICOM without pixels, such as DICOMDIR", "one line; skipped"
            ),
        ),
        (dicom_bytes(STORED, Rows=60000, Columns=60000), "claims the shape 60000x60000x1"),
        (dicom_bytes(STORED, Rows=1000), "is damaged"),
        (b"no DICOM file", "has no pixels"),
        (dicom_bytes(STORED)[:300], "has no pixels"),
    ],
)
def test_other_files_are_bad(data, reason):
    with pytest.raises(BadImageError, match=reason):
        read_array(data, ".dcm")


def test_run_lengths_are_decoded():
    dataset = pydicom.dcmread(io.BytesIO(dicom_bytes(STORED)))
    dataset.compress(RLELossless)
    file = io.BytesIO()
    dataset.save_as(file)
    np.testing.assert_array_equal(read_array(file.getvalue(), "")[0][..., 0], STORED)


def test_values_that_break_the_standard_are_no_warnings():
    with warnings.catch_warnings(action="ignore"):  # of writing them
        data = dicom_bytes(STORED, PatientName="x" * 300, WindowCenter="7", StudyDate="yesterday")
    np.testing.assert_array_equal(read_array(data, "")[0][..., 0], STORED)
