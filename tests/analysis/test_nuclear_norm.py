"""The least nuclear norm: a closed form for the smallest case, certificates from its dual, and reference errors."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from analysis.errors import AnalysisError
from analysis.models.optional import MissingPackage
from analysis.nuclear_norm import WEIGHTS, completed, regularised, squared_errors

# Mean squared error over all entries of 7×7 matrices of rank 2, factors uniform in ±1, rounded to hundredths: of 150
# matrices each, drawn and solved independently (SCS); the paper plots them without numbers.
REFERENCE = {0.2: 0.0027, 0.3: 0.0125, 0.4: 0.0281}
REFERENCE_MATRICES = 150


def drawn(n: int, *, p_mask: float, size: int = 7, rank: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Matrices and which of their entries are shown."""
    rng = np.random.default_rng(11)
    left, right = rng.uniform(-1, 1, (2, n, size, rank))
    matrices = np.round(left @ right.transpose(0, 2, 1), 2)
    return matrices, rng.random(matrices.shape) > p_mask


def test_the_missing_corner_of_two_by_two_is_the_closed_form():
    """With x in the corner the squared norm is constant + x² + 2|ax - bc|: least at bc/a, or at ±a if nearer 0."""
    matrices, _ = drawn(40, p_mask=0.5, size=2)
    observed = np.ones_like(matrices, dtype=bool)
    observed[:, 1, 1] = False
    a, b, c = matrices[:, 0, 0], matrices[:, 0, 1], matrices[:, 1, 0]
    expected = np.clip(b * c / a, -np.abs(a), np.abs(a))
    assert (np.abs(b * c / a) > np.abs(a)).any()
    found = completed(matrices, observed)
    np.testing.assert_allclose(found[:, 1, 1], expected, atol=2e-4)
    np.testing.assert_allclose(found[observed], matrices[observed], atol=1e-4)


def test_answers_are_certified_by_their_dual():
    """Any Y that is 0 at missing entries and has no singular value above 1 bounds the norm from below by <Y, X>."""
    cvxpy = pytest.importorskip("cvxpy")
    matrices, observed = drawn(5, p_mask=0.3)
    for matrix, mask, answer in zip(matrices, observed, completed(matrices, observed), strict=True):
        bound = cvxpy.Variable(matrix.shape)
        dual = cvxpy.Problem(
            cvxpy.Maximize(cvxpy.sum(cvxpy.multiply(bound, np.where(mask, matrix, 0.0)))),
            [cvxpy.sigma_max(bound) <= 1, bound[~mask] == 0],
        )
        highest = dual.solve(solver=cvxpy.CLARABEL)
        assert np.linalg.norm(answer, "nuc") == pytest.approx(highest, rel=1e-4)
        assert np.linalg.norm(answer, "nuc") <= np.linalg.norm(matrix, "nuc") + 1e-4


def test_all_entries_shown_give_the_shrunken_singular_values():
    """Every singular value less weight · entries / 2, and none below 0."""
    matrices, _ = drawn(3, p_mask=0.3, size=4)
    found = regularised(matrices, np.ones_like(matrices, dtype=bool), weight=0.05)
    left, sizes, right = np.linalg.svd(matrices)
    assert (sizes < 0.05 * 16 / 2).any()
    expected = left * np.maximum(sizes - 0.05 * 16 / 2, 0.0)[:, None] @ right
    np.testing.assert_allclose(found, expected, atol=2e-4)


@pytest.mark.parametrize("weight", [WEIGHTS[0], WEIGHTS[-1]])
def test_regularised_answers_meet_their_optimality_conditions(weight: float):
    """The error's gradient over the weight is a subgradient of the norm: singular values up to 1, <G, X> = norm."""
    matrices, observed = drawn(4, p_mask=0.3)
    for matrix, mask, answer in zip(matrices, observed, regularised(matrices, observed, weight=weight), strict=True):
        gradient = 2 * np.where(mask, matrix - answer, 0.0) / mask.sum() / weight
        assert np.linalg.norm(gradient, 2) <= 1 + 2e-2
        assert (gradient * answer).sum() == pytest.approx(np.linalg.norm(answer, "nuc"), rel=2e-2)


def test_a_small_weight_comes_to_completion_and_a_large_one_to_nothing():
    matrices, observed = drawn(3, p_mask=0.3)
    exact = completed(matrices, observed)
    near, far = (np.abs(regularised(matrices, observed, weight=weight) - exact).max() for weight in (1e-4, 1e-2))
    assert near < 0.02 < far
    np.testing.assert_allclose(regularised(matrices, observed, weight=10.0), 0.0, atol=1e-3)


@pytest.mark.parametrize("weight", [0.0, -1.0, float("nan"), float("inf")])
def test_a_weight_that_is_no_price_is_refused(weight: float):
    with pytest.raises(AnalysisError, match="expected a number above 0"):
        regularised(*drawn(1, p_mask=0.3), weight=weight)


def test_a_matrix_of_which_nothing_is_shown_is_refused():
    with pytest.raises(AnalysisError, match="expected one entry at least"):
        regularised(np.zeros((1, 2, 2)), np.zeros((1, 2, 2), bool), weight=0.1)


def assert_errors_agree(n: int) -> None:
    for p_mask, reference in REFERENCE.items():
        errors = squared_errors(*drawn(n, p_mask=p_mask))
        sd = errors.std(ddof=1)
        own, theirs = sd / np.sqrt(n), sd / np.sqrt(REFERENCE_MATRICES)
        assert abs(errors.mean() - reference) < 3 * np.hypot(own, theirs), (p_mask, errors.mean(), own)


def test_errors_are_the_reference_ones():
    assert_errors_agree(60)


@pytest.mark.slow
def test_errors_of_many_matrices_are_the_reference_ones():
    assert_errors_agree(1000)


def test_what_stands_at_missing_entries_is_not_looked_at():
    matrices, observed = drawn(3, p_mask=0.3)
    hidden = np.where(observed, matrices, np.nan)
    np.testing.assert_array_equal(completed(hidden, observed), completed(matrices, observed))


def test_no_matrices_are_no_answers():
    assert completed(np.zeros((0, 3, 3)), np.ones((0, 3, 3), dtype=bool)).shape == (0, 3, 3)


@pytest.mark.parametrize(
    ("matrices", "observed", "message"),
    [
        (
            np.zeros((2, 3, 3)),
            np.ones((2, 3, 4), bool),
            "got shapes (2, 3, 3) and (2, 3, 4); expected two arrays of one",
        ),
        (np.zeros((3, 3)), np.ones((3, 3), bool), "expected two arrays of one shape (matrices, rows, columns)"),
        (np.full((1, 2, 2), np.nan), np.ones((1, 2, 2), bool), "got an observed entry that is not a finite number"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(matrices, observed, message):
    with pytest.raises(AnalysisError) as caught:
        completed(matrices, observed)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_without_the_solver_the_message_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "cvxpy", None)
    with pytest.raises(MissingPackage, match=r"pip install 'eureka\[convex\]'"):
        completed(*drawn(1, p_mask=0.3))
