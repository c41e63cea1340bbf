import numpy as np
import pandas as pd
import pytest

from bloodcells.number_text import mean_with_range


@pytest.mark.parametrize(
    ("values", "options", "text"),
    [
        ([], {}, "missing"),
        ([0.25], {}, "0.250"),
        ([0.25, 0.5, 0.9], {}, "0.550 (0.250 to 0.900)"),
        ([1, 2], {"digits": 1, "range_digits": 0, "space": "_"}, "1.5 (1_to_2)"),
        (pd.Series(["0.1", "0.3"]), {"digits": 2}, "0.20 (0.10 to 0.30)"),  # as mixed runs have them
        (np.float32([0.5]), {}, "0.500"),
    ],
)
def test_the_range_follows_the_mean_of_several(values, options, text):
    assert mean_with_range(values, **options) == text
