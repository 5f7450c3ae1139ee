"""Checkpoints that survive a run that dies while it saves one."""

from pathlib import Path

import torch
from mmengine.dist import is_main_process
from mmengine.hooks import CheckpointHook

from diffdistill.files import finish_all_writing, write_file_whole, write_text_whole
from diffdistill.hooks.guard import check_finite, skipped_in_a_row
from diffdistill.registry import HOOKS


@HOOKS.register_module()
class SafeCheckpointHook(CheckpointHook):
    """MMEngine's CheckpointHook, for local disks: there is a whole checkpoint at any moment after the first.

    MMEngine deletes the oldest checkpoint, and then writes the new one under its final name. Here the new one is written
    beside, renamed and noted in `last_checkpoint`, and only then the oldest is deleted. While updates are left out as not
    finite, none is written, so that those from before stay. Raises Diverged for weights that are not finite.
    """

    def before_train(self, runner) -> None:
        super().before_train(runner)
        if is_main_process():
            finish_all_writing(Path(self.out_dir))

    def _save_checkpoint_with_step(self, runner, step: int, meta: dict) -> None:
        check_finite(runner, step)
        if skipped_in_a_row(runner) and step < runner.max_iters:
            runner.logger.warning(f"no checkpoint at step {step}: its update was left out")
            return
        folder, name = Path(self.out_dir), self.filename_tmpl.format(step)
        kept = [*(other for other in runner.message_hub.get_info("keep_ckpt_ids", []) if other != step), step]
        self.last_ckpt = str(folder / name)
        # The file knows of those that are to be deleted below, so that a run resumed from it can still do so.
        runner.message_hub.update_info("keep_ckpt_ids", kept)
        runner.message_hub.update_info("last_ckpt", self.last_ckpt)
        if is_main_process():
            content = runner.checkpoint(meta)
            if not self.save_optimizer:
                del content["optimizer"]
            write_file_whole(lambda partial: write(content, partial), folder / name)
        outdated = kept[: -self.max_keep_ckpts] if self.max_keep_ckpts > 0 else []
        runner.message_hub.update_info("keep_ckpt_ids", kept[len(outdated) :])
        if is_main_process():
            write_text_whole(Path(runner.work_dir, "last_checkpoint"), self.last_ckpt)
            for other in outdated:
                Path(folder, self.filename_tmpl.format(other)).unlink(missing_ok=True)


def write(content: dict, file: Path) -> None:
    """Write a checkpoint; torch tells why that fails only of a file that Python has opened."""
    with file.open("wb") as opened:
        torch.save(content, opened)
