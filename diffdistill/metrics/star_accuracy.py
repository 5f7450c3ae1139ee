"""How well a pipeline of the shapes world has learnt the star, and how much of the rest it still knows."""

from collections.abc import Sequence

from diffdistill.metrics.caption_accuracy import CaptionAccuracy
from diffdistill.registry import METRICS
from diffdistill.shapes import world


@METRICS.register_module()
class StarAccuracy(CaptionAccuracy):
    """`CaptionAccuracy` of the old captions, and beside it percentages of the pictures that should show a star.

    `star`: the picture shows one; `star_accuracy`: with every other attribute that its caption states; `n_star`: how many
    there are. `accuracy` and all other figures are those of the old captions alone, read by an oracle that knows the star,
    so that a star in the place of a circle counts as wrong.
    """

    kinds = world.KINDS

    def process(self, data_batch, data_samples: Sequence[dict]) -> None:
        """Judge samples with `image`, `seen`, `shows` (a caption of the world) and `star`, a bool; see `StarCaptions`."""
        start = len(self.results)
        super().process(data_batch, [{**sample, "caption": sample["shows"]} for sample in data_samples])
        for result, sample in zip(self.results[start:], data_samples, strict=True):
            result["star"] = bool(sample["star"])

    def compute_metrics(self, results: list[dict]) -> dict[str, float]:
        stars = [result for result in results if result["star"]]
        figures = super().compute_metrics([result for result in results if not result["star"]])
        if stars:
            for name, field in (("star", "shape"), ("star_accuracy", "all")):
                figures[name] = 100 * sum(result[field] for result in stars) / len(stars)
        return figures | {"n_star": len(stars)}
