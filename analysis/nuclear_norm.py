"""Matrices with missing entries, completed by the least nuclear norm: what a network's error is held against.

Of all matrices that agree with the entries shown, one whose singular values have the smallest sum. Nothing is told of
the rank. The problem is convex, so any solver that converges finds that smallest sum.

Source: Fazel 2002, Matrix rank minimization with applications; Candès and Recht 2009, Found. Comput. Math. 9:717.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from analysis.errors import AnalysisError
from analysis.models.optional import package

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
ACCURACY = 1e-5  # of the solver, relative to the problem's own numbers


class NotCompleted(AnalysisError):
    """The solver found no answer, or matrices and masks do not fit."""


def completed(matrices: Array, observed: Mask) -> Array:
    """Each matrix as the least nuclear norm completes it.

    Args:
        matrices: `(n, rows, columns)`; what stands at missing entries is not looked at.
        observed: which entries are shown, of the same shape.

    Returns:
        `(n, rows, columns)`.

    Raises:
        NotCompleted: shapes differ, an entry that is shown is not finite, or the solver did not converge.
        MissingPackage: cvxpy is not installed (extra `convex`).

    Checked by: test_nuclear_norm.py::test_errors_are_the_reference_ones, test_answers_are_certified_by_their_dual
    """
    if matrices.shape != observed.shape or matrices.ndim != 3:
        expected = "two arrays of one shape (matrices, rows, columns)"
        raise NotCompleted(f"nuclear norm: got shapes {matrices.shape} and {observed.shape}; expected {expected}")
    if not np.isfinite(matrices[observed]).all():
        raise NotCompleted("nuclear norm: got an observed entry that is not a finite number; expected numbers alone")
    answers = list(_answers(matrices, observed))
    return np.stack(answers) if answers else np.zeros(matrices.shape)


def squared_errors(matrices: Array, observed: Mask) -> Array:
    """Mean squared error of each completed matrix over all its entries, shown or not `(n,)`."""
    return np.asarray(np.square(completed(matrices, observed) - matrices).mean((1, 2)))


def _answers(matrices: Array, observed: Mask) -> Iterator[Array]:
    """One problem for all, with the numbers and the mask as its parameters: it is compiled once."""
    cvxpy = package("cvxpy", extra="convex", wanted_by="nuclear norm")
    shape = matrices.shape[1:]
    answer, shown, values = cvxpy.Variable(shape), cvxpy.Parameter(shape), cvxpy.Parameter(shape)
    problem = cvxpy.Problem(cvxpy.Minimize(cvxpy.normNuc(answer)), [cvxpy.multiply(shown, answer) == values])
    for index, (matrix, mask) in enumerate(zip(matrices, observed, strict=True)):
        shown.value, values.value = mask.astype(float), np.where(mask, matrix, 0.0)
        yield _solved(cvxpy, problem, answer, index)


def _solved(cvxpy: Any, problem: Any, answer: Any, index: int) -> Array:
    try:
        problem.solve(solver=cvxpy.SCS, eps_abs=ACCURACY, eps_rel=ACCURACY, max_iters=20_000, warm_start=False)
    except cvxpy.SolverError as error:
        raise NotCompleted(f"nuclear norm: matrix {index}: got no answer from the solver: {error}") from None
    if problem.status != cvxpy.OPTIMAL:
        raise NotCompleted(f"nuclear norm: matrix {index}: got {problem.status}; expected an optimal answer")
    return np.asarray(answer.value)
