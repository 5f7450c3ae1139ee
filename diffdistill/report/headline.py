"""What a run came to, in a sentence and a few large figures."""

from dataclasses import dataclass

from diffdistill.metrics.record import FINE_TUNED, Role, role_of, teacher_among, warnings_of
from diffdistill.report.data import Run
from diffdistill.report.numbers import count, metric_names, operations, percent, seconds, title_of, unit_of, with_unit


@dataclass
class Figure:
    """A large figure: `value`, what it is (`label`), and what to hold it against (`detail`).

    `share` is the student's part of the teacher's, drawn as a bar; None draws none.
    """

    label: str
    value: str
    detail: str
    share: float | None = None


def scores(run: Run, metric: str) -> dict[str, float | None]:
    """`metric` of the teacher, the untrained student and the student at the last validation, by the value of `Role`."""
    found: dict[str, float | None] = {role.value: None for role in Role}
    for record in run.validation:
        role = role_of(record).value
        found[role] = record.get(metric, found[role])
    return found


def sizes(run: Run) -> tuple[dict, dict]:
    """`parameters` and `gmacs` of teacher and student and the teacher's `checkpoint`, as far as they are known."""
    network = run.record.get("network", {})
    teacher, student = ({**run.results.get(role, {}), **network.get(role, {})} for role in ("teacher", "student"))
    return teacher | ({"checkpoint": network["checkpoint"]} if network else {}), student


def noun(run: Run) -> str:
    """What the page calls what was trained: "student", or "model" for a fine-tuning, which has no teacher."""
    return (
        "model" if run.results.get("base") or any(record["model"] == FINE_TUNED for record in run.validation) else "student"
    )


def sampling(run: Run) -> dict:
    """Seconds for a picture, of the student and its teacher, and how they were timed; {} where they were not."""
    return run.results.get("sampling") or run.record.get("sampling") or {}


def figures(run: Run) -> list[Figure]:
    """The large figures of a page: the main metric, parameters, operations and speed, as far as they are known."""
    found, (teacher, student), times = [], sizes(run), sampling(run)
    for metric in metric_names(run.validation)[:1]:
        score, unit = scores(run, metric), unit_of(metric)
        now = score["student"] if score["student"] is not None else score["untrained"]
        detail = f"teacher {with_unit(score['teacher'], unit)}, untrained student {with_unit(score['untrained'], unit)}"
        if noun(run) == "model":
            detail = f"before training {with_unit(score['untrained'], unit)}"
        found.append(Figure(title_of(metric), with_unit(now, unit), detail, ratio(now, score["teacher"])))
    if teacher.get("parameters") and student.get("parameters"):
        ours, theirs = student["parameters"], teacher["parameters"]
        found.append(
            Figure("of the teacher's parameters", percent(ours, theirs), f"{count(ours)} of {count(theirs)}", ours / theirs)
        )
    if teacher.get("gmacs") and student.get("gmacs"):
        ours, theirs = student["gmacs"], teacher["gmacs"]
        detail = f"{operations(ours)} of {operations(theirs)} a call"
        found.append(Figure("of its operations", percent(ours, theirs), detail, ours / theirs))
    if times.get("student"):
        ours, theirs = times["student"], times.get("teacher")
        if theirs:
            detail = f"{seconds(ours)} a picture, teacher {seconds(theirs)}"
            found.append(Figure("the teacher's speed", f"{theirs / ours:.1f}×", detail))
        else:
            detail = "" if noun(run) == "model" else "no loss needs the teacher, so it was not timed"
            found.append(Figure("for a picture", seconds(ours), detail))
    return found


def ratio(ours: float | None, theirs: float | None) -> float | None:
    """`ours / theirs`, cut to [0, 1]; None where one of them is not known or `theirs` is 0."""
    if ours is None or not theirs:
        return None
    return min(1.0, max(0.0, ours / theirs))


def warnings(run: Run) -> list[str]:
    """What the last figures of what was trained warn of."""
    trained = [record for record in run.validation if role_of(record) is Role.TRAINED]
    return warnings_of(trained[-1], teacher_among(run.validation)) if trained else []


def sentence(run: Run) -> str:
    """Says how good, how large and how fast the student is, in up to three sentences."""
    (teacher, student), times = sizes(run), sampling(run)
    parts = [quality(run, metric) for metric in metric_names(run.validation)[:1]]
    if teacher.get("parameters") and student.get("parameters"):
        size = f"It has {percent(student['parameters'], teacher['parameters'])} of the teacher's parameters"
        if teacher.get("gmacs") and student.get("gmacs"):
            size += f" and needs {percent(student['gmacs'], teacher['gmacs'])} of its operations"
        parts.append(f"{size}.")
    if times.get("student"):
        speed = f"A picture takes it {seconds(times['student'])}"
        if times.get("teacher"):
            factor = times["teacher"] / times["student"]
            how = f"{factor:.1f} times as fast" if factor >= 1 else f"{1 / factor:.1f} times as slow"
            speed += f" where the teacher takes {seconds(times['teacher'])}: {how}"
        steps = f"{times['steps']} sampler steps, " if times.get("steps") else ""
        parts.append(f"{speed} ({steps}{times['pixels']} pixels, one at a time, on {times['device']}).")
    return " ".join(parts)


def quality(run: Run, metric: str) -> str:
    """A sentence with the main metric of student, teacher and untrained student."""
    score, unit = scores(run, metric), unit_of(metric)
    records = [record for record in run.validation if role_of(record) is not Role.TEACHER]
    if score["student"] is None:
        return f"The {noun(run)} is not trained yet: {title_of(metric)} {with_unit(score['untrained'], unit)}."
    reached = f"a {title_of(metric)} of {with_unit(score['student'], unit)}"
    text = f"After {records[-1]['step']:,} steps the {noun(run)} reaches {reached}"
    if score["teacher"] is not None:
        gap = score["student"] - score["teacher"]
        points = f"{abs(gap):.1f} points" if unit == "%" else f"{abs(gap):.4g}"
        text += f", {points} {'below' if gap < 0 else 'above'} its teacher ({with_unit(score['teacher'], unit)})"
    if score["untrained"] is not None:
        text += f"; before training it was {with_unit(score['untrained'], unit)}"
    number = f" (n\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}{records[-1]['n']:,.0f})" if records[-1].get("n") else ""
    return f"{text}{number}."
