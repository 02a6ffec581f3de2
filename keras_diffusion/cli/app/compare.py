"""The tab Compare: the same seeds from two models, or one model over guidance scales."""

import gradio as gr

from keras_diffusion.cli.app import conditions
from keras_diffusion.cli.app.create import BATCH_SIZE, numbers
from keras_diffusion.cli.sample_plan import generate, make_plan
from keras_diffusion.config.guidance import LARGEST_SCALE
from keras_diffusion.plotting.comparisons import comparison
from keras_diffusion.plotting.images import save_png

MODELS, SCALES = "Two models", "Guidance scales"
MOST_IMAGES, MOST_SCALES = 8, 8


def add(page):
    """Adds the tab."""
    names = page.models.names
    with gr.Row():
        with gr.Column(min_width=320):
            what = gr.Radio([MODELS, SCALES], value=MODELS, label="Compare")
            condition = conditions.add(page, page.model)
            with gr.Column() as second:
                other = gr.Dropdown(names, value=names[-1], label="Second model")
                other_condition = conditions.add(page, other, what="second model's")
            scales = gr.Textbox("1 2 3 5", label="Scales", visible=False)
            num = gr.Slider(1, MOST_IMAGES, value=4, step=1, label="Number of images")
            seed = gr.Number(0, label="Seed", precision=0)
            with gr.Row():
                start = gr.Button("Compare", variant="primary")
                cancel = gr.Button("Cancel")
        with gr.Column(scale=2, min_width=320):
            sheet = gr.Image(
                label="Comparison", type="filepath", interactive=False,
                buttons=["download", "fullscreen"], elem_classes="below",
            )  # fmt: skip
            command = page.command_box("The same images as a command")

    def show(what):
        return gr.update(visible=what == MODELS), gr.update(visible=what == SCALES)

    def compare(progress, what, model, other, num, seed, scales, *values):
        common = numbers(num, seed)
        if what == SCALES:
            common += ["--guidance-scale", *guidance_scales(scales)]
        chosen = [(model, values[:2])] + [(other, values[2:])] * (what == MODELS)
        lines, plans = [], []
        for name, fields in chosen:
            config = page.models.config(name)
            arguments = ["--model", page.models.argument(name)]
            arguments += [*conditions.flags(config, *fields), *common]
            options = page.parse("sample", arguments)
            plans.append((name, make_plan(options, config)))
            lines.append(page.shell("sample", arguments))
        images = _generate(page, plans, progress)
        if what == SCALES:
            grid = plans[0][1].arrange(images[0])
        else:
            rows = [(name, [], list(made)) for (name, _), made in zip(plans, images, strict=True)]
            grid = comparison(rows, (), "image")
        file = page.files.new("comparison.png")
        save_png(file, grid)
        return str(file), gr.update(value="\n".join(lines), visible=True)

    page.jobs.add_quick(what.change, show, [what], [second, scales])
    inputs = [what, page.model, other, num, seed, scales, *condition.inputs]
    page.jobs.add(
        start.click, compare, [*inputs, *other_condition.inputs], [sheet, command], cancel,
        show_progress_on=sheet,
    )  # fmt: skip


def guidance_scales(text):
    """Returns the numbers in the field of the scales, as texts that are no flags.

    Raises:
        ValueError: something else than some numbers.
    """
    try:
        scales = [float(word) for word in (text or "").replace(",", " ").split()]
    except ValueError:
        scales = []
    if not 1 <= len(scales) <= MOST_SCALES or not all(0 <= s <= LARGEST_SCALE for s in scales):
        raise ValueError(
            f"Scales: give 1 to {MOST_SCALES} numbers from 0 to {LARGEST_SCALE}, such as 1 2 3 5."
        )
    return [f"{scale:g}" for scale in scales]


def _generate(page, plans, progress):
    """Returns the images of each (name of a model, `Plan`)."""
    counts = [sum(request.num_images for request in plan.requests) for _, plan in plans]
    images = []
    for position, (name, plan) in enumerate(plans):
        progress.loading()
        loaded = page.models.load(name)
        before = sum(counts[:position])
        images.append(
            generate(
                lambda tensors, loaded=loaded, plan=plan: loaded.graph(plan.sampler, tensors),
                name, loaded.image_shape, plan.requests, BATCH_SIZE,
                lambda done, _, before=before: progress(before + done, sum(counts)),
            )
        )  # fmt: skip
    return images
