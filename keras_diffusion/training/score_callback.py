"""Scores of generated samples during training, as a callback."""

from keras_diffusion.training.callbacks import CostLimit, Evaluator

BEST_BY = "fid"  # the score that decides which checkpoint is the best
BATCH = 64  # samples that `DiffusionModel.generate` computes at once


class Scores(Evaluator):
    """Scores generated samples at the end of epochs, and adds the scores to the epoch's logs.

    These are fid, kid, precision, recall and, if a classifier knows the labels, accuracy; see
    docs/evaluation.md. Noise and labels are the same every time. The first possible epoch and
    the last one are always scored.

    Args:
        reference: `evaluation.references.Reference` of the real images.
        num_images: number of samples; scores of different numbers do not compare.
        labels: None, or (num_images,) ints.
        every: epochs between scores.
        last_epoch: None, or the number of epochs, if it is known.
        max_share: None, or the largest share of the time that scores may take; those that would
            take more are postponed to a later epoch.
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
        self._cost.start()

    def on_epoch_end(self, epoch, logs=None):
        is_last = self.model.stop_training or epoch + 1 == self.last_epoch
        if is_last or ((epoch + 1) % self.every == 0 and self._cost.allows_one_more()):
            logs.update(self.score())

    def score(self):
        """Returns the scores of the current weights, {name: float}."""
        if not self._traced:
            with self._cost.measure():  # the first time, which `CostLimit` ignores: tracing only
                one_step = {**self.options, "num_steps": 1}
                self.model.generate(min(self.num_images, BATCH), **one_step)
            self._traced = True
        with self._cost.measure():
            images = self.model.generate(self.num_images, labels=self.labels, **self.options)
            scores = self.reference.score(*self.reference.extract(images), self.labels)
        del scores["num_images"], scores["kid_error"]
        return scores
