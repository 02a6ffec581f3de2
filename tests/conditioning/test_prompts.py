import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_diffusion.conditioning.prompts import (
    PADDING,
    START,
    TEMPLATES,
    Prompts,
    fill_template,
    split_words,
)

PETS = Prompts(["cat", "orange_cat", "T-shirt/top", "colt's foot"])


@pytest.mark.parametrize(
    ("article", "names"),
    [
        ("a", "cat|7|110|unicorn|European robin|house|one|ukulele|U|fox"),
        ("an", "orchid|Ankle boot|8|11|18|umbrella|hourglass|unidentified bird|F"),
    ],
)
def test_the_article_depends_on_the_sound(article, names):
    for name in names.split("|"):
        prompt = fill_template("a photo of {a} {name}", name)
        assert prompt == f"a photo of {article} {name}"


def test_words_are_those_of_templates_and_names():
    frame = {"a", "an", "photo", "picture", "image", "of"}
    assert PETS.plain[1:3] == ("a photo of an orange cat", "a photo of a T-shirt/top")
    assert set(PETS.words) == frame | {"cat", "orange", "t", "shirt", "top", "colt's", "foot"}
    one, other = PETS.tokens(["an Orange-cat", " an, ORANGE (cat)!"])  # no case, no punctuation
    np.testing.assert_array_equal(one, other)
    composed, decomposed = "cr\u00e8me", "cre\u0300me"
    assert split_words(decomposed) == split_words(composed) == [composed]


def test_the_table_has_the_tokens_of_every_prompt_and_of_the_empty_one():
    assert PETS.table.shape == (5, len(TEMPLATES), PETS.length) and PETS.table.dtype == "int32"
    assert PETS.length == 8, "START, a photo of a t shirt top"
    words = [None, None, *PETS.words]  # by token
    for label, name in enumerate(PETS.class_names):
        for template, row in zip(TEMPLATES, PETS.table[label], strict=True):
            text = [words[token] for token in row[1:] if token != PADDING]
            assert row[0] == START and text == split_words(fill_template(template, name))
            assert (row[1 + len(text) :] == PADDING).all()
    np.testing.assert_array_equal(PETS.table[4], [[START] + [0] * (PETS.length - 1)] * 5)
    np.testing.assert_array_equal(PETS.table[:4, 0], PETS.tokens(PETS.plain))
    assert len(np.unique(PETS.table[:4].reshape(20, -1), axis=0)) == 20, "all different"
    assert PETS.table.max() == PETS.num_tokens - 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a cta", r"'a cta' .*'cta' \(nearest: cat\)"),
        ("red orang cat", r"'red' \(nearest: \w+\), 'orang' \(nearest: orange\)"),
        ("a cat of a cat of a cat", "8 words; the model reads 7"),
        ("?!", "no words"),
    ],
)
def test_unknown_or_too_many_words_are_errors(text, message):
    with pytest.raises(ValueError, match=message):
        PETS.tokens(["a cat", text])


words = st.sampled_from([*PETS.words, "Cat", "COLT'S", "dog", "_", "-", "\u00e9", "e\u0301"])


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.lists(words).map(" ".join) | st.text("aA\u00e9\u00df _-'!7\n", max_size=20))
def test_any_text_has_tokens_or_an_error_of_one_line(text):
    try:
        [row] = PETS.tokens([text])
    except ValueError as error:
        assert len(str(error).splitlines()) == 1
    else:
        known = dict(enumerate(PETS.words, 2))
        assert row[0] == START
        assert [known[token] for token in row[1:] if token] == split_words(text)


@pytest.mark.parametrize(
    ("names", "templates", "message"),
    [
        ((), TEMPLATES, "at least one class name"),
        (("cat",), (), "at least one class name and one template"),
        (("cat", "!?"), TEMPLATES, r"'!\?' has no words"),
        (("red cat", "Red-Cat"), TEMPLATES, "'red cat' and 'Red-Cat' have the same words"),
        (("cat",), ("{name}", "a photo"), "'a photo' has no {name}"),
        (("cat",), ("{name} in {colour}",), "'{name} in {colour}' has a field other than"),
        (("cat",), ("{name} {",), "has a field other than {name} and {a}"),
    ],
)
def test_invalid_names_and_templates(names, templates, message):
    with pytest.raises(ValueError, match=message):
        Prompts(names, templates)


def test_prompts_are_restored_from_their_config():
    again = Prompts(**PETS.get_config())
    assert again == PETS
    np.testing.assert_array_equal(again.table, PETS.table)
