"""Is an expected number that is infinite no measure by which everything is right?"""

import numpy as np
import pytest

from autograder.checks import Failed
from autograder.questions.shared import alike, close, near


@pytest.mark.parametrize("found", [5.0, -np.inf, np.nan])
def test_nothing_is_within_a_share_of_infinity(found: float) -> None:
    with pytest.raises(Failed):
        near(found, np.inf, "x")
    with pytest.raises(Failed):
        alike([1.0, found], [1.0, np.inf], "x", "")
    with pytest.raises(Failed):
        close([found, 1.0], [np.inf, 1.0], "x", 1e-4)
    with pytest.raises(Failed):
        close([np.inf, 7.0], [np.inf, 1.0], "x", 1e-4)


def test_infinity_is_infinity() -> None:
    near(np.inf, np.inf, "x")
    alike([1.0, np.inf], [1.0, np.inf], "x", "")
    close([np.inf, 1.0], [np.inf, 1.0], "x", 1e-4)
    close(3.0, 3.0001, "x", 1e-4)
