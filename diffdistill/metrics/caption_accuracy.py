"""How often pictures of the shapes world show what their captions state."""

from collections.abc import Iterable, Sequence

import numpy as np

from diffdistill.errors import InputError
from diffdistill.metrics.base import Metric
from diffdistill.registry import METRICS
from diffdistill.shapes import oracle, world


@METRICS.register_module()
class CaptionAccuracy(Metric):
    """Percentages of pictures that the oracle reads as their captions state.

    `accuracy` counts pictures with every stated attribute right, of which `seen` and `held_out` are the two kinds of
    captions; `shape`, `colour`, `background`, `size` and `position` count one attribute each, the position among captions
    that state one; `n` is the number of pictures. A figure of no picture at all is left out.
    """

    kinds = world.SHAPES  # that the oracle chooses from

    def process(self, data_batch, data_samples: Sequence[dict]) -> None:
        """Judge samples with `image`, uint8 (32, 32, 3); `caption`; and `seen`, a bool.

        Raises InputError for a caption of another world, or pictures of another size.
        """
        images = [np.asarray(sample["image"]) for sample in data_samples]
        check_pictures(images, "CaptionAccuracy")
        captions = [sample["caption"] for sample in data_samples]
        right = oracle.judge(np.stack(images), captions, self.kinds)
        for i, sample in enumerate(data_samples):
            judged = {name: bool(values[i]) for name, values in right.items()}
            if world.parse(captions[i]).position is None:
                del judged["position"]
            self.results.append({**judged, "seen": bool(sample["seen"])})

    def compute_metrics(self, results: list[dict]) -> dict[str, float]:
        counted = {
            "accuracy": [result["all"] for result in results],
            "seen": [result["all"] for result in results if result["seen"]],
            "held_out": [result["all"] for result in results if not result["seen"]],
            **{name: [result[name] for result in results if name in result] for name in oracle.FIELDS},
        }
        return {name: 100 * float(np.mean(values)) for name, values in counted.items() if values} | {"n": len(results)}


def check_pictures(pictures: Iterable[np.ndarray], metric: str) -> None:
    """Raise InputError, naming the metric, for a picture that is not of the shapes world's size and type."""
    side = world.RESOLUTION
    for picture in pictures:
        if picture.shape != (side, side, 3) or picture.dtype != np.uint8:
            raise InputError(
                f"{metric}: a picture is {picture.dtype} {picture.shape}; "
                f"those of the shapes world are uint8 ({side}, {side}, 3)"
            )
