"""YAML with plain values only."""

import pytest
import yaml

from bloodcells.plain_yaml import load_yaml


@pytest.mark.parametrize("text", ["", "3", "a: [1, 2.5, null, yes]\nb: {c: text}", "- 2024-05-01\n- 'x'"])
def test_plain_values_are_what_yaml_says(text):
    assert load_yaml(text) == yaml.safe_load(text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: &x [1]\nb: *x", r"write out what \*x stands for.*line 2"),
        ("a: &x [*x]", r"write out what \*x stands for"),
        ("[1, 2", "expected"),
        ("!!python/object:os.system {}", "could not determine a constructor"),
        ("[" * 5000, "nests too deeply"),
        ("a\0b", "special characters"),
    ],
)
def test_anything_else_is_refused_in_one_line(text, reason):
    with pytest.raises(ValueError, match=reason) as caught:
        load_yaml(text)
    assert "\n" not in str(caught.value)


def test_aliases_that_unfold_without_end_cost_nothing():
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]
    with pytest.raises(ValueError, match=r"write out what \*a0"):
        load_yaml("\n".join(lines))
