# SPDX-License-Identifier: GPL-3.0-or-later
"""What does not show is taken out of a served image: place, time, camera, comments. Its pixels and its turn stay."""

from __future__ import annotations

import io
from typing import Any

import pytest
from gandt_labeling.media import image_type
from gandt_labeling.private_parts import without_private_parts
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps, PngImagePlugin

SECRET = b"Where Ada lives"
MODES = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp", "AVIF": "image/avif", "GIF": "image/gif"}


def photo(kind: str, orientation: int = 1, mode: str = "RGB") -> bytes:
    """A photo of three colors, wider than high, that tells where it was taken in every way its format has."""
    image = Image.new(mode, (48, 32))
    for x in range(48):
        for y in range(32):
            image.putpixel((x, y), ((x * 5) % 256, (y * 7) % 256, 90) if mode == "RGB" else (x * 5 + y * 3) % 256)
    exif = Image.Exif()
    exif[0x0112], exif[0x010F], exif[0x9286] = orientation, SECRET.decode(), SECRET.decode()
    exif.get_ifd(0x8825).update({1: "N", 2: (52.0, 31.0, 0.0), 29: SECRET.decode()})
    data = io.BytesIO()
    more: dict[str, Any] = {"exif": exif.tobytes()}
    if kind == "JPEG":
        more |= {"comment": SECRET, "xmp": b"<x:xmpmeta>" + SECRET + b"</x:xmpmeta>", "quality": 95}
    elif kind == "PNG":
        info = PngImagePlugin.PngInfo()
        info.add_text("Author", SECRET.decode())
        info.add_itxt("XML:com.adobe.xmp", SECRET.decode())
        more["pnginfo"] = info
    elif kind == "WEBP":
        more |= {"xmp": SECRET, "lossless": True}
    image.save(data, kind, **more)
    assert SECRET in data.getvalue()
    return data.getvalue()


def pixels(data: bytes, upright: bool = False) -> bytes:
    image: Any = Image.open(io.BytesIO(data))
    return bytes((ImageOps.exif_transpose(image) if upright else image).convert("RGB").tobytes())


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_nothing_private_is_left_and_every_pixel_is(kind: str) -> None:
    data = photo(kind)
    clean = without_private_parts(data, MODES[kind])
    assert clean is not None
    assert image_type(clean) == MODES[kind]
    assert SECRET not in clean
    assert not Image.open(io.BytesIO(clean)).getexif()
    assert pixels(clean) == pixels(data)
    assert len(clean) < len(data)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_phones_photo_stays_upright(kind: str, orientation: int) -> None:
    data = photo(kind, orientation)
    clean = without_private_parts(data, MODES[kind])
    assert clean is not None
    assert SECRET not in clean
    assert pixels(clean, upright=True) == pixels(data, upright=True)
    assert Image.open(io.BytesIO(clean)).getexif().get(0x0112, 1) == orientation
    assert not Image.open(io.BytesIO(clean)).getexif().get_ifd(0x8825)


def test_a_color_profile_stays() -> None:
    from PIL import ImageCms

    profile: Any = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    data = io.BytesIO()
    Image.new("RGB", (8, 8)).save(data, "JPEG", icc_profile=profile.tobytes(), comment=SECRET)
    clean = without_private_parts(data.getvalue(), "image/jpeg")
    assert clean is not None
    assert Image.open(io.BytesIO(clean)).info["icc_profile"] == profile.tobytes()
    assert SECRET not in clean


def test_what_hangs_behind_a_jpegs_end_is_cut() -> None:
    for tail in (SECRET, photo("JPEG")):
        clean = without_private_parts(photo("JPEG") + tail, "image/jpeg")
        assert clean == without_private_parts(photo("JPEG"), "image/jpeg")


def test_a_progressive_jpeg_has_several_scans() -> None:
    data = io.BytesIO()
    Image.open(io.BytesIO(photo("PNG"))).convert("RGB").save(data, "JPEG", progressive=True, comment=SECRET)
    clean = without_private_parts(data.getvalue(), "image/jpeg")
    assert clean is not None
    assert SECRET not in clean
    assert pixels(clean) == pixels(data.getvalue())


def test_what_cannot_be_cleaned_as_it_is_has_to_be_converted() -> None:
    data = io.BytesIO()
    Image.new("RGB", (16, 16)).save(data, "AVIF")
    assert without_private_parts(data.getvalue(), "image/avif") is None
    assert without_private_parts(b"\xff\xd8\xff\xe1", "image/jpeg") is None


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@settings(max_examples=60, deadline=None)
@given(cut=st.integers(0, 4000), at=st.integers(0, 4000), value=st.integers(0, 255))
def test_broken_files_break_nothing(kind: str, cut: int, at: int, value: int) -> None:
    data = bytearray(photo(kind)[: cut or None])
    if at < len(data):
        data[at] = value
    clean = without_private_parts(bytes(data), MODES[kind])
    assert clean is None or len(clean) <= len(data) + 64


def moving(kind: str, **more: Any) -> bytes:
    frames = [Image.new("RGB", (8, 8), (shade, 9, 9)) for shade in (1, 99, 200)]
    data = io.BytesIO()
    frames[0].save(data, kind, save_all=True, append_images=frames[1:], duration=80, loop=0, **more)
    return data.getvalue()


@pytest.mark.parametrize(("kind", "more"), [("GIF", {"comment": SECRET}), ("PNG", {}), ("WEBP", {"exif": SECRET})])
def test_a_moving_picture_still_moves(kind: str, more: dict[str, Any]) -> None:
    data = moving(kind, **more)
    clean = without_private_parts(data + SECRET, MODES[kind])
    assert clean is not None
    assert SECRET not in clean
    before, after = Image.open(io.BytesIO(data)), Image.open(io.BytesIO(clean))
    assert (after.n_frames, after.info.get("loop")) == (before.n_frames, before.info.get("loop"))  # type: ignore[attr-defined]
    assert pixels(clean) == pixels(data)


@pytest.mark.parametrize("marker", [b"\xff\xe1", b"\xff\xfe"])
def test_nothing_hides_between_the_scans_of_a_jpeg(marker: bytes) -> None:
    out = io.BytesIO()
    Image.effect_noise((64, 64), 50).save(out, "JPEG", progressive=True)
    data = out.getvalue()
    second = data.index(b"\xff\xda", data.index(b"\xff\xda") + 2)
    spoiled = data[:second] + marker + (len(SECRET) + 2).to_bytes(2, "big") + SECRET + data[second:]
    assert without_private_parts(spoiled, "image/jpeg") == without_private_parts(data, "image/jpeg")


def test_a_png_keeps_known_chunks_only() -> None:
    data = moving("PNG")
    chunk = len(SECRET).to_bytes(4, "big") + b"caBX" + SECRET + bytes(4)
    assert without_private_parts(data[:33] + chunk + data[33:], "image/png") == without_private_parts(data, "image/png")
