"""The tab Create: images from a prompt or classes, and what can be made of one of them."""

import dataclasses
import functools
from typing import Any

import gradio as gr
import numpy as np

from keras_diffusion.cli import edit as edit_command
from keras_diffusion.cli.app import conditions
from keras_diffusion.cli.sample import LAST, STAGE
from keras_diffusion.cli.sample_plan import Plan, generate, make_plan
from keras_diffusion.plotting.comparisons import tile
from keras_diffusion.plotting.images import save_gif, save_png, to_pillow
from keras_diffusion.sampling.request import Request

BATCH_SIZE = 4  # images between two reports of progress
MOST_IMAGES = 64
VARIATIONS = 8
MOST_STEPS = 100  # of the slider


@dataclasses.dataclass(frozen=True)
class Result:
    """The images of a visitor.

    Attributes:
        model: name.
        plan: `Plan`.
        images: uint8 (N, H, W, C).
        condition: list of flags, the class or prompt of each image in turn; see `conditions`.
        seed: int.
    """

    model: str
    plan: Plan
    images: np.ndarray
    condition: list
    seed: int


@dataclasses.dataclass(frozen=True)
class Created:
    """Components that other tabs use.

    Attributes:
        result: `gr.State` of a `Result`, or None.
        chosen: `gr.State` of the number of the chosen image, or None.
        uses: `gr.Row` for buttons that take the chosen image elsewhere.
    """

    result: Any
    chosen: Any
    uses: Any


def add(page):
    """Adds the tab; returns its `Created`."""
    with gr.Row():
        with gr.Column(min_width=320):
            condition = conditions.add(page, page.model)
            num = gr.Slider(1, MOST_IMAGES, value=8, step=1, label="Number of images")
            seed = gr.Number(0, label="Seed", precision=0)
            with gr.Accordion("More options", open=False):
                options = [*conditions.add_guidance(page, page.model), *_add_sampler(page)]
            with gr.Row():
                start = gr.Button("Generate", variant="primary")
                cancel = gr.Button("Cancel")
        with gr.Column(scale=2, min_width=320):
            gallery = gr.Gallery(
                label="Images", columns=4, format="png", object_fit="contain", height="auto",
                elem_classes="pixels", buttons=["download", "fullscreen"], interactive=False,
            )  # fmt: skip
            grid = gr.DownloadButton("Download the grid as PNG", visible=False, size="sm")
            command = page.command_box("The same images as a command")
    result, chosen = gr.State(), gr.State()
    with gr.Column(visible=False) as panel:
        title = gr.Markdown()
        with gr.Row() as uses:
            vary = gr.Button("Variations", size="sm")
            trace = gr.Button("From noise to image", size="sm")
            stop = gr.Button("Cancel", size="sm")
        strength = gr.Slider(
            0.05, 1, value=0.5, step=0.05, label="Strength of variations",
            info="near 0 as the image, 1 as any other",
        )  # fmt: skip
        with gr.Row():
            variations = gr.Gallery(
                label="Variations", columns=4, format="png", object_fit="contain", height="auto",
                elem_classes="pixels", buttons=["download", "fullscreen"], interactive=False,
                visible=False,
            )  # fmt: skip
            animation = gr.Image(
                label="From noise to the image", visible=False, interactive=False,
                buttons=["download"], elem_classes=["pixels", "below"],
            )  # fmt: skip
        edit_line = page.command_box("Command for the same variations")
    hidden = [gr.update(visible=False)]

    def create(progress, model, num, seed, *values):
        arguments = flags_of(page, model, num, seed, *values)
        made = make(page, model, arguments, progress)
        file = page.files.new(f"{model.replace('/', '_')}.png")
        save_png(file, made.plan.arrange(made.images))
        shown = gr.update(value=str(file), visible=True)
        line = gr.update(value=page.shell("sample", arguments), visible=True)
        return [_files(page, made.images), shown, line, made, None, *hidden * 4]

    def choose(event: gr.SelectData):
        return event.index, gr.update(visible=True), f"Image {event.index + 1}", *hidden * 3

    def vary_image(progress, made, index, strength):
        arguments, images = make_variations(page, existing(made), index, strength, progress)
        line = gr.update(value=page.shell("edit", arguments), visible=True)
        return gr.update(value=[*map(to_pillow, images)], visible=True), line

    def animate(progress, made, index):
        made = existing(made)
        file = page.files.new(f"image-{index + 1}.gif")
        write_trajectory(page, made, index, file, progress)
        return gr.update(value=str(file), visible=True)

    made = [variations, animation, edit_line]
    inputs = [page.model, num, seed, *condition.inputs, *options]
    outputs = [gallery, grid, command, result, chosen, panel, *made]
    generate_now = functools.partial(gr.on, [start.click, *condition.triggers])
    page.jobs.add(generate_now, create, inputs, outputs, cancel, show_progress_on=gallery)
    page.jobs.add_quick(gallery.select, choose, [], [chosen, panel, title, *made])
    page.jobs.add(vary.click, vary_image, [result, chosen, strength], [variations, edit_line], stop)
    page.jobs.add(trace.click, animate, [result, chosen], [animation], stop)
    return Created(result, chosen, uses)


def existing(result):
    """Returns the `Result`; ValueError if it is None.

    The server forgets it an hour after the page was closed, or when many others have come since.
    """
    if result is None:
        raise ValueError("These images are gone. Generate them again.")
    return result


def _files(page, images):
    """Returns the paths of images as image-1.png and so on."""
    folder = page.files.new("image-1.png").parent
    paths = [folder / f"image-{number}.png" for number in range(1, len(images) + 1)]
    for path, image in zip(paths, images, strict=True):
        save_png(path, image)
    return [str(path) for path in paths]


def _add_sampler(page):
    """Adds steps and sampler; returns the components."""
    config = page.models.config(page.model.value)
    steps = gr.Slider(1, MOST_STEPS, value=config.num_steps, step=1, label="Steps")
    sampler = gr.Dropdown(list(config.samplers), value=config.sampler, label="Sampler")

    def follow(model):
        config = page.models.config(model)
        return config.num_steps, gr.update(choices=list(config.samplers), value=config.sampler)

    page.jobs.add_quick(page.model.change, follow, [page.model], [steps, sampler])
    return steps, sampler


def flags_of(page, model, num, seed, prompt, classes, negative, scale, steps, sampler):
    """Returns the arguments of sample.py for the values of the form.

    What is the model's default is left out.
    """
    config = page.models.config(model)
    flags = ["--model", page.models.argument(model), *conditions.flags(config, prompt, classes)]
    if config.prompts and (negative or "").strip():
        flags += conditions.with_text("--negative-prompt", negative.strip())
    if config.num_classes and scale != config.guidance.scale:
        flags += ["--guidance-scale", f"{scale:g}"]
    if sampler != config.sampler:
        flags += ["--sampler", sampler]
    if steps != config.num_steps:
        flags += ["--num-steps", f"{steps:g}"]
    return [*flags, *numbers(num, seed)]


def numbers(num, seed):
    """Returns the flags for a number of images and their seed.

    Batches are small, as a job can only be cancelled between two. Their size can change the
    rounding of an image, so that it is a part of the command.
    """
    batches = ["--batch-size", str(BATCH_SIZE)] if num > BATCH_SIZE else []
    return ["--num", f"{num:g}", "--seed", str(int(seed or 0)), *batches]


def make(page, model, arguments, progress):
    """Returns the `Result` of arguments of sample.py."""
    options = page.parse("sample", arguments)
    plan = make_plan(options, page.models.config(model))
    progress.loading()
    loaded = page.models.load(model)
    images = generate(
        lambda tensors: loaded.graph(plan.sampler, tensors),
        model, loaded.image_shape, plan.requests, options.batch_size, progress,
    )  # fmt: skip
    return Result(model, plan, images, conditions.given(options), options.seed)


def make_variations(page, made, index, strength, progress):
    """Returns (arguments of edit.py, list of variations of an image)."""
    name = f"image-{index + 1}"
    flag, *values = made.condition or [None]
    given = conditions.with_text(flag, values[index % len(values)]) if values else []
    arguments = [
        "variations", f"{name}.png", "--model", page.models.argument(made.model), *given,
        "--strength", f"{strength:g}", *numbers(VARIATIONS, made.seed),
    ]  # fmt: skip
    options = page.parse("edit", arguments)
    options.progress = lambda done: progress(done, VARIATIONS)
    progress.loading()
    loaded = page.models.load(made.model)
    progress(0, VARIATIONS)
    results = edit_command.compute(options, {name: made.images[index]}, loaded)
    return arguments, results.rows[0][2]


def write_trajectory(page, made, index, file, progress):
    """Writes the way of an image from noise as a GIF."""
    progress.loading()
    loaded, request = page.models.load(made.model), made.plan.requests[0]
    stages = generate(
        lambda tensors: loaded.trajectory(made.plan.sampler, tensors),
        made.model, loaded.image_shape, [_OneOf(request, index)], 1, progress,
    )[:, 0]  # fmt: skip
    save_gif(file, [tile(image) for image in stages], [STAGE] * (len(stages) - 1) + [LAST])


@dataclasses.dataclass(frozen=True)
class _OneOf:
    """The part of a `Request` that is image `index`, as `generate` takes it."""

    request: Request
    index: int
    num_images: int = 1

    @property
    def shared(self):
        return self.request.shared

    def batches(self, batch_size):
        """Yields the only batch."""
        rows = slice(self.index, self.index + 1)
        yield {name: values[rows] for name, values in self.request.per_image.items()}
