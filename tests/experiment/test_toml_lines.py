"""Lines of keys in TOML text."""

from __future__ import annotations

from bench.experiment.toml_lines import key_lines


def test_lines_of_keys_are_found_in_toml_that_looks_like_something_else() -> None:
    text = '''\
# [[rows]]
top = """
[[rows]]
ratio = 1
"""
many = [
  ["a = 1"],
  ["b"],
]
a.b = 1
[[rows]]
x = { y = 1, z = { w = 2 } }
[[rows]]   # second
"quoted key" = 1
[rows.inner]
deep = 1
[[rows.list]]
one = 1
[[rows.list]]
two = 2
[end]
last = 1
'''
    expected = {
        ("top",): 2,
        ("many",): 6,
        ("many", 0): 7,
        ("many", 1): 8,
        ("a", "b"): 10,
        ("rows", 0): 11,
        ("rows", 0, "x", "z", "w"): 12,
        ("rows", 1): 13,
        ("rows", 1, "quoted key"): 14,
        ("rows", 1, "inner", "deep"): 16,
        ("rows", 1, "list", 0, "one"): 18,
        ("rows", 1, "list", 1, "two"): 20,
        ("end", "last"): 22,
    }
    found = key_lines(text)
    assert {place: found[place] for place in expected} == expected
    assert ("ratio",) not in found and ("rows", 2) not in found


def test_the_items_of_a_list_have_the_lines_they_start_on() -> None:
    text = "\n".join(
        [
            "first = 1",
            "a.b = [   # [not, an, item]",
            '  { x = "]", y = [1,',
            '      2] }, { x = """',
            ",[",
            '""" },',
            "  [",
            "    \"# no comment\", '''",
            "'\"''',",
            "    1979-05-27 07:32:00,",
            "  ],",
            "]",
            "[[c]]",
            "each = [[{ d = 1 },",
            "  { d = 2 }]]",
        ]
    )
    expected = {
        ("a", "b"): 2,
        ("a", "b", 0): 3,
        ("a", "b", 0, "y"): 3,
        ("a", "b", 1): 4,
        ("a", "b", 1, "x"): 4,
        ("a", "b", 2): 7,
        ("a", "b", 2, 0): 8,
        ("a", "b", 2, 1): 8,
        ("a", "b", 2, 2): 10,
        ("c", 0): 13,
        ("c", 0, "each", 0, 0, "d"): 14,
        ("c", 0, "each", 0, 1, "d"): 15,
    }
    found = key_lines(text)
    assert {place: found[place] for place in expected} == expected
