"""A hook that notes what a run has trained on; a test imports it by `custom_imports`."""

import json
from pathlib import Path

from mmengine.hooks import Hook

from diffdistill.registry import HOOKS


@HOOKS.register_module(force=True)
class Seen(Hook):
    """Writes the captions of every batch to `captions_<rank>.json` in the run's folder."""

    def before_train(self, runner) -> None:
        self.captions = []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        self.captions.append(list(data_batch["caption"]))

    def after_train(self, runner) -> None:
        Path(runner.work_dir, f"captions_{runner.rank}.json").write_text(json.dumps(self.captions))
