"""Matrices with missing entries, completed by the least nuclear norm: what a network's error is held against.

Of all matrices that agree with the entries shown, one whose singular values have the smallest sum. Nothing is told of
the rank. The problem is convex, so any solver that converges finds that smallest sum. `regularised` lets the answer
part from the entries shown, at a price, which is what the same norm comes to where numbers are rounded or noisy.

Source: Fazel 2002, Matrix rank minimization with applications; Candès and Recht 2009, Found. Comput. Math. 9:717;
Candès and Plan 2010, Proc. IEEE 98:925 (with noise). The weights that Gopalani et al. 2024 try, arXiv 2410.22244, are
WEIGHTS.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from analysis.errors import AnalysisError
from analysis.models.optional import package

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Pose = Callable[[Any, Any, Any, Any], tuple[Any, list[Any]]]  # cvxpy, answer, what is shown, its numbers: aim, rules
WEIGHTS = (5e-4, 1e-3, 1.5e-3, 1.75e-3, 2e-3, 5e-3, 1e-2)  # of the norm, beside a mean squared error
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
    _fit(matrices, observed)

    def exactly(cvxpy: Any, answer: Any, shown: Any, values: Any) -> tuple[Any, list[Any]]:
        return cvxpy.normNuc(answer), [cvxpy.multiply(shown, answer) == values]

    return _all(exactly, matrices, observed, scales=np.ones(len(matrices)))


def regularised(matrices: Array, observed: Mask, *, weight: float) -> Array:
    """The least mean squared error over the entries shown, plus a weight times the nuclear norm.

    Args:
        matrices: `(n, rows, columns)`; what stands at missing entries is not looked at.
        observed: which entries are shown, of the same shape; at least one of each matrix.
        weight: of the norm, above 0; the larger, the smaller the answer [squared error per norm].

    Returns:
        `(n, rows, columns)`.

    Raises:
        NotCompleted: as for `completed`; or a weight that is not above 0, or a matrix of which nothing is shown.
        MissingPackage: cvxpy is not installed (extra `convex`).

    Checked by: test_nuclear_norm.py::test_all_entries_shown_give_the_shrunken_singular_values,
        test_regularised_answers_meet_their_optimality_conditions
    """
    _fit(matrices, observed)
    if not 0 < weight < np.inf:
        raise NotCompleted(f"nuclear norm: got weight {weight:g}; expected a number above 0")
    shown_entries = observed.sum((1, 2))
    if not shown_entries.all():
        raise NotCompleted("nuclear norm: got a matrix of which nothing is shown; expected one entry at least")

    def nearly(cvxpy: Any, answer: Any, shown: Any, values: Any) -> tuple[Any, list[Any]]:
        return cvxpy.sum_squares(cvxpy.multiply(shown, answer) - values) + weight * cvxpy.normNuc(answer), []

    # With s = 1/sqrt(|shown|) on both sides the sum of squares is the mean, and one problem does for all masks.
    return _all(nearly, matrices, observed, scales=shown_entries**-0.5)


def squared_errors(matrices: Array, observed: Mask) -> Array:
    """Mean squared error of each completed matrix over all its entries, shown or not `(n,)`."""
    return np.asarray(np.square(completed(matrices, observed) - matrices).mean((1, 2)))


def _fit(matrices: Array, observed: Mask) -> None:
    if matrices.shape != observed.shape or matrices.ndim != 3:
        expected = "two arrays of one shape (matrices, rows, columns)"
        raise NotCompleted(f"nuclear norm: got shapes {matrices.shape} and {observed.shape}; expected {expected}")
    if not np.isfinite(matrices[observed]).all():
        raise NotCompleted("nuclear norm: got an observed entry that is not a finite number; expected numbers alone")


def _all(pose: Pose, matrices: Array, observed: Mask, *, scales: Array) -> Array:
    answers = list(_answers(pose, matrices, observed, scales=scales))
    return np.stack(answers) if answers else np.zeros(matrices.shape)


def _answers(pose: Pose, matrices: Array, observed: Mask, *, scales: Array) -> Iterator[Array]:
    """One problem for all, with the numbers and the mask as its parameters: it is compiled once."""
    cvxpy = package("cvxpy", extra="convex", wanted_by="nuclear norm")
    shape = matrices.shape[1:]
    answer, shown, values = cvxpy.Variable(shape), cvxpy.Parameter(shape), cvxpy.Parameter(shape)
    aim, rules = pose(cvxpy, answer, shown, values)
    problem = cvxpy.Problem(cvxpy.Minimize(aim), rules)
    for index, (matrix, mask, scale) in enumerate(zip(matrices, observed, scales, strict=True)):
        shown.value, values.value = scale * mask, np.where(mask, scale * matrix, 0.0)
        yield _solved(cvxpy, problem, answer, index)


def _solved(cvxpy: Any, problem: Any, answer: Any, index: int) -> Array:
    try:
        problem.solve(solver=cvxpy.SCS, eps_abs=ACCURACY, eps_rel=ACCURACY, max_iters=20_000, warm_start=False)
    except cvxpy.SolverError as error:
        raise NotCompleted(f"nuclear norm: matrix {index}: got no answer from the solver: {error}") from None
    if problem.status != cvxpy.OPTIMAL:
        raise NotCompleted(f"nuclear norm: matrix {index}: got {problem.status}; expected an optimal answer")
    return np.asarray(answer.value)
