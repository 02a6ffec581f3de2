import sys

from studies import command

sys.exit(command.main("one_image"))
