"""The scores of an evaluation as a callback: how good new pictures are, during the training."""

import keras

from keras_diffusion.training.callbacks import CostLimit

BEST_BY = "fid"  # the score that says which checkpoint is the best
BATCH = 64  # pictures, as `DiffusionModel.generate` draws them at once


class Scores(keras.callbacks.Callback):
    """Draws pictures at the ends of epochs, and adds their scores to the epoch's logs.

    Whoever comes after it in the list of callbacks finds them there: fid, kid, precision, recall
    and, where a classifier knows the labels, accuracy; see docs/evaluation.md. Noise and labels
    are the same every time. The first time, and the last epoch, are always scored.

    Args:
        reference: `evaluation.references.Reference`, of the real images.
        num_images: how many to draw; scores of other numbers cannot be compared.
        labels: None, or (num_images,) ints.
        every: epochs between scores.
        last_epoch: None, or the number of epochs, where it is known.
        max_share: None, or the largest share of the time that scores may take; what would take
            more waits for a later epoch.
        options: sampler, num_steps, guidance_scale, guidance_interval, guidance_rescale,
            seed, batch_size of `DiffusionModel.generate`.
    """

    def __init__(
        self, reference, num_images=1000, labels=None, every=1, last_epoch=None, max_share=None,
        **options,
    ):  # fmt: skip
        super().__init__()
        self.reference = reference
        self.num_images = num_images
        self.labels = labels
        self.every = every
        self.last_epoch = last_epoch
        self.options = options
        self._cost = CostLimit(max_share)
        self._traced = False

    def on_train_begin(self, logs=None):
        self._cost.begin()

    def on_epoch_end(self, epoch, logs=None):
        is_last = self.model.stop_training or epoch + 1 == self.last_epoch
        if is_last or ((epoch + 1) % self.every == 0 and self._cost.allows_one_more()):
            logs.update(self.score())

    def score(self):
        """Returns the scores of this moment, {name: float}."""
        if not self._traced:
            with self._cost.spending():  # `CostLimit` does not count its first time: tracing alone
                once = {**self.options, "num_steps": 1}
                self.model.generate(min(self.num_images, BATCH), **once)
            self._traced = True
        with self._cost.spending():
            images = self.model.generate(self.num_images, labels=self.labels, **self.options)
            found = self.reference.score(*self.reference.extract(images), self.labels)
        del found["num_images"], found["kid_error"]
        return found
