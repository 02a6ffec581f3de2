"""Open a page to create and edit images in the browser:  python app.py

Gradio and TensorFlow are imported after the flags are checked.
"""

import importlib.util
import os
import signal
import socket
import sys
import tempfile
from pathlib import Path

from keras_diffusion.cli.app.visitors import LOCAL_NAMES
from keras_diffusion.cli.parsing import OneLineParser, within
from keras_diffusion.runtime import frameworks


def parser(prog="app.py"):
    """Returns the parser."""
    flags = OneLineParser(prog=prog, description="Open a page to create, edit and watch images.")
    # fmt: off
    add = flags.add_argument
    add("--model", metavar="NAME or DIR",
        help="the export that is chosen first: its name in saved_models/, such as mnist, or its "
        "folder; default: your newest in saved_models/, or without one the flowers that come with "
        "keras_diffusion")
    add("--host", default="127.0.0.1", metavar="HOST",
        help="address of this machine to serve at; the default: only from this machine; 0.0.0.0: "
        "also from others, without a password")
    add("--port", type=within(0, 65535), default=7860, metavar="N",
        help="port to serve at; 0: any that is free")
    add("--runs", type=Path, default=Path("runs"), metavar="DIR",
        help="folder of the runs to watch")
    # fmt: on
    return flags


def main(arguments=None, prog="app.py"):
    """Runs the command until Ctrl-C; returns the exit code."""
    flags = parser(prog)
    options = flags.parse_args(arguments)
    try:
        check_gradio()
        with listening(options.host, options.port) as server_socket:
            serve(options, server_socket, prog)
    except (ValueError, OSError) as error:
        flags.error(error)
    except KeyboardInterrupt:
        pass
    return 0


def check_gradio():
    """Raises ValueError if Gradio is not installed."""
    if importlib.util.find_spec("gradio") is None:
        raise ValueError(
            "gradio: is not installed. Run pip install -r requirements-app.txt or "
            'pip install ".[app]" in the checkout.'
        )


def listening(host, port):
    """Returns a socket that listens; OSError or ValueError names the flag."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, UnicodeError) as error:
        raise ValueError(f"--host: {host!r} is not an address of this machine.") from error
    server_socket = socket.socket(family, kind)
    try:
        server_socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server_socket.bind(address)
        server_socket.listen(128)
    except OSError as error:
        server_socket.close()
        if isinstance(error, PermissionError) or "in use" in str(error):
            raise OSError(
                f"--port: {port} is not free ({error.strerror}). Choose another one, or 0 for any."
            ) from error
        raise OSError(f"--host: {host!r} cannot be served at ({error.strerror}).") from error
    return server_socket


def serve(options, server_socket, prog):
    """Serves the page until Ctrl-C."""
    from keras_diffusion.cli.app.models import Models

    try:
        models = Models(options.model)
    except ValueError as error:
        raise ValueError(f"--model: {error}") from error
    for line in models.left_out:
        print(f"left out: {line}")
    frameworks.import_keras()
    # Python would end without removing the folder.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with tempfile.TemporaryDirectory(prefix="keras_diffusion_") as folder:
        os.environ.update(settings(folder))
        from keras_diffusion.cli.app import server

        host, port = server_socket.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        print(f"open http://{shown}:{port}/ in a browser; Ctrl-C stops the page", flush=True)
        application, jobs = server.application(
            models, folder, options.runs, prog, local=shown in LOCAL_NAMES
        )
        server.run(application, jobs, server_socket)


def settings(folder):
    """Returns the environment of Gradio, which reads it when it is imported.

    Args:
        folder: for all files of visitors.
    """
    return {
        "GRADIO_TEMP_DIR": folder,
        "GRADIO_ANALYTICS_ENABLED": "False",
        "GRADIO_RUN_HISTORY": "False",
        "GRADIO_SSR_MODE": "False",
        "GRADIO_MCP_SERVER": "False",
        "HF_HUB_OFFLINE": "1",
    }


if __name__ == "__main__":
    sys.exit(main())
