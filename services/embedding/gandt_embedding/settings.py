# SPDX-License-Identifier: GPL-3.0-or-later
"""Every setting of the embedding service: section `[embedding]`, environment `GANDT_EMBEDDING__<KEY>`."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from gandt.runtime.service_settings import MIB, ObjectSettings, ServiceSettings


class Settings(ObjectSettings, ServiceSettings):
    """What the embedding service can be told."""

    model_config = SettingsConfigDict(env_prefix="GANDT_EMBEDDING__")

    port: int = Field(default=50051, ge=0, le=65535, description="Service port; 0 takes a free one.")
    health_port: int | None = Field(
        default=50061,
        ge=0,
        le=65535,
        description="Plaintext health for probes; 0 takes a free one, empty turns it off.",
    )
    metrics_port: int | None = Field(
        default=9051, ge=0, le=65535, description="Prometheus /metrics; 0 takes a free one, empty turns it off."
    )
    max_message_bytes: int = Field(
        default=41 * MIB, ge=1024, description="Largest message either way: one image of 40 MiB and 1 MiB head room."
    )
    model: str = Field(
        default="hog",
        description="Name of a torchvision classification model, timm:NAME, open_clip:NAME/PRETRAINED, or hog. "
        "hog needs no weights and sees outlines only; name a network as soon as you have weights for it.",
    )
    weights: str = Field(
        default="",
        description="Weights of the model: a file, s3://bucket/key, a name of the library's own (DEFAULT), which is "
        "downloaded, or a model that `gandt model export` wrote (.xml). Every model but hog needs them.",
    )
    weights_config: str = Field(
        default="",
        description="File or s3:// URI of the weights' description. Empty looks for WEIGHTS.toml beside them.",
    )
    weights_sha256: str = Field(
        default="",
        pattern="^([0-9a-fA-F]{64})?$",
        description="SHA-256 that the weights must have. s3:// weights need it here or in their description.",
    )
    device: str = Field(
        default="auto", pattern="^(auto|cpu|cuda)$", description="auto takes the GPU when there is one; or cpu, cuda."
    )
    engine: str = Field(
        default="auto",
        description="What runs the network: eager (torch), openvino, compile (torch.compile; half a minute and more at "
        "each start), cuda. auto takes cuda on a GPU, else openvino if it is installed, else eager.",
    )
    precision: str = Field(
        default="auto",
        pattern="^(auto|float32|bfloat16)$",
        description="Number format of the computation; part of the fingerprint. auto takes bfloat16 where the "
        "processor has it and the network's vectors keep a cosine of 0.9999 to float32. Set float32 where machines "
        "differ.",
    )
    flip: bool = Field(
        default=False, description="Average the vectors of an image and its mirror image: twice the work."
    )
    scales: str = Field(
        default="1",
        pattern=r"^[0-9.]+(,[0-9.]+)*$",
        description="Average the vectors of an image in these sizes relative to the model's input, as in 1,0.7.",
    )
    project_to: int = Field(
        default=0, ge=0, description="Project vectors to so many numbers, by a fixed random rotation; 0 keeps all."
    )
    engine_cache_dir: Path | None = Field(
        default=None,
        description="Folder for networks converted for openvino, so that later starts take a second. None takes "
        "gandt/engines in XDG_CACHE_HOME or ~/.cache.",
    )
    jpeg_decoder: str = Field(
        default="pillow",
        pattern="^(pillow|nvjpeg)$",
        description="What decodes plain JPEGs; part of the fingerprint. nvjpeg decodes whole batches on the GPU that "
        "runs the network.",
    )
    max_batch: int = Field(
        default=8,
        ge=1,
        le=512,
        description="Most images in one run of the device. More than 8 gains nothing on a CPU; 64 to 128 suit a GPU.",
    )
    max_delay_seconds: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="How long an idle device waits for a batch to fill while more images are on their way. 0 suits a "
        "CPU, where a full batch gains little; 0.002 a GPU.",
    )
    decode_threads: int = Field(
        default=0, ge=0, le=256, description="Images decoded at once. 0 takes the processors less one, at least one."
    )
    torch_threads: int = Field(
        default=0, ge=0, le=256, description="Threads of the network on a CPU. 0 takes the processors of this process."
    )
    queue_items: int = Field(
        default=256,
        ge=1,
        le=65536,
        description="Images under way. Unary calls above it get RESOURCE_EXHAUSTED; streams wait.",
    )
    queue_bytes: int = Field(default=512 * MIB, ge=MIB, description="Encoded bytes under way.")
    stream_window: int = Field(
        default=64, ge=1, le=4096, description="Images of one stream under way. More helps only over slow networks."
    )
    cache_bytes: int = Field(
        default=64 * MIB, ge=0, description="Memory for vectors by content, for repeated images; 0 keeps none."
    )
    cache_dir: Path | None = Field(
        default=None,
        description="Folder for vectors by content that outlive the process, an SQLite file for each model. None keeps "
        "them in memory alone. Not a network file system.",
    )
    cache_dir_bytes: int = Field(
        default=4096 * MIB, ge=MIB, description="About what such a file may take; the oldest vectors are dropped."
    )
    max_image_bytes: int = Field(
        default=40 * MIB,
        ge=1024,
        le=40 * MIB,
        description="Largest encoded image. The contract allows no more than 40 MiB.",
    )
    max_pixels: int = Field(
        default=100_000_000,
        ge=1,
        description="Largest width times height that is decoded; a pixel takes 3 bytes in each decode thread.",
    )
