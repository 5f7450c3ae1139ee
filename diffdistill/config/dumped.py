"""Reading the config that a run has dumped: data alone, so that a folder of somebody else's runs nothing."""

import ast
from pathlib import Path

from mmengine.config import Config

from diffdistill.errors import InputError


def read_dumped(file: Path) -> Config:
    """The config in `file`, as MMEngine dumps one: assignments of dicts, lists, texts and numbers. Nothing in it is run.

    Raises InputError for a file that holds anything else.
    """
    try:
        content = {}
        for statement in ast.parse(file.read_text(encoding="utf-8")).body:
            if not isinstance(statement, ast.Assign) or not isinstance(statement.targets[0], ast.Name):
                raise ValueError(f"line {statement.lineno} is no assignment")
            content[statement.targets[0].id] = value_of(statement.value)
    except (SyntaxError, ValueError, AttributeError, RecursionError) as error:
        reason = str(error).partition("(")[0].strip() or type(error).__name__
        raise InputError(f"{file}: {reason}; a run dumps its config as data alone, so this one is not read") from None
    return Config(content, filename=str(file))


def value_of(node: ast.expr):
    """The value of an expression of constants, lists, tuples, dicts and `dict(...)`. Raises ValueError for any other."""
    if isinstance(node, (ast.List, ast.Tuple)):
        items = [value_of(item) for item in node.elts]
        return items if isinstance(node, ast.List) else tuple(items)
    if isinstance(node, ast.Dict) and None not in node.keys:
        return {value_of(key): value_of(value) for key, value in zip(node.keys, node.values, strict=True)}
    if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "dict" and all(word.arg for word in node.keywords):
        first = {key: value for part in node.args for key, value in value_of(part).items()}  # of keys that are no names
        return {**first, **{word.arg: value_of(word.value) for word in node.keywords}}
    try:
        return ast.literal_eval(node)
    except ValueError:
        raise ValueError(f"line {node.lineno} is code") from None
