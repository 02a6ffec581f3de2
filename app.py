"""Open a page to create and edit images in the browser:  python app.py"""

import sys

from keras_diffusion.cli.app import main

if __name__ == "__main__":
    sys.exit(main())
