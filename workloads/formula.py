"""Arithmetic over a run's own settings, as text: `expit(3 - 2 * (log10(optim.lr) + 3)**2)`.

Names are a spec's dotted fields. Numbers, + - * / **, parentheses, and the functions of `FUNCTIONS` are all there is:
nothing is executed.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Mapping
from typing import Any

FUNCTIONS: dict[str, Callable[..., float]] = {
    "abs": abs,
    "cos": math.cos,
    "exp": math.exp,
    "expit": lambda x: 1.0 / (1.0 + math.exp(-x)) if x > 0 else math.exp(x) / (1.0 + math.exp(x)),
    "log": math.log,
    "log10": math.log10,
    "log2": math.log2,
    "max": max,
    "min": min,
    "sin": math.sin,
    "sqrt": math.sqrt,
}
_OPERATORS: dict[type[ast.AST], Callable[..., float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
}


def unreadable(text: str) -> str:
    """What is wrong with a formula, whatever the run; empty where nothing is."""
    try:
        _walk(ast.parse(text, mode="eval").body, lambda name: 1.0, is_dry=True)
    except (SyntaxError, ValueError, RecursionError) as error:
        return str(error) if type(error) is ValueError else "no arithmetic"
    return ""


def value_of(text: str, settings: Mapping[str, Any]) -> float:
    """A readable formula's value for a run.

    Raises:
        ValueError: a name that is no number of the run, or arithmetic without a result.
    """

    def number(name: str) -> float:
        value = settings.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"{name} is {'no field' if name not in settings else 'no number'} of the run")
        return float(value)

    try:
        found = _walk(ast.parse(text, mode="eval").body, number, is_dry=False)
    except (ArithmeticError, TypeError) as error:
        raise ValueError(f"{text} has no value: {error}") from None
    if isinstance(found, complex) or not math.isfinite(found):
        raise ValueError(f"{text} is {found}")
    return float(found)


def _walk(node: ast.AST, number: Callable[[str], float], *, is_dry: bool) -> Any:
    """The value of a piece of a formula; dry, only its form is looked at."""
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        return float(node.value)  # type: ignore[arg-type]
    if isinstance(node, ast.Name | ast.Attribute):
        return number(ast.unparse(node))
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        sides = [_walk(side, number, is_dry=is_dry) for side in (node.left, node.right)]
        return 1.0 if is_dry else _OPERATORS[type(node.op)](*sides)
    if isinstance(node, ast.UnaryOp) and type(node.op) in _OPERATORS:
        inner = _walk(node.operand, number, is_dry=is_dry)
        return 1.0 if is_dry else _OPERATORS[type(node.op)](inner)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords and node.args:
        if node.func.id not in FUNCTIONS:
            raise ValueError(f"got the function {node.func.id!r}; expected one of {', '.join(FUNCTIONS)}")
        inside = [_walk(argument, number, is_dry=is_dry) for argument in node.args]
        return 1.0 if is_dry else FUNCTIONS[node.func.id](*inside)
    raise ValueError(f"got {ast.unparse(node)!r}; expected numbers, fields, + - * / ** and functions of them")
