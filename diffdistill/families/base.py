"""What all families share: checking, loading and assembling a diffusers pipeline around a denoiser."""

import inspect
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import ClassVar

import diffusers
import torch
import transformers
from torch import Tensor, nn

from diffdistill.errors import InputError
from diffdistill.families.checkpoint import Checkpoint
from diffdistill.families.latents import LatentCoding
from diffdistill.families.loading import freeze, load_model, load_pipeline
from diffdistill.families.reading import check_parts, predicting, read_noise_schedule, vae_config
from diffdistill.families.runtimes import RuntimeFolder
from diffdistill.families.terminal_snr import check_terminal_snr, rescaled_config, rescaled_sampler
from diffdistill.families.thrift import check_thrift, offload
from diffdistill.noise import FlowMatching, NoiseSchedule, VariancePreserving
from diffdistill.students.denoisers.rules import rules_of


class Family(LatentCoding):
    """A kind of diffusers text-to-image pipeline.

    A family keeps no weights: it knows how to load a pipeline, turn a batch into latents and conditioning, call a denoiser,
    and put another one in. It is the only place that does. Building it reads only small config files.

    Args:
        checkpoint: a diffusers folder, a hub name, a pipeline of this package (`diffdistill::sdxl_shapes`) or a single file.
        vae: a VAE checkpoint of its own, instead of the pipeline's.
        variant: which files of the checkpoint to take, e.g. "fp16".
        denoiser: the folder of a denoiser instead of the pipeline's, e.g. of a student that has become a teacher; or the
            config of one, to plan with what is still to be trained.
        prediction_type: of that denoiser, where it is not the pipeline's.
        zero_terminal_snr: rescale the noise schedule, of training and sampling, until it ends in pure noise (Lin et al.,
            2023, arXiv:2305.08891, alg. 1). Only with v-prediction.
        quantize: "int8" holds the frozen denoiser and text encoders in 8 bits (torchao); first weights are copied before.
        offload: keep frozen text encoders and the VAE on the CPU, from where each layer visits the GPU.
        config: of a single file: the folder or hub name of a pipeline of its kind, for what the file does not hold.
        key: where the config names this family, for errors; models set it.
    """

    pipeline_class: type
    denoiser_class: type
    denoiser_name = "transformer"
    noise: type[NoiseSchedule] = FlowMatching
    models: tuple[str, ...]  # the other models of the pipeline
    optional: tuple[str, ...] = ()  # those of them that a pipeline may do without
    sigmas_given = False  # whether the pipeline hands its scheduler evenly spaced sigmas, which end at one step from clean
    load_options: ClassVar[dict] = {}  # for `from_pretrained`: leaves out what neither training nor sampling needs
    max_sequence_length: int | None = None  # tokens of the text that the denoiser sees, where a config says how many
    of_picture: tuple[str, ...] = ()  # entries of the conditioning that describe the picture and not its caption
    runtime: RuntimeFolder | None = None  # whose models draw pictures in the place of the checkpoint's

    def __init__(
        self,
        checkpoint: str,
        vae: str | None = None,
        variant: str | None = None,
        denoiser: str | Mapping | None = None,
        prediction_type: str | None = None,
        zero_terminal_snr: bool = False,
        quantize: str | None = None,
        offload: bool = False,
        config: str | None = None,
        key: str = "model.teacher",
    ):
        self.key = key
        self.checkpoint = Checkpoint(checkpoint, f"{key}.checkpoint", config)
        self.vae = vae and Checkpoint(vae, f"{key}.vae")
        check_thrift(quantize, offload, key)
        self.variant, self.quantize, self.offload = variant, quantize, offload
        there = check_parts(self)
        self.models = tuple(name for name in self.models if name in there)
        self.checkpoint.check_components([self.denoiser_name, *(n for n in self.models if not vae or n != "vae")], variant)
        self.checkpoint.check_tokenizers([name for name in there if name.startswith("tokenizer")])
        if self.vae:
            self.vae.check_components([""])
            self.vae.read_json("config.json")
        self.denoiser = Checkpoint(denoiser, f"{key}.denoiser") if isinstance(denoiser, str) else None
        own = self.read_student_config(self.denoiser) if self.denoiser else denoiser
        self.denoiser_config = own or self.checkpoint.read_json(f"{self.denoiser_name}/config.json")
        self.check_denoiser()
        scheduler = self.checkpoint.read_json("scheduler/scheduler_config.json")
        self.zero_terminal_snr = zero_terminal_snr
        if zero_terminal_snr and self.noise is not VariancePreserving:
            raise InputError(f"{key}.zero_terminal_snr=True: flow matching ends in pure noise as it is; leave it out")
        schedule = read_noise_schedule(self, rescaled_config(scheduler) if zero_terminal_snr else scheduler)
        self.noise_schedule = predicting(self, schedule, prediction_type)
        check_terminal_snr(self.noise_schedule, zero_terminal_snr, f"{key}.checkpoint={checkpoint}")

    def check_denoiser(self) -> None:
        """Raise InputError for a denoiser that wants more than `predict` gives it."""

    @property
    def patch(self) -> int:
        """The side of a token of the picture, in latents."""
        return self.denoiser_config.get("patch_size") or 1

    @property
    def vae_scale(self) -> int:
        """The side of a latent, in pixels."""
        return 2 ** (len(vae_config(self)["block_out_channels"]) - 1)

    @property
    def native_size(self) -> int:
        """The side of a picture at the native resolution, in pixels."""
        return rules_of(self.denoiser_class).latent_size(self.denoiser_config) * self.vae_scale

    @property
    def call_options(self) -> dict:
        """Arguments of the pipeline's call that sampling must share with training."""
        return {}

    @property
    def text_options(self) -> dict:
        """What decides how captions are encoded, beside the files of the text encoders; JSON values."""
        return dict(max_sequence_length=self.max_sequence_length)

    @property
    def text_length(self) -> int:
        """The number of tokens of a caption that the denoiser sees."""
        return self.max_sequence_length or self.clip_length

    @property
    def clip_length(self) -> int:
        """The number of tokens that the first text encoder takes, one of CLIP's."""
        return self.checkpoint.read_json("text_encoder/config.json").get("max_position_embeddings", 77)

    def predict(self, denoiser: nn.Module, noisy: Tensor, timesteps: Tensor, condition: dict) -> Tensor:
        """What `denoiser` predicts for `noisy` latents (B, C, H, W), of that shape, in its own dtype.

        `timesteps` (B,) are those of the noise schedule, `condition` is what `encode_captions` returns.
        """
        raise NotImplementedError

    def tell_guidance(
        self, pipeline: diffusers.DiffusionPipeline, denoiser: nn.Module, condition: dict, scales: Tensor
    ) -> dict:
        """The conditioning, with the guidance `scales` (B,) in it if `denoiser` has an embedding of them."""
        return condition

    def sampled_latents(self, latents: Tensor, height: int, width: int) -> Tensor:
        """Latents (B, C, h, w) of what the pipeline returns as "latent" for pictures of that size."""
        return latents

    @property
    def text_encoders(self) -> list[str]:
        """Names of the pipeline's text encoders, such as "text_encoder" and "text_encoder_2"."""
        return [name for name in self.models if name.startswith("text_encoder")]

    def build_on_meta(self, name: str) -> nn.Module:
        """The model `name` of the pipeline, one of `models`, without its weights."""
        library, class_name = self.checkpoint.read_json("model_index.json")[name]
        config = vae_config(self) if name == "vae" else self.checkpoint.read_json(f"{name}/config.json")
        with torch.device("meta"):
            if library == "diffusers":
                return getattr(diffusers, class_name).from_config(config)
            model_class = getattr(transformers, class_name)
            return model_class(model_class.config_class.from_dict(config))

    def load(
        self, dtype: torch.dtype, trained: Collection[str] = (), without: Collection[str] = ()
    ) -> diffusers.DiffusionPipeline:
        """The pipeline without denoiser and models of `without`, in eval mode, frozen in `dtype`, `trained` ones in fp32."""
        options = {self.denoiser_name: None, **self.load_options, **dict.fromkeys(without)}
        if self.runtime:
            options |= self.runtime.parts([name for name in self.models if name not in without])
        elif self.vae and "vae" not in without:
            kind = self.checkpoint.read_json("model_index.json")["vae"][1]
            options["vae"] = load_model(self.vae, getattr(diffusers, kind))
        pipeline = load_pipeline(self.checkpoint, self.pipeline_class, self.variant, **options)
        for name, model in pipeline.components.items():
            if isinstance(model, nn.Module) and name in trained:
                nn.Module.to(model, torch.float32)
            elif isinstance(model, nn.Module):
                freeze(model, dtype)
        if dtype == torch.float16 and pipeline.vae is not None and pipeline.vae.config.get("force_upcast"):
            pipeline.vae.float()  # such a VAE overflows in fp16, as its config says
        for name in ("vae", *self.text_encoders) if self.offload else ():
            if name not in (*trained, *without):
                offload(getattr(pipeline, name))
        if self.zero_terminal_snr:
            pipeline.scheduler = rescaled_sampler(pipeline.scheduler)
        return pipeline

    def load_encoders(self, dtype: torch.dtype) -> dict[str, nn.Module]:
        """The VAE and the text encoders by their names, as `load` has them."""
        pipeline = self.load(dtype)
        return {name: getattr(pipeline, name) for name in ("vae", *self.text_encoders)}

    def load_denoiser(self) -> nn.Module:
        """The teacher's denoiser in fp32: the student's first weights are copied from it before it is cast."""
        if self.denoiser:
            return self.load_student(self.denoiser)
        return self._load_denoiser(self.checkpoint, subfolder=self.denoiser_name, variant=self.variant)

    def load_student(self, checkpoint: Checkpoint) -> nn.Module:
        """A pretrained student's denoiser in fp32, from a pipeline or from the folder of the denoiser alone."""
        if self.runtime and checkpoint is self.runtime.checkpoint:
            return self.runtime.part(self.denoiser_name)
        return self._load_denoiser(checkpoint, subfolder=self._student_folder(checkpoint) or None)

    def _load_denoiser(self, checkpoint: Checkpoint, **options) -> nn.Module:
        return load_model(checkpoint, self.denoiser_class, exact=True, **options)

    def read_student_config(self, checkpoint: Checkpoint) -> dict:
        """The config of a pretrained student's denoiser; on disk, its weights are checked as well."""
        folder = self._student_folder(checkpoint)
        checkpoint.check_components([folder])
        config = checkpoint.read_json(f"{folder}/config.json".lstrip("/"))
        if config.get("_class_name") != self.denoiser_class.__name__:
            raise InputError(
                f"{checkpoint.key}={checkpoint.name} holds {config.get('_class_name')};"
                f" needed is {self.denoiser_class.__name__}, or a pipeline with one"
            )
        return config

    def _student_folder(self, checkpoint: Checkpoint) -> str:
        if checkpoint.single:
            checkpoint.like = self.checkpoint  # of whose denoiser it is a cut
        alone = checkpoint.is_folder and not Path(checkpoint.path, self.denoiser_name).is_dir()
        return "" if alone else self.denoiser_name

    def assemble(self, pipeline: diffusers.DiffusionPipeline, denoiser: nn.Module) -> diffusers.DiffusionPipeline:
        """A pipeline of the same parts around `denoiser`."""
        parts = {**pipeline.config, **self.load_options, **pipeline.components, self.denoiser_name: denoiser}
        # Its constructor, not a copy: that is where a pipeline reads its native resolution off the denoiser.
        whole = self.pipeline_class(
            **{name: parts[name] for name in inspect.signature(self.pipeline_class).parameters if name in parts}
        )
        whole.set_progress_bar_config(disable=True)
        return whole

    def encode_captions(self, pipeline: diffusers.DiffusionPipeline, batch: dict) -> dict:
        """The denoiser's conditioning, tensors of B rows; it carries gradients where a text encoder is trained."""
        raise NotImplementedError

    def condition_at(self, pipeline: diffusers.DiffusionPipeline, captions: list[str], height: int, width: int) -> dict:
        """The conditioning of captions for whole pictures of that size, in pixels."""
        return self.encode_captions(pipeline, dict(caption=captions))

    def replace_captions(self, pipeline: diffusers.DiffusionPipeline, condition: dict, captions: list[str]) -> dict:
        """The conditioning of the same pictures with other captions."""
        return self.encode_captions(pipeline, dict(caption=captions))
