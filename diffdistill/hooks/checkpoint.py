"""Checkpoints that survive a run that dies while it saves one."""

from pathlib import Path

import torch
from mmengine.dist import is_main_process
from mmengine.hooks import CheckpointHook

from diffdistill.engine import sharded_checkpoint
from diffdistill.engine.feed import note_stream
from diffdistill.engine.runner import is_sharded
from diffdistill.files import beside, finish_all_writing, remove, write_file_whole, write_text_whole
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
        sharded = is_sharded(runner)
        if sharded:  # a folder, to which every rank writes
            name = Path(name).stem
        kept = [*(other for other in runner.message_hub.get_info("keep_ckpt_ids", []) if other != step), step]
        self.last_ckpt = str(folder / name)
        # The file knows of those that are to be deleted below, so that a run resumed from it can still do so.
        runner.message_hub.update_info("keep_ckpt_ids", kept)
        runner.message_hub.update_info("last_ckpt", self.last_ckpt)
        note_stream(runner)
        content = runner.checkpoint(meta) if sharded or is_main_process() else {}
        if not self.save_optimizer:
            content.pop("optimizer", None)
        partial = beside(folder / name, "partial")
        if sharded:
            sharded_checkpoint.save(content, partial)
        outdated = kept[: -self.max_keep_ckpts] if self.max_keep_ckpts > 0 else []
        runner.message_hub.update_info("keep_ckpt_ids", kept[len(outdated) :])
        if is_main_process():
            if sharded:
                remove(folder / name)
                partial.rename(folder / name)
            else:
                write_file_whole(lambda file: write(content, file), folder / name)
            write_text_whole(Path(runner.work_dir, "last_checkpoint"), self.last_ckpt)
            for other in outdated:
                for suffix in ("", ".pth"):  # the run may have been sharded before a resume, or after
                    remove(folder / Path(self.filename_tmpl.format(other)).with_suffix(suffix))


def write(content: dict, file: Path) -> None:
    """Write a checkpoint; torch tells why that fails only of a file that Python has opened."""
    with file.open("wb") as opened:
        torch.save(content, opened)
