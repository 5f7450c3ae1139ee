"""How a model was trained, in lines for its card: from the config and the figures of the run."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from diffdistill.export.card.names import call, markdown_table, shown
from diffdistill.export.card.source import Source


def training_lines(source: Source) -> Iterator[str]:
    """One line of Markdown for each thing that decided the training."""
    config, results = source.config, source.results
    model = config.model
    yield f"Config: `{results.get('config') or Path(config.filename).stem}`"
    if model.get("adapter") or (model.get("student") or {}).get("adapter"):
        yield f"Adapter: `{call(model.get('adapter') or model.student.adapter)}`"
    yield f"Method: `{call(model.get('method') or dict(type='DenoisingKD'))}`"
    losses = {name: loss for name, loss in (model.get("losses") or {}).items() if loss}
    yield "Losses: " + ", ".join(f"`{name}={call(loss)}`" for name, loss in losses.items())
    yield data_line(config.train_dataloader.dataset)
    optimizer = config.optim_wrapper.optimizer
    yield f"Optimizer: `{call(optimizer)}`, computing in {model.get('dtype', 'float32')}"
    if schedule := config.get("param_scheduler"):
        schedule = [schedule] if isinstance(schedule, Mapping) else schedule
        yield "Learning rate: " + ", then ".join(f"`{call(each)}`" for each in schedule)
    yield steps_line(source)
    if source.averaged:
        yield "Weights: the exponential moving average of the run"
    elif results.get("ema"):
        yield "Weights: the raw ones of the last step, not the average that the run kept"
    if results:
        yield f"Seed: {results['seed']}"
        yield "Versions: " + ", ".join(f"{name} {version}" for name, version in results["versions"].items())


def data_line(dataset: Mapping) -> str:
    """The training data in words: its name, settings and transforms."""
    settings = {key: value for key, value in dataset.items() if key not in ("pipeline", "source")}
    transforms = [each["type"] for each in dataset.get("pipeline") or []]
    text = f"Data: {shown(str(dataset['source']), 'datasets/')}, `{call(settings)}`" if "source" in dataset else (
        f"Data: `{call(settings)}`"
    )  # fmt: skip
    return f"{text}, then {', '.join(transforms)}" if transforms else text


def steps_line(source: Source) -> str:
    """Steps and batch; an update of the weights may gather several steps."""
    config, results = source.config, source.results
    whole = results.get("steps", config.train_cfg.max_iters)
    steps = f"{source.step:,} of {whole:,}" if source.step and source.step != whole else f"{whole:,}"
    batch, counts = results.get("batch_size"), config.optim_wrapper.get("accumulative_counts", 1)
    if batch is None:  # how many GPUs there were is not known
        return f"Steps: {steps}, batches of {config.train_dataloader.batch_size} on each device"
    line = f"Steps: {steps}, batch size {batch}"
    return f"{line}, {counts} steps an update ({counts * batch} pictures)" if counts > 1 else line


def stages_table(results: Mapping) -> str | None:
    """A table in Markdown with a row for every stage of a run; None for a run without stages.

    Where there are stages, `training_lines` describes the last one.
    """
    if not results.get("stages"):
        return None
    rows = [
        [stage["folder"], *map(str, (f"{stage['teacher']['parameters']:,}", f"{stage['steps']:,}", stage["batch_size"]))]
        for stage in results["stages"]
    ]
    return markdown_table(["stage", "teacher's parameters", "steps", "batch size"], rows)
