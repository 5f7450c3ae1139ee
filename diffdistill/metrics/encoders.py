"""Pictures and captions in the features of a pretrained vision or image-text model, through transformers' AutoModel."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
import transformers
from mmengine.device import get_device
from torch import Tensor, nn
from torch.nn.functional import normalize

from diffdistill.errors import InputError
from diffdistill.families.checkpoint import Checkpoint
from diffdistill.families.loading import without_pickles

OF_PICTURES = ("preprocessor_config.json", "processor_config.json")
SAFE = dict(trust_remote_code=False)  # the default asks whoever sits at the terminal
OF_TEXT = ("tokenizer.json", "vocab.json")


class Encoder:
    """A model such as CLIP, SigLIP or DINOv2, loaded when it is first used; features are fp32, of length 1.

    Args:
        checkpoint: folder or hub name.
        key: of the config, for errors.
        processor: where its image processor and tokenizer are, if not beside the weights.
        text: whether captions are to be encoded.

    Raises:
        InputError: files are missing (at once, for a folder; a hub name is asked for its config at once), the checkpoint is
            a single file, or the model takes no captions.
    """

    def __init__(self, checkpoint: str, key: str, processor: str | None = None, text: bool = False):
        if Path(checkpoint).is_file():  # as HPSv2 and ImageReward are published
            raise InputError(
                f"{key}.checkpoint={checkpoint}: a single file; needed is a folder in the format of transformers"
            )
        self.checkpoint = Checkpoint(checkpoint, f"{key}.checkpoint")
        self.processor = Checkpoint(processor, f"{key}.processor") if processor else self.checkpoint
        check_files(self.checkpoint, [("config.json",)])
        check_files(self.processor, [OF_PICTURES, *([OF_TEXT] if text else [])])
        config = self.checkpoint.read_json("config.json")
        self.checkpoint.check_components([""])
        if text and "text_config" not in config:
            raise InputError(
                f"{self.checkpoint.key}={checkpoint}: a {config.get('model_type')} encodes no text; give a CLIP-like model"
            )

    @property
    def name(self) -> str:
        """The last part of the checkpoint's name: the same for a folder and the hub name that it was downloaded from."""
        return Path(self.checkpoint.name).name

    @cached_property
    def model(self) -> nn.Module:
        """The model in fp32, frozen, in eval mode, on the device that runs use; loaded when it is first asked for."""
        model = self.checkpoint.load(
            transformers.AutoModel.from_pretrained, dtype=torch.float32, **SAFE, **without_pickles()
        )
        return model.eval().requires_grad_(False).to(get_device())

    @cached_property
    def prepare(self):
        """The image processor of the model: pictures to `pixel_values`."""
        # torchvision, where there is one, would resize a little differently
        return self.processor.load(transformers.AutoImageProcessor.from_pretrained, use_fast=False, **SAFE)

    @cached_property
    def tokenize(self):
        """The tokenizer of the model: captions to token ids."""
        return self.processor.load(transformers.AutoTokenizer.from_pretrained, **SAFE)

    @torch.no_grad()
    def of_pictures(self, pictures: Sequence[np.ndarray]) -> Tensor:
        """Features (B, D) of pictures, uint8 (H, W, 3)."""
        pixels = self.prepare(images=list(pictures), return_tensors="pt")["pixel_values"].to(self.model.device)
        images = getattr(self.model, "get_image_features", self.model)(pixel_values=pixels)
        return normalize(pooled(images), dim=-1)

    @torch.no_grad()
    def of_captions(self, captions: Sequence[str]) -> Tensor:
        """Features (B, D) of captions, padded and cut to the model's length."""
        length = self.model.config.text_config.max_position_embeddings
        tokens = self.tokenize(list(captions), padding="max_length", max_length=length, truncation=True, return_tensors="pt")
        return normalize(pooled(self.model.get_text_features(**tokens.to(self.model.device))), dim=-1)


def pooled(output) -> Tensor:
    """One vector for each picture or caption, (B, D): the pooled one, or the first token's where the model pools none."""
    if isinstance(output, Tensor):
        return output
    pooler = getattr(output, "pooler_output", None)
    return output.last_hidden_state[:, 0] if pooler is None else pooler


def check_files(checkpoint: Checkpoint, needed: Sequence[tuple[str, ...]]) -> None:
    """Raise InputError unless a folder has one file of every tuple; a hub name must lead to the first of each."""
    for names in needed:
        if not checkpoint.is_folder:
            if len(names) == 1:
                checkpoint.read_json(names[0])
        elif not any(Path(checkpoint.path, name).exists() for name in names):
            raise InputError(
                f"{checkpoint.key}={checkpoint.name}: the folder has no {names[0]};"
                " `hf download NAME --local-dir FOLDER` fetches all that is needed"
            )
