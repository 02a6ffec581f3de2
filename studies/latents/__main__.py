import sys

from studies import command

sys.exit(command.main("latents"))
