import pytest

from keras_diffusion.runtime import console


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.012345, "0.0123"), (1.234, "1.23"), (123.4, "123"), (999.6, "1,000"), (12345, "12,300"),
     (0.16, "0.16"), (-1234.5, "-1,230"), (0, "0"), (None, "-")],
)  # fmt: skip
def test_numbers_have_three_significant_digits(value, text):
    assert console.number(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.01, "0.0100"), (0.1, "0.100"), (1.2, "1.20"), (56.78, "56.8"), (12345.6, "12,346"),
     (0, "0"), (99.96, "100"), (None, "-")],
)  # fmt: skip
def test_padded_numbers_keep_zeros_and_whole_digits(value, text):
    assert console.number(value, padded=True) == text


def test_the_number_of_digits_can_be_chosen():
    assert console.number(0.0755, 1) == "0.08"
    assert console.number(0.07555, 4) == "0.07555"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (89, "89 s"), (180, "3 min"), (5400, "1.5 h")]
)
def test_durations(seconds, text):
    assert console.duration(seconds) == text


def test_long_lists_of_names_are_cut():
    assert console.names("abc", 3) == "a, b, c"
    assert console.names("abcde", 3) == "a, b, c and 2 more"


def test_tables():
    header, rows = ["name", "n", "note"], [["a", 1, ""], ["longer", 1234, "x"]]
    assert console.table(header, rows, "lrl").splitlines() == [
        "name       n  note",
        "a          1",
        "longer  1234  x",
    ]
    assert console.table(header, rows, "lr", markdown=True).splitlines() == [
        "| name | n | note |",
        "| --- | ---: | ---: |",
        "| a | 1 |  |",
        "| longer | 1234 | x |",
    ]


def test_rows_as_long_as_the_header():
    with pytest.raises(ValueError):
        console.table(["a", "b"], [["only one"]])
