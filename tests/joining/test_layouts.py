"""How one file holds another's value: the best of all orders of axes, and soon found."""

from __future__ import annotations

import numpy as np

from exporter.joining import match
from exporter.joining.joined import Layout


def _best_of_all(expected: list[np.ndarray], actual: list[np.ndarray]) -> tuple:
    best = (None, match._apart(expected, actual, Layout()))
    for perm in match._perms(expected):
        distance = match._apart(expected, actual, Layout(perm))
        if distance < best[1]:
            best = (perm, distance)
    return best


def test_the_layout_is_the_best_of_all(monkeypatch):
    """Most orders are left out after a look at a few elements; none that is better."""
    monkeypatch.setattr(match, "_SOME", 7)
    random = np.random.default_rng(0)
    for number in range(100):
        shape = tuple(random.choice([1, 2, 3, 5, 8, 8], size=random.integers(2, 5)))
        expected = [random.standard_normal(shape) for _ in range(2)]
        sizes = [size for size in shape if size != 1]
        perm = random.permutation(len(sizes))
        turned = [array.reshape(sizes).transpose(perm) for array in expected]
        noise = 10.0 ** random.uniform(-9, 0.5)
        actual = [a + noise * random.standard_normal(a.shape) for a in turned]
        if number % 5 == 0 and len(sizes) == 2 and sizes[0] == sizes[1]:
            actual = [(a + a.T) / 2 for a in actual]  # two orders are nearly as good
        found = match.closest(expected, actual, good=0.0)
        assert found is not None
        assert (found[0].perm, found[1]) == _best_of_all(expected, actual), shape


def test_orders_that_cannot_be_are_not_looked_at_whole(monkeypatch):
    expected = [np.random.default_rng(1).standard_normal((2, 3, 4, 5))]
    looked: list[Layout] = []
    whole = match._apart
    monkeypatch.setattr(
        match, "_apart", lambda a, b, held: looked.append(held) or whole(a, b, held)
    )
    found = match.closest(expected, [expected[0] * (1 + 1e-4)])
    assert found is not None and found[0].perm is None
    assert looked == [Layout()]
