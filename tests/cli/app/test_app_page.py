"""The whole page, without a server or a browser."""

import threading
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import pytest
import uvicorn
from fixtures_page import SECONDS, Visitor
from gradio.components.image_editor import EditorData
from gradio.data_classes import FileData
from gradio.state_holder import StateHolder

from keras_diffusion.cli.app import command, edit_form, page, server
from keras_diffusion.cli.app.jobs import Jobs

ANYONE = SimpleNamespace(session_hash="s")


@pytest.fixture(scope="module")
def built(models, tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    return page.build(models, folder, folder / "runs", "app.py")


def clicked(built, text):
    """What a click on a button calls."""
    [button] = [block for block in built.blocks.blocks.values()
                if isinstance(block, gr.Button) and block.value == text]  # fmt: skip
    [event] = [event for event in built.blocks.fns.values()
               if (button._id, "click") in event.targets]  # fmt: skip
    return event.fn


@pytest.mark.parametrize("text, arguments", [
    ("Variations", [ANYONE, None, None, None, 0.5]), ("Edit it", [None, None]),
    ("From noise to image", [ANYONE, None, None, None]), ("Edit as second image", [None, None]),
])  # fmt: skip
def test_images_that_are_gone_are_named(built, text, arguments):
    with pytest.raises(gr.Error, match="These images are gone. Generate them again."):
        clicked(built, text)(*arguments)


@pytest.fixture
def served(models, tmp_path):
    """(URL, `Jobs`) of the page."""
    application, jobs = server.application(models, tmp_path, tmp_path / "runs", "app.py")
    with command.listening("127.0.0.1", 0) as server_socket:
        config = uvicorn.Config(application, log_level="warning", ws="none")
        program = uvicorn.Server(config)
        thread = threading.Thread(target=program.run, args=([server_socket],))
        thread.start()
        yield f"http://127.0.0.1:{server_socket.getsockname()[1]}/", jobs
        program.should_exit = True
        thread.join(SECONDS)


def test_a_closed_page_cancels_its_jobs(served):
    url, jobs = served
    visitor, mine, other = Visitor(url), threading.Event(), threading.Event()
    jobs._events.update({mine: (visitor.session, 1), other: ("other", 1)})
    with visitor.open(f"gradio_api/heartbeat/{visitor.session}") as heartbeat:
        assert b"ALIVE" in heartbeat.readline()
        assert not mine.is_set()
    assert mine.wait(SECONDS) and not other.is_set()


def test_the_end_of_the_server_cancels_all_jobs(monkeypatch):
    def run(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(uvicorn.Server, "run", run)
    jobs, event = Jobs(), threading.Event()
    jobs._events[event] = "s", 1
    with pytest.raises(KeyboardInterrupt):
        server.run(None, jobs, None)
    assert event.is_set()


def test_few_sessions_are_kept(built):
    holder = StateHolder()
    holder.set_blocks(built.blocks)
    assert holder.capacity == page.SESSIONS


def test_the_editor_opens_no_image(built):
    [editor] = [block for block in built.blocks.blocks.values() if block.elem_id == "edit-editor"]
    again = type(editor)(**{**editor.constructor_args, "render": False})  # as by `gr.update`
    layers = [FileData(path=f"{number}.png") for number in range(9)]
    for each in (editor, again):
        assert each.get_block_name() == "imageeditor"
        assert each.preprocess(EditorData(layers=layers)) == "0.png"
        assert each.preprocess(EditorData(id="x")) is None and each.preprocess(None) is None
    assert not list(Path(edit_form.__file__).parent.glob("*.pyi"))
