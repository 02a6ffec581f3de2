"""The page: what its tabs share, and how they are put together."""

import dataclasses
import shlex
from pathlib import Path

import gradio as gr

from keras_diffusion.cli import edit as edit_command
from keras_diffusion.cli import sample as sample_command
from keras_diffusion.cli.app import compare, create, edit, watch
from keras_diffusion.cli.app.files import Files
from keras_diffusion.cli.app.jobs import Jobs
from keras_diffusion.cli.app.models import Models
from keras_diffusion.cli.parsing import RaisingParser

PARSERS = {"sample": sample_command.parser, "edit": edit_command.parser}
WAITING = 100  # jobs in the queue, at most
SESSIONS = 200  # whose images are kept, at most
CSS = """
.gradio-container { width: 100%; max-width: 1200px !important; margin: 0 auto !important; }
.pixels img { image-rendering: pixelated; }
/* Below the labels and buttons that lie over images. */
.grid-wrap {
  min-height: 0 !important;
  overflow-y: auto !important;
  padding-top: 36px !important;
}
.below img { padding-top: 36px; box-sizing: border-box; }
.grid-container {
  grid-template-columns: repeat(var(--grid-cols), minmax(0, 1fr)) !important;
  grid-template-rows: none !important;
  grid-auto-rows: auto !important;
}
@media (max-width: 640px) {
  .grid-container { grid-template-columns: repeat(3, minmax(0, 1fr)) !important; }
  .gradio-container .app { padding: 12px !important; }
}
.command textarea { font-family: var(--font-mono); }
"""


@dataclasses.dataclass
class Page:
    """What the tabs share.

    Attributes:
        models: `Models`.
        jobs: `Jobs`.
        files: `Files`.
        runs: path of the folder of the runs.
        prog: how the user called the command.
        model: dropdown of the model, above the tabs.
        blocks: `gr.Blocks`.
        tabs: `gr.Tabs`; their ids are "create", "edit", "compare" and "watch".
    """

    models: Models
    jobs: Jobs
    files: Files
    runs: Path
    prog: str
    model: gr.Dropdown | None = None
    tabs: gr.Tabs | None = None
    blocks: gr.Blocks | None = None

    def parse(self, command, arguments):
        """Returns the parsed flags of "sample" or "edit"; ValueError instead of an exit."""
        return PARSERS[command](kind=RaisingParser).parse_args(arguments)

    def shell(self, command, arguments):
        """Returns the line for a shell that calls a command, as this page was called."""
        script = f"python {command}.py"
        if not self.prog.endswith(".py"):
            script = f"keras-diffusion {command}"
        return f"{script} {shlex.join(arguments)}"

    def command_box(self, label):
        """Adds a hidden box for a line of a shell, with a button that copies it."""
        return gr.Textbox(
            label=label, visible=False, interactive=False, lines=1, max_lines=6, buttons=["copy"],
            elem_classes="command",
        )  # fmt: skip


def theme():
    """Returns the theme, with fonts of the visitor's system."""
    theme = gr.themes.Default(
        primary_hue="blue", font=["system-ui", "sans-serif"],
        font_mono=["ui-monospace", "monospace"],
    )  # fmt: skip
    # Darker than Gradio's, so that small text can be read.
    grey, light = "*neutral_600", "*neutral_300"
    return theme.set(
        body_text_color_subdued=grey,
        body_text_color_subdued_dark=light,
        block_info_text_color=grey,
        block_info_text_color_dark=light,
        input_placeholder_color="*neutral_500",
        input_placeholder_color_dark="*neutral_400",
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_hover="*primary_700",
    )


def build(models, folder, runs, prog):
    """Returns the `Page`; the arguments are those of `server.application`."""
    page = Page(models, Jobs(), Files(folder), Path(runs), prog)

    def leave(request: gr.Request):
        page.jobs.cancel(request.session_hash)

    with gr.Blocks(title="keras_diffusion", analytics_enabled=False) as page.blocks:
        page.model = gr.Dropdown(models.names, value=models.default, label="Model")
        with gr.Tabs() as page.tabs:
            with gr.Tab("Create", id="create"):
                created = create.add(page)
            with gr.Tab("Edit", id="edit"):
                targets = edit.add(page)
            with gr.Tab("Compare", id="compare"):
                compare.add(page)
            with gr.Tab("Watch", id="watch"):
                watch.add(page)
        add_uses(page, created, targets)
        page.blocks.unload(leave)
    page.blocks.queue(max_size=WAITING, default_concurrency_limit=None, api_open=False)
    page.blocks.state_session_capacity = SESSIONS
    return page


def add_uses(page, created, targets):
    """Adds buttons that take the chosen image to another tab.

    Args:
        created: `create.Created`.
        targets: list of (text, component, function from uint8 (H, W, C) to its value).
    """
    for text, component, convert in targets:
        with created.uses:
            button = gr.Button(text, size="sm")

        def take(result, index, convert=convert):
            image = create.existing(result).images[index]
            return convert(image), gr.update(selected="edit")

        page.jobs.add_quick(
            button.click, take, [created.result, created.chosen], [component, page.tabs]
        )
