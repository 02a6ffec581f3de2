"""The models that the page offers: exports, each loaded once."""

import threading

from keras_diffusion.runtime.console import names as join_names
from keras_diffusion.saving import export_folder


class Models:
    """The exports in saved_models/ and those that come with keras_diffusion, by their names.

    Exports of clips, and those that this version cannot read, are left out.

    Args:
        model: None, or the name or path of an export, as --model takes it.

    Attributes:
        configs: {name: `ExportConfig`}.
        default: the name of `model`, or of the model that `sample.py` takes.
        left_out: list of text, a line for each export that is left out.

    Raises:
        ValueError: `model` is no export, or one of clips; or there is no export at all.
    """

    def __init__(self, model=None):
        self._lock, self._loaded = threading.Lock(), {}
        path, _ = export_folder.locate(model)
        paths = export_folder.list_exports()
        self.default = next(
            (name for name, other in paths.items() if other.resolve() == path.resolve()),
            path.resolve().name if path.resolve().name not in paths else str(path),
        )
        self._paths = {self.default: path, **paths}
        self.configs, self.left_out = {}, []
        for name, path in self._paths.items():
            try:
                config = export_folder.read(path)
                if config.frames > 1:
                    raise ValueError(f"{path} is of clips; use sample.py.")
                self.configs[name] = config
            except ValueError as error:
                if name == self.default and model is not None:
                    raise
                self.left_out.append(str(error))
        if not self.configs:
            raise ValueError("; ".join(self.left_out))
        if self.default not in self.configs:
            self.default = next(iter(self.configs))

    @property
    def names(self):
        """List of the names, the default first."""
        return [self.default, *(name for name in self.configs if name != self.default)]

    def config(self, name):
        """Returns the `ExportConfig` of a model; ValueError if the page does not offer it."""
        if name not in self.configs:
            raise ValueError(f"--model: unknown {name!r}. Choose from: {join_names(self.names)}.")
        return self.configs[name]

    def argument(self, name):
        """Returns what --model takes for a model."""
        self.config(name)
        try:
            found, _ = export_folder.locate(name)
        except ValueError:
            return str(self._paths[name])
        return name if found.resolve() == self._paths[name].resolve() else str(self._paths[name])

    def load(self, name):
        """Returns the `LoadedModel` of a name.

        Raises:
            ValueError: the page does not offer it, or it cannot be read.
        """
        self.config(name)
        from keras_diffusion.saving import loading

        with self._lock:
            if name not in self._loaded:
                try:
                    self._loaded[name] = loading.load(self._paths[name])
                except ValueError as error:
                    raise ValueError(f"--model: {error}") from error
            return self._loaded[name]
