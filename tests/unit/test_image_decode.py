# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever lies in a file comes out as upright 8-bit RGB, or as one clear error."""

from __future__ import annotations

import contextlib
import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image, features

from gandt.adapters.image_decode import ImageDecoder, ImageInfo, fit
from gandt.domain.embedding import Preprocessing
from gandt.domain.errors import InvalidInput

COLORS = np.zeros((40, 60, 3), np.uint8)
COLORS[:20, :30] = (255, 0, 0)  # red, green above blue, black
COLORS[:20, 30:] = (0, 255, 0)
COLORS[20:, :30] = (0, 0, 255)
PICTURE = Image.fromarray(COLORS)


def encoded(image: Image.Image, format: str, **options: Any) -> bytes:
    data = io.BytesIO()
    image.save(data, format, **options)
    return data.getvalue()


def decoded(data: bytes, **options: Any) -> np.ndarray[Any, np.dtype[np.uint8]]:
    image = ImageDecoder(**options).decode(data)
    assert image.mode == "RGB"
    return np.asarray(image)


def reason(data: bytes, **options: Any) -> str:
    with pytest.raises(InvalidInput) as caught:
        ImageDecoder(**options).decode(data)
    assert str(caught.value)
    return caught.value.reason


def bomb() -> bytes:
    """A PNG of a few bytes whose header promises 10 billion pixels."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("format", ["PNG", "BMP", "TIFF"])
def test_lossless_formats_come_out_exactly(format: str) -> None:
    np.testing.assert_array_equal(decoded(encoded(PICTURE, format)), COLORS)


@pytest.mark.parametrize("format", ["JPEG", "WEBP", "GIF", "AVIF", "MPO"])
def test_lossy_formats_come_out_nearly(format: str) -> None:
    if format == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    difference = decoded(encoded(PICTURE, format)).astype(int) - COLORS
    assert np.median(np.abs(difference)) < 8


@pytest.mark.parametrize("format", ["JPEG", "TIFF"])
def test_cmyk_becomes_rgb(format: str) -> None:
    assert np.median(np.abs(decoded(encoded(PICTURE.convert("CMYK"), format)).astype(int) - COLORS)) < 8


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled_over_the_whole_range(format: str) -> None:
    wide = np.array([[0, 128, 129, 257], [32767, 32768, 65406, 65535]], np.uint16)
    assert decoded(encoded(Image.fromarray(wide), format))[:, :, 0].tolist() == [[0, 0, 1, 1], [127, 128, 254, 255]]


def test_gray_palette_and_bilevel_become_rgb() -> None:
    for mode in ("L", "P", "1"):
        assert decoded(encoded(PICTURE.convert(mode), "PNG")).shape == COLORS.shape


def test_transparent_pixels_are_laid_on_white() -> None:
    clear = Image.new("RGBA", (4, 4), (200, 0, 0, 0))
    assert (decoded(encoded(clear, "PNG")) == 255).all()
    half = Image.new("LA", (4, 4), (0, 128))
    assert np.abs(decoded(encoded(half, "PNG")).astype(int) - 127).max() <= 1
    palette = PICTURE.convert("P", palette=Image.Palette.ADAPTIVE, colors=4)
    assert (decoded(encoded(palette, "PNG", transparency=palette.getpixel((0, 0))))[0, 0] == 255).all()


def test_of_an_animation_the_first_frame_counts() -> None:
    other = Image.new("RGB", PICTURE.size, "white")
    for format in ("GIF", "PNG", "WEBP", "TIFF"):
        frames = decoded(encoded(PICTURE, format, save_all=True, append_images=[other]))
        assert np.median(np.abs(frames.astype(int) - COLORS)) < 8, format


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation: int) -> None:
    upright = Image.fromarray(COLORS)
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # the transposition that a camera made
    stored = upright if orientation == 1 else upright.transpose(Image.Transpose(undo[orientation]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    for format in ("PNG", "TIFF", "JPEG", "WEBP"):
        result = decoded(encoded(stored, format, exif=exif.tobytes() if format != "TIFF" else exif))
        assert result.shape == COLORS.shape, format
        assert np.median(np.abs(result.astype(int) - COLORS)) < 8, format


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "IMAGE_EMPTY"),
        (b"hello, this is text", "NOT_AN_IMAGE"),
        (b"\0\0\0\x18ftypheic" + b"\0" * 40, "IMAGE_FORMAT_UNSUPPORTED"),
        (b"%PDF-1.7 and so on", "IMAGE_FORMAT_UNSUPPORTED"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "IMAGE_FORMAT_UNSUPPORTED"),
        (bomb(), "IMAGE_TOO_MANY_PIXELS"),
        (encoded(PICTURE.convert("F"), "TIFF"), "IMAGE_FORMAT_UNSUPPORTED"),
        (encoded(PICTURE.convert("I"), "TIFF"), "IMAGE_FORMAT_UNSUPPORTED"),
        (b"\xff\xd8\xff\xe0" + b"\0" * 50 + b"\xff\xd9", "IMAGE_BROKEN"),
    ],
    ids=["empty", "text", "heic", "pdf", "svg", "bomb", "float", "int32", "broken"],
)
def test_what_cannot_be_used_is_refused_with_its_cause(data: bytes, expected: str) -> None:
    assert reason(data) == expected


@pytest.mark.parametrize("brand", [b"heic", b"mif1", b"heix"])
def test_heic_says_what_to_do(brand: bytes) -> None:
    with pytest.raises(InvalidInput, match="convert it to JPEG"):
        ImageDecoder().decode(b"\0\0\0\x18ftyp" + brand + b"\0\0\0\0mif1heic" + b"\0" * 40)


def test_an_avif_under_its_general_brand_is_taken() -> None:
    if not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    data = encoded(PICTURE, "AVIF")
    assert data[8:12] == b"avif"
    assert decoded(data[:8] + b"mif1" + data[12:]).shape == COLORS.shape


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_truncated_files_are_never_taken(format: str) -> None:
    rng = np.random.default_rng(0)
    data = encoded(Image.fromarray(rng.integers(0, 256, (40, 60, 3), dtype=np.uint8)), format)
    reasons = {reason(data[: len(data) * part // 100]) for part in (1, 5, 20, 50, 80)}
    assert reasons <= {"IMAGE_TRUNCATED", "IMAGE_BROKEN"}
    assert reason(data[: len(data) // 2]) == "IMAGE_TRUNCATED"


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"])
def test_damaged_files_give_pixels_or_one_of_our_errors(format: str) -> None:
    if format == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    rng = np.random.default_rng(1)
    data = encoded(PICTURE, format)
    decoder = ImageDecoder(max_pixels=10**6)
    for _ in range(150):
        damaged = bytearray(data)
        for position in rng.integers(0, len(data), 4):
            damaged[position] = rng.integers(0, 256)
        with contextlib.suppress(InvalidInput):
            assert decoder.decode(bytes(damaged)).mode == "RGB"


def test_a_jpeg_with_twelve_bits_is_refused_with_a_hint() -> None:
    data = bytearray(encoded(PICTURE, "JPEG"))
    data[data.index(b"\xff\xc0") + 4] = 12  # the precision in the frame header
    with pytest.raises(InvalidInput, match="more than 8 bits") as caught:
        ImageDecoder().decode(bytes(data))
    assert caught.value.reason == "IMAGE_FORMAT_UNSUPPORTED"
    assert "convert" in caught.value.fix


def test_what_cameras_and_phones_write_is_taken() -> None:
    plain = encoded(PICTURE, "JPEG", quality=95)
    pixels = decoded(plain)
    np.testing.assert_array_equal(decoded(plain + b"a phone's own data" * 100), pixels)
    progressive = encoded(PICTURE, "JPEG", quality=95, progressive=True)
    np.testing.assert_array_equal(decoded(progressive), pixels)
    two = encoded(PICTURE, "MPO", quality=95, save_all=True, append_images=[Image.new("RGB", (9, 9), "white")])
    np.testing.assert_array_equal(decoded(two), pixels)  # of the pictures in an MPO the first


def test_a_lossless_webp_with_alpha_is_laid_on_white() -> None:
    layered = PICTURE.convert("RGBA")
    layered.putpixel((0, 0), (1, 2, 3, 0))
    result = decoded(encoded(layered, "WEBP", lossless=True, exact=True))
    assert result[0, 0].tolist() == [255, 255, 255]
    np.testing.assert_array_equal(result[1:], COLORS[1:])


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_color_profiles_are_not_applied(format: str) -> None:
    from PIL import ImageCms

    options = {"lossless": True} if format == "WEBP" else {}
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    np.testing.assert_array_equal(
        decoded(encoded(PICTURE, format, icc_profile=profile, **options)), decoded(encoded(PICTURE, format, **options))
    )


def huge(format: str) -> bytes:
    """A small file of that format whose header promises some 50,000 x 50,000 pixels or more."""
    data = bytearray(encoded(PICTURE, format))
    if format == "JPEG":
        at = data.index(b"\xff\xc0") + 5
        data[at : at + 4] = struct.pack(">HH", 60_000, 60_000)
    elif format == "GIF":
        data[6:10] = struct.pack("<HH", 60_000, 60_000)
    elif format == "BMP":
        data[18:26] = struct.pack("<ii", 60_000, 60_000)
    elif format == "TIFF":
        for tag in (256, 257):
            at = max(data.find(struct.pack("<HHI", tag, kind, 1)) for kind in (3, 4))  # 16 or 32 bits
            data[at : at + 12] = struct.pack("<HHII", tag, 4, 1, 60_000)
    return bytes(data)


@pytest.mark.parametrize("format", ["JPEG", "GIF", "BMP", "TIFF"])
def test_huge_dimensions_are_refused_from_the_header(format: str) -> None:
    assert reason(huge(format)) == "IMAGE_TOO_MANY_PIXELS"


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"])
def test_the_limit_of_pixels_holds_in_every_format(format: str) -> None:
    if format == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    assert reason(encoded(PICTURE, format), max_pixels=40 * 60 - 1) == "IMAGE_TOO_MANY_PIXELS"


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"])
def test_nothing_but_the_first_bytes_is_an_error(format: str) -> None:
    if format == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    data = encoded(PICTURE, format)
    assert reason(data[:0]) == "IMAGE_EMPTY"
    assert reason(data[:40]) in {"IMAGE_TRUNCATED", "IMAGE_BROKEN"}


def test_limits_are_checked_before_decoding() -> None:
    data = encoded(PICTURE, "PNG")
    assert reason(data, max_image_bytes=len(data) - 1) == "IMAGE_TOO_LARGE"
    assert reason(data, max_pixels=40 * 60 - 1) == "IMAGE_TOO_MANY_PIXELS"
    assert ImageDecoder(max_pixels=40 * 60).inspect(data)[0] == ImageInfo("PNG", 60, 40)


def test_large_photos_are_decoded_scaled_by_the_image_alone() -> None:
    pixels = np.kron(COLORS, np.ones((30, 30, 1), np.uint8))  # 1800 x 1200
    photo = encoded(Image.fromarray(pixels), "JPEG", quality=95)
    info, scaled = ImageDecoder(min_side=512).inspect(photo)
    assert info == ImageInfo("JPEG", 1800, 1200)
    assert scaled.size == (900, 600)
    assert ImageDecoder(min_side=1024).decode(photo).size == (1800, 1200)
    whole = Image.fromarray(pixels).resize(scaled.size)
    assert np.abs(np.asarray(scaled).astype(int) - np.asarray(whole)).mean() < 2


def test_fit_makes_the_pixels_that_torchvision_makes() -> None:
    pytest.importorskip("torchvision")
    from torchvision.transforms import functional as F

    coarse = Image.fromarray(np.random.default_rng(2).integers(0, 256, (9, 12, 3), dtype=np.uint8))
    for width, height in ((411, 300), (300, 411), (640, 480), (1000, 257), (256, 256), (200, 150)):
        image = coarse.resize((width, height), Image.Resampling.BICUBIC)
        for interpolation in ("bilinear", "bicubic", "nearest"):
            ours = fit(image, Preprocessing(resize_side=256, interpolation=interpolation)).astype(int)
            theirs = F.center_crop(F.resize(image, [256], F.InterpolationMode(interpolation)), [224, 224])
            exact = interpolation == "nearest" or min(image.size) <= 256
            difference = np.abs(ours - np.asarray(theirs))
            assert difference.max() <= (0 if exact else 2), (width, height, interpolation)
            assert difference.mean() < 0.2


def test_fit_turns_and_swaps_channels_and_survives_strips() -> None:
    small = Preprocessing(2, 2, interpolation="nearest")
    plain = fit(PICTURE, small)
    np.testing.assert_array_equal(
        fit(PICTURE, Preprocessing(2, 2, interpolation="nearest", rotate180=True)), plain[::-1, ::-1]
    )
    np.testing.assert_array_equal(
        fit(PICTURE, Preprocessing(2, 2, interpolation="nearest", bgr=True)), plain[:, :, ::-1]
    )
    strip = Image.new("RGB", (20_000, 1), "red")
    assert fit(strip, Preprocessing(resize_side=256)).shape == (224, 224, 3)


def test_pixels_of_a_caller_are_checked() -> None:
    decoder = ImageDecoder(max_pixels=100)
    assert decoder.from_pixels(np.zeros((5, 6, 3), np.uint8)).size == (6, 5)
    for wrong in (np.zeros((5, 6), np.uint8), np.zeros((5, 6, 3), np.float32), np.zeros((0, 6, 3), np.uint8)):
        with pytest.raises(InvalidInput):
            decoder.from_pixels(wrong)  # type: ignore[arg-type]
    with pytest.raises(InvalidInput):
        decoder.from_pixels(np.zeros((20, 6, 3), np.uint8))
