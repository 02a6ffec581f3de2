"""diffusers' UNet2DModel, trained as its train_unconditional.py does with --use_ema.

That script predicts eps with a linear schedule of 1000 steps, AdamW, gradients clipped to norm 1
and an average of the weights, updated in every step. Its learning rate warms up over 500 steps
and then follows a cosine; here it is constant, which takes the same time.
"""

import contextlib

import torch

from benchmarks import subjects
from benchmarks.subjects import torch_parts

VARIANTS = subjects.TORCH_VARIANTS
# Attention at the lowest resolution only, as in ours, and two blocks per level, its default. The
# widths give the same number of parameters, and are multiples of 16, which oneDNN is fast with.
NETWORKS = {"mnist": (32, 32, 128), "flowers": (32, 48, 64, 64)}
TINY_WIDTHS = (8, 8, 16)
NUM_TIMESTEPS = 1000
LEARNING_RATE = 1e-4
ADAM = {"betas": (0.95, 0.999), "weight_decay": 1e-6, "eps": 1e-8}
EMA = {"decay": 0.9999, "use_ema_warmup": True, "inv_gamma": 1.0, "power": 0.75}


class Subject:
    """See `benchmarks.subjects`."""

    def __init__(self, task, variant="float32", tiny=False):
        self._generator = torch_parts.prepare(tiny)  # before the import: it needs torchvision
        from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel
        from diffusers.training_utils import EMAModel

        height, _, channels = self.image_shape = subjects.image_shape(task, tiny)
        self.variant = variant
        widths = TINY_WIDTHS if tiny else NETWORKS[task]
        without = len(widths) - 1  # levels without attention
        network = UNet2DModel(
            sample_size=height,
            in_channels=channels,
            out_channels=channels,
            block_out_channels=widths,
            down_block_types=("DownBlock2D",) * without + ("AttnDownBlock2D",),
            up_block_types=("AttnUpBlock2D",) + ("UpBlock2D",) * without,
            layers_per_block=1 if tiny else 2,
            norm_num_groups=8,
        )
        self.network = torch_parts.with_layout(network, variant)
        self.scheduler = DDPMScheduler(NUM_TIMESTEPS)
        self.ema = EMAModel(self.network.parameters(), **EMA)
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=LEARNING_RATE, **ADAM)
        self._compiled = torch_parts.compiled(self.network, variant)
        self._pipeline = DDPMPipeline(self._compiled, self.scheduler)
        self._pipeline.set_progress_bar_config(disable=True)

    def facts(self):
        return torch_parts.facts(self.network, torch_parts.zeros(1, self.image_shape), 0)

    def train(self, images, batch_size, should_stop):
        def loss_of(batch):
            x0 = batch * 2 - 1
            eps = torch.randn_like(x0)
            times = torch.randint(0, NUM_TIMESTEPS, (len(x0),))
            x_t = self.scheduler.add_noise(x0, eps, times)
            with torch_parts.autocast(self.variant):
                predicted = self._compiled(x_t, times).sample
            return torch.nn.functional.mse_loss(predicted.float(), eps)

        torch_parts.train(
            self.network,
            self.optimizer,
            torch_parts.batches(images, batch_size, self._generator),
            loss_of,
            lambda: self.ema.step(self.network.parameters()),
            should_stop,
        )

    def sample(self, num, num_steps, seed):
        generator = torch.Generator().manual_seed(seed)

        def sample(first, count):
            with torch_parts.autocast(self.variant):
                images = self._pipeline(
                    count, generator, num_inference_steps=num_steps, output_type="np"
                ).images
            return torch.from_numpy(images).permute(0, 3, 1, 2)

        with self._averaged_weights():
            return torch_parts.to_images(torch.cat(list(subjects.in_batches(num, sample))))

    def call(self, num):
        with torch.inference_mode(), torch_parts.autocast(self.variant):
            return self._compiled(torch_parts.zeros(num, self.image_shape), 0).sample

    @contextlib.contextmanager
    def _averaged_weights(self):
        """The network has the averaged weights within."""
        self.ema.store(self.network.parameters())
        self.ema.copy_to(self.network.parameters())
        self.network.eval()
        try:
            yield
        finally:
            self.ema.restore(self.network.parameters())
