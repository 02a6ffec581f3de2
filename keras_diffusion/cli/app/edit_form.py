"""The form of the tab Edit: its fields, and which of them are shown."""

import abc

import gradio as gr

from keras_diffusion.cli import edit_restore
from keras_diffusion.cli.app import conditions, edits

NUM, NUMS = 3, {"interpolate": 8, "variations": 8, "restyle": 1}  # of results, at first
STRENGTH, STRENGTHS = 0.6, {"variations": 0.5}
MOST_RESULTS, MOST_STEPS = 16, 200
IMAGES, SEEDS = "Two images", "Two seeds"
NOISE, INVERSION = "Adding noise", "Inversion"
AUTOMATIC = "automatic"


class _WithoutStub(type(gr.ImageEditor)):
    """Gradio's own metaclass writes a .pyi file beside the module of each component."""

    def __new__(cls, *arguments):
        return abc.ABCMeta.__new__(cls, *arguments)


class ImageEditor(gr.ImageEditor, metaclass=_WithoutStub):
    """An editor whose value is the path of the painted layer, or None; no image is opened.

    The browser knows the component by the name of the class.
    """

    def preprocess(self, payload):
        return payload.layers[0].path if payload and payload.layers else None


def add_form(page):
    """Adds the fields.

    Returns:
        ({name: field}, {name: group of fields, which can be hidden}).
    """
    form, groups, config = {}, {}, page.models.config(page.model.value)
    form["ends"] = gr.Radio([IMAGES, SEEDS], value=IMAGES, label="Between", visible=False)
    with gr.Row() as groups["uploads"]:
        form["first"] = _upload("Image", "edit-first")
        with gr.Column(min_width=240, visible=False) as groups["second"]:
            form["second"] = _upload("Second image", "edit-second")
    with gr.Row(visible=False) as groups["seeds"]:
        for number, name in enumerate(("seed_a", "seed_b"), start=1):
            form[name] = gr.Number(
                number, label=f"Seed {name[-1].upper()}", precision=0, minimum=0, maximum=2**31 - 1
            )
    form["editor"] = ImageEditor(
        show_label=False, type="numpy", format="png", sources=(), transforms=(), layers=False,
        buttons=[], canvas_size=(edits.SHOWN_SIDE, edits.SHOWN_SIDE), visible=False,
        brush=gr.Brush(default_size=24, colors=["#ff2d8f"], color_mode="fixed"),
        elem_id="edit-editor",
    )  # fmt: skip
    condition = conditions.add(page, page.model, several=False)
    form["way"] = gr.Radio([NOISE, INVERSION], value=NOISE, label="By", visible=False)
    with gr.Column(visible=False) as groups["present"]:
        source = conditions.add(page, page.model, several=False, what="present")
    form["strength"] = gr.Slider(
        0.05, 1, value=STRENGTH, step=0.05, label="Strength", visible=False,
        info="near 0 as the image, 1 as any other",
    )  # fmt: skip
    factors = [AUTOMATIC, *_factors(config)]
    form["factor"] = gr.Dropdown(factors, value=AUTOMATIC, label="Factor", visible=False)
    form["num"] = gr.Slider(1, MOST_RESULTS, value=NUM, step=1, label="Number of results")
    with gr.Accordion("More options", open=False):
        form["scale"] = gr.Slider(
            0, 10, value=config.guidance.scale, step=0.1, label="Guidance scale",
            info="1: off; above 1: more typical of the class or prompt",
            visible=bool(config.num_classes),
        )  # fmt: skip
        form["steps"] = gr.Number(
            0, label="Steps", precision=0, minimum=0, maximum=MOST_STEPS,
            info="0: 20, or 25 where images are turned into noise",
        )  # fmt: skip
        form["seed"] = gr.Number(0, label="Seed", precision=0)
    form["prompt"], form["class"] = condition.inputs
    form["from_prompt"], form["from_class"] = source.inputs
    return form, groups


def _upload(label, elem_id):
    """Adds an image whose value is (path, the visitor's name of the file); it is not opened.

    It is hidden by a group around it: where a property of it changes, Gradio creates it again from
    its class.
    """
    image = gr.Image(
        label=label, type="filepath", image_mode=None, sources=["upload"], format="png",
        height=240, buttons=[], elem_id=elem_id,
    )  # fmt: skip
    image.preprocess = lambda payload: payload and (payload.path, payload.orig_name)
    return image


def visible(kind, ends, way, first):
    """Returns {name of a field or group: whether it is shown}; `first` is the first upload."""
    painting = kind == "inpaint" and first is not None  # the editor shows the image
    by_seeds = kind == "interpolate" and ends == SEEDS
    by_inversion = kind == "restyle" and way == INVERSION
    return {
        "ends": kind == "interpolate",
        "uploads": not by_seeds and not painting,
        "second": kind == "interpolate",
        "seeds": by_seeds,
        "editor": painting,
        "way": kind == "restyle",
        "present": by_inversion,
        "strength": kind == "variations" or kind == "restyle" and not by_inversion,
        "factor": kind == "upscale",
        "num": not by_inversion,
        "seed": kind != "interpolate" and not by_inversion,
    }


def add_events(page, kind, form, groups):
    """Connects fields with each other: what they show of the model and of uploads."""

    def follow(model):
        config = page.models.config(model)
        guided = gr.update(visible=bool(config.num_classes), value=config.guidance.scale)
        return guided, gr.update(choices=[AUTOMATIC, *_factors(config)], value=AUTOMATIC)

    def open_first(upload, kind, ends):
        value = None
        if upload is not None:
            _, pixels = edits.read_upload(upload)
            value = {"background": edits.shown(pixels), "layers": [], "composite": None}
        shown = visible(kind, ends, NOISE, upload)
        uploads = gr.update(visible=shown["uploads"])
        return uploads, gr.update(value=value, visible=shown["editor"])

    def open_second(upload):
        if upload is None:
            return gr.skip()
        edits.read_upload(upload)
        return "interpolate"

    def clear():
        return None

    page.jobs.add_quick(page.model.change, follow, [page.model], [form["scale"], form["factor"]])
    first, second, editor = form["first"], form["second"], form["editor"]
    opened = page.jobs.add_quick(
        first.change,
        open_first,
        [first, kind, form["ends"]],
        [groups["uploads"], editor],
        queue=True,
    )
    opened.failure(clear, None, [first], queue=False, api_visibility="private")
    opened = page.jobs.add_quick(second.change, open_second, [second], [kind], queue=True)
    opened.failure(clear, None, [second], queue=False, api_visibility="private")
    page.jobs.add_quick(editor.clear, clear, [], [first])


def _factors(config):
    """Returns the factors by which images of 2 pixels or more can be enlarged, as text."""
    least = min(config.image_shape[:2])
    return [str(n) for n in edit_restore.factors(config.image_shape) if n < least]
