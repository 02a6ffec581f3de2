"""The page of app.py as the tests use it: tiny models, a server, browsers, and plain HTTP."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import keras
import pytest
from commands import ROOT
from fixtures_exports import one_sampler
from fixtures_models import tiny_network

from keras_diffusion import DiffusionModel, export_saved_model
from keras_diffusion.conditioning.prompts import Prompts

SECONDS = 30  # that anything on the page may take
PROMPTS = Prompts(["ant", "bee", "sunflower"])


def write_prompt_export(folder):
    """Writes saved_models/words, a model with prompts in RGB; returns the path."""
    keras.utils.set_random_seed(1)
    model = DiffusionModel(tiny_network((16, 16, 3), prompts=PROMPTS), prompts=PROMPTS)
    with one_sampler():
        return export_saved_model(
            model, folder / "saved_models/words", num_steps=4, guidance_scale=2.0
        )


# The server -----------------------------------------------------------------------------------


@contextlib.contextmanager
def serving(folder, *flags, code=0):
    """Runs app.py in a folder until Ctrl-C, then expects `code`; yields (process, URL)."""
    command = [sys.executable, "-u", str(ROOT / "app.py"), "--port", "0", *flags]
    with open(folder / "page.log", "wb") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=subprocess.STDOUT)
    try:
        yield process, _url(process, folder / "page.log")
    finally:
        process.send_signal(signal.SIGINT)
        try:
            assert process.wait(SECONDS) == code
        finally:
            process.kill()


def _url(process, log):
    until = time.monotonic() + SECONDS
    while time.monotonic() < until and process.poll() is None:
        if match := re.search(r"http://\S+/", log.read_text()):
            with contextlib.suppress(urllib.error.URLError):
                urllib.request.urlopen(match[0], timeout=SECONDS).close()
                return match[0]
        time.sleep(0.1)
    raise AssertionError(log.read_text())


def memory(process):
    """Resident memory of a process, in MB."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024


# Plain HTTP -----------------------------------------------------------------------------------


class Visitor:
    """A visitor without a browser.

    Args:
        url: of the page.
    """

    def __init__(self, url):
        self._url = url
        with urllib.request.urlopen(url, timeout=SECONDS) as answer:
            self._cookie = answer.headers["set-cookie"].split(";")[0]
        self.config = json.loads(self.get("config"))
        self.session = os.urandom(8).hex()

    def open(self, path, data=None):
        """An answer; `data` makes it a POST of JSON."""
        headers = {"cookie": self._cookie, "content-type": "application/json"}
        request = urllib.request.Request(self._url + path, data, headers)
        return urllib.request.urlopen(request, timeout=SECONDS)

    def get(self, path, *data):
        """The bytes of an answer; the arguments are those of `open`."""
        with self.open(path, *data) as answer:
            return answer.read()

    def status(self, path, data=None):
        """The HTTP status of an answer."""
        try:
            self.get(path, data)
        except urllib.error.HTTPError as error:
            return error.code
        return 200

    def component(self, kind, label):
        """The number of a component."""
        [number] = [
            component["id"]
            for component in self.config["components"]
            if component["type"] == kind
            and label in (component["props"].get("label"), component["props"].get("value"))
        ][:1]
        return number

    def job(self, button, values=()):
        """Clicks a button; returns the values of the outputs of its job, or raises its error.

        Args:
            button: its text.
            values: {label: value} of inputs that differ from the values at the start.
        """
        target = [self.component("button", button), "click"]
        [event] = [each for each in self.config["dependencies"] if target in each["targets"]][:1]
        components = {each["id"]: each["props"] for each in self.config["components"]}
        values = dict(values)
        data = [
            values.get(components[number].get("label"), components[number].get("value"))
            for number in event["inputs"]
        ]
        body = {"fn_index": event["id"], "session_hash": self.session, "data": data}
        self.get("gradio_api/queue/join", json.dumps(body).encode())
        stream = self.get(f"gradio_api/queue/data?session_hash={self.session}").decode()
        for line in stream.splitlines():
            message = json.loads(line.removeprefix("data:")) if line else {}
            if message.get("msg") == "process_completed":
                if not message["success"]:
                    raise ValueError(message["output"]["error"])
                return message["output"]["data"]
        raise AssertionError(stream[-1000:])


def at_once(function, count):
    """Results of `count` calls function(number), each in a thread of its own."""
    results = [None] * count

    def call(number):
        results[number] = function(number)

    threads = [threading.Thread(target=call, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)
    return results


# Browsers -------------------------------------------------------------------------------------


@contextlib.contextmanager
def browser(size=(1280, 800), dark=False, downloads=None):
    """A headless Chromium; fails if its console has an error at the end."""
    programs = [shutil.which(name) for name in ("chromium", "chromedriver")]
    if not all(programs):
        if os.environ.get("CI"):
            pytest.fail("chromium and chromedriver are not installed")
        pytest.skip("needs chromium and chromedriver")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = programs[0]
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage",
                     f"--window-size={size[0]},{size[1]}"):  # fmt: skip
        options.add_argument(argument)
    if dark:
        options.add_argument("--force-dark-mode")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(executable_path=programs[1])
    driver = webdriver.Chrome(options=options, service=service)
    try:
        metrics = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": False}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        if downloads:
            behaviour = {"behavior": "allow", "downloadPath": str(downloads)}
            driver.execute_cdp_cmd("Browser.setDownloadBehavior", behaviour)
        yield driver
        errors = [entry for entry in driver.get_log("browser") if entry["level"] == "SEVERE"]
        assert not errors, errors
        hosts = driver.execute_script(
            "return performance.getEntriesByType('resource').map(e => new URL(e.name).host)"
        )
        here = driver.execute_script("return location.host")
        assert set(hosts) <= {here, ""}, "everything comes from the page's own server"
    finally:
        driver.quit()


def wait(condition, seconds=SECONDS, what=""):
    """Returns the first true value of condition()."""
    from selenium.common.exceptions import (
        NoSuchElementException,
        StaleElementReferenceException,
    )

    until = time.monotonic() + seconds
    while time.monotonic() < until:
        with contextlib.suppress(NoSuchElementException, StaleElementReferenceException):
            if value := condition():
                return value
        time.sleep(0.1)
    raise AssertionError(f"not within {seconds} s: {what or condition}")
