"""The command that gives a Config: it is parsed to the same Config again."""

import shlex

import pytest

from keras_diffusion.cli import train
from keras_diffusion.cli.parsing import parse_options
from keras_diffusion.config.command import command_line
from keras_diffusion.config.resolve import resolve


def parsed(arguments):
    options = parse_options(train.parser().parse_args(shlex.split(arguments)))
    return resolve(train._preset_name(options), options)


@pytest.mark.parametrize(
    "arguments",
    [
        "--dataset digits",
        "--dataset mnist --minutes 20",
        "--dataset mnist --optimizer adamw",  # which changes the learning rate
        "--image flower --epochs 50",  # instead of the minutes of the preset
        "--image china --minutes 12.3456789",
        "--dataset oxford_flowers102 --latent --image-size 32 --minutes 45 --text",
        "--dataset cifar10 --network cnn --no-horizontal-flip --set 'widths=(8,)' --epochs 3",
        "--dataset cifar10 --latent --set 'widths=(8, 16)' --set 'attention=(0, 1)'",
        "--dataset cifar10 --latent --minutes 60 --set codec_share=0.2",
        "--folder photos_v2.0 --unconditional",
        "--dataset kmnist --image-size 48x64 --train-split 'train[:80%]' --set label_dropout=0.2",
    ],
)
def test_a_config_is_the_command_that_gave_it(arguments):
    assert command_line(parsed(arguments)) == f"python train.py {arguments}"


def test_every_option_that_was_changed_is_in_the_command():
    arguments = "--folder /home/ann/pets --image-size 64 --channels 1 --balance classes --seed 3"
    arguments += " --schedule sigmoid --precision float32 --deterministic --score-every 2"
    arguments += " --set score_extractor=/home/ann/judge.keras --set guidance_interval=(0.1,0.8)"
    config = parsed(arguments)
    command = command_line(config)
    assert "/home" not in command, "a card may be published"
    assert " --folder pets " in command
    again = parsed(command.partition("train.py ")[2])
    names = ("folder", "score_extractor")
    values = vars(config).items()
    assert {n: v for n, v in vars(again).items() if n not in names} == {
        n: v for n, v in values if n not in names
    }


def test_what_the_data_decided_is_left_out():
    config = parsed("--dataset mnist --image-size 28 --channels 1 --precision float32")
    assert command_line(config, ("image_size", "channels", "precision")) == (
        "python train.py --dataset mnist"
    )
