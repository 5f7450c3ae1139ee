"""Checkpoints that survive a run that dies while it saves one."""

import shutil
from pathlib import Path

from mmengine.dist import is_main_process, master_only
from mmengine.hooks import CheckpointHook

from diffdistill.engine.runner import is_sharded
from diffdistill.registry import HOOKS


@HOOKS.register_module()
class SafeCheckpointHook(CheckpointHook):
    """MMEngine's CheckpointHook, for local disks: there is a whole checkpoint at any moment after the first.

    MMEngine deletes the oldest checkpoint, and then writes the new one under its final name. Here the new one is written
    beside, renamed and noted in `last_checkpoint`, and only then the oldest is deleted.
    """

    def before_train(self, runner) -> None:
        super().before_train(runner)
        self._remove_leftovers()

    @master_only
    def _remove_leftovers(self) -> None:
        for partial in Path(self.out_dir).glob(".iter_*.partial"):
            remove(partial)

    def _save_checkpoint_with_step(self, runner, step: int, meta: dict) -> None:
        folder, name = Path(self.out_dir), self.filename_tmpl.format(step)
        if is_sharded(runner):  # which writes a folder
            name = Path(name).stem
        partial = folder / f".{name}.partial"
        kept = [*(other for other in runner.message_hub.get_info("keep_ckpt_ids", []) if other != step), step]
        self.last_ckpt = str(folder / name)
        # The file knows of those that are to be deleted below, so that a run resumed from it can still do so.
        runner.message_hub.update_info("keep_ckpt_ids", kept)
        runner.message_hub.update_info("last_ckpt", self.last_ckpt)
        runner.save_checkpoint(
            self.out_dir,
            partial.name,
            save_optimizer=self.save_optimizer,
            save_param_scheduler=self.save_param_scheduler and runner.param_schedulers is not None,
            meta=meta,
            by_epoch=self.by_epoch,
            backend_args=self.backend_args,
            **self.args,
        )
        outdated = kept[: -self.max_keep_ckpts] if self.max_keep_ckpts > 0 else []
        runner.message_hub.update_info("keep_ckpt_ids", kept[len(outdated) :])
        if is_main_process():
            partial.replace(folder / name)
            note = Path(runner.work_dir, "last_checkpoint")
            partial_note = note.with_name(".last_checkpoint.partial")
            partial_note.write_text(self.last_ckpt)
            partial_note.replace(note)
            for other in outdated:
                for suffix in ("", ".pth"):  # the run may have been sharded before a resume, or after
                    remove(folder / Path(self.filename_tmpl.format(other)).with_suffix(suffix))


def remove(checkpoint: Path) -> None:
    """Remove a checkpoint, a file or the folder of a sharded run, if it is there."""
    if checkpoint.is_dir():
        shutil.rmtree(checkpoint)
    else:
        checkpoint.unlink(missing_ok=True)
