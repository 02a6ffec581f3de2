"""The tab Edit: what edit.py does with an image, or with two."""

import gradio as gr

from keras_diffusion.cli.app import conditions, edits

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
NUM, NUMS = 3, {"interpolate": 8, "variations": 8, "restyle": 1}  # of results, at first
STRENGTH, STRENGTHS = 0.6, {"variations": 0.5}
MOST_RESULTS, MOST_STEPS = 16, 200
IMAGES, SEEDS = "Two images", "Two seeds"
NOISE, INVERSION = "Adding noise", "Inversion"
AUTOMATIC = "automatic"


def add(page):
    """Adds the tab; returns where images of other tabs can be taken to.

    Returns:
        List of (text of a button, component, function from uint8 (H, W, C) to its value).
    """
    kind = gr.Radio(list(KINDS.items()), value="inpaint", label="Edit", elem_id="edit-kind")
    text = gr.Markdown(HELP["inpaint"])
    with gr.Row():
        with gr.Column(min_width=320):
            form, groups = _add_form(page)
            with gr.Row():
                start = gr.Button("Edit", variant="primary", elem_id="edit-start")
                cancel = gr.Button("Cancel")
        with gr.Column(min_width=320):
            results = _add_results(page)
    shown = {**form, **groups}  # a group replaces its field

    def show(kind, ends, way, first):
        visible = _visible(kind, ends, way, first)
        return [HELP[kind], *(gr.update(visible=visible[name]) for name in visible)]

    def reset(kind):
        return NUMS.get(kind, NUM), STRENGTHS.get(kind, STRENGTH)

    def run(progress, model, kind, *values):
        return _run(page, progress, model, kind, dict(zip(form, values, strict=True)))

    inputs = [kind, form["ends"], form["way"], form["first"]]
    changed = [text, *(shown[name] for name in _visible("inpaint", IMAGES, NOISE, None))]
    for field in inputs[:3]:
        page.jobs.add_quick(field.change, show, inputs, changed)
    page.jobs.add_quick(kind.change, reset, [kind], [form["num"], form["strength"]])
    page.jobs.add(
        start.click, run, [page.model, kind, *form.values()], results, cancel,
        show_progress_on=results[0], scroll_to_output=True,
    )  # fmt: skip
    _add_events(page, kind, form, groups)

    def take(pixels):
        path = page.files.new("sample.png")
        edits.save_png(path, pixels)
        return str(path)

    return [("Edit it", form["first"], take), ("Edit as second image", form["second"], take)]


def _add_form(page):
    """Adds the fields.

    Returns:
        ({name: field}, {name: group of fields, which can be hidden}).
    """
    form, groups = {}, {}
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
    form["editor"] = gr.ImageEditor(
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
    form["factor"] = gr.Dropdown([AUTOMATIC], value=AUTOMATIC, label="Factor", visible=False)
    form["num"] = gr.Slider(1, MOST_RESULTS, value=NUM, step=1, label="Number of results")
    with gr.Accordion("More options", open=False):
        form["scale"] = gr.Slider(
            0, 10, value=1, step=0.1, label="Guidance scale",
            info="1: off; above 1: more typical of the class or prompt",
        )  # fmt: skip
        form["steps"] = gr.Number(
            0, label="Steps", precision=0, minimum=0, maximum=MOST_STEPS,
            info="0: 20, or 50 where images are turned into noise",
        )  # fmt: skip
        form["seed"] = gr.Number(0, label="Seed", precision=0)
    form["prompt"], form["class"] = condition.inputs
    form["from_prompt"], form["from_class"] = source.inputs
    return form, groups


def _upload(label, elem_id):
    """Adds an image whose value is (path, the visitor's name of the file); it is not opened.

    It is hidden by a group around it: where a property of it changes, Gradio makes it anew from its
    class.
    """
    image = gr.Image(
        label=label, type="filepath", image_mode=None, sources=["upload"], format="png",
        height=240, buttons=[], elem_id=elem_id,
    )  # fmt: skip
    image.preprocess = lambda payload: payload and (payload.path, payload.orig_name)
    return image


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


def _visible(kind, ends, way, first):
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


def _add_events(page, kind, form, groups):
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
        visible = _visible(kind, ends, NOISE, upload)
        uploads, editor = visible["uploads"], visible["editor"]
        return gr.update(visible=uploads), gr.update(value=value, visible=editor)

    def open_second(upload):
        if upload is None:
            return gr.skip()
        edits.read_upload(upload)
        return "interpolate"

    def clear():
        return None

    for trigger in (page.model.change, page.blocks.load):
        page.jobs.add_quick(trigger, follow, [page.model], [form["scale"], form["factor"]])
    first, second, editor = form["first"], form["second"], form["editor"]
    opened = page.jobs.add_quick(
        first.change, open_first, [first, kind, form["ends"]], [groups["uploads"], editor]
    )
    opened.failure(clear, None, [first], api_visibility="private")
    opened = page.jobs.add_quick(second.change, open_second, [second], [kind])
    opened.failure(clear, None, [second], api_visibility="private")
    page.jobs.add_quick(editor.clear, clear, [], [first])


def _factors(config):
    """Returns the factors by which images can be enlarged to the model's size, as text."""
    height, width, _ = config.image_shape
    return [str(n) for n in range(2, min(height, width) // 2) if height % n == width % n == 0]


def _run(page, progress, model, kind, form):
    """Returns the values of the results; `form` is {name of a field: value}."""
    config = page.models.config(model)
    images, mask = _given(kind, form), None
    if kind == "inpaint":
        [pixels] = images.values()
        layers = (form["editor"] or {}).get("layers", [])
        mask = edits.painted_mask(layers, pixels.shape[:2])
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
