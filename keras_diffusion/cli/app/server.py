"""The server of the page: Gradio behind `Visitors`, served by uvicorn."""

import fastapi
import gradio as gr
import uvicorn

from keras_diffusion.cli.app import page
from keras_diffusion.cli.app.visitors import LARGEST_FILE, LOCAL_NAMES, Visitors


def application(models, folder, runs, prog, local=True):
    """Returns (ASGI application, `Jobs`).

    Args:
        models: `Models`.
        folder: path of an empty folder for all files of visitors, GRADIO_TEMP_DIR.
        runs: path of the folder of the runs to watch.
        prog: how the user called the command.
        local: bool; True answers only requests to this machine by a name of its own.
    """
    built = page.build(models, folder, runs, prog)
    outer = fastapi.FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    outer = gr.mount_gradio_app(
        outer,
        built.blocks,
        path="/",
        footer_links=[],
        run_history=False,
        show_error=False,  # but for gr.Error
        max_file_size=LARGEST_FILE,
        ssr_mode=False,
        enable_monitoring=False,
        pwa=False,
        mcp_server=False,
        theme=page.theme(),
        css=page.CSS,
    )
    return Visitors(outer, folder, LOCAL_NAMES if local else None), built.jobs


def run(application, jobs, server_socket):
    """Serves until Ctrl-C or SIGTERM; the arguments are those that `application` returns.

    Then all jobs are cancelled, as Python waits for their threads before it ends.
    """
    config = uvicorn.Config(
        application, log_level="warning", timeout_graceful_shutdown=2, ws="none"
    )
    try:
        uvicorn.Server(config).run(sockets=[server_socket])
    finally:
        jobs.cancel()
