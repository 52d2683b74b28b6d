"""Does a sentence count one thing as one thing?"""

import pytest

from labkit.counts import counted


@pytest.mark.parametrize(
    ("number", "words"), [(0, "0 epochs"), (1, "1 epoch"), (2, "2 epochs"), (2000, "2,000 epochs")]
)
def test_is_one_thing_not_called_many(number, words):
    assert counted(number, "epoch") == words
