"""Prompts of class names: what they say, what they know, and how sample.py reads them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sample
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
    ("name", "article"),
    [
        ("cat", "a"),
        ("orchid", "an"),
        ("Ankle boot", "an"),
        ("8", "an"),
        ("11", "an"),
        ("18", "an"),
        ("7", "a"),
        ("110", "a"),
        ("unicorn", "a"),
        ("umbrella", "an"),
        ("European robin", "a"),
        ("hourglass", "an"),
        ("house", "a"),
        ("one", "a"),
        ("unidentified bird", "an"),
        ("ukulele", "a"),
        ("F", "an"),
        ("U", "a"),
        ("fox", "a"),
    ],
)
def test_the_article_goes_by_the_sound(name, article):
    assert fill_template("a photo of {a} {name}", name) == f"a photo of {article} {name}"


def test_prompts_say_nothing_but_the_name():
    frame = {"a", "an", "photo", "picture", "image", "of"}
    for template in TEMPLATES:
        assert set(split_words(fill_template(template, "truck"))) <= {*frame, "truck"}
    assert PETS.plain[1:3] == ("a photo of an orange cat", "a photo of a T-shirt/top")
    assert set(PETS.words) == frame | {"cat", "orange", "t", "shirt", "top", "colt's", "foot"}


def test_the_table_holds_the_prompts_of_every_class_and_of_none():
    assert PETS.table.shape == (5, len(TEMPLATES), PETS.length) and PETS.table.dtype == "int32"
    assert PETS.length == 8, "start, a photo of a t shirt top"
    words = [None, None, *PETS.words]  # by token
    for label, name in enumerate(PETS.class_names):
        for template, row in zip(TEMPLATES, PETS.table[label], strict=True):
            said = [words[token] for token in row[1:] if token != PADDING]
            assert row[0] == START and said == split_words(fill_template(template, name))
            assert (row[1 + len(said) :] == PADDING).all()
    np.testing.assert_array_equal(PETS.table[4], [[START] + [0] * (PETS.length - 1)] * 5)
    np.testing.assert_array_equal(PETS.table[:4, 0], PETS.tokens(PETS.plain))
    assert len(np.unique(PETS.table[:4].reshape(20, -1), axis=0)) == 20, "all different"
    assert PETS.table.max() == PETS.num_tokens - 1


def test_reading_minds_neither_case_nor_commas():
    one, other = PETS.tokens(["an Orange-cat", " an, ORANGE (cat)!"])
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a cta", r"'a cta' has unknown word 'cta' \(nearest: cat\)\.$"),
        ("red orang cat", r"unknown words 'red' \(nearest: \w+\), 'orang' \(nearest: orange\)\.$"),
        ("a cat of a cat of a cat", "has 8 words; the model reads 7"),
        ("?!", r"'\?!' has no words"),
    ],
)
def test_what_cannot_be_read_is_named_in_one_line(text, message):
    with pytest.raises(ValueError, match=message) as error:
        PETS.tokens(["a cat", text])
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("names", "templates", "message"),
    [
        ((), TEMPLATES, "there are none"),
        (("cat",), (), "there are none"),
        (("cat", "!?"), TEMPLATES, r"the class name '!\?' has no words"),
        (("red cat", "Red-Cat"), TEMPLATES, "'red cat' and 'Red-Cat' have the same words"),
        (("cat",), ("{name}", "a photo"), "the template 'a photo' has no {name}"),
        (
            ("cat",),
            ("{name} in {colour}",),
            "'{name} in {colour}' has a field other than {name} and {a}",
        ),
        (("cat",), ("{name} {",), "has a field other than {name} and {a}"),
    ],
)
def test_names_that_make_no_prompts(names, templates, message):
    with pytest.raises(ValueError, match=message):
        Prompts(names, templates)


def test_accents_may_be_written_apart_from_their_letters():
    composed, apart = "cr\u00e8me", "cre\u0300me"
    assert split_words(apart) == split_words(composed) == [composed]


def test_prompts_come_back_from_what_is_saved():
    again = Prompts(**PETS.get_config())
    assert again == PETS
    np.testing.assert_array_equal(again.table, PETS.table)


DESCRIBED = {"words": list(PETS.words), "length": PETS.length, "plain": list(PETS.plain)}
said = st.lists(
    st.sampled_from([*PETS.words, "Cat", "COLT'S", "colt", "dog", "_", "-", "\u00e9", "e\u0301"])
)


@settings(max_examples=300, deadline=None)
@given(said.map(" ".join) | st.text(max_size=20))
def test_sample_reads_as_the_package_does(text):
    def of_package():
        try:
            return PETS.tokens([text])[0].tolist()
        except ValueError as error:
            return str(error)

    def of_sample():
        class Failed(Exception):
            pass

        def fail(message):
            raise Failed(message.removeprefix("--prompt: "))

        before, sample.fail = sample.fail, fail
        try:
            return sample.tokens_of(text, DESCRIBED, "--prompt")
        except Failed as error:
            return str(error)
        finally:
            sample.fail = before

    assert of_sample() == of_package()
