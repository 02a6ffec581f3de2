"""The console script:  keras-diffusion train|sample|edit|evaluate|app [flags]"""

import importlib
import sys

from keras_diffusion.cli.parsing import OneLineParser, one_of

COMMANDS = ("train", "sample", "edit", "evaluate", "app")


def main(arguments=None):
    """Runs one of the commands; returns its exit code."""
    parser = OneLineParser(
        prog="keras-diffusion",
        usage="keras-diffusion train|sample|edit|evaluate|app [flags]",
        description="Diffusion models in Keras on TensorFlow.",
        epilog="keras-diffusion COMMAND --help lists the flags of a command.",
    )
    parser.add_argument(
        "command",
        metavar="COMMAND",
        type=one_of(COMMANDS),
        help="train a model and export it, sample from an export, edit images, evaluate a model, "
        "or open a page that does so in the browser",
    )
    arguments = sys.argv[1:] if arguments is None else arguments
    name = parser.parse_args(arguments[:1]).command
    command = importlib.import_module(f"keras_diffusion.cli.{name}")
    return command.main(arguments[1:], prog=f"keras-diffusion {name}")


if __name__ == "__main__":
    sys.exit(main())
