"""The search for a student from end to end: scores, candidates, their errors, short trainings, and what is written."""

import json
from dataclasses import asdict
from pathlib import Path

from mmengine.config import Config
from mmengine.device import get_device

from diffdistill.benchmarks.inference import choose_protocol, step_inputs
from diffdistill.config.cache import check_cache
from diffdistill.config.check import check, check_model
from diffdistill.errors import InputError
from diffdistill.files import check_folder, write_text_whole
from diffdistill.metrics.record import TEACHER
from diffdistill.models.base import DiffusionModel, build_model
from diffdistill.runs.folder import locked
from diffdistill.runs.progress import counting, noting
from diffdistill.search import scores as scoring
from diffdistill.search.budget import Costs, cost_of, limits, time_modules
from diffdistill.search.candidates import Task, candidates
from diffdistill.search.page import write_page
from diffdistill.search.ranking import chosen, correlations, rank
from diffdistill.search.samples import Samples
from diffdistill.search.settings import Settings, check_searchable
from diffdistill.search.short import measure, name_of, prompts_of, save_pictures, train_and_measure
from diffdistill.search.space import Cut, Space
from diffdistill.search.speed import measure_seconds
from diffdistill.search.state import State, about
from diffdistill.search.writing import config_text
from diffdistill.students.denoisers.rules import rules_of
from diffdistill.students.size import count

HELD_OUT = 10_000  # batches of the training that validation samples are behind


class Search:
    """A search in the folder `out`, of a student of the config's teacher.

    Raises InputError, before a weight is loaded, for what cannot be searched.
    """

    def __init__(self, config: Config, settings: Settings, out: Path):
        check_searchable(config)
        self.config, self.settings, self.out = config, settings, out
        if settings.seed is not None:
            config.randomness["seed"] = settings.seed
        self.space = Space(config)
        self.costs = Costs(self.space.denoiser)
        self.whole = cost_of(self.space.denoiser, self.space.beside)  # of the space
        self.teacher_cost = cost_of(self.space.teacher, self.space.beside)
        asked = {unit: number for unit, number in settings.budgets.items() if unit != "seconds"}
        self.budgets = limits(asked, self.teacher_cost)
        if (share := settings.budgets.get("seconds")) and share >= 1:
            raise InputError(f"--budget seconds={share:g}: the teacher itself meets it; give a share below 1")
        self.scores: dict[str, float] = {}
        seed = config.get("randomness", {}).get("seed") or 0
        self.state = State(out, about(self.space, settings.samples, seed))
        self.seed = seed

    def plan(self) -> dict:
        """How much there is to do, in numbers."""
        space, settings = self.space, self.settings
        layers = scoring.number_of_errors(space)
        scale = float((self.config.model.get("sampling") or {}).get("guidance_scale") or 1)
        each = settings.samples * (2 if scale > 1 and not space.plan.embeds_guidance else 1)
        steps = self.steps
        batch = self.config.train_dataloader.get("batch_size", 1)
        gmacs = self.teacher_cost["gmacs"]
        ranked = settings.candidates if settings.budgets else 0
        trained = settings.train if settings.budgets else 0
        forwards = each * (layers + ranked + trained)
        # A step: the teacher forward, the student forward, and backward, which is two forwards.
        training = trained * steps * batch * 4
        return dict(
            layers=len(space.removable),
            errors=layers,
            forwards=forwards,
            candidates=ranked,
            trained=trained,
            steps=steps,
            petaflops=2e-6 * gmacs * (forwards + training),
            space=len(space.base),
        )

    @property
    def steps(self) -> int:
        """Steps of a short training: as asked for, or the config's own, but 300 at most."""
        return self.settings.steps or min(self.config.train_cfg.get("max_iters") or 300, 300)

    def run(self, command: str, name: str, sensitivity_only: bool = False) -> dict:
        """Search, and write the config, the figures and the page; returns the figures."""
        check_folder(str(self.out), "--out")
        plan = check(self.config)
        self.out.mkdir(parents=True, exist_ok=True)
        with locked(str(self.out)):
            model = self.load(plan)
            samples = Samples(model, self.config, self.settings.samples)
            samples.learn_teacher(self.teacher)
            self.score(samples)
            found: list[Cut] = []
            if not sensitivity_only:
                found = self.find(samples)
                self.train(found, model)
            return self.write(found, command, name)

    def load(self, plan) -> DiffusionModel:
        """A model whose student is the teacher; `base` is what the space has left of it."""
        model = self.config.model
        whole = dict(
            type="Distiller", teacher=model.teacher, losses={}, sampling=model.get("sampling"),
            dtype=model.get("dtype", "float32"),
        )  # fmt: skip
        planned = check_model(whole)
        planned.cache = check_cache(self.config, plan)
        loaded = build_model(whole, planned).to(get_device()).eval()
        self.teacher = loaded.student.requires_grad_(False)
        cut = self.space.cut("all", self.space.in_teacher({}))
        self.base = self.space.student(self.teacher, cut) if self.space.base else self.teacher
        return loaded

    def score(self, samples: Samples) -> None:
        """Measure the scores that are not known yet."""
        total = scoring.number_of_errors(self.space)
        with counting(disable=False) as progress:
            bar = progress.add_task("scores of layers", total=total, rate="")
            scoring.score(self.space, self.teacher, self.base, samples, self.state, noting(progress, bar))
        self.scores = scoring.layer_scores(self.space, self.state)

    def add_seconds(self) -> None:
        """Measure what a call takes, and each layer of it, for a budget of seconds."""
        share = self.settings.budgets.get("seconds")
        if not share:
            return
        device = next(self.base.parameters()).device.type
        protocol = choose_protocol(device=device, dtype="float32", parts=("step",))
        size = rules_of(self.space.kind).latent_size(self.base.config)
        names = list(dict.fromkeys([*self.space.removable, *self.stage_modules()]))
        self.costs.seconds, whole = time_modules(self.base, names, step_inputs(self.base, size, protocol), device)
        self.whole["seconds"] = self.teacher_cost["seconds"] = whole
        self.budgets += limits(dict(seconds=share), self.teacher_cost)

    def stage_modules(self) -> list[str]:
        """Modules that are dropped with a stage."""
        return [module for frame in self.space.frames for module in frame.dropped]

    def find(self, samples: Samples) -> list[Cut]:
        """The candidates within the budgets, ranked by the error of the whole cut."""
        self.add_seconds()
        frames = scoring.frame_scores(self.space, self.state)
        task = Task(self.space, self.scores, frames, self.costs, self.whole, self.budgets)
        found = candidates(task, self.settings.candidates)
        with counting(disable=False) as progress:
            bar = progress.add_task("errors of candidates", total=len(found), rate="")
            note = noting(progress, bar)
            for cut in found:
                cut.error = self.state.known("cut", cut.key)
                if cut.error is None:
                    cut.error = self.state.note(samples.error(self.space.student(self.teacher, cut)), "cut", cut.key)
                note(1)
        if "seconds" in self.settings.budgets:
            found = self.fast_enough(found)
        return sorted(found, key=lambda cut: cut.error)

    def fast_enough(self, found: list[Cut]) -> list[Cut]:
        """Those of the candidates that meet the budget of seconds as they are measured side by side with the teacher."""
        with counting(disable=False) as progress:
            bar = progress.add_task("seconds of candidates", total=None, rate="")
            for _ in measure_seconds(self.space, found, self.teacher, self.teacher_cost["seconds"]):
                progress.advance(bar)
        meeting = [cut for cut in found if all(budget.meets(cut.cost) for budget in self.budgets)]
        if not meeting:
            least = min(cut.cost["seconds"] for cut in found) / self.teacher_cost["seconds"]
            raise InputError(f"--budget seconds: no candidate meets it; the fastest takes {least:.2f} of the teacher's time")
        return meeting

    def train(self, found: list[Cut], model: DiffusionModel) -> None:
        """Train the best, by their errors and of every kind of pattern, and measure them."""
        prompts, steps = prompts_of(self.config), self.steps
        best = chosen(found, self.settings.train)
        teacher_folder = self.out / TEACHER
        if best and self.state.known("metrics", TEACHER) is None:
            self.state.note(measure(self.config, model), "metrics", TEACHER)
            save_pictures(model, teacher_folder, prompts)
        self.held_out = Samples(model, self.config, self.settings.samples, first=HELD_OUT)
        self.held_out.learn_teacher(self.teacher)
        repeat = self.settings.repeat if best else ()
        with counting(disable=False) as progress:
            bar = progress.add_task(f"trainings of {steps} steps", total=len(best) + len(repeat), rate="")
            note = noting(progress, bar)
            for cut in best:
                cut.folder, cut.trained_error, cut.metrics = self.trained(cut, self.settings.seed)
                note(1)
            for seed in repeat:
                winner = rank(best)[0]
                *_, winner.seeds[str(seed)] = self.trained(winner, seed)
                note(1)

    def trained(self, cut: Cut, seed: int | None) -> tuple[str, float, dict[str, float]]:
        """The folder of a cut's short training with `seed` (None: the config's), and the error and metrics after it."""
        used = self.seed if seed is None else seed
        folder = self.out / "candidates" / f"{name_of(cut)}_{self.steps}_{used}"
        names = "trained", cut.key, str(self.steps), str(used)
        if (figures := self.state.known(*names)) is None or not folder.exists():
            prompts = prompts_of(self.config)
            found = train_and_measure(self.space, cut, folder, self.steps, seed, self.held_out, prompts)
            figures = self.state.note(list(found), *names)
        return str(folder), *figures

    def write(self, found: list[Cut], command: str, name: str) -> dict:
        """Write what was found to the folder; returns the figures."""
        ranked = rank(found)
        figures = dict(
            command=command,
            config=self.config.filename,
            budgets=[asdict(budget) for budget in self.budgets],
            teacher=dict(
                parameters=count(self.space.teacher), cost=self.teacher_cost, metrics=self.state.known("metrics", TEACHER)
            ),
            plan=self.plan(),
            scores=scoring.rows(self.space, self.state),
            candidates=[asdict(cut) for cut in ranked],
            rank_correlation=correlations(ranked),
        )
        write_text_whole(self.out / f"{name}.json", json.dumps(figures, indent=2) + "\n")
        config = ""
        if ranked:
            file = self.out / f"{name}.py"
            config = config_text(
                self.space, ranked[0], Path(self.config.filename), self.out, self.summary(ranked[0], command)
            )
            write_text_whole(file, config)
            figures["file"] = str(file)
        write_page(self.space, figures, ranked, self.out / f"{name}.html", config, prompts_of(self.config))
        return figures

    def summary(self, cut: Cut, command: str) -> list[str]:
        """The docstring of the config: what was found, its scores, and the command."""
        costs = ((budget.unit, cut.cost[budget.unit] / self.teacher_cost[budget.unit]) for budget in self.budgets)
        shares = " and ".join(f"{100 * share:.1f} % of its {unit}" for unit, share in costs)
        after = "" if cut.trained_error is None else f", {cut.trained_error:.4f} after {self.steps} steps"
        metrics = "".join(f", {name} {value:.4g}" for name, value in list(cut.metrics.items())[:1])
        return [
            f"{self.space.family.checkpoint.name} cut to {shares}.",
            f"Error {cut.error:.4f} untrained{after}{metrics}.",
            command,
        ]
