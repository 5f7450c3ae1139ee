"""Where a run of several stages stands."""

from mmengine.hooks import Hook

from diffdistill.registry import HOOKS


@HOOKS.register_module()
class StageHook(Hook):
    """Logs which stage of its run a training is."""

    def __init__(self, title: str):
        self.title = title

    def before_train(self, runner) -> None:
        runner.logger.info(self.title)
