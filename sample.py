"""Generate images with an exported model:  python sample.py"""

import sys

from keras_diffusion.cli.sample import main

if __name__ == "__main__":
    sys.exit(main())
