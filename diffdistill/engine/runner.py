"""MMEngine's Runner around a planned model, and what hooks and tools need of one."""

import copy
import functools
import inspect
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

import torch
from mmengine.config import Config
from mmengine.hooks import EMAHook
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapper
from mmengine.registry import MODEL_WRAPPERS, init_default_scope
from mmengine.runner import BaseLoop, Runner
from torch import nn
from torch.utils.data import DataLoader

from diffdistill.datasets.cached import cached_loader
from diffdistill.engine import sharded_checkpoint
from diffdistill.engine.feed import Feed
from diffdistill.engine.launch import is_sharding
from diffdistill.engine.resuming import OF_UPDATES, changed_settings, describe_changes, follow_config, settings_of
from diffdistill.engine.sharding import FullyShard
from diffdistill.engine.stopping import protected
from diffdistill.files import write_text_whole
from diffdistill.models.base import DiffusionModel
from diffdistill.registry import DATASETS


class LaidOutOnce(Config):
    """MMEngine asks for a config's text five times before the first step, and at every save: 0.4 s each to lay it out."""

    _laid_out: ClassVar[dict[str, str]] = {}

    @property
    def pretty_text(self) -> str:
        """The config as Python, laid out once for as long as it does not change."""
        content = repr(self._cfg_dict)
        if content not in self._laid_out:
            self._laid_out.clear()
            self._laid_out[content] = super().pretty_text
        return self._laid_out[content]

    def dump(self, file: str | Path | None = None) -> str | None:
        """Write the config to `file`, whole or not at all, as Python; returns it as text where there is no file."""
        if file is None:
            return self.pretty_text
        write_text_whole(Path(file), self.pretty_text)
        return None


class PlannedRunner(Runner):
    """A Runner whose model is built from its plan, at the moment when MMEngine would build it from the config.

    By then the Runner has set the random seed, on which the first values of adapters depend.
    """

    _latest: ClassVar[str] = ""

    def setup_env(self, env_cfg: dict) -> None:
        """Name this run after a second of its own: MMEngine gives runs of one second in one process the same log.

        The ranks of a run agree, since they have started the same runs before.
        """
        super().setup_env(env_cfg)
        layout = "%Y%m%d_%H%M%S"
        if self._timestamp <= PlannedRunner._latest:
            following = time.mktime(time.strptime(PlannedRunner._latest, layout)) + 1
            self._timestamp = time.strftime(layout, time.localtime(following))
        PlannedRunner._latest = self._timestamp

    @classmethod
    def around(cls, config: Config, build: Callable[[], nn.Module]) -> "PlannedRunner":
        """The Runner of `config`, with the model that `build` returns."""
        config = LaidOutOnce(copy.deepcopy(config._cfg_dict), config.text, config.filename, config.env_variables)
        arguments = {name: config[name] for name in inspect.signature(cls).parameters if name in config}
        if "train_dataloader" in arguments and config.get("data_cache"):  # what is written down keeps the data set itself
            arguments["train_dataloader"] = cached_loader(config)
        return cls(**arguments | dict(model=build), cfg=config)

    def train(self) -> nn.Module:
        """Train, then end the loader's workers: the collector of garbage would wait five seconds for each of them."""
        try:
            return super().train()
        finally:
            if isinstance(self._train_loop, BaseLoop):
                self._train_loop.dataloader.end()

    def build_train_loop(self, loop: BaseLoop | dict) -> BaseLoop:
        """MMEngine's loop, on batches of which any may be the first."""
        section = self._train_dataloader
        if isinstance(section, Mapping):
            loader = self.build_dataloader(section, self.seed, self._randomness_cfg.get("diff_rank_seed", False))
            self._train_dataloader = Feed(loader, self.seed, self.rank)
        try:
            return super().build_train_loop(loop)
        finally:
            self._train_dataloader = section  # whose batch size MMEngine scales learning rates by

    def wrap_model(self, model_wrapper_cfg: dict | None, model: nn.Module) -> nn.Module:
        """The model in its wrapper of several ranks; one that is sharded is not moved to the GPU as a whole before."""
        if self.distributed and is_sharding(model_wrapper_cfg) and not is_model_wrapper(model):
            return MODEL_WRAPPERS.build(model_wrapper_cfg, default_args=dict(module=model))
        return super().wrap_model(model_wrapper_cfg, model)

    def _init_model_weights(self) -> None:
        if not isinstance(self.model, FullyShard):  # which has the values of the first rank already
            super()._init_model_weights()

    @staticmethod
    def build_dataloader(dataloader: DataLoader | dict, *args, **options) -> DataLoader:
        """The loader of a config's section, whose workers outlive a signal that goes to all processes of the run."""
        loader = Runner.build_dataloader(as_it_can_be(dataloader), *args, **options)
        if loader.num_workers:
            loader.worker_init_fn = functools.partial(protected, loader.worker_init_fn)
        return loader

    def checkpoint(self, meta: dict) -> dict:
        """All that a checkpoint holds: what is trained, the optimizer, the schedules, the log, and `meta` with more."""
        meta = meta | dict(
            cfg=self.cfg.pretty_text,
            settings=settings_of(self.cfg),
            world_size=self.world_size,
            seed=self.seed,
            experiment_name=self.experiment_name,
            time=time.strftime("%Y%m%d_%H%M%S"),
        )
        content = dict(
            meta=meta,
            state_dict=model_of(self).state_dict(),
            optimizer=self.optim_wrapper.state_dict(),
            message_hub=self.message_hub.state_dict(),
        )
        if self.param_schedulers is not None:
            content["param_schedulers"] = [scheduler.state_dict() for scheduler in self.param_schedulers]
        self.call_hook("before_save_checkpoint", checkpoint=content)
        return content

    def load_checkpoint(self, filename: str, *args, **options) -> dict:
        """Load the model from `filename`, a file or the folder of a sharded run, and return all that it holds.

        But for a config in its meta, which MMEngine would run as Python on resume.
        """
        in_pieces = sharded_checkpoint.is_sharded_checkpoint(filename)
        if in_pieces or is_sharded(self):
            if in_pieces:
                checkpoint = sharded_checkpoint.load(filename, self.model.mesh if is_sharded(self) else None)
            else:
                checkpoint = torch.load(filename, map_location="cpu", weights_only=True)
                parameters = [parameter for group in self.optim_wrapper.param_groups for parameter in group["params"]]
                sharded_checkpoint.shard(checkpoint, self.model.module, parameters)
            self.call_hook("after_load_checkpoint", checkpoint=checkpoint)
            model_of(self).load_state_dict(checkpoint["state_dict"])
            self._has_loaded = True
            self.logger.info(f"Load checkpoint from {filename}")
        else:
            checkpoint = super().load_checkpoint(filename, *args, **options)
        checkpoint["meta"].pop("config", None)
        self._meta = checkpoint["meta"]
        return checkpoint

    def resume(self, filename: str, *args, **options) -> None:
        """Go on from a checkpoint. What has changed in the config since is logged, and the updates follow the config."""
        fresh = [
            {key: value for key, value in group.items() if key != "params"} for group in self.optim_wrapper.param_groups
        ]
        super().resume(filename, *args, **options)
        if changed := changed_settings(self._meta, self):
            self.logger.warning(describe_changes(changed))
        if any(key.startswith(OF_UPDATES) for key in changed):
            follow_config(self, fresh)

    def build_optim_wrapper(self, optim_wrapper: dict) -> OptimWrapper:
        """The optimizer in its wrapper, with a group of parameters for every network of a model of ours."""
        if isinstance(model_of(self), DiffusionModel) and not isinstance(optim_wrapper, OptimWrapper):
            optim_wrapper = dict(dict(constructor="PerNetwork"), **optim_wrapper)
        return super().build_optim_wrapper(optim_wrapper)

    def build_model(self, model: Callable[[], nn.Module]) -> nn.Module:
        """The model that the function `model` returns, which stands in the place of the config's `model`."""
        return model()


def is_sharded(runner: Runner) -> bool:
    """Whether ranks hold pieces of what `runner` trains. (An adapter is whole on each of them.)"""
    return isinstance(runner.model, FullyShard) and bool(runner.model.structures)


def batch_size_of(loader: DataLoader) -> int:
    """The most samples in a batch of `loader`, which its batch sampler knows where it has one of its own."""
    return loader.batch_sampler.batch_size


def build_dataloader(config: dict, seed: int | None = None) -> DataLoader:
    """The loader of a config's section, for use without a Runner: names of types are looked up in this package first."""
    init_default_scope("diffdistill")
    return Runner.build_dataloader(as_it_can_be(config), seed=seed)


def as_it_can_be(config: DataLoader | Mapping) -> DataLoader | dict:
    """A loader's section without what needs workers where there are none, nor a sampler where a stream has its own order."""
    if not isinstance(config, Mapping):
        return config
    config = dict(config)
    if not config.get("num_workers"):
        config.pop("persistent_workers", None)
        config.pop("prefetch_factor", None)
    dataset = config["dataset"]
    kind = dataset.get("type") if isinstance(dataset, Mapping) else dataset
    if getattr(DATASETS.get(kind) if isinstance(kind, str) else kind, "streamed", False):
        config["sampler"] = None
    return config


def model_of(runner: Runner) -> DiffusionModel:
    """The model that `runner` trains, without the wrapper of several ranks."""
    return runner.model.module if is_model_wrapper(runner.model) else runner.model


@contextmanager
def ema_weights(runner: Runner) -> Iterator[bool]:
    """The student has its EMA weights inside the block, if the run keeps an EMA; yields whether it does.

    Not for use inside validation, where EMAHook has already put them in.
    """
    hook = next((hook for hook in runner.hooks if isinstance(hook, EMAHook)), None)
    if hook is None:
        yield False
        return
    hook._swap_ema_parameters()
    try:
        yield True
    finally:
        hook._swap_ema_parameters()
