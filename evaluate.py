"""Score a trained model:  python evaluate.py --model saved_models/NAME"""

import sys

from keras_diffusion.cli.evaluate import main

if __name__ == "__main__":
    sys.exit(main())
