"""The fields of the page for a prompt or classes, which follow the chosen model."""

import dataclasses
from collections.abc import Iterable

import gradio as gr

from keras_diffusion.conditioning.prompts import WORD

SUGGESTIONS = 8


@dataclasses.dataclass(frozen=True)
class Condition:
    """Fields for the condition.

    Attributes:
        inputs: [prompt, classes], of which the model decides which one is shown.
        triggers: events that mean that the visitor is done, such as Enter.
    """

    inputs: list
    triggers: Iterable


def add(page, model, several=True, what=""):
    """Adds the fields; returns their `Condition`.

    Args:
        model: the dropdown that they follow.
        several: bool, whether several classes can be chosen.
        what: text that their labels begin with.
    """
    label = "classes" if several else "class"
    names = [f"{what} {name}".strip().capitalize() for name in ("prompt", label)]

    def looks(model):
        config = page.models.config(model)
        is_text, has_classes = bool(config.prompts), bool(config.num_classes)
        placeholder = f"such as: {config.prompts.plain[0]}" if is_text else ""
        return (
            {"visible": is_text, "value": "", "placeholder": placeholder},
            {"visible": False, "samples": [[""]]},
            {"visible": has_classes and not is_text, "choices": class_names(config),
             "value": [] if several else None},
        )  # fmt: skip

    shown = looks(model.value)
    prompt = gr.Textbox(label=names[0], lines=1, max_lines=1, **shown[0])
    words = gr.Dataset(
        components=[prompt], show_label=False, type="values", samples_per_page=SUGGESTIONS,
        elem_classes="suggestions", **shown[1],
    )  # fmt: skip
    info = "none: all in turn" if several else None
    classes = gr.Dropdown(multiselect=several, label=names[1], info=info, **shown[2])

    def follow(model):
        return [gr.update(**look) for look in looks(model)]

    def suggest(model, text):
        found = suggestions(page.models.config(model).prompts, text)
        return gr.update(samples=[[word] for word in found] or [[""]], visible=bool(found))

    def complete(text, sample):
        return completed(text, sample[0]), gr.update(visible=False)

    page.jobs.add_quick(model.change, follow, [model], [prompt, words, classes])
    page.jobs.add_quick(prompt.input, suggest, [model, prompt], [words], trigger_mode="always_last")
    page.jobs.add_quick(words.click, complete, [prompt, words], [prompt, words])
    return Condition([prompt, classes], [prompt.submit])


def add_guidance(page, model):
    """Adds negative prompt and guidance scale, which follow a dropdown; returns the components."""

    def looks(model):
        config = page.models.config(model)
        return (
            {"visible": bool(config.prompts), "value": ""},
            {"visible": bool(config.num_classes), "value": config.guidance.scale},
        )

    shown = looks(model.value)
    negative = gr.Textbox(
        label="Negative prompt", lines=1, max_lines=1, info="what guidance leads away from",
        **shown[0],
    )  # fmt: skip
    scale = gr.Slider(
        0, 10, step=0.1, label="Guidance scale", info="1: off; above 1: more typical, less diverse",
        **shown[1],
    )  # fmt: skip

    def follow(model):
        return [gr.update(**look) for look in looks(model)]

    page.jobs.add_quick(model.change, follow, [model], [negative, scale])
    return negative, scale


def class_names(config):
    """Returns the names of the classes of a model, its numbers if they have none."""
    return list(config.class_names) or [str(label) for label in range(config.num_classes)]


def flags(config, prompt, classes):
    """Returns the arguments of sample.py and edit.py for the values of the fields."""
    if config.prompts:
        return with_text("--prompt", prompt.strip()) if (prompt or "").strip() else []
    if not config.num_classes or not classes:
        return []
    classes = [classes] if isinstance(classes, str) else classes
    return ["--class-name" if config.class_names else "--labels", *classes]


def with_text(flag, text):
    """Returns the arguments for a flag and its value, which may begin as a flag does."""
    return [f"{flag}={text}"] if text.startswith("-") else [flag, text]


def given(options):
    """Returns the flag of sample.py and edit.py for a condition and its values, or []."""
    for name in ("prompt", "class_name", "labels"):
        if values := getattr(options, name):
            return [f"--{name.replace('_', '-')}", *map(str, values)]
    return []


def suggestions(prompts, text):
    """Returns texts that the last word of a prompt may become.

    Known words that begin as it does, and then plain prompts with such a word if nothing else is
    written yet. Nothing after a space.
    """
    typed = WORD.findall(text or "")
    if not prompts or not typed or not text.endswith(typed[-1]):
        return []
    start = typed[-1].lower()
    words = [word for word in prompts.words if word.startswith(start) and word != start]
    plain = []
    if len(typed) == 1:
        plain = [each for each in prompts.plain
                 if any(word.startswith(start) for word in each.split()[3:])]  # fmt: skip
    return [*words[: SUGGESTIONS - min(len(plain), 3)], *plain][:SUGGESTIONS]


def completed(text, chosen):
    """Returns the prompt with its last word replaced by a suggestion."""
    if " " in chosen:  # a whole prompt
        return chosen
    typed = list(WORD.finditer(text or ""))
    return f"{text[: typed[-1].start()] if typed else ''}{chosen} "
