"""The console script:  keras-diffusion train|sample|evaluate [flags]"""

import importlib
import sys

from keras_diffusion.cli.parsing import OneLineParser

COMMANDS = {
    "train": "train a diffusion model and export it",
    "sample": "generate images from an exported model",
    "evaluate": "score a trained model",
}


def main(arguments=None):
    """Runs one of the commands; returns its exit code."""
    parser = OneLineParser(
        prog="keras-diffusion",
        description="Diffusion models in Keras on TensorFlow.",
        epilog="keras-diffusion COMMAND --help lists the flags of a command.",
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, summary in COMMANDS.items():
        commands.add_parser(name, help=summary, add_help=False)
    arguments = sys.argv[1:] if arguments is None else arguments
    name = parser.parse_args(arguments[:1]).command
    command = importlib.import_module(f"keras_diffusion.cli.{name}")
    return command.main(arguments[1:], prog=f"keras-diffusion {name}")


if __name__ == "__main__":
    sys.exit(main())
