"""How well pictures follow their captions, or please people, by a CLIP-like model."""

from collections.abc import Sequence

import torch
from torch import Tensor

from diffdistill.metrics.base import Metric
from diffdistill.metrics.encoders import Encoder
from diffdistill.metrics.pictures import resized
from diffdistill.registry import METRICS


class ImageTextMetric(Metric):
    """The cosine of every picture and its caption.

    Args:
        checkpoint: folder or hub name of the model.
        processor: folder or hub name of its image processor and tokenizer, where they are not beside the weights.
        resize: side in pixels to which pictures are squeezed first; None: as they are.
    """

    def __init__(self, checkpoint: str, processor: str | None = None, resize: int | None = None, prefix: str | None = None):
        super().__init__(prefix)
        self.encoder, self.resize = Encoder(checkpoint, type(self).__name__, processor, text=True), resize

    def settings(self) -> dict:
        return dict(weights=self.encoder.name, resize=self.resize)

    def cosines(self, samples: Sequence[dict]) -> Tensor:
        """Cosines (B,) of picture and caption, on the CPU, of samples with `image`, uint8 (H, W, 3), and `caption`."""
        pictures = self.encoder.of_pictures([resized(sample["image"], self.resize) for sample in samples])
        return (pictures * self.encoder.of_captions([sample["caption"] for sample in samples])).sum(-1).cpu()

    def process(self, data_batch, data_samples: Sequence[dict]) -> None:
        self.results += self.cosines(data_samples).tolist()


@METRICS.register_module()
class CLIPScore(ImageTextMetric):
    """CLIP score: the mean cosine between a picture and its caption, `clip_score`, about 0.3 for good ones.

    BK-SDM (Kim et al., 2023, arXiv:2305.15798) prints this figure. Hessel et al. (2021, arXiv:2104.08718) multiply by 2.5,
    without negative cosines; others multiply by 100. The default weights are those of BK-SDM's script, laion2b_s34b_b88k.
    """

    def __init__(
        self,
        checkpoint: str = "laion/CLIP-ViT-g-14-laion2B-s34B-b88K",
        processor: str | None = None,
        resize: int | None = None,
        prefix: str | None = None,
    ):
        super().__init__(checkpoint, processor, resize, prefix)

    def compute_metrics(self, results: list[float]) -> dict[str, float]:
        return dict(clip_score=float(torch.tensor(results).double().mean()))


@METRICS.register_module()
class PreferenceScore(ImageTextMetric):
    """Mean score of a model trained on people's choices, `preference_score`: the cosine times the model's logit scale.

    For PickScore (Kirstain et al., 2023, arXiv:2305.01569) and HPSv2 (Wu et al., 2023, arXiv:2306.09341) in the format of
    transformers. Differences between two sets of pictures for the same captions mean something, single values do not.
    """

    def compute_metrics(self, results: list[float]) -> dict[str, float]:
        scale = self.encoder.model.logit_scale.exp().item()
        return dict(preference_score=scale * float(torch.tensor(results).double().mean()))
