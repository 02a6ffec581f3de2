"""denoising-diffusion-pytorch, with the parts and settings of its own `Trainer`.

The Trainer needs a folder of image files and a multi-process loader; its loop is repeated here
around its own Unet, GaussianDiffusion and EMA, on images in memory. It clips gradients to norm 1
and updates the average every 10 steps. The settings are its defaults, except for AdamW and the
learning rate.
"""

import torch

from benchmarks import subjects
from benchmarks.subjects import torch_parts

VARIANTS = subjects.TORCH_VARIANTS
NETWORKS = {
    "mnist": {"dim": 32, "dim_mults": (1, 2, 5)},
    # Four levels and as many parameters as the others; the multipliers of its README (1, 2, 4, 8)
    # would give 9.2 M.
    "flowers": {"dim": 32, "dim_mults": (1, 2, 2, 2)},
}
TINY_NETWORK = {"dim": 8, "dim_mults": (1, 2)}
NUM_TIMESTEPS = 1000
SAMPLING_TIMESTEPS = 250
# Of the published MNIST run with this network; the Trainer's default is 1e-4, with Adam.
LEARNING_RATE = 4e-4
BETAS = (0.9, 0.99)
EMA_DECAY = 0.995
EMA_EVERY = 10


class Subject:
    """See `benchmarks.subjects`."""

    def __init__(self, task, variant="float32", tiny=False):
        self._generator = torch_parts.prepare(tiny)  # before the import: it needs torchvision
        from denoising_diffusion_pytorch import GaussianDiffusion, Unet
        from ema_pytorch import EMA

        height, _, channels = self.image_shape = subjects.image_shape(task, tiny)
        self.variant = variant
        unet = Unet(channels=channels, **(TINY_NETWORK if tiny else NETWORKS[task]))
        self.diffusion = GaussianDiffusion(
            torch_parts.with_layout(unet, variant),
            image_size=height,
            timesteps=NUM_TIMESTEPS,
            sampling_timesteps=SAMPLING_TIMESTEPS,
        )
        self.ema = EMA(self.diffusion, beta=EMA_DECAY, update_every=EMA_EVERY)
        self.optimizer = torch.optim.AdamW(
            self.diffusion.parameters(), lr=LEARNING_RATE, betas=BETAS
        )
        self._loss = torch_parts.compiled(self.diffusion, variant)
        self._network = torch_parts.compiled(self.ema.ema_model.model, variant)

    def facts(self):
        inputs = torch_parts.zeros(1, self.image_shape), torch.zeros(1, dtype=torch.long)
        return torch_parts.facts(self.diffusion.model, *inputs)

    def train(self, images, batch_size, should_stop):
        def loss_of(batch):
            with torch_parts.autocast(self.variant):
                return self._loss(batch)

        batches = torch_parts.batches(images, batch_size, self._generator)
        torch_parts.train(
            self.diffusion, self.optimizer, batches, loss_of, self.ema.update, should_stop
        )

    def sample(self, num, num_steps, seed):
        torch.manual_seed(seed)
        averaged = self.ema.ema_model.eval()
        averaged.sampling_timesteps = num_steps
        averaged.is_ddim_sampling = num_steps < NUM_TIMESTEPS

        def sample(first, count):
            with torch_parts.autocast(self.variant):
                return averaged.sample(batch_size=count)

        original, averaged.model = averaged.model, self._network  # compiled in that variant
        try:
            return torch_parts.to_images(torch.cat(list(subjects.in_batches(num, sample))))
        finally:
            averaged.model = original

    def call(self, num):
        with torch.inference_mode(), torch_parts.autocast(self.variant):
            return self._network(
                torch_parts.zeros(num, self.image_shape), torch.zeros(num, dtype=torch.long)
            )

    def use_last_weights(self):
        self.ema.ema_model.load_state_dict(self.diffusion.state_dict())

    def save(self, path):
        torch_parts.save(path, diffusion=self.diffusion, ema=self.ema)

    def load(self, path):
        torch_parts.load(path, diffusion=self.diffusion, ema=self.ema)
