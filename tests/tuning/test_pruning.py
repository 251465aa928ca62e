"""Who is stopped when: never in warmup, the worse half, one always goes on."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from harness.tuning.pruning import losers, rounds, rungs

SCORES = st.dictionaries(
    st.integers(0, 40), st.floats(allow_nan=True, allow_infinity=True), min_size=1, max_size=40
)


@given(st.integers(1, 200), st.lists(st.floats(0, 0.99), max_size=20))
def test_nothing_is_judged_before_the_longest_warmup_has_ended(epochs, warmups):
    found = rungs(epochs, warmups)
    assert all(epoch > max(warmups, default=0) * epochs for epoch in found)
    assert all(0 < epoch < epochs for epoch in found)
    assert found == sorted(set(found))


@given(SCORES, st.sampled_from(["max", "min"]))
def test_the_worse_half_leaves(scores, goal):
    out = losers(scores, goal)
    stay = set(scores) - out
    assert len(stay) == math.ceil(len(scores) / 2)
    sign = 1 if goal == "max" else -1
    kept = [sign * scores[n] for n in stay if math.isfinite(scores[n])]
    gone = [sign * scores[n] for n in out if math.isfinite(scores[n])]
    assert min(kept, default=math.inf) >= max(gone, default=-math.inf)
    # what is not a number leaves before what is
    assert not gone or all(math.isfinite(scores[n]) for n in stay)


def test_of_equals_the_later_leaves():
    assert losers({3: 0.5, 1: 0.5, 2: 0.5, 0: 0.5}, "max") == {2, 3}
    assert losers({7: 0.5}, "max") == set()


def test_seeds_train_together_unless_some_may_be_skipped():
    assert rounds("none", [0, 1, 2, 3, 4, 5], 4) == [[0, 1, 2, 3, 4, 5]]
    assert rounds("wilcoxon", [0, 1, 2, 3, 4, 5], 4) == [[0, 1, 2, 3], [4], [5]]
