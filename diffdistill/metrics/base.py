"""What the project's metrics share: the settings that their figures depend on, and the model where one asks for it."""

from typing import Any

from mmengine.evaluator import BaseMetric

from diffdistill.errors import InputError


class Metric(BaseMetric):
    """A metric that says by which settings its figures were found, so that they can be told from others of the same name.

    Building one reads small files only and finds what is missing; models are loaded when the first picture comes.

    Args:
        prefix: put before the names of the figures, with a slash, where one evaluator has two metrics of a kind.
    """

    default_prefix = ""  # figures keep their own names
    needs_model = False  # whether EvaluationHook hands it the model

    def __init__(self, prefix: str | None = None):
        super().__init__(prefix=prefix)
        self.figures: list[str] = []  # names of what it found last
        self._model: Any = None

    def settings(self) -> dict:
        """What its figures depend on beside the pictures: weights, sizes, reference. Plain values only."""
        return {}

    @property
    def model(self):
        """The model that is measured. Raises InputError where no EvaluationHook has handed one over."""
        if self._model is None:
            raise InputError(
                f"{type(self).__name__} needs the model; add default_hooks.evaluation=dict(type='EvaluationHook')"
            )
        return self._model

    @model.setter
    def model(self, model) -> None:
        self._model = model

    def evaluate(self, size: int) -> dict:
        """The figures, by name, of the `size` samples that were processed; their names are kept in `figures`."""
        figures = super().evaluate(size)
        self.figures = list(figures)
        return figures
