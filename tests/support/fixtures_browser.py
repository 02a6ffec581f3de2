"""The page of app.py in a real browser, as a visitor sees it."""

import contextlib
import io

import numpy as np
from fixtures_page import browser, wait
from PIL import Image
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys


class PageInBrowser:
    """What a visitor sees and does.

    Args:
        driver: of selenium.
        url: of the page.
    """

    def __init__(self, driver, url):
        self.driver = driver
        driver.get(url)
        self.button("Generate")

    def all(self, xpath):
        return [each for each in self.driver.find_elements(By.XPATH, xpath) if each.is_displayed()]

    def one(self, xpath):
        return wait(lambda: self.all(xpath)[:1], what=xpath)[0]

    def button(self, text):
        return self.one(f"//button[normalize-space()='{text}' and not(@role='tab')]")

    def tab(self, text):
        self.one(f"//button[@role='tab' and normalize-space()='{text}']").click()

    def field(self, label):
        return self.one(
            f"//label[.//span[normalize-space()='{label}']]//*[self::input or self::textarea] | "
            f"//input[@aria-label='{label}' or @aria-label='number input for {label}']"
        )

    def at_rest(self, element):
        """Waits until an element looks the same twice."""
        looks = []

        def same():
            looks.append((element.rect, element.screenshot_as_png))
            return looks[-2:-1] == looks[-1:]

        wait(same, what="an element at rest")

    def write(self, label, text):
        field = self.field(label)
        field.send_keys(Keys.CONTROL, "a")
        field.send_keys(Keys.DELETE)
        field.send_keys(text)

    def choose_model(self, name):
        field = self.one("//input[@aria-label='Model']")
        field.click()
        self.one(f"//ul[@role='listbox']//li[@aria-label='{name}']").click()
        wait(lambda: field.get_attribute("value") == name, what=name)

    def images(self):
        """The images of the grid, as arrays; waits for the first."""
        wait(lambda: self.sources(), what="images")
        return [self.download(source) for source in self.sources()]

    def sources(self):
        return [
            image.get_attribute("src")
            for image in self.all("//*[contains(@class, 'grid-wrap')]//img")
        ]

    def download(self, url):
        """The pixels of a PNG, fetched by the browser itself."""
        script = """
            const [url, done] = arguments;
            fetch(url).then(r => r.arrayBuffer()).then(b => done(Array.from(new Uint8Array(b))));
        """
        data = bytes(self.driver.execute_async_script(script, url))
        with Image.open(io.BytesIO(data)) as image:
            assert image.format == "PNG"
            return np.asarray(image)

    def status(self, url):
        script = "const [url, done] = arguments; fetch(url).then(r => done(r.status));"
        return self.driver.execute_async_script(script, url)

    def command(self):
        xpath = "//*[contains(@class, 'command')]//textarea"
        return wait(lambda: self.one(xpath).get_attribute("value"), what=xpath)

    def toast(self):
        return self.one("//*[@data-testid='toast-text']").text

    def generate(self, num=4):
        self.write("Number of images", str(num))
        self.button("Generate").click()


@contextlib.contextmanager
def visiting(server, **options):
    with browser(**options) as driver:
        driver.set_script_timeout(30)
        yield PageInBrowser(driver, server[1])
