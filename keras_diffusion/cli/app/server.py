"""The server of the page: Gradio behind `Visitors`, served by uvicorn."""

import fastapi
import gradio as gr
import uvicorn

from keras_diffusion.cli.app import page
from keras_diffusion.cli.app.visitors import LOCAL_NAMES, Visitors

LARGEST_UPLOAD = "20mb"


def application(models, folder, runs, prog, local=True):
    """Returns the ASGI application.

    Args:
        models: `Models`.
        folder: path of an empty folder for all files of visitors, GRADIO_TEMP_DIR.
        runs: path of the folder of the runs to watch.
        prog: how the user called the command.
        local: bool; True answers only requests to this machine by a name of its own.
    """
    blocks = page.build(models, folder, runs, prog)
    outer = fastapi.FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    outer = gr.mount_gradio_app(
        outer,
        blocks,
        path="/",
        footer_links=[],
        run_history=False,
        show_error=False,  # but for gr.Error
        max_file_size=LARGEST_UPLOAD,
        ssr_mode=False,
        enable_monitoring=False,
        pwa=False,
        mcp_server=False,
        theme=page.theme(),
        css=page.CSS,
    )
    return Visitors(outer, folder, LOCAL_NAMES if local else None)


def run(application, server_socket):
    """Serves until Ctrl-C or SIGTERM."""
    config = uvicorn.Config(
        application, log_level="warning", timeout_graceful_shutdown=2, ws="none"
    )
    uvicorn.Server(config).run(sockets=[server_socket])
