"""What aspect buckets save, in the log and the figures of a run."""

from mmengine.hooks import Hook

from diffdistill.datasets.batches import AspectBatchSampler
from diffdistill.registry import HOOKS


@HOOKS.register_module()
class BucketsHook(Hook):
    """Logs at the start which share of the pixels cropping to aspect buckets loses, and what squares would lose.

    The figures of `AspectBatchSampler.figures` stand in the message hub as `aspect_buckets`; without buckets it is None.
    """

    priority = "VERY_HIGH"

    def before_train(self, runner) -> None:
        sampler = runner.train_dataloader.batch_sampler
        figures = sampler.figures() if isinstance(sampler, AspectBatchSampler) else None
        runner.message_hub.update_info("aspect_buckets", figures)
        if figures:
            cropped = (
                ""
                if figures["lost"] is None
                else (
                    f"; cropping loses {figures['lost']:.1%} of a picture on average, and would lose"
                    f" {figures['lost_to_squares']:.1%} to squares"
                )
            )
            runner.logger.info(
                f"Aspect buckets: {figures['samples']:,} pictures in {len(figures['buckets'])} sizes, {figures['batches']:,}"
                f" batches an epoch on each rank{cropped}"
            )
