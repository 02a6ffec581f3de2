"""`BaseModel`: what `DiffusionModel` and `Autoencoder` share as Keras models."""

import contextlib
import inspect
import os
import re
import types

import keras
import numpy as np
import tensorflow as tf

from keras_diffusion.models import muon  # noqa: F401 - registers the optimizer of many files
from keras_diffusion.models.inputs import check_values, unpack
from keras_diffusion.runtime.console import one_line
from keras_diffusion.runtime.files import whole_file

IN_BATCHES = (tf.data.Dataset, tf.distribute.DistributedDataset, types.GeneratorType)
OWN_LOSS = ("loss", "loss_weights", "metrics", "weighted_metrics")  # arguments of Keras' `compile`


class BaseModel(keras.Model):
    """A model that counts its steps, weights its loss and checks what Keras' methods get.

    Attributes:
        step: int64 variable, number of training steps, whatever the optimizer counts.
        skipped_steps: int64 variable, number of steps skipped because a gradient was not finite;
            `step` does not count them.
        num_classes: number of classes; 0: labels are ignored.
        image_shape, x_shape: (H, W, C) of images and of x; set by the subclass.
    """

    num_classes = 0
    latent_shape = None  # (H, W, C) of "latent" in batches; None: not accepted

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.skipped_steps, self.step = (
            self.add_weight(
                shape=(), dtype="int64", initializer="zeros", trainable=False, name=name
            )
            for name in ("skipped_steps", "step")
        )
        self._class_weight = None  # of each class, a tuple, in `fit(class_weight=...)`
        self._traced_for = None  # what the traced training function depends on
        self._checked_specs = set()

    # Keras' methods ---------------------------------------------------------------------

    def compile(
        self,
        optimizer="rmsprop",
        loss=None,
        loss_weights=None,
        metrics=None,
        weighted_metrics=None,
        **options,
    ):
        """Sets the optimizer; see `keras.Model.compile`. The loss and the metrics are built in.

        Raises:
            ValueError: a loss or metrics; float16.
        """
        for name, value in zip(
            OWN_LOSS, (loss, loss_weights, metrics, weighted_metrics), strict=True
        ):
            if value:
                raise ValueError(
                    f"{name}: {type(self).__name__} has its own loss and metrics, see its "
                    f"arguments and `sample_weight` of fit. Leave {name} out of compile."
                )
        float16 = any(layer.compute_dtype == "float16" for layer in self._flatten_layers())
        if float16 or isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
            raise ValueError("dtype policy: float16 overflows; use mixed_bfloat16 or float32.")
        super().compile(optimizer, **options)

    def compile_from_config(self, config):
        """Compiles a model that is loaded from a file."""
        config = keras.saving.deserialize_keras_object(config)
        self.compile(**{name: value for name, value in config.items() if name not in OWN_LOSS})
        if self.optimizer is not None:
            self.optimizer.build(self.trainable_variables)

    def fit(self, *args, **kwargs):
        """Trains the model; the arguments are those of `keras.Model.fit`.

        Weights multiply the loss of each image; as in Keras, a batch's loss is the mean of
        weight * loss. They come as `sample_weight`, as the third part of a batch or as
        "sample_weight" in a dict. `class_weight` {class: weight} adds a factor in training.

        Raises:
            ValueError: arguments or data that do not fit the model, in one line.
        """
        options = _bind(super().fit, args, kwargs)
        validation = options.get("validation_data")
        if validation is not None and options.get("validation_split"):
            raise ValueError(
                "validation_split: validation_data is given, too. Give one of the two."
            )
        if validation is None and not options.get("validation_split"):
            for name in ("validation_steps", "validation_batch_size"):
                if options.get(name) is not None:
                    raise ValueError(f"{name}: has no effect without validation_data.")
        self._assert_compile_called("fit")
        options = self._with_data(options)
        if isinstance(options["x"], IN_BATCHES):
            options.setdefault("shuffle", False)  # Keras warns that it shuffles arrays only
        if validation is not None and not isinstance(validation, IN_BATCHES):
            x, y, weights = keras.utils.unpack_x_y_sample_weight(validation)
            validation = self._with_data({"x": x, "y": y, "sample_weight": weights})
            options["validation_data"] = keras.utils.pack_x_y_sample_weight(
                validation["x"], validation["y"]
            )
        elif validation is not None:
            options["validation_data"] = self._with_data({"x": validation})["x"]
        self._prepare_training(options.pop("class_weight", None))
        with one_line_errors():
            return super().fit(**options)

    def evaluate(self, *args, **kwargs):
        """Returns the metrics; see `keras.Model.evaluate`, and `fit` about weights."""
        options = _bind(super().evaluate, args, kwargs)
        with one_line_errors():
            if "_use_cached_eval_dataset" in options:  # called by `fit`, which has checked the data
                return super().evaluate(**options)
            self._assert_compile_called("evaluate")
            return super().evaluate(**self._with_data(options))

    def predict(self, *args, **kwargs):
        """Returns what calling the model on batches returns; see `keras.Model.predict`."""
        options = self._with_data(_bind(super().predict, args, kwargs))
        del options["y"]
        with one_line_errors():
            return super().predict(**options)

    def train_on_batch(self, x, y=None, sample_weight=None, class_weight=None, return_dict=False):
        """Takes one step; see `keras.Model.train_on_batch`, and `fit` about weights."""
        self._check_spec((x, y, sample_weight))
        self._prepare_training(class_weight)
        with one_line_errors():
            return super().train_on_batch(x, y, sample_weight, return_dict=return_dict)

    def test_on_batch(self, x, y=None, sample_weight=None, return_dict=False):
        """Returns the metrics of a batch; see `keras.Model.test_on_batch`."""
        self._check_spec((x, y, sample_weight))
        with one_line_errors():
            return super().test_on_batch(x, y, sample_weight, return_dict=return_dict)

    def save(self, filepath, overwrite=True, zipped=None, **kwargs):
        """Writes a .keras file, whole or not at all; see `keras.Model.save`.

        Raises:
            ValueError: another suffix; h5 files cannot hold this model.
        """
        path = os.fspath(filepath)
        if zipped is False or path.startswith("hf://"):
            return super().save(filepath, overwrite=overwrite, zipped=zipped, **kwargs)
        if not path.endswith(".keras"):
            raise ValueError(f"save: {path} does not end in .keras. Give a name that does.")
        if not os.path.isdir(os.path.dirname(path) or "."):
            raise FileNotFoundError(f"save: the folder of {path} does not exist. Create it.")
        if not overwrite and os.path.exists(path):  # Keras asks
            return super().save(filepath, overwrite=False, **kwargs)
        with whole_file(path) as part:
            super().save(part, **kwargs)

    def load_weights(self, filepath, skip_mismatch=False, **kwargs):
        """Loads a .weights.h5 or .keras file; see `keras.Model.load_weights`."""
        try:
            super().load_weights(filepath, skip_mismatch=skip_mismatch, **kwargs)
        except ValueError as error:
            reason = one_line(error, 300)
            raise ValueError(f"load_weights: {filepath} does not fit: {reason}") from error

    def export(self, *args, **kwargs):
        """Is not for these models.

        Raises:
            ValueError: always; names `kd.export_saved_model`.
        """
        raise ValueError(
            "export: use kd.export_saved_model(model, folder), which exports the samplers of a "
            "DiffusionModel; save(...) writes a .keras file of any model."
        )

    def quantize(self, *args, **kwargs):
        """Is not supported.

        Raises:
            ValueError: always.
        """
        raise ValueError("quantize: not supported; for speed use the policy mixed_bfloat16.")

    # Files ------------------------------------------------------------------------------

    def load_own_variables(self, store):
        """Loads the counters; a file that has no `step` gets that of its optimizer."""
        if len(store.keys()) != 1:
            return super().load_own_variables(store)
        self.skipped_steps.assign(store["0"])
        optimizer = getattr(self, "optimizer", None)
        if optimizer is not None:

            def load(store):  # Keras loads the optimizer after the model
                del optimizer.load_own_variables
                optimizer.load_own_variables(store)
                self.step.assign(optimizer._iterations)  # `iterations` may be a fraction of it

            optimizer.load_own_variables = load

    # For subclasses ---------------------------------------------------------------------

    def _unpack(self, data, training=False):
        """Returns a batch, see `inputs.unpack`; in training with the class weights."""
        batch = unpack(data, self.image_shape, self.num_classes, self.latent_shape)
        if training and self._class_weight:
            weights = tf.gather(tf.constant(self._class_weight), batch["label"])
            batch["sample_weight"] = weights * batch.get("sample_weight", 1.0)
        return batch

    def _trained_variables(self):
        """Returns the variables that the optimizer changes."""
        return self.trainable_variables

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        """Builds the optimizer, the only part that is not built yet, under the strategy.

        Keras' own method averages a batch over the replicas, which fails for dicts and for
        several workers.
        """
        if self.optimizer is not None and not self.optimizer.built:
            with self.distribute_strategy.scope():
                self.optimizer.build(self._trained_variables())

    # Checks -----------------------------------------------------------------------------

    def _prepare_training(self, class_weight):
        """Sets the class weights, and traces the training function anew if that is needed."""
        self._class_weight = self._class_weights(class_weight)
        variables = self._trained_variables()
        if not variables:
            raise ValueError(f"{type(self).__name__}: no weights to train; all are frozen.")
        if self.optimizer.built:
            try:
                self.optimizer._check_variables_are_known(variables)
            except ValueError as error:
                raise ValueError(
                    "optimizer: it was built for other weights than those to train now. "
                    "Call compile again with a new optimizer."
                ) from error
        traced_for = (self._class_weight, tuple(id(variable) for variable in variables))
        if traced_for != self._traced_for:
            self._traced_for, self.train_function = traced_for, None

    def _class_weights(self, class_weight):
        """Returns the weight of each class, a tuple of floats, or None."""
        if class_weight is None:
            return None
        if not self.num_classes:
            raise ValueError("class_weight: the model has no classes; give sample_weight.")
        classes = range(self.num_classes)
        if not set(class_weight) <= set(classes):
            raise ValueError(
                f"class_weight: its keys must be in 0 .. {classes[-1]}; got {list(class_weight)}."
            )
        weights = tuple(float(class_weight.get(number, 1.0)) for number in classes)
        check_values({"sample_weight": np.array(weights)}, self.num_classes, "class_weight")
        return weights

    def _with_data(self, options):
        """Returns the arguments of a method with "x" and "y" that Keras accepts, checked."""
        x, y, weights = (options.pop(name, None) for name in ("x", "y", "sample_weight"))
        in_arrays = isinstance(x, dict) or hasattr(x, "shape")
        if not in_arrays and options.get("batch_size") is not None:
            raise ValueError("batch_size: the data come in batches already. Leave it out.")
        if isinstance(x, types.GeneratorType):  # Keras accepts tuples only
            x = (batch if isinstance(batch, tuple) else (batch,) for batch in x)
        elif in_arrays:
            if weights is not None:  # Keras drops them if there is no y
                x = {**(x if isinstance(x, dict) else {"image": x}), "sample_weight": weights}
                weights = None
            self._check_spec((x, y))
            self._check_values((x, y))
        elif isinstance(x, tf.data.Dataset):
            self._check_spec(x.element_spec)
            if self.compiled and self.jit_compile:  # XLA leaves out the checks of the graph
                for batch in x.take(1):
                    self._check_values(batch)
        options.update(x=x, y=y)
        return options if weights is None else {**options, "sample_weight": weights}

    def _check_spec(self, data):
        """Raises ValueError if shapes or dtypes do not fit the model."""
        spec = tf.nest.map_structure(_spec, data)
        if repr(spec) not in self._checked_specs:
            check = tf.function(self._check_batch, autograph=False)
            check.get_concrete_function(spec)
            self._checked_specs.add(repr(spec))

    def _check_batch(self, data):
        unpack(data, self.image_shape, self.num_classes, self.latent_shape, values=True)

    def _check_values(self, data):
        """Raises ValueError if values are out of range."""
        x, y, weights = keras.utils.unpack_x_y_sample_weight(data)
        batch = dict(x) if isinstance(x, dict) else {"image": x}
        batch.update({"label": y} if y is not None else {})
        batch.update({"sample_weight": weights} if weights is not None else {})
        check_values(batch, self.num_classes)


@contextlib.contextmanager
def one_line_errors():
    """Raises ValueError with one line instead of TensorFlow's error about images or labels."""
    try:
        yield
    except tf.errors.InvalidArgumentError as error:
        failed = re.search(r"assertion failed: \[((?:images|labels): .*)", str(error))
        if failed is None:
            raise
        line = failed[1].replace("] [", " ").rstrip("] ")
    else:
        return
    raise ValueError(line)


def _bind(method, args, kwargs):
    """Returns the arguments of a call as a dict."""
    arguments = inspect.signature(method).bind(*args, **kwargs).arguments
    more = arguments.pop("kwargs", {})
    return {**arguments, **more}


def _spec(values):
    """Returns the `tf.TensorSpec` of an array, with any number of rows."""
    if values is None or isinstance(values, tf.TypeSpec):
        return values
    if not hasattr(values, "dtype"):
        values = np.asarray(values)
    try:
        dtype = tf.as_dtype(values.dtype)
    except TypeError:  # "torch.float32"
        dtype = tf.as_dtype(str(values.dtype).rpartition(".")[-1])
    return tf.TensorSpec((None, *values.shape[1:]), dtype)
