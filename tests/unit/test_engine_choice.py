# SPDX-License-Identifier: GPL-3.0-or-later
"""Which engine runs on which machine, and what a user is told when the wanted one cannot."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from gandt.adapters.engine_choice import Machine, choose, has_bf16, settle
from gandt.adapters.model_spec import NetworkCard
from gandt.domain.embedding import Preprocessing
from gandt.domain.errors import GandtError

FULL = Machine(gpu="", bf16=True, torch=True, openvino=True, compiler=True)


@pytest.mark.parametrize(
    ("machine", "asked", "chosen"),
    [
        (FULL, ("auto", "auto", "auto"), "openvino bfloat16 on cpu"),
        (FULL, ("auto", "float32", "auto"), "openvino on cpu"),
        (replace(FULL, bf16=False), ("auto", "auto", "auto"), "openvino on cpu"),
        (replace(FULL, openvino=False), ("auto", "auto", "auto"), "eager on cpu"),
        (replace(FULL, torch=False), ("auto", "auto", "auto"), "openvino bfloat16 on cpu"),
        (replace(FULL, gpu="H100"), ("auto", "auto", "auto"), "cuda bfloat16 on H100"),
        (replace(FULL, gpu="H100", bf16=False), ("cuda", "auto", "cuda"), "cuda bfloat16 on H100"),
        (replace(FULL, gpu="H100"), ("auto", "auto", "cpu"), "openvino bfloat16 on cpu"),
        (replace(FULL, gpu="H100"), ("openvino", "auto", "auto"), "openvino bfloat16 on cpu"),
        (replace(FULL, gpu="H100"), ("eager", "auto", "auto"), "eager on H100"),
        (FULL, ("eager", "auto", "auto"), "eager on cpu"),
        (FULL, ("compile", "auto", "auto"), "compile bfloat16 on cpu"),
    ],
)
def test_the_choice_follows_from_the_machine(machine: Machine, asked: tuple[str, str, str], chosen: str) -> None:
    choice = choose(*asked, machine)
    assert f"{choice.describe()} on {choice.device}" == chosen


@pytest.mark.parametrize(
    ("machine", "asked", "reason"),
    [
        (FULL, ("warp", "auto", "auto"), "UNKNOWN_ENGINE"),
        (FULL, ("auto", "float16", "auto"), "UNKNOWN_PRECISION"),
        (FULL, ("eager", "bfloat16", "auto"), "PRECISION_UNSUPPORTED"),
        (replace(FULL, bf16=False), ("openvino", "bfloat16", "auto"), "PRECISION_UNSUPPORTED"),
        (FULL, ("cuda", "auto", "auto"), "NO_DEVICE"),
        (FULL, ("auto", "auto", "cuda"), "NO_DEVICE"),
        (FULL, ("auto", "auto", "tpu"), "NO_DEVICE"),
        (replace(FULL, gpu="H100"), ("cuda", "auto", "cpu"), "NO_DEVICE"),
        (replace(FULL, gpu="H100"), ("openvino", "auto", "cuda"), "ENGINE_WITHOUT_DEVICE"),
        (replace(FULL, openvino=False), ("openvino", "auto", "auto"), "ENGINE_NOT_INSTALLED"),
        (replace(FULL, torch=False), ("eager", "auto", "auto"), "ENGINE_NOT_INSTALLED"),
        (replace(FULL, torch=False, openvino=False), ("auto", "auto", "auto"), "ENGINE_NOT_INSTALLED"),
        (replace(FULL, compiler=False), ("compile", "auto", "auto"), "ENGINE_NEEDS_COMPILER"),
    ],
)
def test_what_cannot_be_had_is_refused_with_a_next_step(
    machine: Machine, asked: tuple[str, str, str], reason: str
) -> None:
    with pytest.raises(GandtError) as caught:
        choose(*asked, machine)
    assert caught.value.reason == reason
    assert caught.value.fix


@pytest.mark.parametrize(
    ("precision", "cosine", "dtype"),
    [
        ("auto", 0.99995, "bfloat16"),
        ("auto", 0.9998, "float32"),
        ("auto", 0.0, "float32"),
        ("bfloat16", 0.99, "bfloat16"),
    ],
)
def test_auto_keeps_float32_where_bfloat16_bends_the_vectors(precision: str, cosine: float, dtype: str) -> None:
    choice = choose("openvino", precision, "auto", FULL)
    card = NetworkCard("resnet50", "", "", Preprocessing(), bfloat16_cosine=cosine)
    assert settle(choice, precision, card).dtype == dtype


def test_the_processor_s_flags_say_whether_it_has_bfloat16(tmp_path: Path) -> None:
    for flags, expected in (("fpu avx512f avx512_bf16", True), ("fpu amx_bf16", True), ("fpu avx512f avx2", False)):
        (tmp_path / "cpuinfo").write_text(f"processor : 0\nflags\t\t: {flags}\nbugs\t: none\n")
        assert has_bf16(tmp_path / "cpuinfo") is expected
    assert not has_bf16(tmp_path / "none")
