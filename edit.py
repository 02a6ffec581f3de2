"""Edit images with a trained model:  python edit.py COMMAND IMAGE..."""

import sys

from keras_diffusion.cli.edit import main

if __name__ == "__main__":
    sys.exit(main())
