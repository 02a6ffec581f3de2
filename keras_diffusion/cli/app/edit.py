"""The tab Edit: what edit.py does with an image, or with two."""

import gradio as gr

from keras_diffusion.cli.app import conditions, edits
from keras_diffusion.cli.app.edit_form import (
    AUTOMATIC,
    IMAGES,
    INVERSION,
    NOISE,
    NUM,
    NUMS,
    SEEDS,
    STRENGTH,
    STRENGTHS,
    add_events,
    add_form,
    visible,
)

KINDS = {
    "Fill a part": "inpaint",
    "Enlarge": "upscale",
    "Restyle": "restyle",
    "Colour": "colorize",
    "Variations": "variations",
    "In-betweens": "interpolate",
}
HELP = {
    "inpaint": "Paint over a part of the image. The model fills it; all other pixels stay.",
    "upscale": "Enlarges a small image to the size of the model's images. A larger one is reduced "
    "first, which shows what comes back.",
    "restyle": "Changes the image to a class or prompt.",
    "colorize": "Gives a grey image colours. Of a coloured one the brightness is taken.",
    "variations": "Generates images that are similar to one.",
    "interpolate": "Generates the images between two, also as an animation.",
}


def add(page):
    """Adds the tab; returns where images of other tabs can be taken to.

    Returns:
        List of (text of a button, component, function from uint8 (H, W, C) to its value).
    """
    kind = gr.Radio(list(KINDS.items()), value="inpaint", label="Edit", elem_id="edit-kind")
    text = gr.Markdown(HELP["inpaint"])
    with gr.Row():
        with gr.Column(min_width=320):
            form, groups = add_form(page)
            with gr.Row():
                start = gr.Button("Edit", variant="primary", elem_id="edit-start")
                cancel = gr.Button("Cancel")
        with gr.Column(min_width=320):
            results = _add_results(page)
    shown = {**form, **groups}  # a group replaces its field

    def show(kind, ends, way, first):
        fields = visible(kind, ends, way, first)
        return [HELP[kind], *(gr.update(visible=fields[name]) for name in fields)]

    def reset(kind):
        return NUMS.get(kind, NUM), STRENGTHS.get(kind, STRENGTH)

    def run(progress, model, kind, *values):
        return _run(page, progress, model, kind, dict(zip(form, values, strict=True)))

    inputs = [kind, form["ends"], form["way"], form["first"]]
    changed = [text, *(shown[name] for name in visible("inpaint", IMAGES, NOISE, None))]
    for field in inputs[:3]:
        page.jobs.add_quick(field.change, show, inputs, changed)
    page.jobs.add_quick(kind.change, reset, [kind], [form["num"], form["strength"]])
    page.jobs.add(
        start.click, run, [page.model, kind, *form.values()], results, cancel,
        show_progress_on=results[0], scroll_to_output=True,
    )  # fmt: skip
    add_events(page, kind, form, groups)

    def take(pixels):
        path = page.files.new("sample.png")
        edits.save_png(path, pixels)
        return str(path)

    return [("Edit it", form["first"], take), ("Edit as second image", form["second"], take)]


def _add_results(page):
    """Adds what shows the results; returns the components in the order of `_run`."""
    gallery = gr.Gallery(
        label="Results", columns=3, format="png", object_fit="contain", height="auto",
        elem_classes="pixels", buttons=["download", "fullscreen"], interactive=False,
        elem_id="edit-results",
    )  # fmt: skip
    animation = gr.Image(
        label="Animation", type="filepath", visible=False, interactive=False, buttons=["download"],
        elem_classes="below",
        elem_id="edit-animation",
    )  # fmt: skip
    lines = gr.Textbox(
        label="What was done", visible=False, interactive=False, lines=2, max_lines=6,
        elem_id="edit-done",
    )  # fmt: skip
    command = page.command_box("The same from the command line")
    mask = gr.DownloadButton("Download the mask for it", visible=False, elem_id="edit-mask")
    return [gallery, animation, lines, command, mask]


def _run(page, progress, model, kind, form):
    """Returns the values of the results; `form` is {name of a field: value}."""
    config = page.models.config(model)
    images, mask = _given(kind, form), None
    if kind == "inpaint":
        [pixels] = images.values()
        mask = edits.painted_mask(form["editor"], pixels.shape[:2])
    to, source = (
        (form[f"{name}prompt"] or "").strip() if config.prompts else form[f"{name}class"]
        for name in ("", "from_")
    )
    arguments = edits.arguments(
        kind,
        list(images),
        model=page.models.argument(model),
        num=form["num"],
        seed=form["seed"],
        num_steps=form["steps"] or None,
        guidance_scale=None if form["scale"] == config.guidance.scale else float(form["scale"]),
        condition=conditions.flags(config, to, [to] if to else []),
        to=to,
        source=source,
        strength=float(form["strength"]),
        invert=form["way"] == INVERSION,
        factor=None if form["factor"] == AUTOMATIC else form["factor"],
    )
    options = page.parse("edit", arguments)
    progress.loading()
    results = edits.compute(options, images, page.models.load(model), progress, mask)
    paths, animation = edits.write(results, kind, page.files)
    mask_file = None
    if mask is not None:
        mask_file = edits.write_mask(mask, edits.mask_name(images), page.files)
    return [
        paths,
        gr.update(value=animation, visible=bool(animation)),
        gr.update(value="\n".join(results.lines), visible=bool(results.lines)),
        gr.update(value=page.shell("edit", arguments), visible=True),
        gr.update(value=mask_file, visible=bool(mask_file)),
    ]


def _given(kind, form):
    """Returns {file name: uint8 (H, W, C)} of the uploads, or {text: seed}."""
    if kind == "interpolate" and form["ends"] == SEEDS:
        seeds = [form["seed_a"] or 0, form["seed_b"] or 0]
        if seeds[0] == seeds[1]:
            raise ValueError("Seed A and seed B are the same. Give two different ones.")
        return {str(seed): seed for seed in seeds}
    names = ("first", "second") if kind == "interpolate" else ("first",)
    return edits.named([edits.read_upload(form[name]) for name in names])
