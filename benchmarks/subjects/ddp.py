"""denoising-diffusion-pytorch, by the parts and settings of its own `Trainer`.

The Trainer itself wants a folder of picture files and a multi-process loader; its loop is written
out here around its own Unet, GaussianDiffusion and EMA, on images in memory. It clips gradients
to norm 1 and updates the average every 10 steps. What follows is its default, but for AdamW and
the learning rate.
"""

import torch

from benchmarks import subjects
from benchmarks.subjects import torch_parts

VARIANTS = torch_parts.VARIANTS
NETWORKS = {
    "mnist": {"dim": 32, "dim_mults": (1, 2, 5)},
    # Four levels, as the others have, and as many parameters; with its README's multipliers
    # (1, 2, 4, 8) there would be 9.2 M of them.
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
            torch_parts.laid_out(unet, variant),
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

    @property
    def parameters(self):
        return torch_parts.parameters(self.diffusion)

    @property
    def flops(self):
        one = torch_parts.blank(1, self.image_shape)
        return torch_parts.flops(self.diffusion.model, one, torch.zeros(1, dtype=torch.long))

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

        def draw(first, count):
            with torch_parts.autocast(self.variant):
                return averaged.sample(batch_size=count)

        plain, averaged.model = averaged.model, self._network  # the compiled one, if it is
        try:
            return torch_parts.to_images(torch.cat(list(subjects.in_batches(num, draw))))
        finally:
            averaged.model = plain

    def call(self, num):
        with torch.inference_mode(), torch_parts.autocast(self.variant):
            return self._network(
                torch_parts.blank(num, self.image_shape), torch.zeros(num, dtype=torch.long)
            )

    def forget_average(self):
        self.ema.ema_model.load_state_dict(self.diffusion.state_dict())

    def save(self, path):
        torch_parts.save(path, diffusion=self.diffusion, ema=self.ema)

    def load(self, path):
        torch_parts.load(path, diffusion=self.diffusion, ema=self.ema)
