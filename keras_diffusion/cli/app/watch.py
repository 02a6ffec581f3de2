"""The tab Watch: the runs in a folder, while they are trained and after."""

import functools
import html
import threading
from pathlib import Path

import gradio as gr
from PIL import Image

from keras_diffusion.cli.app import runs

SECONDS = 3  # between two looks at the files
LOSS_HELP = "Both should fall. A validation loss that rises for long is overfitting."
HEALTH_HELP = (
    "The network learns noise (75 - 100%) first and details (0 - 25%) last. A validation line that "
    "rises while the training line falls is overfitting.",
    "The averaged weights (EMA) should be better while the learning rate is high; both meet at the "
    "end. If they are worse, ema_decay is too large for so short a training.",
    "It falls, then stays level. If it rises, lower --learning-rate.",
    "It should be zero.",
)
NONE = "There are no runs in {}. A training writes one, such as: {}"
NO_GRID = gr.update(visible=False, value=None), ""
COLOURS = {runs.TRAINING: "#16a34a", runs.FINISHED: "#2563eb", runs.STOPPED: "#b45309"}
CURVES = 32  # runs whose plots are kept
_drawing = threading.Lock()


def add(page):
    """Adds the tab."""
    run = gr.Dropdown([], label="Run", elem_id="watch-run")
    about = gr.HTML(elem_id="watch-about")
    with gr.Row():
        with gr.Column(min_width=320):
            epoch = gr.Slider(
                1, 2, step=1, label="Samples after epoch", visible=False, buttons=[],
                elem_id="watch-epoch",
            )  # fmt: skip
            samples = gr.Image(
                show_label=False, type="pil", format="png", interactive=False, visible=False,
                buttons=[], elem_id="watch-samples",
            )  # fmt: skip
            caption = gr.HTML(elem_id="watch-caption")
        with gr.Column(min_width=320):
            losses = gr.HTML(elem_id="watch-losses")
    with gr.Accordion("Health", open=False):
        health = gr.HTML(elem_id="watch-health")
    seen = gr.State({})  # what the browser shows now
    timer = gr.Timer(SECONDS, active=False)

    def look(name, number, seen):
        return _look(page, name, number, seen)

    def switched(event: gr.SelectData):
        return gr.Timer(active=event.value == "Watch")

    def opened(name, number, seen, event: gr.SelectData):
        return look(name, number, seen) if event.value == "Watch" else [gr.skip()] * len(outputs)

    def chosen(name, seen):
        return look(name, None, seen)

    def moved(name, number):
        return _grid(page.runs, name, number)

    inputs = [run, epoch, seen]
    outputs = [run, about, epoch, samples, caption, losses, health, seen]
    # Gradio would reject a number that is empty while it is typed, or not on the slider any more.
    connect = functools.partial(page.jobs.add_quick, preprocess=False)
    # Two events: a look that takes long does not start the timer after the tab is left.
    connect(page.tabs.select, switched, [], [timer], trigger_mode="multiple")
    connect(page.tabs.select, opened, inputs, outputs, trigger_mode="multiple")
    connect(timer.tick, look, inputs, outputs, trigger_mode="once")
    connect(run.input, chosen, [run, seen], outputs)
    connect(epoch.input, moved, [run, epoch], [samples, caption], trigger_mode="always_last")


def _look(page, name, number, seen):
    """Returns the values of the outputs; what has not changed is skipped.

    Args:
        page: `Page`.
        name: the chosen run; what is no run of the folder is replaced by one.
        number: the chosen epoch; what is no number stands for the last one.
        seen: what the browser shows, as returned before.
    """
    root, number = page.runs, _epoch(number)
    names = runs.names(root)
    if not names and seen.get("names") == []:
        return [gr.skip()] * 8
    if not names:
        command = page.shell("train", ["--dataset", "digits", "--minutes", "1"])
        nothing = html.escape(NONE.format(root, command))
        hidden = gr.update(visible=False)
        return [gr.update(choices=[], value=None), nothing, hidden, *NO_GRID, "", "", {"names": []}]
    name = name if name in names else names[0]
    try:
        state = runs.read(root, name)
    except ValueError:  # deleted just now: the next look chooses another one
        return [gr.skip()] * 8
    now = {"names": names, "run": name, "about": _about(page, state), "epochs": state.epochs,
           "samples": list(state.samples)}  # fmt: skip
    changed = {key for key in now if now[key] != seen.get(key)}
    others = "run" in changed
    choice = about = slider = grid = caption = losses = health = gr.skip()
    if {"names", "run"} & changed:
        choice = gr.update(choices=names, value=name)
    if "about" in changed:
        about = now["about"]
    if others or "samples" in changed:
        follows = others or number is None or number >= max(seen.get("samples") or [0])
        slider, number = _slider(now["samples"], None if follows else number)
        grid, caption = _grid(root, name, number)
    if others or "epochs" in changed:
        losses, health = _curves(state)
    return [choice, about, slider, grid, caption, losses, health, now]


def _slider(epochs, number):
    """Returns (update of the slider, the chosen epoch or None); it is hidden for one grid."""
    if not epochs:
        return gr.update(visible=False), None
    number = epochs[-1] if number is None else number
    most = max(2, epochs[-1])
    return gr.update(maximum=most, value=number, visible=len(epochs) > 1), number


def _epoch(value):
    """Returns a number that the browser has sent, or None."""
    return value if isinstance(value, int | float) else None


def _grid(root, name, number):
    """Returns (update of the image, its caption): the last samples at or before an epoch.

    Before the first ones, those are shown.
    """
    try:
        samples = runs.read(root, name).samples
        last = _epoch(number) or 0
        shown = max((epoch for epoch in samples if epoch <= last), default=min(samples))
        with Image.open(samples[shown]) as image:
            image.load()
    except (ValueError, OSError):  # none yet, or deleted
        return NO_GRID
    caption = f"Samples after epoch {shown}, always from the same noise."
    return gr.update(visible=True, value=image), caption


def _about(page, state):
    """Returns HTML: the state of a run, how far it is, how it is resumed, and warnings."""
    colour = COLOURS[state.state]
    badge = (
        f'<span style="background:{colour};color:white;border-radius:1em;padding:0.15em 0.8em;'
        f'white-space:nowrap">{state.state}</span>'
    )
    lines = [f"<p>{badge} {html.escape(state.lines[0])}</p>"]
    lines += [f"<p>{html.escape(line)}</p>" for line in state.lines[1:]]
    if state.can_resume:
        command = page.shell("train", [f"--resume={Path(page.runs, state.name)}"])
        lines.append(f"<p>Resume it with: {html.escape(command)}</p>")
    lines += [f"<p><b>Warning:</b> {html.escape(line)}</p>" for line in state.warnings]
    return "".join(lines)


def _curves(state):
    """Returns (HTML of the losses, HTML of what shows the health); drawn once for all visitors."""
    try:
        written = state.history.stat().st_mtime_ns
    except OSError:  # deleted, or not there yet
        return "", ""
    with _drawing:
        return _drawn(state.history, written)


@functools.lru_cache(CURVES)
def _drawn(history, written):
    """Returns the values of `_curves`; `written` is when the file was written."""
    from keras_diffusion.plotting import figures

    try:
        epochs, columns = figures.read_history(history)
    except (OSError, ValueError, KeyError):  # deleted, or damaged
        return "", ""
    if not len(epochs):
        return "<p>The first epoch is not finished yet.</p>", ""
    losses = figures.loss_panels(epochs, columns)
    health = figures.health_panels(epochs, columns)
    return (
        _panels(losses, [LOSS_HELP, "Lower is better."][: len(losses)]),
        _panels(health, HEALTH_HELP),
    )


def _panels(panels, texts):
    """Returns HTML of plots with a text below each, side by side where there is room."""
    from keras_diffusion.plotting import figures

    parts = []
    for plot, text in zip(panels, texts, strict=True):
        figure, axes = figures.subplots(width=4.8, height=3.2)
        plot(axes[0, 0])
        if axes[0, 0].has_data():
            parts.append(
                '<figure style="margin:0;max-width:560px">'
                f"{figures.svg(figure, text)}<figcaption>{html.escape(text)}</figcaption></figure>"
            )
    columns = "repeat(auto-fill,minmax(min(100%,400px),1fr))"
    style = f"display:grid;grid-template-columns:{columns};gap:1em"
    return f'<div style="{style}">{"".join(parts)}</div>'
